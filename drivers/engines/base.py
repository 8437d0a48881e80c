"""The engine contract: network input in, probabilities out.

Every engine runs the same ONNX file: one input ``stack`` float32 (1, K, H, W); outputs ``probability`` float32
(1, D, H, W) and ``score`` float32 (1, D), for D defect classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cell.errors import EngineError

INPUT = "stack"
PROBABILITY = "probability"
SCORE = "score"

#: (K, H, W) of the network input an engine is loaded for.
InputShape = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Inference:
    """What a model says of one part. The arrays belong to the caller; the engine does not touch them again."""

    probability: NDArray[np.float32]  # (D, H, W) in [0, 1]
    score: NDArray[np.float32]  # (D,) in [0, 1]


class Engine(Protocol):
    """A loaded model on one accelerator. Single-threaded: one thread at a time calls `infer`."""

    @property
    def name(self) -> str:
        """Back end and its version, e.g. ``onnxruntime 1.32.0``."""

    @property
    def provider(self) -> str:
        """What really computes: ``cpu``, ``cuda`` or ``tensorrt``."""

    def infer(self, tensor: NDArray[np.float32]) -> Inference:
        """Judge one network input (K, H, W) float32. Raises `EngineError`; never returns values that are not finite."""

    def close(self) -> None:
        """Release the accelerator. Never raises; may be called again."""


def check_tensor(tensor: NDArray[np.float32], shape: InputShape) -> None:
    """Refuse an input that is not the one the engine was loaded for. Raises `EngineError` naming both."""
    if tensor.shape != shape or tensor.dtype != np.float32:
        raise EngineError(
            f"the model takes float32 {shape}, got {tensor.dtype} {tensor.shape}; use the model's own preprocessing"
        )


def checked(probability: NDArray[np.float32], score: NDArray[np.float32], shape: InputShape) -> Inference:
    """Return the outputs of one inference, (1, D, H, W) and (1, D), as an `Inference`.

    Raises `EngineError` when a shape is wrong or a value is not finite or lies outside [0, 1]: such a network must not
    judge.
    """
    if probability.ndim != 4 or score.shape != probability.shape[:2]:
        raise EngineError(f"the model gave probability {probability.shape} and score {score.shape}; export it again")
    if probability.shape[0] != 1 or probability.shape[2:] != shape[1:]:
        raise EngineError(f"the model gave probability {probability.shape} for an input {shape}; export it again")
    # min and max of an array that holds a NaN are NaN, and a comparison with NaN is False: one test finds all three.
    for name, values in ((PROBABILITY, probability), (SCORE, score)):
        if not (values.min() >= -1e-6 and values.max() <= 1 + 1e-6):
            raise EngineError(f"the model's {name} is not a finite number between 0 and 1; load the last good model")
    return Inference(probability=probability[0], score=score[0])
