"""Figures of merit and their uncertainty, all counted so that a physical part is the unit.

Scores are "higher is more defective". Groups are physical parts: pictures of one part are not independent, so every
interval resamples or counts parts, never pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]


def auroc(defective: Sequence[float] | Floats, good: Sequence[float] | Floats) -> float | None:
    """Return the probability that a defective image scores above a good one, ties counted half; None when one is empty.

    Mann-Whitney U through mid-ranks.
    """
    positive, negative = np.asarray(defective, np.float64), np.asarray(good, np.float64)
    if not positive.size or not negative.size:
        return None
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    rank_sum = float(ranks[: positive.size].sum())
    return (rank_sum - positive.size * (positive.size + 1) / 2) / (positive.size * negative.size)


def auroc_within(scores: Floats, defective: NDArray[np.bool_], folds: NDArray[np.intp]) -> float | None:
    """Return the AUROC over those pairs of a defective and a good image that one model scored; None without any.

    Scores of two folds come from two models whose scales differ, so comparing across them measures the scales
    (LeDell, Petersen and van der Laan, "Computationally efficient confidence intervals for cross-validated AUC", 2015).

    :param scores: (N,); `defective`, (N,) bool; `folds`, (N,) which model scored each image.
    """
    concordant, pairs = 0.0, 0
    for fold in np.unique(folds):
        own = folds == fold
        value = auroc(scores[own & defective], scores[own & ~defective])
        if value is not None:
            weight = int((own & defective).sum() * (own & ~defective).sum())
            concordant, pairs = concordant + value * weight, pairs + weight
    return concordant / pairs if pairs else None


def clopper_pearson(errors: float, parts: float, one_sided: float = 0.95) -> tuple[float, float]:
    """Return the exact binomial lower and upper bound, each one-sided at that confidence (Clopper and Pearson 1934).

    `errors` may be a sum of shares (a part of six pictures with one wrong counts 1/6): the beta form of the bounds is
    continuous in it, and with the parts as trials it is conservative for pictures that depend on each other.
    For a two-sided 95 % interval pass ``one_sided=0.975``. Without parts nothing is known: (0, 1).
    """
    if parts <= 0:
        return 0.0, 1.0
    alpha = 1 - one_sided
    lower = 0.0 if errors <= 0 else float(stats.beta.ppf(alpha, errors, parts - errors + 1))
    upper = 1.0 if errors >= parts else float(stats.beta.ppf(1 - alpha, errors + 1, parts - errors))
    return lower, upper


def parts_needed(limit: float, errors: int = 0, one_sided: float = 0.95) -> int:
    """Return how many parts show a rate of at most `limit` when `errors` of them fail.

    The smallest n whose one-sided Clopper-Pearson upper bound is <= `limit`; with no error that is
    ln(1 - confidence) / ln(1 - limit) (the "rule of three").
    """
    if not 0 < limit < 1:
        raise ValueError(f"limit must lie between 0 and 1, got {limit}")
    low, high = errors + 1, errors + 1
    while clopper_pearson(errors, high, one_sided)[1] > limit:
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        if clopper_pearson(errors, middle, one_sided)[1] > limit:
            low = middle + 1
        else:
            high = middle
    return low


def bootstrap_by_group(
    groups: Sequence[str],
    strata: Sequence[str],
    statistic: Callable[[NDArray[np.intp]], float | None],
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of a statistic under resampling of whole groups within their strata.

    :param groups: physical part of each observation.
    :param strata: stratum of each observation (its class), so that every draw has every class.
    :param statistic: takes indices into the observations (with repeats), returns the figure or None.
    :returns: None when fewer than half of the draws gave a figure.
    """
    members: dict[str, dict[str, list[int]]] = {}
    for index, (group, stratum) in enumerate(zip(groups, strata, strict=True)):
        members.setdefault(stratum, {}).setdefault(group, []).append(index)
    pools = [[np.asarray(rows, np.intp) for _, rows in sorted(of.items())] for _, of in sorted(members.items())]
    rng = np.random.default_rng(seed)
    values: list[float] = []
    for _ in range(draws):
        picked = [pool[choice] for pool in pools for choice in rng.integers(len(pool), size=len(pool))]
        value = statistic(np.concatenate(picked)) if picked else None
        if value is not None and math.isfinite(value):
            values.append(value)
    if 2 * len(values) < draws or not values:
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


