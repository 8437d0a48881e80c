"""Parity: the exported model, on the engine that will judge, against the trained one, on real frames.

"The exported model differs from the trained one" is the commonest complaint in this field. So every export is run
through the engine of the line on real frames, both go through the one preprocessing, and a difference above the
tolerance or a single verdict that flips is a failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cell.defects import Sample
from cell.errors import DataError
from cell.models import ParityReport
from cell.settings import EngineSettings
from drivers.engines.base import Engine, InputShape
from drivers.engines.registry import load_engine
from trainer.fit import FittedModel


def check(
    model: FittedModel,
    onnx_file: Path,
    samples: Sequence[Sample],
    threshold: float,
    tolerance: float = 1e-3,
    settings: EngineSettings | None = None,
) -> ParityReport:
    """Compare the exported file with the trained model.

    :param samples: real images; synthetic ones are passed over. Of every size one engine is loaded.
    :param threshold: on the highest class score, for the verdicts.
    :param tolerance: largest difference of a probability or a score that passes.
    :raises DataError: when there is no real image.
    :raises EngineError: when the engine refuses the file.
    """
    real = sorted((sample for sample in samples if not sample.synthetic), key=lambda sample: sample.stack.shape)
    if not real:
        raise DataError("parity needs at least one real frame; archive some parts first")
    settings = settings or EngineSettings()
    engines: dict[InputShape, Engine] = {}
    probability_difference = score_difference = 0.0
    flips = 0
    name = ""
    try:
        for sample in real:
            tensor = model.preprocessing.apply(sample.stack)
            engine = _loaded(engines, settings, onnx_file, (tensor.shape[0], tensor.shape[1], tensor.shape[2]))
            name = f"{engine.name} {engine.provider}"
            exported = engine.infer(tensor)
            with torch.inference_mode():
                probability, score = (out[0].numpy() for out in model.network(torch.from_numpy(tensor)[None]))
            probability_difference = max(
                probability_difference, float(np.abs(exported.probability - probability).max())
            )
            score_difference = max(score_difference, float(np.abs(exported.score - score).max()))
            flips += int((exported.score.max() >= threshold) != (score.max() >= threshold))
    finally:
        _close(engines)
    return ParityReport(
        engine=name,
        frames=len(real),
        max_probability_difference=probability_difference,
        max_score_difference=score_difference,
        verdict_flips=flips,
        passed=flips == 0 and max(probability_difference, score_difference) <= tolerance,
    )


def _loaded(engines: dict[InputShape, Engine], settings: EngineSettings, onnx_file: Path, shape: InputShape) -> Engine:
    if shape not in engines:
        # One at a time: an engine may hold most of a small accelerator's memory.
        _close(engines)
        engines[shape] = load_engine(settings, onnx_file, shape)
    return engines[shape]


def _close(engines: dict[InputShape, Engine]) -> None:
    for engine in engines.values():
        engine.close()
    engines.clear()
