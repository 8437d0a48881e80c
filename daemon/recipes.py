"""Preparing a recipe: camera, model and calibration together, or nothing changes."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from cell.errors import (
    CalibrationError,
    ConfigurationError,
    HardwareError,
    InspectdError,
    NotFound,
    StateError,
    StoreError,
)
from cell.events import RecipePrepared
from cell.recipe_files import read_recipe
from cell.recipes import Recipe
from cell.store.files import remove, write_bytes
from cell.store.learning import LearningStore
from cell.store.line import LineStore
from daemon.acquire import Acquirer
from daemon.notices import Conditions
from daemon.states import NOBODY, Cause, Origin
from daemon.station import Prepared, Station
from daemon.swap import LoadedModel, ModelLoader, ModelSlot

_LOG = logging.getLogger(__name__)

#: Longest wait for the line to come to an errand, seconds: a part and a camera's set-up fit in well.
ERRAND_S = 30.0


class Recipes:
    """Prepares and unprepares recipes; its methods run on the worker for recipes, not on the command loop."""

    def __init__(
        self,
        station: Station,
        store: LineStore,
        learning: LearningStore,
        acquirer: Acquirer,
        slot: ModelSlot,
        loader: ModelLoader,
        conditions: Conditions,
    ) -> None:
        self._station = station
        self._store = store
        self._learning = learning
        self._acquirer = acquirer
        self._slot = slot
        self._loader = loader
        self._conditions = conditions
        self._resume_file = store.state.root / "resume.json"

    def prepare(self, recipe_id: str, origin: Origin = NOBODY) -> tuple[Prepared, str]:
        """Load the deployed model, then set the camera up between two parts and be Ready.

        Returns what is prepared and the model's digest. Without a deployed model the recipe is prepared all the same
        and every verdict is FAULT. Raises `NotFound`, `StateError`, `HardwareError`, and what keeps the model from
        judging; then what was prepared before stays.
        """
        self._station.machine.check(Cause.PREPARE_RECIPE)
        recipe = self._store.recipes.get(recipe_id)
        model = self._deployed_model(recipe)
        prepared = Prepared(recipe, self._configuration_id(recipe_id))
        try:
            displaced = self._station.line.between_parts(lambda: self._switch(prepared, model, origin), ERRAND_S)
        except BaseException:
            if model is not None:
                model.engine.close()
            raise
        for old in displaced:
            old.engine.close()
        digest = model.digest if model is not None else ""
        log = self._conditions.log
        told = RecipePrepared(at=log.now(), request_id=origin.request_id, recipe_id=recipe_id, model_digest=digest)
        log.keep((told,))
        self._conditions.resolve("resume")
        write_bytes(self._resume_file, json.dumps({"recipe_id": recipe_id}).encode())
        return prepared, digest

    def unprepare(self, recipe_id: str | None, origin: Origin = NOBODY) -> None:
        """Unload the prepared recipe. Raises `StateError` when it is another one or none is."""
        prepared = self._station.prepared
        if recipe_id is not None and (prepared is None or prepared.recipe.recipe_id != recipe_id):
            raise NotFound(f"recipe {recipe_id} is not prepared; inspectctl status shows which one is")
        self._station.machine.check(Cause.UNPREPARE_RECIPE)
        for old in self._station.line.between_parts(lambda: self._clear(origin), ERRAND_S):
            old.engine.close()
        self.forget_resume()

    def remove(self, recipe_id: str, folder: Path) -> int:
        """Offer a recipe no longer and remove its files in `folder`; results, pictures and models stay.

        Returns the version that was the latest. Raises `StateError` when it is prepared, `NotFound`, and `StoreError`
        when a file can't be removed; the recipe is then still there.
        """
        prepared = self._station.prepared
        if prepared is not None and prepared.recipe.recipe_id == recipe_id:
            raise StateError(f"recipe {recipe_id} is prepared; UnprepareRecipe first")
        self._store.recipes.get(recipe_id)
        # The files first: one that stays would bring the recipe back at the next start.
        remove(file for file in sorted(folder.glob("*.json")) if _holds(file, recipe_id))
        return self._store.recipes.remove(recipe_id)

    def resume(self) -> None:
        """Go back to where an earlier process was: automatic mode and its recipe. Raises what `prepare` does."""
        try:
            recipe_id = str(json.loads(self._resume_file.read_bytes())["recipe_id"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{self._resume_file} can't be read: {error}; PrepareRecipe by hand") from error
        origin = Origin(detail="resumed after a restart")
        self._station.machine.fire(Cause.SELECT_MODE_AUTOMATIC, origin)
        self.prepare(recipe_id, origin)

    def forget_resume(self) -> None:
        """Start in Preoperational next time: a person or the PLC has ended production."""
        self._resume_file.unlink(missing_ok=True)

    def put_away(self) -> None:
        """Light off and models released after Halt or Reset. Raises `LightError`."""
        self.forget_resume()
        for old in self._station.line.between_parts(self._release, ERRAND_S):
            old.engine.close()

    def _switch(self, prepared: Prepared, model: LoadedModel | None, origin: Origin) -> tuple[LoadedModel, ...]:
        # On the line thread.
        self._station.machine.check(Cause.PREPARE_RECIPE)
        before = self._station.prepared
        try:
            self._acquirer.configure(prepared.recipe)
        except InspectdError:
            if before is not None:
                self._set_back(before.recipe)
            raise
        self._station.machine.fire(Cause.PREPARE_RECIPE, origin, recipe_id=prepared.recipe.recipe_id)
        self._station.prepared = prepared
        self._conditions.resolve("camera")
        return self._slot.install(model)

    def _set_back(self, recipe: Recipe) -> None:
        try:
            self._acquirer.configure(recipe)
        except HardwareError as error:
            self._conditions.raise_("camera", f"the camera is being brought back: {error}", severe=True)

    def _clear(self, origin: Origin) -> tuple[LoadedModel, ...]:
        # On the line thread.
        self._station.machine.fire(Cause.UNPREPARE_RECIPE, origin)
        self._station.prepared = None
        self._acquirer.dark()
        return self._slot.install(None)

    def _release(self) -> tuple[LoadedModel, ...]:
        # On the line thread.
        self._acquirer.dark()
        return self._slot.install(None)

    def _deployed_model(self, recipe: Recipe) -> LoadedModel | None:
        deployment = self._store.deployments.current(recipe.recipe_id)
        if deployment is None:
            return None
        return self._loader.load(self._store.state.model_folder(deployment.active), recipe)

    def _configuration_id(self, recipe_id: str) -> str:
        try:
            return self._learning.calibration(recipe_id).record_digest()
        except (CalibrationError, StoreError):
            return ""  # judging needs no calibration; generation does, and says so


def load_folder(folder: Path, store: LineStore, conditions: Conditions) -> int:
    """Take every ``*.json`` recipe of a folder into the store; return how many there are.

    One that can't be taken is raised as a condition: the others are still wanted.
    """
    problems: list[str] = []
    files = sorted(folder.glob("*.json"))
    for file in files:
        try:
            store.recipes.add(read_recipe(file))
        except (ConfigurationError, StoreError) as error:
            problems.append(str(error))
    if problems:
        conditions.raise_("recipes", problems[0])
    return len(files) - len(problems)


def _holds(file: Path, recipe_id: str) -> bool:
    try:
        return read_recipe(file).recipe_id == recipe_id
    except ConfigurationError:
        return False  # it is no recipe, so it brings none back
