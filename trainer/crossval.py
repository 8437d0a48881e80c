"""Grouped cross-validation inside the learning parts: it freezes the decision threshold before anything is tested.

Physical parts are dealt to folds, part by part within every class, so that each fold holds parts of every class and of
the good ones; pictures of one part are never on two sides. A synthetic image carries the part of its background as its
group and, in ``tags["pasted_from"]``, the parts (comma-separated) whose pixels or shapes went into it: it is left out
of a fold that holds any of them out. An adapter that was fitted to all seeds can't be undone that way; then the scores
of held-out seeds are too good, and the threshold is placed by the good parts alone (`seeds_are_held_out` False).

With `LeaveOneOut` the threshold is frozen by leaving out one part at a time. Fitting anew for every part would take as
many fits as there are parts. Instead a part's model goes on from the model of the fold that held the part out, for a
few updates with all the other parts: nothing in its history has seen the part, so nothing leaks, and it has learned
from all the others ("TreeCV": Joulani, Gyorgy, Szepesvari, "Fast cross-validation for incremental learning", IJCAI
2015). Good parts that score far below where a threshold can lie keep the score of their fold.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from cell import digest
from cell.defects import PASTED_FROM, Sample
from cell.errors import DataError
from cell.imaging.preprocess import Preprocessing
from cell.jobs import Progress
from cell.store.files import write_bytes
from trainer.checkpoints import identity
from trainer.crew import side_by_side
from trainer.evaluate import GOOD, PixelPrecisions, Scored, score_samples, truth_of
from trainer.fit import Cancelled, FitConfig, FittedModel, ReportProgress, fit, go_on, ignore_progress, never_cancelled
from trainer.metrics import freeze_threshold
from trainer.network import DetectorNetwork


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Scores of parts by models that never saw them, and the threshold frozen by them."""

    threshold: float
    source: str  # a sentence for the evaluation report
    scored: tuple[Scored, ...]  # by the models of the folds
    pixels: PixelPrecisions  # of the same held-out pictures
    deciding: tuple[Scored, ...]  # what froze the threshold: of the parts that were left out one by one, those scores


@dataclass(frozen=True, slots=True)
class LeaveOneOut:
    """How a fold's model goes on to one that has seen all parts but one."""

    share: float = 1 / 32  # of the fold's updates: 100 of 3200
    learning_rate: float = 1e-3
    #: Good parts are left out one by one when a picture of theirs is among the strongest `reach` x the allowed share.
    reach: float = 4.0


@dataclass(frozen=True, slots=True)
class ThresholdRule:
    """How the threshold is found."""

    folds: int = 3
    max_false_rejection: float = 0.05  # share of the held-out good images that may be rejected
    seeds_are_held_out: bool = True  # False when something that every fold saw was fitted to all seeds
    leave_one_out: LeaveOneOut | None = None

    def threshold(self, scored: Sequence[Scored]) -> float:
        """Return the threshold for held-out scores of learning parts, see :func:`trainer.metrics.freeze_threshold`."""
        good = [one.score for one in scored if one.truth == GOOD]
        defective = [one.score for one in scored if one.truth != GOOD] if self.seeds_are_held_out else None
        return freeze_threshold(defective, good, self.max_false_rejection)

    def left_out(self, scored: Sequence[Scored]) -> list[str]:
        """Return the parts that need a model of their own, by the scores of the folds.

        The threshold can't lie below the weakest good pictures that are rejected, so a good part all of whose pictures
        are among the lower four fifths (`reach` 4, 5 % allowed) has no say in it. Defective parts count wherever they
        lie, unless `seeds_are_held_out` is False: then none does.
        """
        if self.leave_one_out is None:
            return []
        good = [one.score for one in scored if one.truth == GOOD]
        level = float(np.quantile(good, max(0.0, 1 - self.leave_one_out.reach * self.max_false_rejection)))
        chosen = {one.group for one in scored if one.truth == GOOD and one.score >= level}
        if self.seeds_are_held_out:
            chosen |= {one.group for one in scored if one.truth != GOOD}
        return sorted(chosen)

    def source(self, left_out: int = 0) -> str:
        """Return the sentence for the report."""
        basis = "" if self.seeds_are_held_out else ", by the good parts alone"
        how = f"grouped {self.folds}-fold cross-validation"
        if left_out:
            how = f"leave-one-part-out ({left_out} parts; those far below the threshold in {self.folds} groups)"
        return f"{how} inside the learning parts, false rejection <= {self.max_false_rejection:.0%}{basis}"


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
    team: Team | None = None,
) -> CrossValidation:
    """Score every real learning part by a model fitted without it, and freeze the threshold.

    :raises DataError: when fewer than two parts show a defect or fewer than two are good.
    :raises JobCancelled: between two updates when the team is told so.
    :raises JobError: when a process was killed.
    """
    rule, team = rule or ThresholdRule(), team or Team()
    folds = fold_tasks(samples, preprocessing, classes, config, rule)
    return decide(folds, team.work(folds, "cross-validation"), samples, rule, team)


