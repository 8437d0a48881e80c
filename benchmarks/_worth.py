"""What the images of an arm are worth: runs of the few-shot benchmark measured on the same draws of test parts.

Parts are drawn with replacement within their class, and every run is scored on the same draws, so what is hard for all
runs cancels out of differences, ratios and shares. The first row of every array is the test as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from benchmarks._figures import DRAWS
from benchmarks._pixels import average_precisions, draw_parts
from trainer.evaluate import GOOD

Run = dict[str, Any]
Floats = NDArray[np.float64]
#: (R, N): how often each picture is taken.
Weights = NDArray[np.intp]
_MOST_FR = 0.05
_SAME = 1e-9  # figures that differ by less are equal


class Drawn:
    """The draws of one test, and the figures of runs on them; each is (1 + DRAWS,), the mean over the runs."""

    def __init__(self, run: Run) -> None:
        """Draw from the parts that a run was scored on; every other run must be of the same test."""
        self._names = sorted(run["scores"])
        rows = [run["scores"][name] for name in self._names]
        self._truths = np.array([row[0] for row in rows])
        keys = [f"{row[1]}|{row[0]}" for row in rows]
        self._keys = sorted(set(keys))
        self._draws = np.vstack([np.ones((1, len(self._keys)), np.intp), draw_parts(self._keys, DRAWS)])
        place = {key: index for index, key in enumerate(self._keys)}
        self._weights: Weights = self._draws[:, [place[key] for key in keys]]
        self.classes = sorted(set(self._truths.tolist()) - {GOOD})

    def auroc(self, runs: Sequence[Run], classes: Sequence[str] = ()) -> Floats:
        """Return the mean over the classes, all when empty, of the AUROC of that class against good."""
        found = []
        for run in runs:
            scores, folds = self._column(run, 2), self._column(run, 3)
            for name in classes or self.classes:
                rows = np.isin(self._truths, [name, GOOD])
                bad = self._truths[rows] == name
                found.append(auroc_of_draws(scores[rows], bad, folds[rows], self._weights[:, rows]))
        return np.asarray(np.mean(found, axis=0), np.float64)

    def pixel_ap(self, runs: Sequence[Run], classes: Sequence[str] | None = None) -> Floats | None:
        """Return the pixel AP, see :func:`benchmarks._pixels.average_precisions`; None when a run has no record."""
        if not all(run.get("pixels") and sorted(run["pixels"]) == self._keys for run in runs):
            return None
        return average_precisions([run["pixels"] for run in runs], self._draws, classes)

    def pixel_ap_macro(self, runs: Sequence[Run], classes: Sequence[str] = ()) -> Floats | None:
        """Return the mean over the classes, all when empty, of the pixel AP of that class with the good pictures."""
        return self.pixel_ap(runs, classes or self.classes)

    def false_acceptance(self, runs: Sequence[Run], *, frozen: bool) -> Floats | None:
        """Return the share of the defective pictures that pass, None when a run has no frozen threshold.

        :param frozen: at each run's own frozen threshold; else at FR 5 %, the threshold chosen on each draw itself.
        """
        if frozen and any(run.get("threshold") is None for run in runs):
            return None
        bad = self._truths != GOOD
        weights = self._weights[:, bad].astype(np.float64)
        shares = []
        for run in runs:
            scores = self._column(run, 2)
            if frozen:
                passed = np.broadcast_to(scores[bad] < run["threshold"], weights.shape)
            else:
                passed = scores[bad] <= _strongest_allowed(scores[~bad], self._weights[:, ~bad])[:, None]
            shares.append((weights * passed).sum(axis=1) / weights.sum(axis=1))
        return np.asarray(np.mean(shares, axis=0), np.float64)

    def _column(self, run: Run, place: int) -> Floats:
        if sorted(run["scores"]) != self._names:
            raise ValueError(f"run {run['arm']} was scored on other pictures; compare runs of one test")
        return np.array([run["scores"][name][place] for name in self._names], np.float64)


def auroc_of_draws(scores: Floats, bad: NDArray[np.bool_], folds: Floats, weights: Weights) -> Floats:
    """Return for each draw the AUROC over pairs that one model scored, see :func:`trainer.metrics.auroc_within`.

    :param scores: (N,); `bad` (N,); `folds` (N,); `weights` (R, N).
    """
    concordant, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for fold in np.unique(folds):
        own = np.flatnonzero(folds == fold)
        order = own[np.argsort(scores[own], kind="stable")]
        starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)
        positive, negative = (
            np.add.reduceat(weights[:, order] * side[order], starts, axis=1).astype(np.float64) for side in (bad, ~bad)
        )
        below = np.cumsum(negative, axis=1) - negative / 2
        concordant += (positive * below).sum(axis=1)
        pairs += positive.sum(axis=1) * negative.sum(axis=1)
    return np.asarray(concordant / np.where(pairs > 0, pairs, np.nan), np.float64)


def _strongest_allowed(good: Floats, weights: Weights) -> Floats:
    """Return for each draw the highest score of a good picture that may not be rejected at FR 5 %."""
    order = np.argsort(-good, kind="stable")
    rejected = np.cumsum(weights[:, order], axis=1)
    allowed = np.floor(_MOST_FR * rejected[:, -1:] + 1e-9)
    return np.asarray(good[order][np.argmax(rejected > allowed, axis=1)], np.float64)


def interval(values: Floats) -> tuple[float, float]:
    """Return the 95 % percentile interval of the draws; infinite values are allowed."""
    ordered = np.sort(values[1:])
    last = ordered.size - 1
    return float(ordered[int(0.025 * last)]), float(ordered[int(np.ceil(0.975 * last))])


def ratio(above: Floats, below: Floats) -> Floats:
    """Return the quotient of two rates by draw: infinite where only the second is 0, 1 where both are."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((above == 0) & (below == 0), 1.0, above / below)


def real_shots(curve: dict[int, Floats], reached: Floats) -> Floats:
    """Return at how many real shots the learning curve of the real ones alone reaches a figure, by draw.

    The curve is made to never fall (isotonic regression: more real parts can't be worse but by chance) and is linear in
    the logarithm of the shots between those that were measured; 0 is below the first of them, infinite beyond the last.

    :param curve: figures by shots, two of them at least.
    """
    shots = np.log(sorted(curve))
    points = np.stack([curve[count] for count in sorted(curve)])
    found = np.empty(reached.size)
    for draw, value in enumerate(reached):
        levels = isotonic_regression(points[:, draw]).x
        place = int(np.searchsorted(levels, value - _SAME))  # the first that is as high
        if place == levels.size:
            found[draw] = np.inf
        elif place == 0:
            found[draw] = np.exp(shots[0]) if value >= levels[0] - _SAME else 0.0
        else:
            low, high = levels[place - 1], levels[place]
            found[draw] = np.exp(shots[place - 1] + (shots[place] - shots[place - 1]) * (value - low) / (high - low))
    return found


def share_closed(arm: Floats, other: Floats, oracle: Floats) -> tuple[float, tuple[float, float] | None]:
    """Return which share of the distance from the other arm to the oracle an arm closes, and its 95 % interval.

    No interval where the oracle is not ahead of the other arm in 97.5 % of the draws: nothing is to be closed then.
    """
    distance = oracle - other
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(distance > 0, (arm - other) / distance, np.inf)
    if distance[0] <= 0:
        return float("nan"), None
    ahead = float(np.mean(distance[1:] > 0)) >= 0.975
    return float(share[0]), interval(share[np.concatenate([[True], distance[1:] > 0])]) if ahead else None
