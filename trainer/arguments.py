"""Arguments of the trainer's commands: exactly these keys, strictly typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, StringConstraints, ValidationError

from cell.base import Record
from cell.defects import ReviewVerb, SeedState
from cell.errors import ProtocolError
from cell.recipes import Name
from cell.wire.messages import Command
from trainer.generate.control import AS_SEEDS, Control
from trainer.generate.domain import AS_TAKEN, Randomisation
from trainer.parameters import ArmName, CalibrateParameters, OddityParameters, RandomSeed, Severity

#: Who decides: a name as people write it.
Person = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^\S(.*\S)?$")]
Reason = Annotated[str, StringConstraints(max_length=2000)]


class OfRecipe(Record):
    """Commands that need a recipe and nothing else."""

    recipe_id: Name


class Calibrate(CalibrateParameters):
    """``inspectd.calibrate``; lengths a person knows, mm."""

    recipe_id: Name


class Generate(Record):
    """``inspectd.generate``."""

    recipe_id: Name
    arm: ArmName = "diffusion"
    classes: tuple[Name, ...] = ()
    per_class: int = Field(ge=1, le=100_000)
    severity: tuple[Severity, Severity] | None = None
    random_seed: RandomSeed = 0
    planted_bad: int = Field(default=0, ge=0, le=1000)
    stale: bool = False
    control: Control = AS_SEEDS
    class_control: dict[Name, Control] = Field(default_factory=dict)
    #: By how much whole pictures are altered, backgrounds included.
    randomise: Randomisation = AS_TAKEN
    #: Recipe of a product of the same process whose seeds and adapters are used instead of own ones.
    adapters_from: Name | None = None


class Gap(Record):
    """``inspectd.gap``."""

    recipe_id: Name
    classes: tuple[Name, ...] = ()
    job_id: Name | None = None
    held_out: bool = False
    random_seed: RandomSeed = 0


class Oddity(OddityParameters):
    """``inspectd.oddity``."""

    recipe_id: Name


class Train(Record):
    """``inspectd.train``."""

    recipe_id: Name
    classes: tuple[Name, ...] = ()  # empty: every class of the recipe
    synthetic_ratio: float = Field(default=5.0, ge=0, le=1000)
    random_seed: RandomSeed = 0
    updates: int | None = Field(default=None, ge=1, le=1_000_000)


class Jobs(Record):
    """``inspectd.jobs``."""

    limit: int = Field(default=50, ge=1, le=1000)


class OfJob(Record):
    """Commands about one job."""

    job_id: Name


class Seeds(Record):
    """``inspectd.seeds``."""

    recipe_id: Name
    state: SeedState | None = None


class SeedConfirm(Record):
    """``inspectd.seed.confirm``; without a mask the proposed one is confirmed."""

    seed_id: Name
    defect_class: Name
    reviewer: Person
    is_person: bool
    mask_png_base64: str | None = None


class SeedRefuse(Record):
    """``inspectd.seed.refuse``."""

    seed_id: Name
    reviewer: Person
    reason: Reason = ""


class ReviewNext(Record):
    """``inspectd.review.next``; `after` is the candidate on the screen now."""

    recipe_id: Name
    reviewer: Person
    after: Name | None = None
    defect_class: Name | None = None
    #: Those that may be wrong come earlier, instead of in the order in which they were made.
    doubtful_first: bool = False


class ReviewDisplayed(Record):
    """``inspectd.review.displayed``."""

    candidate_id: Name
    reviewer: Person


class ReviewDecide(Record):
    """``inspectd.review.decide``: one candidate, one decision."""

    candidate_id: Name
    verb: ReviewVerb
    reviewer: Person
    is_person: bool
    reason: Reason = ""
    token: Annotated[str, StringConstraints(min_length=1, max_length=256)]


class ReviewHistory(Record):
    """``inspectd.review.history``."""

    recipe_id: Name
    limit: int = Field(default=200, ge=1, le=10_000)


class Models(Record):
    """``inspectd.models``."""

    recipe_id: Name | None = None


class Export(Record):
    """``inspectd.export``."""

    recipe_id: Name
    format: Literal["mvtec", "coco", "yolo"]
    directory: Path


class Nothing(Record):
    """Commands without arguments."""


Arguments = TypeVar("Arguments", bound=Record)


def read(command: Command, model: type[Arguments]) -> Arguments:
    """Return a command's arguments. Raises `ProtocolError` naming the key that is missing, wrong or unknown."""
    # Strict: "false" must not become somebody's True. As JSON, so that lists may be tuples and texts enumerations.
    try:
        return model.model_validate_json(json.dumps(command.arguments), strict=True)
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(str(part) for part in detail["loc"]) or "arguments"
        raise ProtocolError(f"{command.command} can't take {key}: {detail['msg'].lower()}") from error