class PixelPrecision:
    """Average precision over pixels, streamed: a histogram of logits, so memory doesn't grow with the images.

    4096 bins between probability 1e-7 and 1 - 1e-7 on the logit scale; pixels of one bin count as tied (the step
    interpolation of scikit-learn's ``average_precision_score`` over the binned scores).
    """

    _BINS = 4096
    _EDGE = 16.0

    def __init__(self) -> None:
        self._defective = np.zeros(self._BINS, np.int64)
        self._good = np.zeros(self._BINS, np.int64)

    @classmethod
    def bins(cls, probability: NDArray[np.floating]) -> NDArray[np.intp]:
        """Return the histogram bins of an image's probabilities, for :meth:`count` of several counters."""
        clipped = np.clip(probability, np.float32(1e-7), np.float32(1 - 1e-7))
        scaled = (np.log(clipped / (1 - clipped)) + cls._EDGE) * (cls._BINS / (2 * cls._EDGE))
        return np.clip(scaled, 0, cls._BINS - 1).astype(np.intp)

    def add(self, probability: NDArray[np.floating], truth: NDArray[np.bool_]) -> None:
        """Count one image: `probability` in [0, 1] and `truth` of the same shape."""
        self.count(self.bins(probability), truth)

    def count(self, bins: NDArray[np.intp], truth: NDArray[np.bool_]) -> None:
        """Count one image whose :meth:`bins` are known."""
        self._defective += np.bincount(bins[truth], minlength=self._BINS)
        self._good += np.bincount(bins[~truth], minlength=self._BINS)

    def counts(self) -> list[list[int]]:
        """Return what was counted, defective and good, to add it to another one later."""
        return [self._defective.tolist(), self._good.tolist()]

    def add_counts(self, counts: Sequence[Sequence[int]]) -> None:
        """Add what :meth:`counts` returned. Raises `ValueError` when it is no such thing."""
        defective, good = (np.asarray(one, np.int64) for one in counts)
        if defective.shape != self._defective.shape or good.shape != self._good.shape:
            raise ValueError(f"counts of {defective.shape} and {good.shape} bins, expected {self._good.shape}")
        self._defective += defective
        self._good += good

    def average_precision(self) -> float | None:
        """Return the area under precision over recall; None while no defective pixel was counted."""
        found = np.cumsum(self._defective[::-1])
        if not found[-1]:
            return None
        called = found + np.cumsum(self._good[::-1])
        recall_step = np.diff(found, prepend=0) / found[-1]
        return float(np.sum(recall_step * found / np.maximum(called, 1)))


def freeze_threshold(
    defective: Sequence[float] | Floats | None, good: Sequence[float] | Floats, max_false_rejection: float = 0.05
) -> float:
    """Choose the decision threshold (score >= threshold is NG) from held-out scores of learning parts.

    Among all thresholds that reject at most `max_false_rejection` of the good images, the one that accepts the fewest
    defective ones; of those the one that rejects the fewest good ones; and of that range the middle on the logit scale,
    so that a clean gap between good and defective is split rather than hugged.

    :param defective: scores of held-out defective images; None when there are none that the model never saw: then the
        lowest threshold within `max_false_rejection` is taken, since a wrong OK is what costs.
    :raises ValueError: when there are no good scores.
    """
    if not len(good):
        raise ValueError("a threshold needs scores of good parts")
    low_scores = np.sort(np.asarray(good, np.float64))
    bad_scores = np.sort(np.asarray([] if defective is None else defective, np.float64))
    levels = np.unique(np.concatenate([[0.0], low_scores, bad_scores, [1.0]]))
    # A threshold in (levels[i], levels[i + 1]] judges all the same.
    uppers = levels[1:]
    rejected = 1 - np.searchsorted(low_scores, uppers, side="left") / low_scores.size
    accepted = np.searchsorted(bad_scores, uppers, side="left") / max(bad_scores.size, 1)
    feasible = np.flatnonzero(rejected <= max_false_rejection + 1e-12)
    if not feasible.size:
        # Even a score of 1.0 is common among good parts: nothing can be told apart, only certainty is called NG.
        return 1.0
    if defective is None:
        return _logit_middle(float(levels[feasible[0]]), float(uppers[feasible[0]]))
    best = min(feasible, key=lambda index: (accepted[index], rejected[index], index))
    same = [i for i in feasible if accepted[i] == accepted[best] and rejected[i] == rejected[best]]
    return _logit_middle(float(levels[same[0]]), float(uppers[same[-1]]))


def _logit_middle(low: float, high: float) -> float:
    a, b = (min(max(value, 1e-6), 1 - 1e-6) for value in (low, high))
    middle = (math.log(a / (1 - a)) + math.log(b / (1 - b))) / 2
    return 1 / (1 + math.exp(-middle))
