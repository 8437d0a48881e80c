"""What a job may be asked for: the only keys that its row may carry, checked when asked and again in the child.

A training is named by its manifest alone. There is no key for a folder, a file, a list of images or a label: what a
training sees is what the store's gate issued, and nothing can be added on the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from cell.base import Record
from cell.errors import JobError
from cell.jobs import Job, JobKind
from cell.recipes import Name
from trainer.generate.control import AS_SEEDS, Control
from trainer.generate.domain import AS_TAKEN, Randomisation

#: Relative to the seeds of the class: 1 is the median seed.
Severity = Annotated[float, Field(gt=0, le=1e4)]
#: Ways of making defects; :data:`trainer.generate.candidates.ARMS`, named here so that the service needs no torch.
ArmName = Literal["diffusion", "procedural", "copypaste", "vae", "gan", "stable-diffusion"]
RandomSeed = Annotated[int, Field(ge=0, lt=2**63)]


class CalibrateParameters(Record):
    """A calibration takes everything from the recipe and the store, but for dimensions that a person knows, mm."""

    dot_pitch_mm: float | None = Field(default=None, gt=0)
    part_length_mm: float | None = Field(default=None, gt=0)
    ball_radius_mm: float | None = Field(default=None, gt=0)


class GenerateParameters(Record):
    """Which candidates to make."""

    arm: ArmName = "diffusion"
    classes: tuple[Name, ...] = ()  # empty: every class with confirmed seeds
    per_class: int = Field(ge=1, le=100_000)
    severity: tuple[Severity, Severity] | None = None
    random_seed: RandomSeed = 0
    #: How many known-bad candidates are hidden among the others, in all.
    planted_bad: int = Field(default=0, ge=0, le=1000)
    #: Also on backgrounds from before a change of the process.
    stale: bool = False
    #: What is asked of every class, and of some beside or instead.
    control: Control = AS_SEEDS
    class_control: dict[Name, Control] = Field(default_factory=dict)
    #: By how much whole pictures are altered, backgrounds included.
    randomise: Randomisation = AS_TAKEN
    #: Recipe of a product of the same process whose seeds and adapters are used instead of own ones.
    adapters_from: Name | None = None

    @model_validator(mode="after")
    def _range_in_order(self) -> Self:
        if self.severity is not None and self.severity[0] > self.severity[1]:
            raise ValueError("the severity range must be given as [low, high]")
        if self.severity is not None and self.control.severity is not None:
            raise ValueError("severity is asked for twice, by itself and in control")
        return self

    def general(self) -> Control:
        """Return what is asked of every class."""
        return self.control if self.severity is None else self.control.model_copy(update={"severity": self.severity})


class GapParameters(Record):
    """Which candidates to set against which real defects."""

    classes: tuple[Name, ...] = ()  # empty: every class that has both
    job_id: Name | None = None  # of the generation; every candidate that was not rejected when absent
    held_out: bool = False  # also against held-out real defects: to report, never to choose by
    random_seed: RandomSeed = 0


class OddityParameters(Record):
    """The anomaly network takes everything from recipe and backgrounds."""

    random_seed: RandomSeed = 0
    updates: int | None = Field(default=None, ge=1, le=1_000_000)


class TrainParameters(Record):
    """Which manifest to train on."""

    manifest_id: Name
    random_seed: RandomSeed = 0
    updates: int | None = Field(default=None, ge=1, le=1_000_000)


Parameters = CalibrateParameters | GenerateParameters | GapParameters | OddityParameters | TrainParameters

_MODELS: dict[JobKind, type[Parameters]] = {
    JobKind.CALIBRATE: CalibrateParameters,
    JobKind.GENERATE: GenerateParameters,
    JobKind.GAP: GapParameters,
    JobKind.ODDITY: OddityParameters,
    JobKind.TRAIN: TrainParameters,
}


def of_job(job: Job) -> Parameters:
    """Return the parameters of a job's row. Raises `JobError` when the row carries anything else."""
    return checked(job.kind, job.parameters)


def checked(kind: JobKind, values: Mapping[str, Any]) -> Parameters:
    """Return the parameters for a kind of job. Raises `JobError` naming the key that is wrong or unknown."""
    try:
        return _MODELS[kind].model_validate(dict(values))
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(str(part) for part in detail["loc"]) or "parameters"
        raise JobError(f"a {kind} job can't take {key}: {detail['msg'].lower()}; ask for a new job") from error