def fold_tasks(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    classes: Sequence[str],
    config: FitConfig,
    rule: ThresholdRule,
) -> list[HoldOut]:
    """Return a task for each fold. Raises `DataError` when fewer than two parts are defective, or good."""
    _refuse_too_few(samples, classes)
    dealt = deal_folds(samples, classes, rule.folds, config.seed)
    tasks = []
    for fold in range(rule.folds):
        held_out = {part for part, where in dealt.items() if where == fold}
        if held_out:
            stage = f"cross-validation {fold + 1}/{rule.folds}"
            own = replace(config, seed=config.seed + 1000 * (fold + 1))
            tasks.append(hold_out(f"fold-{fold}", fold, held_out, samples, preprocessing, classes, own, stage))
    return tasks


def decide(
    folds: Sequence[HoldOut], found: Sequence[Found], samples: Sequence[Sample], rule: ThresholdRule, team: Team
) -> CrossValidation:
    """Freeze the threshold by what the folds' models said of the parts they never saw, and by parts left out alone."""
    pixels = PixelPrecisions.empty(folds[0].classes)
    for one in found:
        pixels.add_counts(one.pixels)
    scored = [score for one in found for score in one.scored]
    chosen = rule.left_out(scored)
    decided = [one for one in scored if one.group not in set(chosen)]
    home = {sample.group: index for index, fold in enumerate(folds) for sample in fold.tested}
    singles = [_single(folds[home[part]], part, position, samples, rule) for position, part in enumerate(chosen)]
    keys = [fold.key() for fold in folds] if chosen else []
    origins = [Origin(keys[home[part]], found[home[part]].model) for part in chosen]
    decided += [score for one in team.work(singles, "leave one out", origins) for score in one.scored]
    return CrossValidation(rule.threshold(decided), rule.source(len(chosen)), tuple(scored), pixels, tuple(decided))


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A model, and what it said of the parts it never saw."""

    scored: tuple[Scored, ...]
    pixels: dict[str, list[list[int]]]
    model: FittedModel


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """A model that another fit goes on from, and the key of the task that made it."""

    key: str
    model: FittedModel


@dataclass(frozen=True, slots=True, eq=False)
class HoldOut:
    """Fit to `kept`, judge `tested`; what is found can be kept in a folder, so that nothing is fitted twice."""

    name: str  # of its files
    number: int  # of its fold
    kept: Sequence[Sample]
    tested: Sequence[Sample]
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    config: FitConfig
    stage: str

    def work(
        self, folder: Path | None, progress: ReportProgress, cancelled: Cancelled, start: Origin | None = None
    ) -> Found:
        """Return what was found, by an earlier, interrupted run when `folder` holds it.

        :param start: go on from this model instead of random weights.
        """
        key = "" if folder is None else self.key("" if start is None else start.key)
        known = None if folder is None else self._read(folder, key)
        if known is not None:
            total = self.config.updates
            progress(Progress(stage=self.stage, done=total, total=total, note="done before the interruption"))
            return known
        if start is None:
            checkpoint = None if folder is None else folder / f"{self.name}.safetensors"
            model = fit(
                self.kept,
                self.preprocessing,
                self.classes,
                self.config,
                progress=progress,
                cancelled=cancelled,
                checkpoint=checkpoint,
                stage=self.stage,
            )
        else:
            model = go_on(start.model, self.kept, self.config, progress=progress, cancelled=cancelled, stage=self.stage)
        found = self.judge(model)
        if folder is not None:
            self.keep(folder, key, found)
        return found

    def judge(self, model: FittedModel) -> Found:
        """Score the held-out pictures."""
        pixels = PixelPrecisions.empty(self.classes)
        scored = score_samples(model.predict, self.tested, self.classes, pixels, fold=self.number)
        return Found(tuple(scored), pixels.counts(), model)

    def key(self, origin: str = "") -> str:
        """Return a digest of all that shapes the scores."""
        fitted = identity(self.kept, self.preprocessing, self.classes, self.config.record())
        judged = identity(self.tested, self.preprocessing, self.classes, "")
        names = [[sample.sample_id, truth_of(sample, self.classes)] for sample in self.tested]
        return digest.of_record([fitted, judged, names, self.number, origin])

    def keep(self, folder: Path, key: str, found: Found) -> None:
        """Write what was found: the weights first, since the scores say that all is there."""
        weights = {name: value.contiguous() for name, value in found.model.network.state_dict().items()}
        write_bytes(folder / f"{self.name}.network", save(weights, {"key": key}))
        scored = [asdict(one) for one in found.scored]
        facts = {"key": key, "scored": scored, "pixels": found.pixels, "losses": found.model.losses}
        write_bytes(folder / f"{self.name}.json", json.dumps(facts).encode())

    def _read(self, folder: Path, key: str) -> Found | None:
        """Return what a folder keeps of this task; None when there is nothing, or that of other work."""
        try:
            kept = json.loads((folder / f"{self.name}.json").read_bytes())
            if kept["key"] != key:
                return None
            scored = tuple(Scored(**{**one, "scores": tuple(one["scores"])}) for one in kept["scored"])
            losses = tuple(float(loss) for loss in kept["losses"])
            network = DetectorNetwork(len(self.preprocessing.channels), len(self.classes), self.config.network)
            with safe_open(folder / f"{self.name}.network", framework="pt") as file:
                if (file.metadata() or {}).get("key") != key:
                    return None
                network.load_state_dict({name: file.get_tensor(name) for name in network.state_dict()})
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            return None
        network.channels_last()
        model = FittedModel(network.eval(), self.preprocessing, self.classes, self.config, losses)
        return Found(scored, kept["pixels"], model)


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """A task as a chore."""

    task: HoldOut
    folder: Path | None
    start: Origin | None

    def __call__(self, progress: ReportProgress, cancelled: Cancelled) -> Found:
        return self.task.work(self.folder, progress, cancelled, self.start)


@dataclass(frozen=True, slots=True, eq=False)
class Team:
    """Who works at tasks, and to whom it is reported.

    `folder` exists and keeps checkpoints and what is found: a run that was interrupted and is repeated with the same
    arguments goes on, with the same result to the bit.
    """

    workers: int = 1  # how many fits run side by side, each in a process of its own
    folder: Path | None = None
    progress: ReportProgress = ignore_progress
    cancelled: Cancelled = never_cancelled

    def work(self, tasks: Sequence[HoldOut], stage: str, starts: Sequence[Origin | None] = ()) -> list[Found]:
        """Return what was found, in the order of the tasks; see :func:`trainer.crew.side_by_side`."""
        pieces = [
            _Piece(task, self.folder, start) for task, start in zip(tasks, starts or [None] * len(tasks), strict=True)
        ]
        return side_by_side(
            pieces, self.workers, stage, progress=self.progress, cancelled=self.cancelled, folder=self.folder
        )


def hold_out(
    name: str,
    number: int,
    held_out: set[str],
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    classes: Sequence[str],
    config: FitConfig,
    stage: str,
) -> HoldOut:
    """Return the task to fit to all `samples` that have nothing of the parts `held_out`, and to judge those parts."""
    kept = [sample for sample in samples if not held_out & _sources(sample)]
    tested = [sample for sample in samples if not sample.synthetic and sample.group in held_out]
    return HoldOut(name, number, kept, tested, preprocessing, tuple(classes), config, stage)


def _single(fold: HoldOut, part: str, position: int, samples: Sequence[Sample], rule: ThresholdRule) -> HoldOut:
    """Return the task that goes on from a fold's model with all parts but one."""
    single = rule.leave_one_out or LeaveOneOut()
    config = replace(
        fold.config,
        updates=max(1, round(single.share * fold.config.updates)),
        learning_rate=single.learning_rate,
        seed=fold.config.seed + 1 + position,
    )
    return hold_out(
        f"part-{position}", fold.number, {part}, samples, fold.preprocessing, fold.classes, config, "leave one out"
    )


def _sources(sample: Sample) -> set[str]:
    return {sample.group, *sample.tags.get(PASTED_FROM, "").split(",")}


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
