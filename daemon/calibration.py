"""Series for a calibration: repeats of a still scene under the recipe's light sequence, taken between two parts.

One round of all channels is one errand of the line thread, so a part that comes waits for one round and no more. A part
that came meanwhile moved what lay there: the series is then given up, and what was taken before stays valid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from cell.calibration import SeriesKind
from cell.clock import WallClock, utc_now
from cell.errors import CameraError, DataError, StateError
from cell.frames import Frame, Stack, StoredStack
from cell.imaging.figures import levels as levels_of
from cell.imaging.stillness import Checked, Series, check
from cell.recipes import Channel, Recipe
from cell.store.calibration_files import NewSeries
from cell.store.layout import StateDir
from cell.store.line_records import RecipeBook
from daemon.acquire import Acquirer, shares_of
from daemon.arguments import TakeSeriesArguments
from daemon.recipes import ERRAND_S
from daemon.states import EXECUTING
from daemon.station import Station
from drivers.bench import Bench, Wanted
from drivers.cameras.base import fault_of

T = TypeVar("T")

#: Repeats of a level that are looked at when it is taken; the calibration looks at all.
_LOOKED_AT_BYTES = 256 << 20
#: Fewer repeats than this that lie still are no series.
_FEWEST = {SeriesKind.DARK: 2}
_FEWEST_LIT = 8
#: What an emulated cell puts before its camera when nobody says so.
_EMULATED = {
    SeriesKind.REPEATS: "good-000001",
    SeriesKind.DARK: "good-000001",
    SeriesKind.FLAT: "flat-000000",
    SeriesKind.TARGET: "target-000000",
    SeriesKind.BALL: "ball-000000",
}


class SeriesTaker:
    """Takes series. Called by the worker that prepares recipes, so the two don't cross."""

    def __init__(
        self,
        bench: Bench,
        station: Station,
        acquirer: Acquirer,
        recipes: RecipeBook,
        state: StateDir,
        clock: WallClock = utc_now,
    ) -> None:
        self._bench = bench
        self._station = station
        self._acquirer = acquirer
        self._recipes = recipes
        self._state = state
        self._clock = clock

    def take(self, asked: TakeSeriesArguments) -> dict[str, Any]:
        """Take one series at all levels asked for and put it in place of the one before.

        Raises `StateError` while a run is on or when a part comes between, `HardwareError`, `DataError` when what was
        taken does not serve (frozen, saturated, out of order, moved); the series before then stays.
        """
        kind = SeriesKind(asked.kind)
        self._state.require_free(self._bench.settings.minimum_free_mb)
        recipe = self._recipe(asked)
        series = NewSeries(self._state.calibrations / recipe.recipe_id, kind, self._clock())
        judged = sum(self._station.counts.values())
        part_id = asked.part_id or (_EMULATED[kind] if self._bench.emulated else "")
        levels: list[dict[str, Any]] = []
        findings: list[str] = []
        try:
            self._between_parts(lambda: self._prepare(recipe, part_id))
            for exposure in asked.exposures:
                for light in asked.lights if kind is not SeriesKind.DARK else (1.0,):
                    stacks = self._level(_at(recipe, exposure, light), kind, asked, series, (light, part_id, judged))
                    told, sentences = _judged(stacks, recipe, kind)
                    levels.append({"exposure": exposure, "light": light, "repeats": len(stacks), **told})
                    findings += sentences
        except BaseException:
            series.drop()
            raise
        files = series.keep(beside=asked.add)
        return {
            "recipe_id": recipe.recipe_id,
            "kind": kind.value,
            "levels": levels,
            "findings": list(dict.fromkeys(findings)),
            "folder": self._state.relative(files[0].parent),
            "frame_sets": len(files),
        }

    def _level(
        self,
        recipe: Recipe,
        kind: SeriesKind,
        asked: TakeSeriesArguments,
        series: NewSeries,
        facts: tuple[float, str, int],
    ) -> list[Stack]:
        light, part_id, judged = facts
        kept: list[Stack] = []
        size = recipe.height * recipe.width * len(recipe.channels) * (1 if recipe.bit_depth <= 8 else 2)
        for _ in range(asked.count):
            frames = self._between_parts(lambda: self._round(recipe, kind))
            if sum(self._station.counts.values()) != judged:
                raise StateError("a part came before the series was whole; stop the line, and take it again")
            stack = self._stack(frames, recipe, asked, light, part_id)
            series.add(stack)
            if len(kept) < _FEWEST_LIT or (len(kept) + 1) * size <= _LOOKED_AT_BYTES:
                kept.append(stack.pixels)
        return kept

    def _round(self, recipe: Recipe, kind: SeriesKind) -> tuple[Frame, ...]:
        # On the line thread.
        found: dict[str, Frame] = {}
        for role, share in shares_of(recipe).items():
            attendant = self._acquirer.cameras[role]
            if attendant.lost:
                raise CameraError(f"camera {role} is gone and being brought back; inspectctl status shows why")
            wanted = Wanted(lights={} if kind is SeriesKind.DARK else None, budget_s=ERRAND_S, give_way=self._busy)
            taken = self._bench.take(role, share, wanted)
            if taken.gave_way:
                raise StateError("a part came before the series was whole; stop the line, and take it again")
            if taken.errors:
                attendant.note(fault_of(taken.errors[-1]))
                raise taken.errors[-1]
            found |= {frame.channel: frame for frame in taken.frames}
        return tuple(found[name] for name in recipe.channel_names)

    def _prepare(self, recipe: Recipe, part_id: str) -> None:
        # On the line thread.
        if self._station.prepared is None and self._acquirer.recipe != recipe:
            self._acquirer.configure(recipe)
        if part_id:
            self._bench.present(part_id)

    def _recipe(self, asked: TakeSeriesArguments) -> Recipe:
        prepared = self._station.prepared
        if prepared is not None:
            if asked.recipe_id not in {None, prepared.recipe.recipe_id}:
                raise StateError(
                    f"recipe {prepared.recipe.recipe_id} is prepared, not {asked.recipe_id}; UnprepareRecipe first"
                )
            for role in shares_of(prepared.recipe):
                if self._bench.triggered(role):
                    # Such a frame would be a part's, and missing from it.
                    raise StateError(
                        f"camera {role} is triggered by its line; UnprepareRecipe before you take a series"
                    )
            return prepared.recipe
        if asked.recipe_id is not None:
            return self._recipes.get(asked.recipe_id)
        known = self._recipes.list()
        if len(known) != 1:
            names = ", ".join(recipe.recipe_id for recipe in known) or "none"
            raise DataError(f"name the recipe whose channels are to be taken; there are {names}")
        return known[0]

    def _stack(
        self, frames: tuple[Frame, ...], recipe: Recipe, asked: TakeSeriesArguments, light: float, part_id: str
    ) -> StoredStack:
        facts: dict[str, Any] = {
            "taken_by": "inspectctl calibrate take",
            "recipe_id": recipe.recipe_id,
            "part_id": part_id,
            "captured_at": self._clock().isoformat(),
            "camera": frames[0].camera,
            "emulated": self._acquirer.emulated,
            "light_level": light,
            "height_mm": asked.height_mm,
            "frame_ids": [frame.frame_id for frame in frames],
        }
        known = {"dot_pitch_mm": asked.dot_pitch_mm, "ball_radius_mm": asked.ball_radius_mm}
        facts |= {key: value for key, value in known.items() if value is not None}
        pixels: Stack = np.stack([frame.pixels for frame in frames])  # type: ignore[assignment]
        return StoredStack(
            pixels=pixels,
            channels=recipe.channel_names,
            bit_depth=recipe.bit_depth,
            exposure_us=tuple(frame.exposure_us for frame in frames),
            gain_db=tuple(frame.gain_db for frame in frames),
            metadata=facts,
        )

    def _between_parts(self, errand: Callable[[], T]) -> T:
        def when_idle() -> T:
            self._require_idle()
            return errand()

        self._require_idle()
        return self._station.line.between_parts(when_idle, ERRAND_S)

    def _require_idle(self) -> None:
        if self._busy():
            raise StateError("a part is under way or a run is on; Stop it first, then take the series")

    def _busy(self) -> bool:
        return self._station.line.occupied or self._station.machine.now.state in EXECUTING


