"""Events: what watchers are told, and what can be asked for again by sequence number.

Names of line events are those of OPC 40100-1; events about learning carry the prefix ``inspectd.``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from cell.base import Record
from cell.jobs import Job
from cell.process import ProcessChange
from cell.verdicts import Verdict


class _Event(Record):
    sequence: int = Field(default=0, ge=0)  # given by the store; 0 before that
    at: datetime
    request_id: str = ""  # of the command that caused it, empty otherwise


class StateChanged(_Event):
    """The main or automatic-mode state machine moved."""

    event: Literal["StateChanged"] = "StateChanged"
    state: str
    previous: str
    cause: str = ""


class ErrorRaised(_Event):
    """A condition that a person must know; `ErrorResolved` follows when it is over."""

    event: Literal["Error"] = "Error"
    condition: str
    message: str


class ErrorResolved(_Event):
    """The condition named is over."""

    event: Literal["ErrorResolved"] = "ErrorResolved"
    condition: str


class RecipePrepared(_Event):
    """A recipe and its model are loaded."""

    event: Literal["RecipePrepared"] = "RecipePrepared"
    recipe_id: str
    model_digest: str


class JobStarted(_Event):
    """A part's execution began."""

    event: Literal["JobStarted"] = "JobStarted"
    job_id: str
    part_id: str


class AcquisitionDone(_Event):
    """All frames of the part are taken: it may move on."""

    event: Literal["AcquisitionDone"] = "AcquisitionDone"
    job_id: str
    part_id: str


class Ready(_Event):
    """The cell takes the next trigger. It may come before the result of the part before: go by `job_id`."""

    event: Literal["Ready"] = "Ready"
    recipe_id: str
    job_id: str = ""  # of the part that left or the run that ended, empty otherwise


class ResultReady(_Event):
    """The verdict stands."""

    event: Literal["ResultReady"] = "ResultReady"
    verdict: Verdict


class ModelPromoted(_Event):
    """Another model judges from the next part on."""

    event: Literal["inspectd.ModelPromoted"] = "inspectd.ModelPromoted"
    recipe_id: str
    model_digest: str
    previous_digest: str
    rollback: bool = False


class JobChanged(_Event):
    """A trainer job moved or progressed."""

    event: Literal["inspectd.JobChanged"] = "inspectd.JobChanged"
    job: Job


class ProcessChanged(_Event):
    """A change of the process was suspected by the monitor, or declared or withdrawn by a person."""

    event: Literal["inspectd.ProcessChanged"] = "inspectd.ProcessChanged"
    change: ProcessChange


Event = Annotated[
    StateChanged
    | ErrorRaised
    | ErrorResolved
    | RecipePrepared
    | JobStarted
    | AcquisitionDone
    | Ready
    | ResultReady
    | ModelPromoted
    | JobChanged
    | ProcessChanged,
    Field(discriminator="event"),
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)
