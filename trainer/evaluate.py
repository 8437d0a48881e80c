"""Evaluation on held-out real parts: false acceptance, false rejection and what they are worth.

False acceptance: a defective part called OK. False rejection: a good part called NG. Both are counted by physical part:
a part with several pictures counts as wrong when any of its pictures was judged wrong, so that a report never looks
better for photographing the same part again. Synthetic images are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cell.defects import Sample
from cell.errors import DataError
from cell.frames import Stack
from cell.imaging.preprocess import FloatMaps
from cell.models import EvaluationReport, RateBound
from trainer.metrics import PixelPrecision, auroc, clopper_pearson, parts_needed

#: Judges one raw stack (K, H, W): probability (D, H, W) in frame coordinates and score (D,), see `FittedModel.predict`.
Predict = Callable[[Stack], tuple[FloatMaps, FloatMaps]]

#: Told how many images are judged, and of how many.
ReportCount = Callable[[int, int], None]

GOOD = "good"
#: Tag of a sample whose class is known apart from its label map.
DEFECT_CLASS = "class"


def ignore_count(_done: int, _total: int) -> None:
    """Drop reports."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What a model said of one image."""

    sample_id: str
    group: str  # the physical part
    truth: str  # "good" or the class with the most defective pixels
    scores: tuple[float, ...]  # per class
    fold: int = 0  # which model said it, where several share the pictures among them

    @property
    def score(self) -> float:
        """The highest class score, on which the threshold works."""
        return max(self.scores)


@dataclass(frozen=True, slots=True)
class Requirements:
    """What must be shown before a model counts as validated; limits are upper 95 % bounds by part."""

    false_acceptance: float = 0.05
    false_rejection: float = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class PixelPrecisions:
    """Pixel average precision of the highest class probability: of all images, and per class with the good images."""

    pooled: PixelPrecision
    by_class: dict[str, PixelPrecision]

    @classmethod
    def empty(cls, classes: Sequence[str]) -> PixelPrecisions:
        """Return counters without pixels."""
        return cls(PixelPrecision(), {name: PixelPrecision() for name in classes})

    def add(self, probability: FloatMaps, labels: NDArray[np.uint8], truth: str) -> None:
        """Count one image. `probability` (D, H, W), `labels` (H, W), `truth` as in :class:`Scored`."""
        bins, defective = PixelPrecision.bins(probability.max(axis=0)), labels > 0
        self.pooled.count(bins, defective)
        for name, counter in self.by_class.items():
            if truth in (GOOD, name):
                counter.count(bins, defective)

    def counts(self) -> dict[str, list[list[int]]]:
        """Return what was counted, all images under an empty name, to add it to another one later."""
        return {"": self.pooled.counts()} | {name: counter.counts() for name, counter in self.by_class.items()}

    def add_counts(self, counts: Mapping[str, Sequence[Sequence[int]]]) -> None:
        """Add what :meth:`counts` returned. Raises `KeyError` or `ValueError` when it is of other classes."""
        for name, counter in {"": self.pooled, **self.by_class}.items():
            counter.add_counts(counts[name])

    def macro(self) -> float | None:
        """Return the mean over the classes that have defective pixels."""
        values = [counter.average_precision() for counter in self.by_class.values()]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None


def truth_of(sample: Sample, classes: Sequence[str]) -> str:
    """Return "good" or the name of the class with the most pixels.

    ``tags["class"]`` overrides the label map: a part may be known to be defective although this picture of it
    does not show where. Raises `DataError` for an unknown label value.
    """
    if DEFECT_CLASS in sample.tags:
        return sample.tags[DEFECT_CLASS]
    counts = np.bincount(sample.labels.ravel(), minlength=1)
    if counts.size > len(classes) + 1:
        raise DataError(
            f"{sample.sample_id or sample.group} has label {counts.size - 1} but there are {len(classes)} classes; "
            "check the mask and the recipe"
        )
    return GOOD if counts[1:].sum() == 0 else classes[int(counts[1:].argmax())]


def score_samples(
    predict: Predict,
    samples: Sequence[Sample],
    classes: Sequence[str],
    pixels: PixelPrecisions | None = None,
    progress: ReportCount = ignore_count,
    fold: int = 0,
) -> list[Scored]:
    """Judge every image; count its pixels into `pixels` where given. Raises `DataError` for a synthetic sample."""
    scored: list[Scored] = []
    for index, sample in enumerate(samples):
        if sample.synthetic:
            raise DataError(
                f"{sample.sample_id or sample.group} is synthetic; only real parts may evaluate a model, remove it"
            )
        truth = truth_of(sample, classes)
        probability, scores = predict(sample.stack)
        if pixels is not None:
            pixels.add(probability, sample.labels, truth)
        name = sample.sample_id or f"{sample.group}#{index}"
        scored.append(Scored(name, sample.group, truth, tuple(map(float, scores)), fold))
        progress(index + 1, len(samples))
    return scored


