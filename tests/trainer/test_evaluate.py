"""Evaluation counts parts, not pictures; says what is missing; refuses synthetic images."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cell.defects import PASTED_FROM, Sample
from cell.errors import DataError, JobCancelled
from cell.frames import Stack
from cell.imaging.preprocess import FloatMaps
from cell.jobs import Progress
from tests.trainer.parts import CLASSES, QUICK, SPEC, held_out_parts, learning_parts, plate, trained
from trainer.crossval import CrossValidation, LeaveOneOut, Team, ThresholdRule, cross_validate, deal_folds
from trainer.evaluate import GOOD, Requirements, Scored, evaluate, score_samples, truth_of
from trainer.fit import FitConfig, FittedModel, fit, go_on

FROZEN = "a test's own number"


class ByPixel:
    """A judge whose answer stands in the image's first pixel: score = value / 100."""

    def __call__(self, stack: Stack) -> tuple[FloatMaps, FloatMaps]:
        score = float(stack[0, 0, 0]) / 100
        maps = np.full((2, *stack.shape[1:]), score, np.float32)
        return maps, np.array([score, score / 2], np.float32)


def picture(part: str, value: int, label: int = 0, name: str = "") -> Sample:
    labels = np.zeros((8, 8), np.uint8)
    labels[:2, :2] = label
    return Sample(np.full((1, 8, 8), value, np.uint8), labels, part, sample_id=name or f"{part}-{value}")


def test_a_part_is_wrong_when_any_of_its_pictures_is() -> None:
    samples = [
        picture("a", 90, 1), picture("a", 10, 1), picture("b", 80, 2),
        picture("c", 5), picture("c", 60), picture("d", 1), picture("e", 2),
    ]  # fmt: skip
    report = evaluate(ByPixel(), samples, CLASSES, 0.5, FROZEN)
    assert (report.false_acceptance.count, report.false_acceptance.parts) == (1, 2)
    assert (report.false_rejection.count, report.false_rejection.parts) == (1, 3)
    assert report.recall_by_class["pit"].rate == 0.0
    assert report.recall_by_class["scratch"].rate == 1.0
    assert [report.recall_by_class[name].count for name in ("pit", "scratch")] == [0, 1]
    assert report.worst_misses == ("a-10",)
    assert report.threshold_source == FROZEN
    # Pictures: bad 0.9, 0.1, 0.8 against good 0.05, 0.6, 0.01, 0.02.
    assert report.auroc == pytest.approx(11 / 12)


def test_a_score_at_the_threshold_is_ng() -> None:
    report = evaluate(ByPixel(), [picture("a", 50, 1), picture("b", 50)], CLASSES, 0.5, FROZEN)
    assert report.false_acceptance.count == 0
    assert report.false_rejection.count == 1


def test_too_few_parts_are_not_validated_and_the_report_says_how_many_are_missing() -> None:
    samples = [picture(f"bad{n}", 90, 1 + n % 2) for n in range(10)] + [picture(f"good{n}", 1) for n in range(59)]
    report = evaluate(ByPixel(), samples, CLASSES, 0.5, FROZEN)
    assert not report.validated
    assert report.findings == (
        "not validated: needs 49 more held-out real defect parts without a further error to show FA <= 5% "
        "(0 of 10 parts so far)",
    )
    loose = evaluate(ByPixel(), samples, CLASSES, 0.5, FROZEN, Requirements(false_acceptance=0.3))
    assert loose.validated
    assert loose.findings == ()


def test_a_rate_that_is_surely_too_high_asks_for_seeds_not_for_tests() -> None:
    samples = [picture(f"bad{n}", 10, 1) for n in range(9)] + [picture("good", 1)]
    findings = evaluate(ByPixel(), samples, CLASSES, 0.5, FROZEN).findings
    assert "FA is 9 of 9 parts" in findings[0]
    assert any("no held-out part shows scratch" in finding for finding in findings)


def test_without_parts_nothing_is_claimed() -> None:
    report = evaluate(ByPixel(), [], CLASSES, 0.5, FROZEN)
    assert not report.validated
    assert report.auroc is None
    assert report.pixel_ap is None
    assert report.false_acceptance.rate is None
    assert "needs 59 more held-out real defect parts" in report.findings[0]


def test_synthetic_and_unknown_labels_are_refused() -> None:
    with pytest.raises(DataError, match="only real parts"):
        score_samples(ByPixel(), [replace(picture("a", 1, 1), synthetic=True)], CLASSES)
    with pytest.raises(DataError, match="has label 3"):
        truth_of(picture("a", 1, 3), CLASSES)
    assert truth_of(replace(picture("a", 1), tags={"class": "pit"}), CLASSES) == "pit"


