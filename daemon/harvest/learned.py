"""The learned anomaly score in harvest: loaded when the trainer has made one, and again when it made another."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from cell import digest
from cell.errors import InspectdError
from cell.frames import Stack
from cell.imaging import oddity
from cell.recipes import Recipe
from cell.settings import EngineSettings
from drivers.engines.base import Engine
from drivers.engines.registry import load_engine

_LOG = logging.getLogger(__name__)

#: Harvest has the processor's one slow thread, whatever accelerator judges the line's parts.
_ENGINE = EngineSettings()


class LearnedOddity:
    """The network of one recipe, if there is one. One thread at a time."""

    def __init__(self, backgrounds: Path, recipe: Recipe) -> None:
        self._recipe = recipe
        self._network, self._described = oddity.files(backgrounds, recipe.recipe_id)
        self._seen = 0
        self._facts: oddity.Oddity | None = None
        self._engine: Engine | None = None

    def deviations(self, stack: Stack) -> float | None:
        """Return by how many robust deviations a part (K, H, W) lies above good ones; None without a fit network."""
        self._look()
        if self._facts is None or self._engine is None:
            return None
        try:
            spec = self._facts.preprocessing
            maps = [
                spec.to_frame(self._engine.infer(spec.apply(stack[index : index + 1])).probability, *stack.shape[1:])
                for index in range(stack.shape[0])
            ]
        except InspectdError as error:
            _LOG.warning("harvest goes on without what the trainer learned of good parts: %s", error)
            self._close()
            return None
        return self._facts.deviations(np.concatenate(maps))

    def _look(self) -> None:
        """Load what the trainer wrote last."""
        try:
            written = self._described.stat().st_mtime_ns
        except OSError:
            written = 0
        if written == self._seen:
            return
        self._seen = written
        self._close()
        if not written:
            return
        try:
            self._load()
        except (InspectdError, OSError, ValidationError, ValueError) as error:
            reason = (str(error).splitlines() or [""])[0]
            _LOG.warning("harvest does without %s: %s; learn it again with inspectctl oddity", self._described, reason)
            self._close()

    def _load(self) -> None:
        facts = oddity.Oddity.model_validate_json(self._described.read_bytes())
        recipe = self._recipe
        if facts.channels != recipe.channel_names or facts.preprocessing != oddity.preprocessing_of(recipe):
            raise ValueError("it was learned with other channels or another layout than the recipe's")
        if digest.of_file(self._network) != facts.onnx_digest:
            raise ValueError("the network is not the one it describes")
        made = facts.preprocessing.empty_input(recipe.height, recipe.width).shape
        self._engine = load_engine(_ENGINE, self._network, (made[0], made[1], made[2]))
        self._facts = facts

    def _close(self) -> None:
        if self._engine is not None:
            self._engine.close()
        self._engine = self._facts = None
