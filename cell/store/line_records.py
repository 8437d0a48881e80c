"""The line database's other tables."""
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
class ArchivedPart(Record):
    job_id: str
    part_id: str
    recipe_id: str
    path: str  # relative to state_dir
    digest: str
    outcome: Outcome
    size_bytes: int
    emulated: bool
    at: datetime

class ArchiveIndex:
    def add(self, part: ArchivedPart) -> None: ...   # after its file is durable
    def get(self, job_id: str) -> ArchivedPart: ...  # NotFound
    def list(self, *, recipe_id: str = "", part_id: str = "", outcome: Outcome | None = None, after_job: str = "", limit: int = 1000) -> tuple[ArchivedPart, ...]: ...  # oldest first
    def beyond_ring(self, recipe_id: str, outcome: Outcome, keep: int, limit: int = 100) -> tuple[ArchivedPart, ...]: ...
    def delete(self, parts: Sequence[ArchivedPart]) -> int: ...  # files first, then rows; returns bytes freed

class PartReport(Record):
    part_id: str
    outcome: Outcome
    defect_class: str = ""
    source: str   # plc, gauge, operator, ...
    at: datetime

class PartReports:
    def report_part(self, report: PartReport) -> None: ...
    def of_part(self, part_id: str) -> tuple[PartReport, ...]: ...  # oldest first

class RecipeBook:
    def add(self, recipe: Recipe) -> str: ...  # digest; same version with another content is a StoreError
    def get(self, recipe_id: str, version: int | None = None) -> Recipe: ...  # latest; NotFound
    def list(self) -> tuple[Recipe, ...]: ...  # latest of each

class Deployment(Record):
    recipe_id: str
    active: str            # onnx digest
    previous: str = ""     # empty: none
    at: datetime
    by: str
    rollback: bool = False

class DeploymentLog:
    def deploy(self, recipe_id: str, model_digest: str, by: str) -> Deployment: ...
    def roll_back(self, recipe_id: str, by: str) -> Deployment: ...  # StateError when there is no previous
    def current(self, recipe_id: str) -> Deployment | None: ...
    def history(self, recipe_id: str) -> tuple[Deployment, ...]: ...

class Condition(Record):
    name: str
    message: str
    raised_at: datetime
    resolved_at: datetime | None = None
    confirmed_at: datetime | None = None
    comment: str = ""

class ConditionBook:
    def raise_(self, name: str, message: str) -> Condition: ...
    def resolve(self, name: str) -> Condition | None: ...
    def confirm_all(self, comment: str) -> int: ...
    def open(self) -> tuple[Condition, ...]: ...   # unresolved or unconfirmed