def test_folds_keep_parts_whole_and_classes_spread() -> None:
    samples = learning_parts(good=9, bad=3)
    dealt = deal_folds(samples, CLASSES, 3, seed=4)
    assert set(dealt) == {sample.group for sample in samples}
    for kind in (*CLASSES, GOOD):
        parts = {sample.group for sample in samples if truth_of(sample, CLASSES) == kind}
        per_fold = Counter(dealt[part] for part in parts)
        assert set(per_fold.values()) == {len(parts) // 3}
    assert dealt == deal_folds(samples, CLASSES, 3, seed=4)
    assert dealt != deal_folds(samples, CLASSES, 3, seed=5)


def test_cross_validation_freezes_a_threshold_that_holds_on_other_parts() -> None:
    config = replace(QUICK, updates=120)
    inner = cross_validate(learning_parts(), SPEC, CLASSES, config, ThresholdRule(folds=2))
    assert len(inner.scored) == len(learning_parts())
    assert "grouped 2-fold" in inner.source
    report = evaluate(trained().predict, held_out_parts(), CLASSES, inner.threshold, inner.source)
    assert report.false_acceptance.count + report.false_rejection.count <= 1
    assert report.auroc is not None
    assert report.auroc > 0.95
    assert report.pixel_ap is not None
    assert report.pixel_ap > 0.5


def test_a_fold_never_sees_what_was_pasted_from_its_held_out_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = learning_parts(bad=2, pictures=1)
    seed_part = parts[-1].group
    pasted = replace(
        plate(70, "scratch"), synthetic=True, group=parts[0].group, tags={PASTED_FROM: f"other,{seed_part}"}
    )
    dealt = deal_folds(parts, CLASSES, 2, QUICK.seed)
    trained_on: list[int] = []

    def spy(samples: list[Sample], *_: object, **__: object) -> None:
        trained_on.append(sum(sample.synthetic for sample in samples))
        raise JobCancelled("seen")

    monkeypatch.setattr("trainer.crossval.fit", spy)
    with pytest.raises(JobCancelled):
        cross_validate([*parts, pasted], SPEC, CLASSES, QUICK, ThresholdRule(folds=2))
    held_out_first = {part for part, fold in dealt.items() if fold == 0}
    assert trained_on == [0 if held_out_first & {seed_part, parts[0].group} else 1]


def test_an_interrupted_cross_validation_fits_no_fold_twice_and_ends_the_same(tmp_path: Path) -> None:
    config, rule = replace(QUICK, updates=10, batch=2), ThresholdRule(folds=2)
    whole = cross_validate(learning_parts(), SPEC, CLASSES, config, rule)

    def run(stop_after: int | None = None) -> tuple[CrossValidation | None, Counter[str]]:
        calls, updates = itertools.count(), Counter[str]()

        def cancelled() -> bool:
            return stop_after is not None and next(calls) >= stop_after

        def count(progress: Progress) -> None:
            updates[progress.stage] += not progress.note.startswith("done before")

        try:
            return cross_validate(
                learning_parts(), SPEC, CLASSES, config, rule, Team(1, tmp_path, count, cancelled)
            ), updates
        except JobCancelled:
            return None, updates

    assert run(stop_after=15)[0] is None  # in the second fold
    assert (tmp_path / "fold-0.json").exists()
    (tmp_path / "fold-1.json").write_text('{"key": "of another run"')
    resumed, updates = run()
    assert resumed is not None
    assert dict(updates) == {"cross-validation 1/2": 0, "cross-validation 2/2": 1}
    assert (resumed.threshold, resumed.scored) == (whole.threshold, whole.scored)
    assert resumed.pixels.counts() == whole.pixels.counts()
    again, updates = run()
    assert again is not None
    assert again.scored == whole.scored
    assert sum(updates.values()) == 0
    other = replace(config, seed=5)
    with pytest.raises(JobCancelled):  # other work: it does not pass for done
        cross_validate(learning_parts(), SPEC, CLASSES, other, rule, Team(1, tmp_path, cancelled=lambda: True))


ONE_OUT = ThresholdRule(folds=2, leave_one_out=LeaveOneOut(share=0.5))


def test_no_model_that_judges_a_part_alone_or_its_origin_has_seen_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[int, set[str]] = {}  # by network: the parts that it or what it goes on from was fitted to
    judged: list[tuple[int, set[str]]] = []

    def groups(samples: list[Sample]) -> set[str]:
        return {part for sample in samples for part in (sample.group, *sample.tags.get(PASTED_FROM, "").split(","))}

    def fitting(samples: list[Sample], *rest: object, **named: object) -> FittedModel:
        model = fit(samples, *rest, **named)  # type: ignore[arg-type]
        seen[id(model.network)] = groups(samples)
        kept.append(model)
        return model

    def going_on(model: FittedModel, samples: list[Sample], config: FitConfig, **named: object) -> FittedModel:
        further = go_on(model, samples, config, **named)  # type: ignore[arg-type]
        seen[id(further.network)] = seen[id(model.network)] | groups(samples)
        kept.append(further)
        return further

    def scoring(predict: object, samples: list[Sample], *rest: object, **named: object) -> list[Scored]:
        judged.append((id(predict.__self__.network), {sample.group for sample in samples}))  # type: ignore[attr-defined]
        return score_samples(predict, samples, *rest, **named)  # type: ignore[arg-type]

    kept: list[FittedModel] = []  # so that no id is used twice
    monkeypatch.setattr("trainer.crossval.fit", fitting)
    monkeypatch.setattr("trainer.crossval.go_on", going_on)
    monkeypatch.setattr("trainer.crossval.score_samples", scoring)
    parts = learning_parts(good=6, bad=2, pictures=1)
    pasted = replace(plate(70, "scratch"), synthetic=True, group=parts[0].group, tags={PASTED_FROM: parts[-1].group})
    found = cross_validate([*parts, pasted], SPEC, CLASSES, replace(QUICK, updates=8, batch=2), ONE_OUT)
    everyone = {sample.group for sample in parts}
    alone = [(network, held_out) for network, held_out in judged if len(held_out) == 1]
    assert {part for _, held_out in alone for part in held_out} >= {s.group for s in parts if s.labels.any()}
    for network, held_out in judged:
        assert not seen[network] & held_out
    for network, held_out in alone:
        assert seen[network] >= everyone - held_out - {parts[0].group}
    assert sorted(one.sample_id for one in found.deciding) == sorted(sample.sample_id for sample in parts)
    assert found.source.startswith(f"leave-one-part-out ({len(alone)} parts;")


def test_parts_that_could_not_move_the_threshold_need_no_model_of_their_own() -> None:
    good = [Scored(f"g{n}", f"g{n}", GOOD, (n / 100,)) for n in range(50)]
    bad = [Scored("b1", "b1", "pit", (0.01,)), Scored("b2", "b2", "pit", (0.9,))]
    assert ThresholdRule().left_out([*good, *bad]) == []
    chosen = ThresholdRule(leave_one_out=LeaveOneOut(reach=4.0)).left_out([*good, *bad])
    assert chosen == ["b1", "b2", *(f"g{n}" for n in range(40, 50))]
    only_good = ThresholdRule(leave_one_out=LeaveOneOut(reach=2.0), seeds_are_held_out=False).left_out([*good, *bad])
    assert only_good == [f"g{n}" for n in range(45, 50)]


def test_leaving_one_out_goes_on_after_an_interruption_and_ends_the_same(tmp_path: Path) -> None:
    parts, config = learning_parts(good=4, bad=1, pictures=1), replace(QUICK, updates=6, batch=2)
    whole = cross_validate(parts, SPEC, CLASSES, config, ONE_OUT)
    calls = itertools.count()
    with pytest.raises(JobCancelled):
        cross_validate(parts, SPEC, CLASSES, config, ONE_OUT, Team(1, tmp_path, cancelled=lambda: next(calls) >= 18))
    assert (tmp_path / "part-0.json").exists()
    done = Counter[bool]()
    told = Team(1, tmp_path, lambda progress: done.update([progress.note.startswith("done before")]))
    again = cross_validate(parts, SPEC, CLASSES, config, ONE_OUT, told)
    assert done[True] >= 3
    assert (again.threshold, again.deciding) == (whole.threshold, whole.deciding)


def test_cross_validation_needs_two_parts_of_each_kind() -> None:
    with pytest.raises(DataError, match="2 defective"):
        cross_validate([plate(0), plate(1), plate(2, "pit")], SPEC, CLASSES, QUICK)
    with pytest.raises(DataError, match="2 good"):
        cross_validate([plate(0), plate(1, "pit"), plate(2, "pit")], SPEC, CLASSES, QUICK)
