"""Jobs of the trainer: one at a time, in a child process, resumable."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from cell.base import Record
from cell.recipes import Name


class JobKind(StrEnum):
    """What the trainer can be asked for."""

    CALIBRATE = "calibrate"
    GENERATE = "generate"  # fits the adapters it lacks, then writes candidates
    GAP = "gap"  # tells how well candidates can be told from real defects
    ODDITY = "oddity"  # learns from good parts alone what does not belong on them
    TRAIN = "train"  # fit, evaluate, export, parity: ends in a model package


class JobState(StrEnum):
    """::

    QUEUED -> RUNNING -> DONE
                 |----> FAILED        (can be resumed)
                 |----> CANCELLED     (can be resumed)
                 |----> PAUSED        (by a person; the queue passes it over until it is resumed)
                 '----> INTERRUPTED   (the process died; found at the next start; can be resumed)

    A job that still waits can be paused and cancelled too, and a paused one cancelled.
    """

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"


RESUMABLE = frozenset({JobState.FAILED, JobState.CANCELLED, JobState.PAUSED, JobState.INTERRUPTED})


class Progress(Record):
    """How far a job is; `total` 0 while unknown. `per_second` is the pace of what `done` counts, where it is steady."""

    stage: str
    done: int = Field(ge=0)
    total: int = Field(ge=0)
    seconds_left: float | None = None
    per_second: float | None = None
    note: str = ""


class Job(Record):
    """One piece of the trainer's work."""

    job_id: Name
    kind: JobKind
    recipe_id: Name
    parameters: dict[str, Any] = Field(default_factory=dict)
    state: JobState = JobState.QUEUED
    progress: Progress | None = None
    error: str = ""
    result: dict[str, Any] = Field(default_factory=dict)
    created_at: datetime
    updated_at: datetime
