"""The figures of the few-shot benchmark, from the scores of single pictures; intervals by physical part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.evaluate import GOOD, PixelPrecisions, Scored
from trainer.metrics import auroc_within, bootstrap_by_group, clopper_pearson

DRAWS = 1000


def figures(
    scored: Sequence[Scored], pixels: PixelPrecisions, classes: Sequence[str], threshold: float | None
) -> dict[str, Any]:
    """Return the benchmark's keys. Without a threshold `fa`, `fr` and `recall` are None."""
    scores = np.array([one.score for one in scored])
    truths = np.array([one.truth for one in scored])
    folds = np.array([one.fold for one in scored], np.intp)
    groups = [one.group for one in scored]
    good = truths == GOOD

    def pooled(rows: NDArray[np.intp]) -> float | None:
        return auroc_within(scores[rows], ~good[rows], folds[rows])

    def macro(rows: NDArray[np.intp]) -> float | None:
        return macro_auroc(scores[rows], truths[rows], folds[rows], classes)

    everything = np.arange(len(scored))
    result: dict[str, Any] = {
        "auroc": pooled(everything),
        "auroc_95": bootstrap_by_group(groups, truths.tolist(), pooled, DRAWS),
        "auroc_macro": macro(everything),
        "auroc_macro_95": bootstrap_by_group(groups, truths.tolist(), macro, DRAWS),
        "auroc_by_class": auroc_by_class(scores, truths, folds, classes),
    }
    result |= at_threshold(scored, classes, threshold)
    result |= _oracle(scores, good)
    result["pixel_ap"] = pixels.pooled.average_precision()
    result["pixel_ap_macro"] = pixels.macro()
    result["pixel_ap_by_class"] = {name: counter.average_precision() for name, counter in pixels.by_class.items()}
    return result


def auroc_by_class(
    scores: NDArray[np.float64], truths: NDArray[np.str_], folds: NDArray[np.intp], classes: Sequence[str]
) -> dict[str, float | None]:
    """Return for each class its AUROC against good, see :func:`trainer.metrics.auroc_within`."""
    values: dict[str, float | None] = {}
    for name in classes:
        rows = np.isin(truths, [name, GOOD])
        values[name] = auroc_within(scores[rows], truths[rows] == name, folds[rows])
    return values


def macro_auroc(
    scores: NDArray[np.float64], truths: NDArray[np.str_], folds: NDArray[np.intp], classes: Sequence[str]
) -> float | None:
    """Return the mean over the classes of the AUROC of that class against good."""
    known = [value for value in auroc_by_class(scores, truths, folds, classes).values() if value is not None]
    return float(np.mean(known)) if known else None


def rate_by_part(wrong: Sequence[bool], groups: Sequence[str]) -> tuple[float | None, tuple[float, float]]:
    """Return the share of wrong pictures and its two-sided 95 % Clopper-Pearson interval with the parts as trials.

    A part counts with the share of its pictures that are wrong: pictures of one part depend on each other, and taking
    them as one trial is the cautious extreme.
    """
    if not len(wrong):
        return None, (0.0, 1.0)
    share = float(np.mean(wrong))
    parts = len(set(groups))
    by_part = {group: [] for group in groups}  # type: dict[str, list[bool]]
    for flag, group in zip(wrong, groups, strict=True):
        by_part[group].append(bool(flag))
    errors = sum(float(np.mean(flags)) for flags in by_part.values())
    return share, clopper_pearson(errors, parts, one_sided=0.975)


def at_threshold(scored: Sequence[Scored], classes: Sequence[str], threshold: float | None) -> dict[str, Any]:
    """Return the rates at a threshold that was frozen beforehand; all None without one."""
    if threshold is None:
        return {"threshold": None, "fa": None, "fa_95": None, "fr": None, "fr_95": None, "recall": None}
    good = [one for one in scored if one.truth == GOOD]
    bad = [one for one in scored if one.truth != GOOD]
    fa, fa_95 = rate_by_part([one.score < threshold for one in bad], [one.group for one in bad])
    fr, fr_95 = rate_by_part([one.score >= threshold for one in good], [one.group for one in good])
    recall = {
        name: float(np.mean([one.score >= threshold for one in bad if one.truth == name]))
        for name in classes
        if any(one.truth == name for one in bad)
    }
    return {"threshold": threshold, "fa": fa, "fa_95": fa_95, "fr": fr, "fr_95": fr_95, "recall": recall}


def _oracle(scores: NDArray[np.float64], good: NDArray[np.bool_]) -> dict[str, float]:
    """What the best threshold chosen on the test itself would give: an upper bound, never a claim."""
    order = np.sort(scores[good])
    # The smallest threshold (score >= threshold is NG) that rejects at most 5 % of the good pictures.
    allowed = int(np.floor(0.05 * order.size + 1e-9))
    at_fr5 = np.nextafter(order[order.size - 1 - allowed], np.inf)
    weakest = scores[~good].min()
    return {
        "oracle_fa_at_fr5": float(np.mean(scores[~good] < at_fr5)),
        "oracle_fr_at_fa0": float(np.mean(scores[good] >= weakest)),
    }
