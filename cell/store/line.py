"""The line's database: requests, verdicts, events; written by the daemon alone."""
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
from cell.store.layout import StateDir
from cell.store.line_records import *
from cell.store.requests import RequestLedger

class VerdictFilter(Record):
    recipe_id: str = ""
    part_id: str = ""
    outcome: Outcome | None = None
    since: datetime | None = None
    limit: int = 100



class LineStore:
    """Thread-safe. `requests`, `archive`, `reports`, `recipes`, `deployments`, `conditions` are its other parts."""

    requests: RequestLedger
    archive: ArchiveIndex
    reports: PartReports
    recipes: RecipeBook
    deployments: DeploymentLog
    conditions: ConditionBook

    def __init__(self, state: StateDir, *, clock: WallClock = utc_now) -> None: ...
    def close(self) -> None: ...
    def next_job_id(self) -> str:
        """Return a job id never given before ("j00000042"); costs no commit."""
    def next_trigger_id(self) -> int: ...
    def stamp(self, event: Event) -> Event:
        """Give an event its sequence number now, to publish at once; it is stored with the next commit."""
    def append(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """Store events durably; returns them with their sequence numbers."""
    def commit_part(self, verdict: Verdict, *, request_id: str = "", reply: Reply | None = None, events: Sequence[Event] = ()) -> ResultReady:
        """ONE commit: verdict, `events` (stamped or not), stamped ones pending, ResultReady, the request's reply."""
    def last_sequence(self) -> int: ...
    def events_since(self, sequence: int, limit: int = 1000) -> tuple[Event, ...]: ...
    def verdict(self, job_id: str) -> Verdict: ...  # NotFound
    def verdicts(self, filter: VerdictFilter = VerdictFilter()) -> tuple[Verdict, ...]: ...  # newest first

