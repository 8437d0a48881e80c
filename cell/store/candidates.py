"""Candidates."""
# mypy: ignore-errors
from __future__ import annotations
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cell.base import Record
from cell.calibration import Calibration
from cell.clock import WallClock, utc_now
from cell.defects import *
from cell.events import Event, ResultReady
from cell.frames import StoredStack
from cell.jobs import Job, JobKind, JobState, Progress
from cell.models import ManifestItem, ModelManifest, TrainingSet
from cell.recipes import Recipe
from cell.verdicts import Outcome, Verdict
from cell.wire.messages import Command, Reply
class CandidateRow(Record):
    candidate: Candidate
    state: CandidateState
    decision: ReviewDecision | None

class Candidates:
    def add(self, job_id: str, recipe_id: str, draft: Draft) -> Candidate: ...     # files durable, then the row
    def add_many(self, job_id: str, recipe_id: str, drafts: Sequence[Draft]) -> tuple[Candidate, ...]: ...
    def get(self, candidate_id: str) -> CandidateRow: ...
    def list(self, recipe_id: str, *, state: CandidateState | None = None, job_id: str = "", defect_class: str = "", limit: int = 1000) -> tuple[CandidateRow, ...]: ...
    def counts(self, recipe_id: str) -> dict[str, dict[CandidateState, int]]: ...  # by class

