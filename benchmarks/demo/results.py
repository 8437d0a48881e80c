"""What the demo found out; written as ``report.json`` and shown by ``report.html``."""

from __future__ import annotations

from pydantic import Field

from cell.base import Record
from cell.models import EvaluationReport, ParityReport, RateBound


class StageTime(Record):
    """How long one stage took."""

    stage: str
    seconds: float


class ReviewSummary(Record):
    """How the candidates fared; planted ones are known-bad and must all be rejected."""

    accepted: int
    rejected: int
    planted: int
    planted_rejected: int
    reviewers: tuple[str, ...]
    by_people: bool
    reasons: dict[str, int]


class ModelSummary(Record):
    """One trained model: what it learned from and what held-out parts say of it."""

    title: str
    model_id: str
    digest: str
    real_defects: int
    synthetic: int
    evaluation: EvaluationReport
    parity: ParityReport | None


class Judged(Record):
    """What one model did on the line, against the truth, counted in physical parts."""

    digest: str
    parts: int
    false_acceptance: RateBound
    false_rejection: RateBound


class LineSummary(Record):
    """The held-out parts' run past the camera. All of the first five must be 0."""

    parts: int
    lost: int
    late: int
    fault: int
    mixed_models: int
    offline_differences: int
    promoted_at_part: int | None  # index of the first part that the second model judged; None when it judged none
    p50_ms: float
    p99_ms: float
    max_ms: float
    judged: tuple[Judged, ...]


class DemoReport(Record):
    """All of it."""

    product: str
    source: str
    camera: str
    recipe_id: str
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    backgrounds: int
    refused: dict[str, int]
    seeds: dict[str, int]
    calibration_kind: str
    calibration_findings: tuple[str, ...]
    candidates: dict[str, int]
    review: ReviewSummary
    models: tuple[ModelSummary, ...]
    line: LineSummary
    stages: tuple[StageTime, ...] = Field(default=())
    seconds: float
    peak_mb: float

    def failures(self) -> list[str]:
        """Return what must not happen and did, as plain sentences; empty when the demo succeeded."""
        line, review = self.line, self.review
        wrong = [
            (line.lost, "parts got no verdict"),
            (line.fault, "parts were answered FAULT"),
            (line.mixed_models, "verdicts are not those of the model whose digest they carry"),
            (line.offline_differences, "verdicts differ from offline scores of the archived frames"),
            (review.planted - review.planted_rejected, "known-bad candidates were accepted"),
        ]
        found = [f"{count} {what}" for count, what in wrong if count]
        if line.promoted_at_part is None:
            found.append("the second model judged no part")
        return found + [
            f"the exported model {m.title} differs from the trained one" for m in self.models if not _same(m)
        ]


def _same(model: ModelSummary) -> bool:
    return model.parity is not None and model.parity.passed
