"""``make run``: daemon, trainer and pages of an emulated cell, left up until interrupted."""

from __future__ import annotations

import sys

from rich.console import Console

from benchmarks.demo.__main__ import _FOLDER
from benchmarks.demo.scenario import choose
from benchmarks.demo.workshop import workshop
from cell.errors import InspectdError


def main() -> int:
    """Start everything and wait."""
    console = Console()
    try:
        with workshop(_FOLDER.with_name("run"), choose(), console, threads=2) as shop:
            shop.start(web=True)
            shop.prepare()
            web = shop.settings.web
            console.print(f"pages: http://{web.host}:{web.port}/live   stop with Ctrl-C", soft_wrap=True)
            console.print(f"try: .venv/bin/inspectctl --config {shop.processes.config} status", soft_wrap=True)
            shop.processes.wait()
    except InspectdError as error:
        console.print(f"[bold red]run: {error}", soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
