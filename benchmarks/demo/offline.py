"""Judge the archived frames of the line again, away from the daemon: the same model must say the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.demo.plc import Answer
from cell.models import ModelManifest
from cell.recipes import Recipe
from cell.settings import EngineSettings
from cell.store.images import read_stack
from cell.store.layout import StateDir
from cell.store.line import LineStore
from cell.verdicts import Outcome, Verdict
from drivers.engines.base import Engine
from drivers.engines.registry import load_engine

#: Largest difference of a score between two runs of the same engine on the same pixels.
TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Offline:
    """Verdicts that could not be reproduced: by the model they name, or in their outcome."""

    checked: int
    mixed_models: int
    differences: int


def check(
    state: StateDir,
    recipe: Recipe,
    models: Sequence[ModelManifest],
    answers: Sequence[Answer],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Offline:
    """Judge every answered part's archived frames with the model that its verdict names."""
    by_digest = {model.onnx_digest: model for model in models}
    engines: dict[str, Engine] = {}
    checked = mixed = different = 0
    with LineStore(state) as store:
        for index, answer in enumerate(answers):
            progress(index + 1, len(answers))
            verdict = answer.verdict
            if verdict is None or verdict.outcome is Outcome.FAULT:
                continue
            checked += 1
            model = by_digest.get(verdict.model_digest)
            if model is None:
                mixed += 1
                continue
            part = store.archive.get(verdict.job_id)
            stack = read_stack(state.resolve(part.path), verdict.frames_digest).pixels
            tensor = model.preprocessing.apply(stack)
            if model.onnx_digest not in engines:
                file = state.model_folder(model.onnx_digest) / model.onnx_file
                channels, height, width = tensor.shape
                engines[model.onnx_digest] = load_engine(EngineSettings(), file, (channels, height, width))
            scores = engines[model.onnx_digest].infer(tensor).score
            mixed += not _same_scores(verdict, model, [float(value) for value in scores])
            different += _outcome(max(float(value) for value in scores), model, recipe) is not verdict.outcome
    for engine in engines.values():
        engine.close()
    return Offline(checked, mixed, different)


def _same_scores(verdict: Verdict, model: ModelManifest, scores: list[float]) -> bool:
    said = [verdict.class_scores.get(name, -1.0) for name in model.classes]
    return all(abs(a - b) <= TOLERANCE for a, b in zip(said, scores, strict=True))


def _outcome(score: float, model: ModelManifest, recipe: Recipe) -> Outcome:
    threshold = model.threshold if recipe.threshold is None else recipe.threshold
    return Outcome.NG if score >= threshold else Outcome.OK
