"""Deploy, promote, roll back: which model judges a recipe, in memory and in the store, changed together.

::

    package --deploy--> loaded and checked, beside --promote--> judges from the next part on
                                                       ^              |
                                                       '--rollback----'   (the one before stays loaded)

The deployment is durable before the slot changes, both between two parts, so that a restart at any instant loads the
model that judged last or the one that was to judge next, never another.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from cell.errors import DataError, ModelError, StateError
from cell.events import ModelPromoted
from cell.models import ModelManifest
from cell.process import Rests
from cell.recipes import Recipe
from cell.store.files import disk_errors, sync_folder
from cell.store.learning import LearningStore
from cell.store.line import LineStore
from daemon.notices import EventLog
from daemon.recipes import ERRAND_S
from daemon.station import Station
from daemon.swap import LoadedModel, ModelLoader, ModelSlot, digest_of, read_manifest

_LOG = logging.getLogger(__name__)

Result = dict[str, Any]


class Deployer:
    """Its methods run on the worker for models, one at a time."""

    def __init__(
        self,
        station: Station,
        store: LineStore,
        learning: LearningStore,
        slot: ModelSlot,
        loader: ModelLoader,
        log: EventLog,
    ) -> None:
        self._station = station
        self._store = store
        self._learning = learning
        self._slot = slot
        self._loader = loader
        self._log = log

    def deploy(self, model: str, *, promote: bool, by: str, request_id: str = "") -> Result:
        """Load a model of the store, or of a folder outside it, beside the running one; `promote` it at once if asked.

        Raises `NotFound`, `ModelError`, `GateError`, `EngineError` or `DataError`; then what judges goes on.
        """
        manifest = self._manifest(model)
        recipe = self._recipe(manifest.recipe_id)
        loaded = self._loader.load(self._store.state.model_folder(manifest.onnx_digest), recipe)
        self._slot.stand_by(loaded)
        if promote:
            self.promote(by, request_id)
        return {
            "model_digest": loaded.digest,
            "model_id": manifest.model_id,
            "recipe_id": manifest.recipe_id,
            "golden_difference": loaded.golden_difference,
            "promoted": promote,
        }

    def promote(self, by: str, request_id: str = "") -> Result:
        """Let the model that stands beside judge from the next part on. Raises `StateError` when none stands there."""
        model = self._slot.take_standby()
        if model is None:
            raise StateError("no model stands beside the running one; deploy one first")
        recipe_id = model.manifest.recipe_id
        before = self._active_digest(recipe_id)
        try:
            self._exchange(model, lambda: self._store.deployments.deploy(recipe_id, model.digest, by))
        except BaseException:
            self._slot.stand_by(model)
            raise
        return self._tell(recipe_id, model.digest, before, request_id, rollback=False)

    def roll_back(self, recipe_id: str | None, by: str, request_id: str = "") -> Result:
        """Go back to the model before. Raises `StateError` when there is none, and what keeps it from being loaded."""
        prepared = self._station.prepared
        if recipe_id is None:
            if prepared is None:
                raise StateError("no recipe is prepared; name the recipe_id whose model is to be rolled back")
            recipe_id = prepared.recipe.recipe_id
        current = self._store.deployments.current(recipe_id)
        if current is None or not current.previous:
            raise StateError(f"recipe {recipe_id} has no model before the present one; deploy another instead")
        model = self._slot.previous
        if model is None or model.digest != current.previous:
            folder = self._store.state.model_folder(current.previous)
            model = self._loader.load(folder, self._recipe(recipe_id))
        self._exchange(model, lambda: self._store.deployments.roll_back(recipe_id, by))
        return self._tell(recipe_id, model.digest, current.active, request_id, rollback=True)

    def listing(self, recipe_id: str | None) -> list[Result]:
        """Return the models of the store, newest first, and where each is deployed."""
        found = self._learning.models(recipe_id or "")
        standing = {recipe: self._learning.process.standing(recipe) for recipe in {one.recipe_id for one in found}}
        active = {recipe: self._active_digest(recipe) for recipe in {manifest.recipe_id for manifest in found}}
        return [
            {
                "model_id": manifest.model_id,
                "model_digest": manifest.onnx_digest,
                "recipe_id": manifest.recipe_id,
                "recipe_version": manifest.recipe_version,
                "created_at": manifest.created_at.isoformat(),
                "validated": manifest.evaluation.validated,
                "findings": list(manifest.evaluation.findings),
                "reviewed_by_people": manifest.reviewed_by_people,
                "emulated": manifest.emulated,
                "threshold": manifest.threshold,
                "active": manifest.onnx_digest == active[manifest.recipe_id],
                "stale": standing[manifest.recipe_id].why(Rests.MODELS)
                if manifest.model_id in standing[manifest.recipe_id].stale.get(Rests.MODELS, ())
                else "",
            }
            for manifest in found
        ]

    def _exchange(self, model: LoadedModel, record: Any) -> None:
        displaced = self._station.line.between_parts(lambda: self._swap(model, record), ERRAND_S)
        for old in displaced:
            old.engine.close()

    def _swap(self, model: LoadedModel, record: Any) -> tuple[LoadedModel, ...]:
        # On the line thread.
        prepared = self._station.prepared
        record()
        if prepared is None or prepared.recipe.recipe_id != model.manifest.recipe_id:
            return (model,)  # recorded for when its recipe is prepared; nothing judges by it now
        return self._slot.promote(model)

    def _tell(self, recipe_id: str, now: str, before: str, request_id: str, *, rollback: bool) -> Result:
        self._log.keep(
            (
                ModelPromoted(
                    at=self._log.now(),
                    request_id=request_id,
                    recipe_id=recipe_id,
                    model_digest=now,
                    previous_digest=before,
                    rollback=rollback,
                ),
            )
        )
        return {"recipe_id": recipe_id, "model_digest": now, "previous_digest": before}

    def _active_digest(self, recipe_id: str) -> str:
        current = self._store.deployments.current(recipe_id)
        return current.active if current is not None else ""

    def _recipe(self, recipe_id: str) -> Recipe:
        # The prepared version counts: a newer one in the book takes effect with the next PrepareRecipe.
        prepared = self._station.prepared
        if prepared is not None and prepared.recipe.recipe_id == recipe_id:
            return prepared.recipe
        return self._store.recipes.get(recipe_id)

    def _manifest(self, model: str) -> ModelManifest:
        if "/" not in model:
            return self._learning.model(model)
        folder = Path(model)
        if not folder.is_absolute():
            raise DataError(f"the folder {model!r} is not an absolute path; the daemon does not know where you stand")
        manifest = read_manifest(folder)
        self._take_in(folder, manifest)
        return manifest

    def _take_in(self, folder: Path, manifest: ModelManifest) -> None:
        if digest_of(folder / manifest.onnx_file) != manifest.onnx_digest:
            raise ModelError(f"the ONNX file in {folder} is not the one of its manifest; copy the package again")
        target = self._store.state.model_folder(manifest.onnx_digest)
        if not target.exists():
            part = target.with_name(f".{target.name}.part")
            with disk_errors(target):
                shutil.rmtree(part, ignore_errors=True)
                shutil.copytree(folder, part)
                sync_folder(part)
                part.rename(target)
                sync_folder(target.parent)
        self._learning.register_model(manifest, target)
