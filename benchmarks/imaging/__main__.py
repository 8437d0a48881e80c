"""All that is promised of imaging, measured: ``python -m benchmarks.imaging --json imaging.json``.

Parts (``--only`` picks some): `load`, clean sets at the line's pace through the simulated camera in its own process;
`faults`, injected faults of every kind and clean sets on a clock that jumps; `pylon`, the acquirer against a bare
pypylon loop; `reconnect`, cameras that go and come back; `scale`, the cost by channels and megapixels; `lights`, the
cost of switching. `load` and `pylon` need a machine with nothing else to do; `faults` does not mind. Then every aim
stands beside what was measured. The exit status is 1 when one is not reached: with fewer sets than it names it says
"too few", which is no failure. What is there is written after every part: a run that is cut off loses one at most, and
with ``--checkpoint`` the faults go on where they were.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import isolation
from benchmarks.imaging import aims, faults
from benchmarks.imaging.lights import switching
from benchmarks.imaging.load import Note, clean_sets
from benchmarks.imaging.pylon_loop import against_bare_loop
from benchmarks.imaging.scale import cost
from cell.errors import InspectdError
from daemon.light_sleep import LightSleep

#: 32 channels of 50 MP; the section `scale` takes three times this of memory at its largest size.
_LARGEST_SET_MB = 1700.0
#: Sets of a size: so many MB, and neither fewer nor more than these.
_SCALE_MB, _FEWEST, _MOST = 4000.0, 5, 200
#: Turns of the bare loop and ours, so that the machine's mood is the same for both, and sets of one at least.
_TURNS, _LEAST_SETS = 8, 20

Figures = aims.Figures


def _load(options: argparse.Namespace, note: Note) -> list[Figures]:
    return [clean_sets(options.sets, options.rate, 4, 1024, 1024, note)]


def _faults(options: argparse.Namespace, note: Note) -> list[Figures]:
    return faults.all_of(faults.plan(options.faults, options.clean), options.jobs, options.checkpoint, note)


def _pylon(options: argparse.Namespace, note: Note) -> list[Figures]:
    turns = max(1, min(_TURNS, options.pylon_sets // _LEAST_SETS))
    return [
        against_bare_loop(options.pylon_sets, turns, channels, exposure_us, note, isolated=isolated)
        for isolated in (True, False)
        for channels in (1, 4)
        for exposure_us in (1_000.0, 10_000.0)
    ]


def _reconnect(options: argparse.Namespace, note: Note) -> list[Figures]:
    rows = []
    for driver in isolation.DRIVERS:
        for how in isolation.HOWS:
            note(f"{driver}: {how}", 0, 1)
            rows.append(asdict(isolation.reconnects(driver, how, options.reconnects)))
    return rows


def _scale(options: argparse.Namespace, note: Note) -> list[Figures]:
    sizes: list[tuple[int, float, Literal[8, 12]]] = [
        (channels, megapixels, 8) for channels in aims.CHANNELS for megapixels in aims.MEGAPIXELS
    ]
    rows = []
    for channels, megapixels, bit_depth in [*sizes, (8, 50.0, 12)]:
        size_mb = channels * megapixels * (1 if bit_depth == 8 else 2)
        if size_mb <= options.largest_mb:
            sets = max(_FEWEST, min(_MOST, int(_SCALE_MB / size_mb)))
            rows.append(cost(channels, megapixels, sets, bit_depth, note))
    return rows


def _lights(options: argparse.Namespace, note: Note) -> list[Figures]:
    note("switching lights", 0, 1)
    return switching(options.schemes)


SECTIONS: dict[str, Callable[[argparse.Namespace, Note], list[Figures]]] = {
    "load": _load,
    "faults": _faults,
    "pylon": _pylon,
    "reconnect": _reconnect,
    "scale": _scale,
    "lights": _lights,
}


def show(console: Console, section: str, rows: Sequence[Figures]) -> None:
    """Print one section as a table; percentiles go into one cell."""
    if not rows:
        return
    table = Table(title=section)
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    console.print(table)


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {item}" for key, item in value.items())
    return str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections; return 1 when something is as it must not be."""
    options = _parser().parse_args(arguments)
    console = Console(width=200)
    report: aims.Report = {}
    # As in the daemon, which asks for it while a recipe is prepared; the bare loops have it too.
    sleep = LightSleep()
    sleep.follow(True)
    machine: Figures = {"cpus": os.cpu_count(), "light_sleep": sleep.held}
    with contextlib.closing(sleep), Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=1)

        def note(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=max(1, total))

        for section in options.only:
            begun = time.monotonic()
            report[section] = SECTIONS[section](options, note)
            machine[section] = {
                "load_average": round(os.getloadavg()[0], 2),
                "seconds": round(time.monotonic() - begun, 1),
            }
            show(console, section, report[section])
            _write(options.json, report, machine)
    reached = aims.of_report(report)
    _show_aims(console, reached)
    return int(any(aim.reached == "no" for aim in reached))


def _write(path: Path | None, report: aims.Report, machine: Figures) -> None:
    """Write all that is known so far, whole or not at all."""
    if path is None:
        return
    told = {**report, "aims": [asdict(aim) for aim in aims.of_report(report)], "machine": machine}
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)


def _show_aims(console: Console, reached: Sequence[aims.Aim]) -> None:
    table = Table("aim", "measured", "reached", title="what it must reach")
    colours = {"yes": "green", "no": "bold red", "too few": "yellow"}
    for aim in reached:
        table.add_row(aim.aim, aim.measured, f"[{colours[aim.reached]}]{aim.reached}")
    console.print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imaging", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--sets", type=int, default=10_000, help="clean sets at the line's pace")
    parser.add_argument("--rate", type=float, default=1000.0, help="parts per minute; 0: as fast as it goes")
    parser.add_argument("--faults", type=int, default=10_000, help="injected faults of each kind and either trigger")
    parser.add_argument("--clean", type=int, default=10_000, help="clean sets beside the injected faults")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes of the section faults")
    parser.add_argument("--checkpoint", type=Path, help="keeps finished blocks of the section faults (JSON lines)")
    parser.add_argument("--pylon-sets", type=int, default=200, help="sets each way and setting")
    parser.add_argument("--reconnects", type=int, default=100, help="of each driver and way to go")
    parser.add_argument("--largest-mb", type=float, default=_LARGEST_SET_MB, help="largest set of the section scale")
    parser.add_argument("--schemes", type=int, default=500, help="light schemes to switch")
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InspectdError as error:
        print(f"benchmarks.imaging: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
