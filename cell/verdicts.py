"""Verdicts: the one answer to a trigger."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from cell.base import Record
from cell.recipes import Rect


class Outcome(StrEnum):
    """OK and NG are judgements; what is not known is FAULT and is never OK."""

    OK = "OK"
    NG = "NG"
    FAULT = "FAULT"


class Region(Record):
    """One connected area that the model calls defective, in pixels of the camera frame."""

    defect_class: str
    box: Rect
    area_px: int = Field(ge=1)
    score: float = Field(ge=0, le=1)


class Timings(Record):
    """Durations of one part in milliseconds, measured on the monotonic clock from the receipt of the trigger."""

    acquisition_ms: float = 0.0
    inference_ms: float = 0.0
    total_ms: float = 0.0


class Verdict(Record):
    """The judgement of one part. `model_digest` names the model that made it; empty for a FAULT before inference."""

    job_id: str
    part_id: str
    physical_part: str = ""  # as the trigger said; empty: the part id is the part's own
    lot: str = ""  # as the trigger said
    meas_id: str = ""
    product_id: str = ""
    recipe_id: str
    recipe_version: int
    outcome: Outcome
    score: float | None = None  # highest class score in [0, 1]; None for a FAULT before inference
    threshold: float | None = None
    class_scores: dict[str, float] = Field(default_factory=dict)
    regions: tuple[Region, ...] = ()
    reasons: tuple[str, ...] = ()  # at least one for NG and FAULT
    model_digest: str = ""
    frames_digest: str = ""
    emulated: bool
    created_at: datetime
    timings: Timings = Timings()
