"""Series of a still scene on disk, and what is left of them in memory: mean and variance of every channel.

A series is a folder of frame sets below ``calibrations/<recipe>/``, archived TIFF stacks with the recipe's channels:
``repeats`` of a good part, ``dark`` with the lights off, ``flat`` of an even matt target, ``target`` with slanted edges
and dots, ``ball`` of a matt ball on the flat target. Frame sets of one series may differ in exposure, light level and
height of the target; those that agree make one level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell.calibration import SeriesKind
from cell.errors import DataError
from cell.frames import StoredStack
from cell.imaging.photon_transfer import MIN_REPEATS, Still, still
from cell.imaging.stillness import Finding, check
from cell.recipes import Recipe
from cell.store.images import read_stack
from trainer.datasets import check_fits

Series = NDArray[np.uint8] | NDArray[np.uint16]

REPEATS, DARK, FLAT, TARGET, BALL = (kind.value for kind in SeriesKind)
#: Scenes in which a search for traces of a codec means nothing: dots in rows, darkness.
_REGULAR = frozenset({TARGET, DARK})
#: Frame sets of a level that are read: more sharpen little, and they lie in memory together.
MOST_REPEATS = 64
_MOST_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Conditions:
    """What frame sets of one level have in common. `light_level` is relative to the recipe's lights."""

    exposures_us: tuple[float, ...]
    gains_db: tuple[float, ...]
    light_level: float = 1.0
    height_mm: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """One level of a series, reduced: a :class:`Still` for each channel that can be used, and what was found."""

    kind: str
    conditions: Conditions
    stills: dict[str, Still]
    findings: tuple[str, ...]
    frames: int
    seconds: tuple[float, ...]  # of each repeat since the first; empty when unknown
    facts: dict[str, Any]


def reduce(
    pixels: Series,
    recipe: Recipe,
    kind: str,
    conditions: Conditions | None = None,
    *,
    seconds: Sequence[float] = (),
    facts: dict[str, Any] | None = None,
) -> Level:
    """Check the repeats (R, K, H, W) of one level and reduce them.

    Channels that can't be used are left out and named; so is the whole level when too few repeats lie still.
    """
    conditions = conditions or Conditions(
        tuple(channel.exposure_us for channel in recipe.channels), tuple(channel.gain_db for channel in recipe.channels)
    )
    names = recipe.channel_names
    findings: list[Finding] = []
    kept = tuple(range(pixels.shape[0]))
    unusable: frozenset[str] = frozenset()
    if len(kept) >= 2:
        checked = check(pixels, names, recipe.bit_depth, expect_light=kind != DARK)
        findings, kept, unusable = list(checked.findings), checked.repeats, checked.unusable
    stills: dict[str, Still] = {}
    fewest = 2 if kind == DARK else MIN_REPEATS
    sentences = [f"{kind}: {one.sentence}" for one in findings]
    if len(kept) < fewest:
        sentences.append(
            f"{kind}: {len(kept)} of {pixels.shape[0]} repeats lie still, at least {fewest} are needed; take "
            "the series again"
        )
    else:
        chosen = pixels if len(kept) == pixels.shape[0] else pixels[list(kept)]
        for index, name in enumerate(names):
            if name not in unusable:
                stills[name] = still(
                    chosen[:, index], recipe.bit_depth, conditions.exposures_us[index], regular=kind in _REGULAR
                )
    times = tuple(seconds[index] for index in kept) if seconds else ()
    return Level(kind, conditions, stills, tuple(sentences), pixels.shape[0], times, facts or {})


def read(folder: Path, kind: str, recipe: Recipe, go_on: Callable[[int, int], None]) -> list[Level]:
    """Read a series and reduce it level by level; nothing when there is none.

    :param go_on: is told of each file and raises to stop.
    :raises DataError: a file is damaged, does not fit the recipe, or was taken at another gain.
    """
    files = sorted((folder / kind).glob("*.tif"))
    groups: dict[Conditions, list[Path]] = {}
    for file in files:
        groups.setdefault(_conditions(read_stack(file), file), []).append(file)
    levels, done = [], 0
    for conditions, members in sorted(groups.items(), key=lambda item: item[0].exposures_us, reverse=True):
        _require_gain(conditions, recipe, folder / kind)
        stacks, times = [], []
        most = max(MIN_REPEATS, min(MOST_REPEATS, _MOST_BYTES // max(1, members[0].stat().st_size)))
        facts: dict[str, Any] = {}
        for file in members[-most:]:
            go_on(done, len(files))
            done += 1
            stored = read_stack(file)
            stacks.append(check_fits(stored, recipe, file.name))
            times.append(_time(stored))
            facts |= stored.metadata
        if len({stack.dtype for stack in stacks}) > 1:
            raise DataError(f"the pictures in {folder / kind} were taken with different bit depths; take them again")
        known = [time for time in times if time is not None]
        seconds = [(time - known[0]).total_seconds() for time in known] if len(known) == len(times) else []
        levels.append(reduce(np.stack(stacks), recipe, kind, conditions, seconds=seconds, facts=facts))
    return levels


def _conditions(stored: StoredStack, file: Path) -> Conditions:
    try:
        level = float(stored.metadata.get("light_level", 1.0))
        height = float(stored.metadata.get("height_mm", 0.0))
    except (TypeError, ValueError) as error:
        raise DataError(f"{file} says of its light or height what is no number; take the series again") from error
    return Conditions(stored.exposure_us, stored.gain_db, level, height)


def _require_gain(conditions: Conditions, recipe: Recipe, folder: Path) -> None:
    for channel, gain in zip(recipe.channels, conditions.gains_db, strict=True):
        if abs(gain - channel.gain_db) > 0.05:
            raise DataError(
                f"{folder} was taken at {gain:g} dB on channel {channel.name}, the recipe has {channel.gain_db:g} dB; "
                "take the series again"
            )


def _time(stored: StoredStack) -> datetime | None:
    try:
        return datetime.fromisoformat(str(stored.metadata.get("captured_at", "")))
    except ValueError:
        return None
