"""``make run``: daemon, trainer and pages of an emulated cell, left up until interrupted or until one of them ends.

``INSPECTD_WEB__PORT=8090 make run`` chooses another port for the pages, as every setting can be chosen so.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.demo.__main__ import _FOLDER
from benchmarks.demo.scenario import choose, of_plates
from benchmarks.demo.workshop import workshop
from cell.errors import InspectdError


def main() -> int:
    """Start everything and wait."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo.run", description=__doc__)
    parser.add_argument("--folder", type=Path, default=_FOLDER.with_name("run"), help="emptied and filled anew")
    parser.add_argument(
        "--simulated", action="store_true", help="show the simulated product even when pictures are there"
    )
    options = parser.parse_args()
    console = Console()
    try:
        scenario = of_plates() if options.simulated else choose()
        with workshop(options.folder.resolve(), scenario, console, threads=2) as shop:
            shop.start(web=True)
            shop.prepare()
            web = shop.settings.web
            console.print(f"pages: http://{web.host}:{web.port}/live   stop with Ctrl-C", soft_wrap=True)
            console.print(f"try: .venv/bin/inspectctl --config {shop.processes.config} status", soft_wrap=True)
            shop.processes.wait()
    except InspectdError as error:
        Console(stderr=True).print(f"[bold red]run: {error}", soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
