"""The learned anomaly score: a small network that learned from good parts alone what does not belong on them.

Nobody has seen a defect when it is learned: good crops with foreign patches in them teach it (:mod:`trainer.oddity`).
It looks at every channel by itself, so that each light and each exposure of a part is a picture to learn from, and a
part's score is the mean over its channels of the evidence, in robust deviations of good parts that it never saw.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from cell.base import Record
from cell.imaging.preprocess import Preprocessing
from cell.recipes import Name, Recipe

#: The one channel and the one class of the network.
CHANNEL, CLASS = "any", "odd"
#: Probabilities nearer to 0 or 1 than this are rounding.
_LEAST = 1e-7
#: Places of half resolution that make a channel's evidence, and how many along the picture's edge are left out: what a
#: picture cuts off looks odd on good parts too.
_STRONGEST, _EDGE = 16, 4
#: Least spread of good parts, logits: a few that agree by chance would make every other one odd.
_LEAST_SPREAD = 0.25


class Oddity(Record):
    """What stands beside the network: whose it is, how pixels become its input, and what good parts score."""

    recipe_id: Name
    channels: tuple[Name, ...]
    onnx_digest: str
    preprocessing: Preprocessing
    #: Median and robust spread of the evidence on good parts that were left out of the learning.
    median: float
    spread: float = Field(gt=0)
    learned_parts: int
    left_out_parts: int
    created_at: datetime

    def deviations(self, maps: NDArray[np.float32]) -> float:
        """Return by how many robust deviations a part lies above good ones, from its probability maps (K, H, W)."""
        return (evidence(maps) - self.median) / self.spread


def evidence(maps: NDArray[np.float32]) -> float:
    """Return a part's evidence, a logit, from the probability maps (K, H, W) in [0, 1] of its channels.

    The mean over the channels of each one's strongest places, away from the picture's edge.
    """
    count, height, width = maps.shape
    rows, columns = height // 2, width // 2
    half = maps[:, : 2 * rows, : 2 * columns].reshape(count, rows, 2, columns, 2).mean(axis=(2, 4), dtype=np.float64)
    kept = np.clip(half, _LEAST, 1 - _LEAST)
    smooth = ndimage.uniform_filter(np.log(kept) - np.log1p(-kept), (1, 3, 3), mode="nearest")
    if min(rows, columns) > 4 * _EDGE:
        smooth = smooth[:, _EDGE:-_EDGE, _EDGE:-_EDGE]
    flat = smooth.reshape(count, -1)
    strongest = min(_STRONGEST, flat.shape[1])
    return float(np.partition(flat, flat.shape[1] - strongest, axis=1)[:, -strongest:].mean())


def usual(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return median and robust spread of good parts' evidence (N,)."""
    middle = float(np.median(values))
    return middle, max(1.4826 * float(np.median(np.abs(values - middle))), _LEAST_SPREAD)


def preprocessing_of(recipe: Recipe) -> Preprocessing:
    """Return how one channel of the recipe becomes the network's input."""
    return Preprocessing.for_recipe(recipe, channels=(CHANNEL,))


def files(backgrounds: Path, recipe_id: Name) -> tuple[Path, Path]:
    """Return where network and facts of a recipe lie; the facts are written last."""
    return backgrounds / f"{recipe_id}.oddity.onnx", backgrounds / f"{recipe_id}.oddity.json"
