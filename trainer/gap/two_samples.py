"""Two-sample tests on described windows: a classifier that tries to tell them apart, and the kernel distance.

C2ST (Lopez-Paz and Oquab, ICLR 2017) with kernel ridge regression as the classifier: its predictions are linear in the
labels, so that the permutation test refits exactly and costs a matrix product. Folds, permutations and resampling keep
physical parts whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Table = NDArray[np.float64]
Labels = NDArray[np.bool_]

FOLDS = 5
_RIDGE = 0.1
_PERMUTATIONS, _EDIT_PERMUTATIONS, _RESAMPLES = 200, 120, 400
#: Standard deviations beyond which a figure of one window says no more.
_CLIP = 3.0


@dataclass(frozen=True, slots=True)
class Told:
    """How well two sets can be told apart: AUROC, its 90 % interval (so that `high` is the upper 95 % bound), p."""

    auroc: float
    low: float
    high: float
    p: float
    scores: NDArray[np.float64]  # (N,), higher is more synthetic; of folds that never saw the window's part


def told_apart(
    tables: Sequence[Table],
    synthetic: Labels,
    parts: Sequence[str],
    seed: int = 0,
    *,
    permutations: int = _PERMUTATIONS,
    resamples: int = _RESAMPLES,
) -> Told:
    """Return how well a classifier tells synthetic from real windows.

    :param tables: descriptions (N, F) of the same windows, each with a kernel of its own.
    :param synthetic: (N,) bool; :param parts: physical part of each window.
    :param resamples: of the interval; with 0 it is the value itself.
    """
    rng = np.random.default_rng(seed)
    folds, hats = _hats(tables, synthetic, parts, rng)
    scores = _scores(folds, hats, synthetic)
    value = auroc(scores, synthetic)
    groups = _groups(parts)
    draws = [_permuted(synthetic, groups, rng) for _ in range(permutations)]
    null = np.array([auroc(_scores(folds, hats, labels), labels) for labels in draws])
    p = float((1 + (null >= value).sum()) / (1 + permutations))
    low, high = _interval(scores, synthetic, groups, rng, resamples) if resamples else (value, value)
    return Told(value, low, high, p, scores)


def edits_told(
    before: Sequence[Table], after: Sequence[Table], parts: Sequence[str], seed: int = 0, *, halvings: int = 8
) -> Told:
    """Return how well a classifier tells edited windows from untouched ones, where each window is known both ways.

    Half of each part's windows are taken edited, the others untouched, and which is which is permuted inside of each
    part. That is done over and over with other halves: AUROC and its null are means, and the interval is by parts.

    :param before: descriptions (N, F) of the windows as they were, each with a kernel of its own; :param after: edited.
    """
    rng = np.random.default_rng(seed)
    groups = _groups(parts)
    everything = np.arange(len(groups))
    every: list[tuple[Table, Labels]] = []
    null = np.zeros(_EDIT_PERMUTATIONS)
    for _ in range(halvings):
        edited = _halved(groups, rng)
        tables = [np.where(edited[:, None], new, old) for old, new in zip(before, after, strict=True)]
        folds, hats = _hats(tables, edited, parts, rng)
        every.append((_scores(folds, hats, edited), edited))
        draws = [_permuted_within(edited, groups, rng) for _ in null]
        null += [auroc(_scores(folds, hats, labels), labels) for labels in draws]

    def mean(rows: NDArray[np.intp]) -> float:
        return float(np.mean([auroc(scores[rows], edited[rows]) for scores, edited in every]))

    value = mean(everything)
    members = [np.flatnonzero(groups == group) for group in range(groups.max() + 1)]
    drawn = [
        mean(np.concatenate([members[one] for one in rng.integers(0, len(members), len(members))]))
        for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(drawn, (0.05, 0.95))
    p = float((1 + (null / halvings >= value).sum()) / (1 + len(null)))
    return Told(value, float(low), float(high), p, np.mean([scores for scores, _ in every], axis=0))


def auroc(scores: Table, synthetic: Labels) -> float:
    """Return the probability that a synthetic window scores above a real one; ties count half."""
    count = int(synthetic.sum())
    if count in {0, len(scores)}:
        return 0.5
    ranks = stats.rankdata(scores)
    return float((ranks[synthetic].sum() - count * (count + 1) / 2) / (count * (len(scores) - count)))


def kernel_distance(real: Table, synthetic: Table) -> float:
    """Return KID's statistic (Binkowski et al., ICLR 2018): unbiased squared MMD with the cubic polynomial kernel."""
    both = _standardised(np.concatenate([real, synthetic]))
    kernel = (both @ both.T / both.shape[1] + 1) ** 3
    return _mmd(kernel, np.arange(len(both)) >= len(real))


