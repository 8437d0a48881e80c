"""From answers, models and reviews to the figures and pictures of the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks.demo import plc
from benchmarks.demo.offline import Offline
from benchmarks.demo.pictures import Picture, crop, whole
from benchmarks.demo.plc import Answer
from benchmarks.demo.report import Group
from benchmarks.demo.results import Judged, LineSummary, ModelSummary, ReviewSummary
from benchmarks.demo.scenario import Scenario
from cell.defects import CandidateState, SeedState, Split
from cell.imaging.folders import physical_part
from cell.models import ModelManifest, RateBound, SampleKind
from cell.store.images import read_stack
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.store.line import LineStore
from cell.verdicts import Outcome
from trainer.metrics import clopper_pearson

_SEEDS_SHOWN, _CANDIDATES_SHOWN, _WORST = 3, 5, 8


def line_summary(scenario: Scenario, answers: Sequence[Answer], offline: Offline) -> LineSummary:
    """Count what happened on the line."""
    deadline = scenario.recipe.deadline_ms
    digests = list(dict.fromkeys(a.verdict.model_digest for a in answers if a.verdict and a.verdict.model_digest))
    taken_over = (index for index, a in enumerate(answers) if a.verdict and a.verdict.model_digest in digests[1:])
    return LineSummary(
        parts=len(answers),
        lost=plc.lost(answers),
        late=plc.late(answers, deadline),
        fault=plc.faults(answers),
        mixed_models=offline.mixed_models,
        offline_differences=offline.differences,
        promoted_at_part=next(taken_over, None),
        p50_ms=plc.percentile(answers, 50),
        p99_ms=plc.percentile(answers, 99),
        max_ms=plc.percentile(answers, 100),
        judged=tuple(_judged(scenario, digest, answers) for digest in digests),
    )


def _judged(scenario: Scenario, digest: str, answers: Sequence[Answer]) -> Judged:
    mine = [(a.part_id, a.verdict) for a in answers if a.verdict and a.verdict.model_digest == digest]
    bad: dict[str, bool] = {}
    good: dict[str, bool] = {}
    for part_id, verdict in mine:
        # A part with several pictures is judged wrong when any of them is.
        defective = scenario.product.defect_class(part_id) is not None
        wrong = verdict.outcome is (Outcome.OK if defective else Outcome.NG)
        into = bad if defective else good
        into[physical_part(part_id)] = into.get(physical_part(part_id), False) or wrong
    return Judged(digest=digest, parts=len(mine), false_acceptance=_rate(bad), false_rejection=_rate(good))


def _rate(wrong: dict[str, bool]) -> RateBound:
    errors, parts = sum(wrong.values()), len(wrong)
    lower, upper = clopper_pearson(errors, parts)
    rate = errors / parts if parts else None
    bounds = (lower, upper) if parts else (None, None)
    return RateBound(count=errors, parts=parts, rate=rate, lower_95=bounds[0], upper_95=bounds[1])


def model_summary(store: LearningStore, manifest: ModelManifest, title: str) -> ModelSummary:
    """Describe a model and what it learned from."""
    items = store.gate.training_set(manifest.training_set_digest).items
    kinds = Counter(item.kind for item in items)
    return ModelSummary(
        title=title,
        model_id=manifest.model_id,
        digest=manifest.onnx_digest,
        real_defects=kinds[SampleKind.SEED],
        synthetic=kinds[SampleKind.SYNTHETIC],
        evaluation=manifest.evaluation,
        parity=manifest.parity,
    )


def review_summary(store: LearningStore, recipe_id: str, review: dict[str, Any]) -> ReviewSummary:
    """Describe the review from the trainer's summary and the decisions themselves."""
    rejected = store.candidates.list(recipe_id, state=CandidateState.REJECTED, limit=100_000)
    planted = review.get("planted", {"shown": 0, "rejected": 0})
    decisions = store.gate.decisions()
    return ReviewSummary(
        accepted=int(review["accepted"]),
        rejected=int(review["rejected"]),
        planted=int(planted["shown"]),
        planted_rejected=int(planted["rejected"]),
        reviewers=tuple(sorted({decision.reviewer for decision in decisions})),
        by_people=all(decision.is_person for decision in decisions),
        reasons=dict(Counter(row.decision.reason for row in rejected if row.decision).most_common()),
    )


def gallery(store: LearningStore, scenario: Scenario) -> list[Group]:
    """Return seeds and candidates side by side, class by class, a row for each channel."""
    recipe_id = scenario.recipe.recipe_id
    groups = []
    for name in scenario.recipe.class_names:
        seeds = store.seeds(recipe_id, state=SeedState.CONFIRMED, split=Split.LEARN, defect_class=name)
        rows = store.candidates.list(recipe_id, defect_class=name, limit=1000)
        spread = seeds[:: max(1, len(seeds) // _SEEDS_SHOWN)][:_SEEDS_SHOWN]
        shown = [(store.read_image(s.image).pixels, store.read_mask(s.mask), f"seed {s.part_id}", "") for s in spread]
        for row in rows[:: max(1, len(rows) // _CANDIDATES_SHOWN)][:_CANDIDATES_SHOWN]:
            candidate = row.candidate
            tone = {"accepted": "ok", "rejected": "bad"}.get(row.state.value, "")
            caption = f"{candidate.candidate_id}, d' {candidate.severity:.0f}, {row.state.value}"
            pixels, mask = store.read_image(candidate.image).pixels, store.read_mask(candidate.mask)
            shown.append((pixels, mask, caption, tone))
        pictures = tuple(
            tuple(crop(pixels, index, mask, caption, tone=tone) for pixels, mask, caption, tone in shown)
            for index in range(len(scenario.recipe.channels))
        )
        groups.append(Group(f"{name}: {', '.join(scenario.recipe.channel_names)}", pictures))
    return groups


def worst(state: StateDir, scenario: Scenario, answers: Sequence[Answer]) -> tuple[list[Picture], list[Picture]]:
    """Return pictures of the worst misses and of the worst false rejections, one a physical part."""
    wrong: list[tuple[float, Answer, bool]] = []
    for answer in answers:
        verdict = answer.verdict
        if verdict is None or verdict.score is None or verdict.threshold is None:
            continue
        defective = scenario.product.defect_class(answer.part_id) is not None
        if verdict.outcome is (Outcome.OK if defective else Outcome.NG):
            wrong.append((abs(verdict.score - verdict.threshold), answer, defective))
    wrong.sort(key=lambda item: -item[0])
    with LineStore(state) as store:
        return tuple(  # type: ignore[return-value]
            [_picture(state, store, scenario, answer) for answer in _first_of_each(wrong, defective)]
            for defective in (True, False)
        )


def _first_of_each(wrong: Sequence[tuple[float, Answer, bool]], defective: bool) -> list[Answer]:
    chosen: dict[str, Answer] = {}
    for _, answer, is_defective in wrong:
        if is_defective is defective:
            chosen.setdefault(physical_part(answer.part_id), answer)
    return list(chosen.values())[:_WORST]


def _picture(state: StateDir, store: LineStore, scenario: Scenario, answer: Answer) -> Picture:
    verdict = answer.verdict
    assert verdict is not None
    stack = read_stack(state.resolve(store.archive.get(verdict.job_id).path)).pixels
    truth, mask = scenario.truth(answer.part_id)
    caption = f"{answer.part_id}: {truth or 'good'}, said {verdict.outcome} at {verdict.score:.2f}"
    return whole(stack, 0, caption, mask=mask if mask.any() else None)
