"""Jobs of the trainer in the learning database."""
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
class Jobs:
    def create(self, kind: JobKind, recipe_id: str, parameters: Mapping[str, Any]) -> Job: ...
    def get(self, job_id: str) -> Job: ...
    def list(self, *, recipe_id: str = "", state: JobState | None = None, limit: int = 100) -> tuple[Job, ...]: ...  # newest first
    def next_queued(self) -> Job | None: ...
    def start(self, job_id: str) -> Job: ...       # QUEUED -> RUNNING; StateError when another runs
    def progress(self, job_id: str, progress: Progress) -> Job: ...
    def done(self, job_id: str, result: Mapping[str, Any]) -> Job: ...
    def fail(self, job_id: str, error: str) -> Job: ...
    def cancel(self, job_id: str) -> Job: ...
    def resume(self, job_id: str) -> Job: ...      # FAILED|CANCELLED|INTERRUPTED -> QUEUED
    def mark_interrupted(self) -> tuple[Job, ...]: ...  # at the trainer's start