@dataclass(frozen=True, slots=True)
class Distance:
    """A kernel distance, its 95 % interval by parts, the null's upper 95 % quantile and its permutation p."""

    value: float
    low: float
    high: float
    null_95: float
    p: float


def distance(
    real: Table, synthetic: Table, real_parts: Sequence[str], synthetic_parts: Sequence[str], seed: int = 0
) -> Distance:
    """Return the kernel distance of two sets of learned features (N, F) and (M, F)."""
    rng = np.random.default_rng(seed)
    both = _standardised(np.concatenate([real, synthetic]))
    kernel = (both @ both.T / both.shape[1] + 1) ** 3
    labels: Labels = np.arange(len(both)) >= len(real)
    groups = _groups([*real_parts, *synthetic_parts])
    value = _mmd(kernel, labels)
    null = np.array([_mmd(kernel, _permuted(labels, groups, rng)) for _ in range(_PERMUTATIONS)])
    drawn = []
    for _ in range(_RESAMPLES // 2):
        rows = _resampled(labels, groups, rng)
        drawn.append(_mmd(kernel[np.ix_(rows, rows)], labels[rows], same=rows))
    low, high = np.quantile(drawn, (0.025, 0.975))
    p = float((1 + (null >= value).sum()) / (1 + _PERMUTATIONS))
    return Distance(value, float(low), float(high), float(np.quantile(null, 0.95)), p)


def _mmd(kernel: Table, synthetic: Labels, same: NDArray[np.intp] | None = None) -> float:
    # Pairs of a window with itself, also where resampling drew it twice, would count as alike.
    names = np.arange(len(kernel)) if same is None else same
    apart = names[:, None] != names[None, :]
    one, two = ~synthetic, synthetic

    def mean(rows: Labels, columns: Labels) -> float:
        chosen = np.ix_(rows, columns)
        return float((kernel[chosen] * apart[chosen]).sum() / max(apart[chosen].sum(), 1))

    return mean(one, one) + mean(two, two) - 2 * mean(one, two)


def _standardised(table: Table) -> Table:
    centre = np.median(table, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(table - centre), axis=0), 1e-6 + 0.5 * table.std(axis=0))
    clipped: Table = np.clip((table - centre) / spread, -_CLIP, _CLIP)
    return clipped


def _kernel(table: Table) -> Table:
    """Return a radial kernel as wide as the median distance, plus a linear one: means and spreads both count."""
    seen = _standardised(table)
    squared = np.maximum((seen**2).sum(1)[:, None] - 2 * seen @ seen.T + (seen**2).sum(1)[None, :], 0)
    width = float(np.median(squared[np.triu_indices(len(seen), 1)])) if len(seen) > 1 else 1.0
    return np.exp(-squared / max(width, 1e-9)) + seen @ seen.T / max(float((seen**2).sum(1).mean()), 1e-9)


