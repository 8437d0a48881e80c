"""``python -m drivers.sim FILE.png``: a contact sheet of the emulated cell without a daemon or its settings."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cell.errors import InspectdError
from drivers.sim.contact import product_sheet
from drivers.sim.products.catalogue import PRODUCTS


def main() -> int:
    """Read the command line and write the sheet; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m drivers.sim", description=product_sheet.__doc__)
    parser.add_argument("file", type=Path, help="PNG to write")
    parser.add_argument(
        "--product", action="append", default=[], choices=("plate", *PRODUCTS), help="only this; may be repeated"
    )
    parser.add_argument("--lights", default="4+ring", help="the lamps, e.g. 4, 8low, 4+ring+coax+dome")
    parser.add_argument("--each", type=int, default=1, help="parts of each class")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    try:
        parts = product_sheet(chosen.file, chosen.product, chosen.lights, chosen.each, chosen.seed)
    except InspectdError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{parts} parts written to {chosen.file}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
