"""All that is promised of imaging, measured: ``python -m benchmarks.imaging --json imaging.json``.

Parts (``--only`` picks some): `load`, clean sets at the line's pace through the simulated camera in its own process;
`faults`, injected faults of every kind and clean sets on a clock that jumps; `pylon`, the acquirer against a bare
pypylon loop; `reconnect`, cameras that go and come back; `scale`, the cost by channels and megapixels; `lights`, the
cost of switching. The exit status is 0 when no set was wrong, lost or blamed and every fault was found.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import injected_faults, isolation
from benchmarks.imaging.lights import switching
from benchmarks.imaging.load import Note, clean_sets
from benchmarks.imaging.pylon_loop import against_bare_loop
from benchmarks.imaging.scale import cost
from cell.errors import InspectdError
from drivers.cameras.simulated_faults import Fault

_KINDS = 26  # of faults, software and line triggers together
_CHANNELS = (1, 4, 8, 32)
_MEGAPIXELS = (1.0, 5.0, 20.0, 50.0)
#: A set larger than this is not taken: 32 channels of 50 MP are no cell's.
_LARGEST_SET_MB = 800.0

Figures = dict[str, Any]


def _load(options: argparse.Namespace, note: Note) -> list[Figures]:
    return [clean_sets(options.sets, options.rate, 4, 1024, 1024, note)]


def _faults(options: argparse.Namespace, note: Note) -> list[Figures]:
    each = max(1, options.faults // _KINDS)
    rows = []
    for trigger, taker in (
        ("software", injected_faults.SoftwareTriggered),
        ("line", injected_faults.LineTriggered),
    ):
        note(f"clean sets, {trigger} trigger", 0, 1)
        rows.append(asdict(injected_faults.clean(taker(4), options.clean, trigger)))
        for fault in Fault:
            note(f"{fault}, {trigger} trigger", 0, 1)
            rows.append(asdict(injected_faults.faulty(taker(4), fault, each, 4, trigger)))
    return rows


def _pylon(options: argparse.Namespace, note: Note) -> list[Figures]:
    return [
        against_bare_loop(options.pylon_sets, 4, channels, exposure_us, note)
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
    rows = []
    for channels in _CHANNELS:
        for megapixels in _MEGAPIXELS:
            size_mb = channels * megapixels
            if size_mb <= min(_LARGEST_SET_MB, options.largest_mb):
                rows.append(cost(channels, megapixels, max(5, min(200, int(2000 / size_mb))), 8, note))
    if options.largest_mb >= _LARGEST_SET_MB:
        rows.append(cost(8, 50.0, 5, 12, note))
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


def failures(report: dict[str, list[Figures]]) -> list[str]:
    """Return what must not be, one sentence each."""
    bad = []
    for row in report.get("load", []):
        wrong = row["false_faults"] + row["of_another_part_or_light"]
        if wrong:
            bad.append(f"load: {wrong} of {row['sets']} clean sets were refused or of another part")
    for row in report.get("faults", []):
        name = f"{row['kind']}, {row['trigger']} trigger"
        if row["missed"] or row["ok_in_spite"]:
            bad.append(f"{name}: {row['missed']} missed, {row['ok_in_spite']} accepted with wrong frames")
        if row["false_faults"]:
            bad.append(f"{name}: {row['false_faults']} false faults")
    for row in report.get("reconnect", []):
        if row["answered_late"]:
            bad.append(f"{row['driver']}: {row['answered_late']} parts were not FAULT at once")
    bad += [
        f"scale: {row['faults']} faults at {row['megapixels']} MP" for row in report.get("scale", []) if row["faults"]
    ]
    return bad


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
    report: dict[str, list[Figures]] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=1)

        def note(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=max(1, total))

        for section in options.only:
            report[section] = SECTIONS[section](options, note)
            show(console, section, report[section])
    bad = failures(report)
    for sentence in bad:
        console.print(f"[bold red]{sentence}")
    if options.json is not None:
        machine = {"cpus": os.cpu_count(), "load_average": os.getloadavg()[0]}
        options.json.write_text(json.dumps({**report, "failures": bad, **machine}, indent=1) + "\n", encoding="utf-8")
    return int(bool(bad))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imaging", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--sets", type=int, default=10_000, help="clean sets at the line's pace")
    parser.add_argument("--rate", type=float, default=1000.0, help="parts per minute; 0: as fast as it goes")
    parser.add_argument("--faults", type=int, default=10_000, help="injected faults, shared out over all kinds")
    parser.add_argument("--clean", type=int, default=10_000, help="clean sets beside the injected faults")
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