def _hats(
    tables: Sequence[Table], synthetic: Labels, parts: Sequence[str], rng: np.random.Generator
) -> tuple[NDArray[np.intp], list[tuple[NDArray[np.bool_], Table]]]:
    """Return each window's fold and, for each fold, what turns training labels into its scores."""
    kernel = np.mean([_kernel(table) for table in tables], axis=0)
    folds = _dealt(synthetic, parts, rng)
    hats = []
    for fold in range(FOLDS):
        test = folds == fold
        train = ~test
        size = int(train.sum())
        inner = kernel[np.ix_(train, train)] + _RIDGE * np.eye(size)
        hats.append((train, kernel[np.ix_(test, train)] @ np.linalg.inv(inner)))
    return folds, hats


def _scores(folds: NDArray[np.intp], hats: list[tuple[NDArray[np.bool_], Table]], synthetic: Labels) -> Table:
    scores = np.zeros(len(folds))
    for fold, (train, hat) in enumerate(hats):
        target = synthetic[train].astype(np.float64)
        if not len(hat) or target.std() == 0:
            continue
        # Both classes weigh alike; scores of different folds are compared by rank.
        found = hat @ np.where(target > 0, 1 / target.sum(), -1 / (1 - target).sum())
        scores[folds == fold] = stats.rankdata(found) / (len(found) + 1)
    return scores


def _groups(parts: Sequence[str]) -> NDArray[np.intp]:
    number = {part: index for index, part in enumerate(dict.fromkeys(parts))}
    return np.array([number[part] for part in parts], np.intp)


def _dealt(synthetic: Labels, parts: Sequence[str], rng: np.random.Generator) -> NDArray[np.intp]:
    """Deal whole parts into folds, real and synthetic ones evenly; a part that has both kinds of windows is one."""
    groups = _groups(parts)
    kind = np.array([int(synthetic[groups == group].any()) for group in range(groups.max() + 1)])
    fold = np.zeros(len(kind), np.intp)
    for which in (0, 1):
        members = np.flatnonzero(kind == which)
        fold[rng.permutation(members)] = np.arange(len(members)) % FOLDS
    return fold[groups]


def _permuted(synthetic: Labels, groups: NDArray[np.intp], rng: np.random.Generator) -> Labels:
    """Return labels dealt anew to whole parts, so that about as many windows are called synthetic."""
    order = rng.permutation(groups.max() + 1)
    sizes = np.bincount(groups)
    filled = np.cumsum(sizes[order])
    called = order[: int(np.searchsorted(filled, synthetic.sum()) + 1)]
    labels: Labels = np.isin(groups, called[: max(1, len(order) - 1)])
    return labels


def _permuted_within(synthetic: Labels, groups: NDArray[np.intp], rng: np.random.Generator) -> Labels:
    own, dealt = np.lexsort((np.arange(len(groups)), groups)), np.lexsort((rng.random(len(groups)), groups))
    labels = np.empty_like(synthetic)
    labels[own] = synthetic[dealt]
    return labels


def _halved(groups: NDArray[np.intp], rng: np.random.Generator) -> Labels:
    """Call every other window of each part, so that parts themselves are no difference; (N,) bool."""
    chosen = np.zeros(len(groups), np.bool_)
    first = 0
    for group in range(groups.max() + 1):
        own = rng.permutation(np.flatnonzero(groups == group))
        chosen[own[first::2]] = True
        first = 1 - first if len(own) % 2 else first
    return chosen


def _resampled(synthetic: Labels, groups: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    rows = []
    for which in (False, True):
        own = np.flatnonzero(synthetic == which)
        names = np.unique(groups[own])
        members = {name: own[groups[own] == name] for name in names}
        rows += [members[name] for name in rng.choice(names, len(names))]
    return np.concatenate(rows)


def _interval(
    scores: Table, synthetic: Labels, groups: NDArray[np.intp], rng: np.random.Generator, resamples: int
) -> tuple[float, float]:
    drawn = []
    for _ in range(resamples):
        rows = _resampled(synthetic, groups, rng)
        drawn.append(auroc(scores[rows], synthetic[rows]))
    low, high = np.quantile(drawn, (0.05, 0.95))
    return float(low), float(high)
