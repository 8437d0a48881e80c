"""Clean parts at the line's pace: is every set complete and of its own part, and how long does one take?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.imaging import cells
from cell.frames import FailedAcquisition
from cell.recipes import Recipe
from daemon.acquire import Acquirer
from drivers.registry import open_rig

Note = Callable[[str, int, int], None]


def clean_sets(
    sets: int, per_minute: float, channels: int, height: int, width: int, note: Note, bit_depth: int = 8
) -> dict[str, Any]:
    """Take `sets` parts with the simulated camera, in its own process as on a real cell, `per_minute`; 0: no pauses.

    `over_exposure_ms` is the time from the call to the complete set less the exposures themselves.
    """
    recipe = cells.recipe(channels, height, width, bit_depth=bit_depth)
    exposures_ms = sum(channel.exposure_us for channel in recipe.channels) / 1e3
    megabytes = channels * height * width * (1 if bit_depth <= 8 else 2) / 1e6
    rig = open_rig(cells.settings("simulated", channels, album_mb=1.2 * cells.DISTINCT * megabytes))
    acquirer = Acquirer(rig)
    try:
        acquirer.configure(recipe)
        for number in range(cells.DISTINCT):  # rendered once
            acquirer.take(cells.part(number, recipe))
        memory_mb = cells.resident_mb()
        start = time.monotonic()
        figures = _at_pace(acquirer, recipe, sets, 60.0 / per_minute if per_minute else 0.0, note)
        seconds = time.monotonic() - start
        over_ms = [duration - exposures_ms for duration in figures.set_ms]
        return {
            "sets": sets,
            "channels": channels,
            "megapixels": round(height * width / 1e6, 2),
            "bit_depth": bit_depth,
            "parts_per_minute": round(60 * sets / seconds, 1),
            "complete": sets - figures.faults,
            "false_faults": figures.faults,
            "of_another_part_or_light": figures.wrong,
            "behind_by_a_part": figures.late,
            "over_exposure_ms": cells.percentiles(over_ms),
            "grown_mb": round(cells.resident_mb() - memory_mb, 1),
        }
    finally:
        rig.close()


@dataclass(slots=True)
class _Taken:
    set_ms: list[float] = field(default_factory=list)
    faults: int = 0
    wrong: int = 0
    late: int = 0


def _at_pace(acquirer: Acquirer, recipe: Recipe, sets: int, interval_s: float, note: Note) -> _Taken:
    """Begin a set every `interval_s`, or one after the other with 0."""
    taken = _Taken()
    start = time.monotonic()
    for number in range(sets):
        pause = start + number * interval_s - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        elif interval_s and pause < -interval_s:
            taken.late += 1
        begun = time.perf_counter()
        acquired = acquirer.take(cells.part(number, recipe))
        taken.set_ms.append((time.perf_counter() - begun) * 1e3)
        if isinstance(acquired, FailedAcquisition):
            taken.faults += 1
            continue
        taken.wrong += cells.wrong_frames(acquired) > 0
        if number % 100 == 0:
            note("clean sets", number, sets)
    return taken
