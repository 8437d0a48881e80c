"""Grouped cross-validation inside the learning parts: it freezes the decision threshold before anything is tested.

Physical parts are dealt to folds, part by part within every class, so that each fold holds parts of every class and of
the good ones; pictures of one part are never on two sides. A synthetic image carries the part of its background as its
group and, in ``tags["pasted_from"]``, the parts (comma-separated) whose pixels or shapes went into it: it is left out
of a fold that holds any of them out. An adapter that was fitted to all seeds can't be undone that way; then the scores
of held-out seeds are too good, and the threshold is placed by the good parts alone (`seeds_are_held_out` False).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from cell import digest
from cell.defects import Sample
from cell.errors import DataError
from cell.imaging.preprocess import Preprocessing
from cell.jobs import Progress
from cell.store.files import write_bytes
from trainer.checkpoints import identity
from trainer.evaluate import GOOD, PixelPrecisions, Scored, score_samples, truth_of
from trainer.fit import Cancelled, FitConfig, ReportProgress, fit, ignore_progress, never_cancelled
from trainer.metrics import freeze_threshold

#: Tag of a synthetic sample: the physical parts, comma-separated, that it is made of beside its background's.
PASTED_FROM = "pasted_from"


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Scores of parts by models that never saw them, and the threshold frozen by them."""

    threshold: float
    source: str  # a sentence for the evaluation report
    scored: tuple[Scored, ...]
    pixels: PixelPrecisions  # of the same held-out pictures


@dataclass(frozen=True, slots=True)
class ThresholdRule:
    """How the threshold is found."""

    folds: int = 3
    max_false_rejection: float = 0.05  # share of the held-out good images that may be rejected
    seeds_are_held_out: bool = True  # False when something that every fold saw was fitted to all seeds

    def threshold(self, scored: Sequence[Scored]) -> float:
        """Return the threshold for held-out scores of learning parts, see :func:`trainer.metrics.freeze_threshold`."""
        good = [one.score for one in scored if one.truth == GOOD]
        defective = [one.score for one in scored if one.truth != GOOD] if self.seeds_are_held_out else None
        return freeze_threshold(defective, good, self.max_false_rejection)

    def source(self) -> str:
        """Return the sentence for the report."""
        basis = "" if self.seeds_are_held_out else ", by the good parts alone"
        return (
            f"grouped {self.folds}-fold cross-validation inside the learning parts, "
            f"false rejection <= {self.max_false_rejection:.0%}{basis}"
        )


def deal_folds(samples: Sequence[Sample], classes: Sequence[str], folds: int, seed: int) -> dict[str, int]:
    """Deal the physical parts of the real samples to folds, shuffled within every class.

    A part with several kinds of pictures (good and defective, or of two classes) counts where it is defective.
    """
    kinds: dict[str, str] = {}
    for sample in samples:
        if not sample.synthetic:
            truth = truth_of(sample, classes)
            if truth != GOOD or sample.group not in kinds:
                kinds[sample.group] = truth
    rng = np.random.default_rng(seed)
    dealt: dict[str, int] = {}
    position = 0
    for kind in [*classes, GOOD]:
        parts = sorted(part for part, its in kinds.items() if its == kind)
        rng.shuffle(parts)
        # Going on where the last class ended keeps the folds equally large when classes have few parts.
        for part in parts:
            dealt[part] = position % folds
            position += 1
    return dealt


