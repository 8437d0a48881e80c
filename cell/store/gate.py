"""The gate."""
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
class Gate:
    def displayed(self, candidate_id: str, reviewer: str) -> str:
        """Record that the candidate is on the reviewer's screen NOW; returns the token that ONE decision needs.

        One at a time: a later display to the same reviewer voids the token (call it when shown, not when preloaded)."""
    def decide(self, candidate_id: str, verb: ReviewVerb, *, reviewer: str, is_person: bool, token: str, reason: str = "") -> ReviewDecision: ...  # GateError
    def decisions(self, candidate_id: str = "") -> tuple[ReviewDecision, ...]: ...
    def issue_training_set(self, recipe: Recipe, *, synthetic_ratio: float = 5.0, people_only: bool = False, classes: tuple[str, ...] | None = None, job_ids: tuple[str, ...] | None = None, limit_per_class: int | None = None) -> TrainingSet: ...
    def training_set(self, manifest_id_or_digest: str) -> TrainingSet: ...
    def load_item(self, item: ManifestItem) -> tuple[StoredStack, Mask | None]: ...  # digests verified against the item
    def verify_training_set(self, manifest: TrainingSet) -> None: ...   # GateError
    def verify_training_set_digest(self, digest: str) -> TrainingSet: ...  # TrainingSet.content_digest(); for deployment
    def verify_chain(self) -> int: ...  # entries; GateError
