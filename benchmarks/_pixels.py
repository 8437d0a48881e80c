"""Pixel precision kept by physical part, so that two runs can be compared on the same draws of parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cell.defects import Sample
from trainer.evaluate import GOOD, PixelPrecisions, Predict, Scored, score_samples, truth_of

#: Bins of a part's histogram, a quarter of a logit wide.
_COARSE = 128
#: ``{"PART|CLASS": [defective pixels by bin, good pixels by bin]}``, CLASS of the pictures, "good" among them.
Record = Mapping[str, Sequence[Sequence[int]]]


@dataclass(frozen=True, slots=True, eq=False)
class PixelsByPart:
    """Pixel precision of many pictures, and beside it a coarse histogram of every part."""

    precisions: PixelPrecisions
    by_part: dict[str, list[list[int]]] = field(default_factory=dict)  # see :data:`Record`

    def score(self, predict: Predict, samples: Sequence[Sample], classes: Sequence[str], fold: int = 0) -> list[Scored]:
        """Score pictures and count their pixels, see :func:`trainer.evaluate.score_samples`."""
        scored: list[Scored] = []
        parts: dict[str, list[Sample]] = {}
        for sample in samples:
            parts.setdefault(f"{sample.group}|{truth_of(sample, classes)}", []).append(sample)
        for key, pictures in parts.items():
            own = PixelPrecisions.empty(classes)
            scored += score_samples(predict, pictures, classes, own, fold=fold)
            self.precisions.add_counts(own.counts())
            self.by_part[key] = np.asarray(own.pooled.counts()).reshape(2, _COARSE, -1).sum(axis=2).tolist()
        return scored


def average_precisions(
    records: Sequence[Record], draws: NDArray[np.intp], classes: Sequence[str] | None
) -> NDArray[np.float64]:
    """Return for each draw of parts the pixel AP, averaged over the runs that made `records`.

    :param draws: (R, P) how often each part of ``sorted(records[0])`` is taken.
    :param classes: None: of all pictures pooled; else the mean over these classes, each with the good pictures.
    """
    keys = sorted(records[0])
    truths = np.array([key.rsplit("|", 1)[1] for key in keys])
    chosen = [np.ones(len(keys), np.bool_)] if classes is None else [np.isin(truths, [GOOD, name]) for name in classes]
    totals = np.zeros(len(draws))
    for record in records:
        counts = np.asarray([record[key] for key in keys], np.float64)[:, :, ::-1]
        for mask in chosen:
            found, passed = (np.cumsum((draws * mask) @ counts[:, side], axis=1) for side in (0, 1))
            share = np.diff(found, prepend=0, axis=1) / np.maximum(found[:, -1:], 1)
            totals += (share * found / np.maximum(found + passed, 1)).sum(axis=1)
    return totals / (len(records) * len(chosen))


def draw_parts(keys: Sequence[str], count: int, seed: int = 0) -> NDArray[np.intp]:
    """Return (count, P): how often each part is taken when parts are drawn with replacement within their class."""
    rng = np.random.default_rng(seed)
    truths = np.array([key.rsplit("|", 1)[1] for key in keys])
    taken = np.zeros((count, len(keys)), np.intp)
    for truth in np.unique(truths):
        rows = np.flatnonzero(truths == truth)
        taken[:, rows] = rng.multinomial(rows.size, np.full(rows.size, 1 / rows.size), size=count)
    return taken