def _at(recipe: Recipe, exposure: float, light: float) -> Recipe:
    """Return the recipe with its exposures and lights scaled."""

    def scaled(channel: Channel) -> Channel:
        lights = {line: level * light for line, level in channel.lights.items()}
        strobe = None if channel.strobe_us is None else channel.strobe_us * exposure
        return channel.model_copy(
            update={"exposure_us": channel.exposure_us * exposure, "lights": lights, "strobe_us": strobe}
        )

    return recipe.model_copy(update={"channels": tuple(scaled(channel) for channel in recipe.channels)})


def _judged(stacks: list[Stack], recipe: Recipe, kind: SeriesKind) -> tuple[dict[str, Any], list[str]]:
    """Return what a level shows, and what was found. Raises `DataError` when it does not serve."""
    series: Series = np.stack(stacks)  # type: ignore[assignment]
    checked: Checked = check(series, recipe.channel_names, recipe.bit_depth, expect_light=kind is not SeriesKind.DARK)
    sentences = [one.sentence for one in checked.findings]
    left = len(recipe.channels) - len(checked.unusable)
    if not left or len(checked.repeats) < _FEWEST.get(kind, _FEWEST_LIT):
        told = "; ".join(sentences) or "too few repeats"
        raise DataError(f"the series of {kind} does not serve and was not kept: {told}")
    channels = []
    for index, name in enumerate(recipe.channel_names):
        found = levels_of(series[0, index], recipe.bit_depth)
        channels.append(
            {
                "channel": name,
                "mean": round(found.mean, 2),
                "saturated_share": found.saturated_share,
                "usable": name not in checked.unusable,
            }
        )
    return {"channels": channels, "still": len(checked.repeats)}, sentences
