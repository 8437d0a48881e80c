"""What imaging must reach, held against what was measured: one line each, with both figures.

A run that took fewer sets than an aim names proves neither: that is said, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.imaging.faults import CLEAN, TRIGGERS
from drivers.cameras.simulated_faults import Fault

Figures = dict[str, Any]
Report = dict[str, list[Figures]]

#: Sets and parts a minute of the load, and what may come on top of the exposures, ms.
SETS, PER_MINUTE, OVER_MS = 10_000, 1000.0, 10.0
#: Injected faults of each kind; clean sets.
FAULTS, CLEAN_SETS = 10_000, 10_000
PYLON_RATIO = 1.05
RECONNECTS, BACK_WITHIN_S, GROWN_MB = 100, 5.0, 1.0
CHANNELS, MEGAPIXELS = (1, 4, 8, 32), (1.0, 5.0, 20.0, 50.0)
SCHEMES_PER_S = 50.0
#: Frame buffers for the set that is held and the one that is taken. Beside them the daemon may take so much more, MB:
#: what channels look like is learned, which for 32 of them is 60 MB.
_SETS_AT_ONCE, _BESIDE_MB = 2, 96.0


@dataclass(frozen=True, slots=True)
class Aim:
    """`reached` is ``yes``, ``no``, or ``too few`` where less was run than the aim names."""

    aim: str
    measured: str
    reached: str


def of_report(report: Report) -> list[Aim]:
    """Return the aims of the sections that were run."""
    found: list[Aim] = []
    for section, aims in _AIMS.items():
        if report.get(section):
            found += aims(report[section])
    return found


def _aim(aim: str, measured: str, *, enough: bool, good: bool) -> Aim:
    return Aim(aim, measured, "no" if not good else "yes" if enough else "too few")


def _of_load(rows: list[Figures]) -> Iterator[Aim]:
    for row in rows:
        enough = row["sets"] >= SETS and row["channels"] >= 4 and row["parts_per_minute"] >= 0.999 * PER_MINUTE
        wrong = row["false_faults"] + row["of_another_part_or_light"]
        yield _aim(
            f"{SETS} sets of 4 x 1 MP at {PER_MINUTE:g} parts a minute, every one complete",
            f"{row['complete']} of {row['sets']} complete at {row['parts_per_minute']:g} a minute, {wrong} refused or "
            f"wrong, {row['behind_by_a_part']} begun late by a part",
            enough=enough,
            good=not wrong and not row["behind_by_a_part"],
        )
        over = row["over_exposure_ms"]["p99.9"]
        yield _aim(
            f"p99.9 of acquisition below the exposures plus {OVER_MS:g} ms",
            f"{over:g} ms",
            enough=enough,
            good=over < OVER_MS,
        )


def _of_faults(rows: list[Figures]) -> Iterator[Aim]:
    clean = [row for row in rows if row["kind"] == CLEAN]
    false = sum(row["false_faults"] + row["ok_in_spite"] for row in clean)
    yield _aim(
        f"{CLEAN_SETS} clean sets with either trigger: no false fault",
        f"{false} in {sum(row['sets'] for row in clean)}",
        enough=len(clean) == len(TRIGGERS) and all(row["sets"] >= CLEAN_SETS for row in clean),
        good=not false,
    )
    injected = [row for row in rows if row["kind"] != CLEAN]
    if not injected:
        return
    total, found, in_spite, blamed = (
        sum(row[name] for row in injected) for name in ("injected", "found", "ok_in_spite", "false_faults")
    )
    yield _aim(
        f"{FAULTS} faults of each of {len(Fault)} kinds with either trigger: every one found, none answered OK",
        f"{found} of {total} found, {in_spite} answered OK with wrong frames, {blamed} good parts blamed between them",
        enough=len(injected) == len(TRIGGERS) * len(Fault) and all(row["injected"] >= FAULTS for row in injected),
        good=found == total and not in_spite and not blamed,
    )


def _of_pylon(rows: list[Figures]) -> Iterator[Aim]:
    for row in (row for row in rows if row["isolated"]):  # as a cell has it
        ratio = row["ratio"]["p50"]
        yield _aim(
            f"pylon within {PYLON_RATIO - 1:.0%} of a bare loop: {row['channels']} channels of "
            f"{row['exposure_us'] / 1e3:g} ms",
            f"{ratio:g} times (p50), p99 {row['ratio']['p99']:g} times",
            enough=row["sets"] >= 80,
            good=ratio <= PYLON_RATIO,
        )


def _of_reconnect(rows: list[Figures]) -> Iterator[Aim]:
    for row in rows:
        grown = max(row["growth_daemon_mb"], row["growth_process_mb"])
        yield _aim(
            f"{RECONNECTS} reconnects within {BACK_WITHIN_S:g} s of the return, below {GROWN_MB:g} MB: "
            f"{row['driver']}, {row['how']}",
            f"{row['times']} times, worst {row['worst_s']:g} s, {grown:+g} MB, {row['left_descriptors']:+d} "
            f"descriptors, {row['answered_late']} parts not FAULT meanwhile",
            enough=row["times"] >= RECONNECTS,
            good=row["worst_s"] <= BACK_WITHIN_S
            and grown < GROWN_MB
            and row["left_descriptors"] <= 0
            and not row["answered_late"],
        )


def _of_scale(rows: list[Figures]) -> Iterator[Aim]:
    largest = max(rows, key=lambda row: row["set_mb"])
    faults = sum(row["faults"] for row in rows)
    sets = max(row["shared_mb"] / row["set_mb"] for row in rows)
    grown = max(row["daemon_grown_mb"] for row in rows)
    asked = {(channels, megapixels) for channels in CHANNELS for megapixels in MEGAPIXELS}
    run = {(row["channels"], float(round(row["megapixels"]))) for row in rows}
    yield _aim(
        "1 to 32 channels of 1 to 50 MP and 50 MP x 8 of 12 bit pass through the camera's process, memory bounded: "
        f"buffers for {_SETS_AT_ONCE} sets, and {_BESIDE_MB:g} MB",
        f"{len(rows)} sizes up to {largest['set_mb']:g} MB a set, {faults} faults; buffers for {sets:.2f} sets at "
        f"most, {grown:+.0f} MB beside them",
        enough=asked <= run and any(row["bit_depth"] > 8 and row["set_mb"] > 700 for row in rows),
        good=not faults and sets <= 1.02 * _SETS_AT_ONCE and grown <= _BESIDE_MB,
    )


def _of_lights(rows: list[Figures]) -> Iterator[Aim]:
    simulated = [row for row in rows if row["driver"] == "simulated"]
    if simulated:
        slowest = min(row["schemes_per_s"] for row in simulated)
        yield _aim(
            f"at least {SCHEMES_PER_S:g} schemes a second on the simulated light",
            f"{slowest:.0f}",
            enough=True,
            good=slowest >= SCHEMES_PER_S,
        )


_AIMS: dict[str, Callable[[list[Figures]], Iterator[Aim]]] = {
    "load": _of_load,
    "faults": _of_faults,
    "pylon": _of_pylon,
    "reconnect": _of_reconnect,
    "scale": _of_scale,
    "lights": _of_lights,
}
