"""Cameras and lights for a person at the bench: between two parts, on the line thread, and never while a run is on.

A part that comes while a person looks waits for the exposure under way and no more. Frames are measured and written
after the line has gone on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from cell.clock import WallClock, utc_now
from cell.errors import CameraError, DataError, StateError
from cell.frames import Frame
from cell.recipes import Recipe
from cell.store.files import remove
from cell.store.layout import StateDir
from cell.store.line_records import RecipeBook
from daemon.acquire import Acquirer
from daemon.arguments import TakeArguments
from daemon.recipes import ERRAND_S
from daemon.states import EXECUTING
from daemon.station import Station
from drivers.bench import Bench, Facts, Taken, Wanted, adjusted, figures_of, save_frames
from drivers.cameras.base import fault_of

T = TypeVar("T")

#: How long one errand takes frames before it lets the line go on, seconds.
_BUDGET_S = 0.5
#: Features that are read in one errand: a real camera has hundreds, and takes a millisecond for each.
_FEATURES = 10
#: Pictures that people took and that are kept below `snaps/`, and what they may take; the oldest go.
_SNAPS, _SNAPS_BYTES = 200, 2 << 30


class Hardware:
    """Answers what people ask of cameras and light. Called by the worker that prepares recipes, so the two don't cross.

    Every method but :meth:`cameras` raises `StateError` while a run is on, all raise `AcquisitionTimeout` when the line
    does not come to it, and what the devices raise.
    """

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
        self._shared: Recipe | None = None  # the recipe that this object had the cameras set up for

    def cameras(self) -> list[Facts]:
        """Return who the cameras are and how they are; while a run is on, without asking the devices themselves."""
        try:
            found = self._between_parts(self._bench.cameras)
        except StateError:
            found = self._bench.cameras(ask=False)
        watched = self._acquirer.cameras
        for facts in found:
            attendant = watched[facts["camera"]]
            facts["state"] = "lost, being brought back" if attendant.lost else "well"
            facts["recoveries"] = attendant.recoveries
        return found

    def info(self, camera: str) -> Facts:
        """Return a camera's features. Raises `DataError` for an unknown camera."""
        found = self._between_parts(lambda: self._bench.identity(camera))
        names = self._between_parts(lambda: self._bench.feature_names(camera))
        rows: list[Facts] = []
        for start in range(0, len(names), _FEATURES):
            piece = names[start : start + _FEATURES]
            rows += self._between_parts(partial(self._bench.features, camera, piece))
        return found | {"features": rows}

    def lights(self) -> Facts:
        """Return the light's lines and how brightly they shine."""
        return self._between_parts(self._bench.lights)

    def shine(self, lights: Mapping[str, float]) -> Facts:
        """Switch lines on and all others off, until the next part or the light's own time-out."""
        return self._between_parts(lambda: self._bench.shine(lights))

    def take(self, asked: TakeArguments) -> dict[str, Any]:
        """Take frames; what goes wrong with one is counted and told. Raises `DataError` for what the recipe has not."""
        wanted = Wanted(
            channels=asked.channels,
            count=asked.count,
            lights=asked.lights,
            budget_s=_BUDGET_S,
            give_way=self._busy,
        )
        recipe, taken = self._between_parts(lambda: self._take(asked, wanted))
        paths = [] if asked.save == "no" else self._save(taken.frames, recipe, stacked=asked.save == "stack")
        return {
            "recipe_id": recipe.recipe_id,
            "frames": [figures_of(frame, asked.region) for frame in taken.frames],
            "failures": taken.failures,
            "lost": taken.lost,
            "seconds": round(taken.seconds, 4),
            "paths": paths,
        }

    def _take(self, asked: TakeArguments, wanted: Wanted) -> tuple[Recipe, Taken]:
        # On the line thread.
        role = self._bench.role(self._bench.camera(asked.camera))
        attendant = self._acquirer.cameras[role]
        if attendant.lost:
            raise CameraError(f"camera {role} is gone and being brought back; inspectctl status shows why")
        recipe = self._set_up(role, asked)
        self._bench.present(asked.part_id)
        taken = self._bench.take(role, recipe, wanted)
        if taken.gave_way and (not taken.frames or asked.save == "stack"):
            raise StateError("a part came before the frames were taken; ask again between two parts")
        if not taken.frames and taken.errors:
            attendant.note(fault_of(taken.errors[-1]))
            raise taken.errors[-1]
        return recipe, taken

    def _set_up(self, role: str, asked: TakeArguments) -> Recipe:
        """Return the recipe whose channels are taken, the cameras set up for it: the prepared one if there is one."""
        prepared = self._station.prepared
        if prepared is not None:
            self._require_as_prepared(role, prepared.recipe, asked)
            return prepared.recipe
        recipe = adjusted(self._recipe(role, asked.recipe_id), asked.exposure_us, asked.gain_db)
        if self._shared is None or recipe != self._shared or self._acquirer.recipe is not self._shared:
            self._acquirer.configure(recipe)
            self._shared = recipe
        return recipe

    def _require_as_prepared(self, role: str, recipe: Recipe, asked: TakeArguments) -> None:
        """Refuse what would leave the cameras otherwise than the next part needs them."""
        if asked.recipe_id not in {None, recipe.recipe_id}:
            raise StateError(f"recipe {recipe.recipe_id} is prepared, not {asked.recipe_id}; UnprepareRecipe first")
        if asked.exposure_us is not None or asked.gain_db is not None:
            raise StateError(f"recipe {recipe.recipe_id} is prepared; UnprepareRecipe to try another exposure or gain")
        if self._bench.triggered(role):
            # Such a frame would be a part's, and missing from it.
            raise StateError(f"camera {role} is triggered by its line; UnprepareRecipe before you take frames")

    def _recipe(self, role: str, named: str | None) -> Recipe:
        if named is not None:
            return self._recipes.get(named)
        known = [recipe for recipe in self._recipes.list() if any(c.camera == role for c in recipe.channels)]
        if len(known) > 1:
            names = ", ".join(recipe.recipe_id for recipe in known)
            raise DataError(f"name the recipe whose channels camera {role} is to take; there are {names}")
        return known[0] if known else self._bench.own_recipe(role)

    def _save(self, frames: list[Frame], recipe: Recipe, *, stacked: bool) -> list[str]:
        self._state.require_free(self._bench.settings.minimum_free_mb)
        folder = self._state.root / "snaps"
        paths = save_frames(frames, recipe, folder, self._clock(), stacked=stacked, emulated=self._acquirer.emulated)
        room, kept = _SNAPS_BYTES, 0
        superfluous = []
        for file in sorted(set(folder.glob("*.tif")) - set(paths), key=lambda file: file.stat().st_mtime, reverse=True):
            room, kept = room - file.stat().st_size, kept + 1
            if room < 0 or kept > _SNAPS:
                superfluous.append(file)
        remove(superfluous)
        return [self._state.relative(path) for path in paths]

    def _between_parts(self, errand: Callable[[], T]) -> T:
        def when_idle() -> T:
            self._require_idle()
            return errand()

        self._require_idle()
        return self._station.line.between_parts(when_idle, ERRAND_S)

    def _require_idle(self) -> None:
        if self._busy():
            raise StateError("a part is under way or a run is on; Stop it first, or ask again between two parts")

    def _busy(self) -> bool:
        return self._station.line.occupied or self._station.machine.now.state in EXECUTING