def evaluate(
    predict: Predict,
    samples: Sequence[Sample],
    classes: Sequence[str],
    threshold: float,
    threshold_source: str,
    requirements: Requirements | None = None,
    progress: ReportCount = ignore_count,
) -> EvaluationReport:
    """Evaluate a model on held-out real parts at a threshold that was frozen beforehand.

    :param predict: `FittedModel.predict`, or the same of an exported model.
    :param threshold_source: a sentence for the report: how the threshold was found, without these parts.
    :raises DataError: when a sample is synthetic or carries an unknown label.
    """
    pixels = PixelPrecisions.empty(classes)
    scored = score_samples(predict, samples, classes, pixels, progress)
    return report(scored, pixels, classes, threshold, threshold_source, requirements or Requirements())


def report(
    scored: Sequence[Scored],
    pixels: PixelPrecisions,
    classes: Sequence[str],
    threshold: float,
    threshold_source: str,
    requirements: Requirements,
) -> EvaluationReport:
    """Make the report of scores that were counted already."""
    good = [one for one in scored if one.truth == GOOD]
    defective = [one for one in scored if one.truth != GOOD]
    missed = {one.group for one in defective if one.score < threshold}
    called = {one.group for one in good if one.score >= threshold}
    acceptance = rate_bound(len(missed), len({one.group for one in defective}))
    rejection = rate_bound(len(called), len({one.group for one in good}))
    recalls: dict[str, RateBound] = {}
    for name in classes:
        parts = {one.group for one in defective if one.truth == name}
        recalls[name] = rate_bound(len(parts - missed), len(parts))
    by_class = [auroc([o.score for o in defective if o.truth == name], [o.score for o in good]) for name in classes]
    known = [value for value in by_class if value is not None]
    findings = _findings(acceptance, rejection, recalls, requirements)
    misses = sorted((one for one in defective if one.score < threshold), key=lambda one: one.score)
    return EvaluationReport(
        threshold=threshold,
        threshold_source=threshold_source,
        false_acceptance=acceptance,
        false_rejection=rejection,
        recall_by_class=recalls,
        auroc=auroc([one.score for one in defective], [one.score for one in good]),
        auroc_macro=float(np.mean(known)) if known else None,
        pixel_ap=pixels.pooled.average_precision(),
        pixel_ap_macro=pixels.macro(),
        validated=not findings,
        findings=findings,
        worst_misses=tuple(one.sample_id for one in misses[:12]),
    )


def rate_bound(count: int, parts: int) -> RateBound:
    """Return a rate with its one-sided 95 % Clopper-Pearson bounds; all None without parts."""
    if not parts:
        return RateBound(count=0, parts=0, rate=None, lower_95=None, upper_95=None)
    lower, upper = clopper_pearson(count, parts)
    return RateBound(count=count, parts=parts, rate=count / parts, lower_95=lower, upper_95=upper)


def _findings(
    acceptance: RateBound, rejection: RateBound, recalls: dict[str, RateBound], requirements: Requirements
) -> tuple[str, ...]:
    findings = [
        *_shown(acceptance, requirements.false_acceptance, "FA", "defect"),
        *_shown(rejection, requirements.false_rejection, "FR", "good"),
    ]
    unseen = [name for name, recall in recalls.items() if not recall.parts]
    if unseen:
        findings.append(f"not validated: no held-out part shows {', '.join(unseen)}; set some aside")
    return tuple(findings)


def _shown(bound: RateBound, limit: float, name: str, kind: str) -> list[str]:
    """Say what is missing to show that a rate is at most `limit`; nothing when it is shown."""
    if bound.upper_95 is not None and bound.upper_95 <= limit:
        return []
    if bound.lower_95 is not None and bound.lower_95 > limit:
        return [
            f"not validated: {name} is {bound.count} of {bound.parts} parts, above {limit:.0%} with 95 % confidence; "
            "more seeds or a better view of the defect are needed, not more test parts"
        ]
    missing = max(1, parts_needed(limit, bound.count) - bound.parts)
    # The number assumes that the errors stay as few as they are.
    return [
        f"not validated: needs {missing} more held-out real {kind} parts without a further error to show "
        f"{name} <= {limit:.0%} ({bound.count} of {bound.parts} parts so far)"
    ]
