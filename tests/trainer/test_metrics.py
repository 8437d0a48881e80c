"""Figures of merit against textbook values, scikit-learn and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from trainer import metrics

scores = st.lists(st.integers(0, 20).map(lambda n: n / 20), min_size=1, max_size=30)


@given(scores, scores)
@settings(max_examples=60, deadline=None)
def test_auroc_equals_sklearn_with_ties(bad: list[float], good: list[float]) -> None:
    truth = [1] * len(bad) + [0] * len(good)
    assert metrics.auroc(bad, good) == pytest.approx(roc_auc_score(truth, bad + good))


def test_auroc_of_nothing_is_none() -> None:
    assert metrics.auroc([], [0.1]) is None
    assert metrics.auroc([0.1], []) is None


@pytest.mark.parametrize(
    ("errors", "parts", "lower", "upper"),
    [
        (0, 59, 0.0, 0.04951),  # the rule of three: 59 parts without error show 5 % at 95 %
        (1, 20, 0.00256, 0.21611),
        (20, 20, 0.86089, 1.0),
    ],
)
def test_clopper_pearson_textbook(errors: int, parts: int, lower: float, upper: float) -> None:
    assert metrics.clopper_pearson(errors, parts) == pytest.approx((lower, upper), abs=2e-5)


def test_clopper_pearson_knows_nothing_without_parts_and_takes_shares() -> None:
    assert metrics.clopper_pearson(0, 0) == (0.0, 1.0)
    below, share, above = (metrics.clopper_pearson(k, 30)[1] for k in (2, 2.5, 3))
    assert below < share < above


@given(st.integers(0, 5), st.sampled_from([0.01, 0.05, 0.1, 0.3]))
@settings(max_examples=20, deadline=None)
def test_parts_needed_is_the_smallest(errors: int, limit: float) -> None:
    needed = metrics.parts_needed(limit, errors)
    assert metrics.clopper_pearson(errors, needed)[1] <= limit
    assert needed == errors + 1 or metrics.clopper_pearson(errors, needed - 1)[1] > limit


def test_parts_needed_known_values() -> None:
    assert metrics.parts_needed(0.05) == 59
    assert metrics.parts_needed(0.01) == 299
    with pytest.raises(ValueError, match="between 0 and 1"):
        metrics.parts_needed(0.0)


def test_bootstrap_resamples_parts_not_pictures() -> None:
    # Two parts of 50 identical pictures: by picture the interval would be narrow, by part it spans both values.
    groups = ["a"] * 50 + ["b"] * 50
    values = np.array([0.0] * 50 + [1.0] * 50)
    interval = metrics.bootstrap_by_group(groups, ["x"] * 100, lambda rows: float(values[rows].mean()), draws=200)
    assert interval == (0.0, 1.0)


def test_bootstrap_keeps_every_stratum_and_is_reproducible() -> None:
    groups, strata = list("abcdef"), ["good", "good", "good", "bad", "bad", "bad"]
    seen: list[int] = []

    def count_bad(rows: np.ndarray) -> float:
        seen.append(int((rows >= 3).sum()))
        return float(rows.mean())

    first = metrics.bootstrap_by_group(groups, strata, count_bad, draws=50, seed=3)
    assert set(seen) == {3}
    assert first == metrics.bootstrap_by_group(groups, strata, count_bad, draws=50, seed=3)
    assert metrics.bootstrap_by_group(groups, strata, lambda _: None, draws=10) is None


def test_streamed_pixel_precision_is_near_sklearn() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((4, 60, 70)) < 0.02
    score = 1 / (1 + np.exp(-(rng.normal(-3, 1, truth.shape) + 2.5 * truth)))
    counter = metrics.PixelPrecision()
    assert counter.average_precision() is None
    for image, mask in zip(score, truth, strict=True):
        counter.add(image, mask)
    assert counter.average_precision() == pytest.approx(average_precision_score(truth.ravel(), score.ravel()), abs=5e-3)


def test_threshold_splits_a_clean_gap_in_the_middle() -> None:
    threshold = metrics.freeze_threshold([0.99, 0.9], [0.01, 0.1])
    assert threshold == pytest.approx(0.5)


def test_threshold_respects_the_limit_on_false_rejection() -> None:
    good = np.linspace(0, 0.99, 100)
    threshold = metrics.freeze_threshold([0.5] * 10, good, max_false_rejection=0.05)
    assert (good >= threshold).mean() <= 0.05
    loose = metrics.freeze_threshold([0.5] * 10, good, max_false_rejection=0.6)
    assert loose <= 0.5
    assert (good >= loose).mean() <= 0.6


def test_threshold_when_good_parts_score_the_highest_possible() -> None:
    assert metrics.freeze_threshold([0.2], [1.0, 1.0]) == 1.0
    with pytest.raises(ValueError, match="good"):
        metrics.freeze_threshold([0.2], [])


@given(scores, scores)
@settings(max_examples=60, deadline=None)
def test_no_feasible_threshold_accepts_fewer_defects(bad: list[float], good: list[float]) -> None:
    limit = 0.2
    chosen = metrics.freeze_threshold(bad, good, limit)
    accepted = np.mean(np.asarray(bad) < chosen)
    for other in [*np.unique(bad + good), math.nextafter(1.0, 2.0)]:
        if other <= 1.0 and np.mean(np.asarray(good) >= other) <= limit:
            assert accepted <= np.mean(np.asarray(bad) < other) + 1e-12
