"""Loading a model beside the running one, the checks it must pass, and the slot from which parts are judged.

A model is let near parts when its ONNX file has the digest of its manifest, the gate still vouches for its training
set, it belongs to the recipe (channels, classes, preprocessing), it was learned from real parts if the cell is real,
and its golden images score as they did when it was exported. Golden images are also its warm-up: the first inference of
a fresh engine can take a hundred times as long as the next.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from cell import digest
from cell.errors import DataError, ModelError
from cell.imaging.preprocess import FloatMaps, Preprocessing
from cell.models import ModelManifest, TrainingSet
from cell.recipes import Recipe
from cell.store.images import read_stack
from drivers.engines.base import Engine, InputShape

MANIFEST = "manifest.json"
#: Loads an ONNX file for an input shape (K, H, W).
EngineFactory = Callable[[Path, InputShape], Engine]
#: Returns the training set of a digest if the gate vouches for it. Raises `GateError`.
Vouch = Callable[[str], TrainingSet]
#: Waits, for a bounded time, until parts under way are judged.
Courtesy = Callable[[], None]


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model that passed its checks. `golden_difference` is the largest deviation of a golden score."""

    manifest: ModelManifest
    engine: Engine
    golden_difference: float

    @property
    def digest(self) -> str:
        """The SHA-256 of the ONNX file: the model's identity in every verdict."""
        return self.manifest.onnx_digest


class ModelLoader:
    """Loads and checks models; any thread may.

    :param emulated: True when the cell's drivers are emulated; a real cell refuses models learned on an emulated one.
    :param courtesy: called before each step that takes the interpreter for long: it lets parts under way go first.
    """

    def __init__(
        self, engine_factory: EngineFactory, vouch: Vouch, *, emulated: bool, courtesy: Courtesy = lambda: None
    ) -> None:
        self._engine_factory = engine_factory
        self._vouch = vouch
        self._emulated = emulated
        self._courtesy = courtesy

    def load(self, folder: Path, recipe: Recipe) -> LoadedModel:
        """Load the package in `folder` for `recipe` and put it through all checks.

        Raises `ModelError`, `GateError`, `EngineError` or `DataError`; then nothing stays loaded.
        """
        manifest = read_manifest(folder)
        self._check_papers(manifest, recipe, folder)
        first = self._golden_input(manifest, folder, 0)
        self._courtesy()
        engine = self._engine_factory(folder / manifest.onnx_file, _shape_of(first))
        try:
            difference = self._check_golden(manifest, folder, engine, first)
        except BaseException:
            engine.close()
            raise
        return LoadedModel(manifest, engine, difference)

    def _check_papers(self, manifest: ModelManifest, recipe: Recipe, folder: Path) -> None:
        found = digest_of(folder / manifest.onnx_file)
        name = f"model {manifest.model_id}"
        if found != manifest.onnx_digest:
            raise ModelError(
                f"the file {folder / manifest.onnx_file} has digest {found[:12]}, the manifest of {name} says "
                f"{manifest.onnx_digest[:12]}; copy the package again"
            )
        if manifest.recipe_id != recipe.recipe_id:
            raise ModelError(f"{name} belongs to recipe {manifest.recipe_id}, not {recipe.recipe_id}")
        if manifest.classes != recipe.class_names or manifest.channels != recipe.channel_names:
            raise ModelError(f"{name} knows other channels or classes than recipe {recipe.recipe_id}; train it anew")
        wanted = Preprocessing.for_recipe(recipe)
        given = manifest.preprocessing
        for field in ("channels", "bit_depth", "roi", "exclusions", "carrier_max_dn"):
            if getattr(wanted, field) != getattr(given, field):
                raise ModelError(
                    f"{name} was made for another {field} than recipe {recipe.recipe_id} version {recipe.version} has; "
                    "train it anew"
                )
        self._courtesy()
        training_set = self._vouch(manifest.training_set_digest)
        if training_set.recipe_id != manifest.recipe_id:
            raise ModelError(f"{name} names a training set of recipe {training_set.recipe_id}; train it anew")
        learned_emulated = manifest.emulated or training_set.emulated
        by_people = manifest.reviewed_by_people and training_set.reviewed_by_people
        if not self._emulated and (learned_emulated or not by_people):
            why = "learned on an emulated cell" if learned_emulated else "reviewed by a script"
            raise ModelError(f"{name} was {why} and may not judge real parts; train one from this cell's own parts")
        if not manifest.golden:
            raise ModelError(f"{name} has no golden images, so nobody can tell whether it loads right; export it again")

    def _golden_input(self, manifest: ModelManifest, folder: Path, index: int) -> FloatMaps:
        self._courtesy()
        golden = manifest.golden[index]
        path = (folder / golden.image_path).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise ModelError(f"the golden image {golden.image_path} lies outside the package {folder}; export it again")
        stack = read_stack(path).pixels
        if digest.of_array(stack) != golden.image_digest:
            raise ModelError(f"the golden image {path} is not the one of the manifest; copy the package again")
        return manifest.preprocessing.apply(stack)

    def _check_golden(self, manifest: ModelManifest, folder: Path, engine: Engine, first: FloatMaps) -> float:
        largest = 0.0
        self._courtesy()
        engine.infer(first)
        for index, golden in enumerate(manifest.golden):
            tensor = first if index == 0 else self._golden_input(manifest, folder, index)
            scores = engine.infer(tensor).score
            if scores.shape != (len(manifest.classes),) or len(golden.scores) != len(manifest.classes):
                raise ModelError(f"model {manifest.model_id} gives {scores.shape[0]} scores; export it again")
            difference = float(np.max(np.abs(scores - np.asarray(golden.scores, np.float32))))
            if not difference <= manifest.score_tolerance:
                raise ModelError(
                    f"model {manifest.model_id} scores the golden image {golden.image_path} {difference:.2g} away from "
                    f"its scores at export (at most {manifest.score_tolerance:.2g}); don't use it on this engine"
                )
            largest = max(largest, difference)
        return largest


