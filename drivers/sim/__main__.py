"""``python -m drivers.sim FILE.png``: render a contact sheet of the built-in product."""

from __future__ import annotations

import argparse
from pathlib import Path

from drivers.sim.sheet import plate_sheet


def main() -> None:
    """Read the command line and write the sheet."""
    parser = argparse.ArgumentParser(prog="python -m drivers.sim", description=plate_sheet.__doc__)
    parser.add_argument("file", type=Path, help="PNG to write")
    parser.add_argument("--lights", type=int, default=4, choices=range(1, 33), metavar="1..32")
    parser.add_argument("--each", type=int, default=2, help="parts of each class")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    plate_sheet(chosen.file, chosen.lights, chosen.each, chosen.seed)


if __name__ == "__main__":
    main()