def cross_validate(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    classes: Sequence[str],
    config: FitConfig,
    rule: ThresholdRule | None = None,
    *,
    progress: ReportProgress = ignore_progress,
    cancelled: Cancelled = never_cancelled,
    checkpoints: Path | None = None,
) -> CrossValidation:
    """Score every real learning part by a model fitted without it, and freeze the threshold.

    :param checkpoints: existing folder for the checkpoint of the fold in work and the scores of those that are done: a
        run that was interrupted and is repeated with the same arguments goes on, with the same result to the bit.
    :raises DataError: when fewer than two parts show a defect or fewer than two are good.
    :raises JobCancelled: between two updates when `cancelled` says so.
    """
    rule = rule or ThresholdRule()
    folds = rule.folds
    dealt = deal_folds(samples, classes, folds, config.seed)
    _refuse_too_few(samples, classes)
    scored: list[Scored] = []
    pixels = PixelPrecisions.empty(classes)
    for fold in range(folds):
        held_out = {part for part, where in dealt.items() if where == fold}
        kept = [sample for sample in samples if not held_out & _sources(sample)]
        tested = [sample for sample in samples if not sample.synthetic and sample.group in held_out]
        if not tested:
            continue
        task = _Fold(
            fold,
            kept,
            tested,
            preprocessing,
            tuple(classes),
            replace(config, seed=config.seed + 1000 * (fold + 1)),
            f"cross-validation {fold + 1}/{folds}",
        )
        found = task.scores(checkpoints, _part_of(progress, fold, folds), cancelled)
        scored += found.scored
        pixels.add_counts(found.pixels)
    return CrossValidation(rule.threshold(scored), rule.source(), tuple(scored), pixels)


@dataclass(frozen=True, slots=True)
class _Scores:
    """What the model of one fold said of the parts it never saw."""

    scored: tuple[Scored, ...]
    pixels: dict[str, list[list[int]]]


@dataclass(frozen=True, slots=True, eq=False)
class _Fold:
    """One fold's work: fit to `kept`, judge `tested`."""

    number: int
    kept: Sequence[Sample]
    tested: Sequence[Sample]
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    config: FitConfig
    stage: str

    def scores(self, folder: Path | None, progress: ReportProgress, cancelled: Cancelled) -> _Scores:
        """Return the scores; those of an earlier, interrupted run when `folder` holds them."""
        done = None if folder is None else folder / f"fold-{self.number}.json"
        key = self._key() if done is not None else ""
        known = None if done is None else _read(done, key)
        if known is not None:
            total = self.config.updates
            progress(Progress(stage=self.stage, done=total, total=total, note="done before the interruption"))
            return known
        model = fit(
            self.kept,
            self.preprocessing,
            self.classes,
            self.config,
            progress=progress,
            cancelled=cancelled,
            checkpoint=None if folder is None else folder / f"fold-{self.number}.safetensors",
            stage=self.stage,
        )
        pixels = PixelPrecisions.empty(self.classes)
        found = score_samples(model.predict, self.tested, self.classes, pixels, fold=self.number)
        scores = _Scores(tuple(found), pixels.counts())
        if done is not None:
            write_bytes(done, json.dumps({"key": key, **asdict(scores)}).encode())
        return scores

    def _key(self) -> str:
        """Return a digest of all that shapes the scores."""
        fitted = identity(self.kept, self.preprocessing, self.classes, repr(self.config))
        judged = identity(self.tested, self.preprocessing, self.classes, "")
        names = [[sample.sample_id, truth_of(sample, self.classes)] for sample in self.tested]
        return digest.of_record([fitted, judged, names, self.number])


def _read(path: Path, key: str) -> _Scores | None:
    """Return the scores that a file keeps; None when there is none, or one of other work."""
    try:
        kept = json.loads(path.read_bytes())
        if kept["key"] != key:
            return None
        scored = tuple(Scored(**{**one, "scores": tuple(one["scores"])}) for one in kept["scored"])
        return _Scores(scored, kept["pixels"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sources(sample: Sample) -> set[str]:
    return {sample.group, *sample.tags.get(PASTED_FROM, "").split(",")}


def _part_of(progress: ReportProgress, fold: int, folds: int) -> ReportProgress:
    def report(own: Progress) -> None:
        done, total = own.done + fold * own.total, folds * own.total
        progress(own.model_copy(update={"done": done, "total": total}))

    return report


def _refuse_too_few(samples: Sequence[Sample], classes: Sequence[str]) -> None:
    real = [(sample.group, truth_of(sample, classes)) for sample in samples if not sample.synthetic]
    for kind, count in (
        ("defective", len({group for group, truth in real if truth != GOOD})),
        ("good", len({group for group, truth in real if truth == GOOD})),
    ):
        if count < 2:
            raise DataError(
                f"cross-validation needs at least 2 {kind} real parts to learn from, there are {count}; add more"
            )