class ModelSlot:
    """Which model judges, which stands beside, which judged before.

    `active` is read once a part by the line thread; assignments happen between parts, on the line thread, and replace
    references, so a part never sees two models.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.active: LoadedModel | None = None
        self.previous: LoadedModel | None = None
        self.standby: LoadedModel | None = None

    def stand_by(self, model: LoadedModel) -> None:
        """Put a loaded model beside the running one, in place of one that waited there."""
        with self._lock:
            replaced, self.standby = self.standby, model
        if replaced is not None:
            replaced.engine.close()

    def take_standby(self, recipe_id: str = "") -> LoadedModel | None:
        """Take the waiting model out, if it is of that recipe."""
        with self._lock:
            model = self.standby
            if model is None or (recipe_id and model.manifest.recipe_id != recipe_id):
                return None
            self.standby = None
            return model

    def install(self, model: LoadedModel | None) -> tuple[LoadedModel, ...]:
        """Let `model` judge a newly prepared recipe, with nothing to roll back to. Line thread only.

        Returns what it displaced; closing it is the caller's, on another thread than the line's.
        """
        with self._lock:
            displaced = (self.active, self.previous)
            self.active, self.previous = model, None
        return tuple(each for each in displaced if each is not None and each is not model)

    def promote(self, model: LoadedModel) -> tuple[LoadedModel, ...]:
        """Let `model` judge from the next part on; the one before stays loaded as `previous`. Line thread only.

        Returns what it displaced, as :meth:`install` does.
        """
        with self._lock:
            displaced, self.previous = self.previous, self.active
            self.active = model
        return () if displaced is None or displaced is model else (displaced,)

    def close(self) -> None:
        """Release all models."""
        with self._lock:
            models = (self.active, self.previous, self.standby)
            self.active = self.previous = self.standby = None
        for model in models:
            if model is not None:
                model.engine.close()


def read_manifest(folder: Path) -> ModelManifest:
    """Return the manifest of the package in `folder`. Raises `ModelError`."""
    try:
        text = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise ModelError(f"there is no model package in {folder}: {error.strerror}; check the model's name") from error
    try:
        return ModelManifest.model_validate_json(text)
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(str(part) for part in detail["loc"])
        raise ModelError(
            f"the manifest in {folder} is broken: {key}: {detail['msg'].lower()}; copy it again"
        ) from error


def digest_of(file: Path) -> str:
    """Return a file's SHA-256. Raises `ModelError` when it can't be read."""
    try:
        return digest.of_file(file)
    except OSError as error:
        raise ModelError(f"can't read {file}: {error.strerror}; copy the package again") from error


def _shape_of(tensor: FloatMaps) -> InputShape:
    if tensor.ndim != 3:
        raise DataError(f"a network input is (K, H, W), got {tensor.shape}")
    return int(tensor.shape[0]), int(tensor.shape[1]), int(tensor.shape[2])
