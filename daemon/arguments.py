"""What the daemon's commands take: one model a command, checked before anything is done.

Methods of OPC 40100-1 keep its spelling of arguments; verbs of the ``inspectd.`` namespace use the project's own.
Unknown arguments are refused.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from cell import recipes, verdicts
from cell.process import Cause
from cell.recipes import Name
from daemon.pairing import Rules

#: The environment's ids (parts, products, measurements) are free text within reason.
ExternalId = Annotated[str, StringConstraints(max_length=128)]
PartText = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Sentence = Annotated[str, StringConstraints(max_length=1000)]
Limit = Annotated[int, Field(ge=1, le=1000)]


class Arguments(BaseModel):
    """Base of every command's arguments; by itself: none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CauseArguments(Arguments):
    """Why a person or a PLC intervenes."""

    Cause: int = 0
    CauseDescription: Sentence = ""


class ConfirmArguments(Arguments):
    """A remark to the confirmed conditions."""

    Comment: Sentence = ""


class RecipeArguments(Arguments):
    """A recipe by its id."""

    RecipeId: Name


class OptionalRecipeArguments(Arguments):
    """The prepared recipe, or none."""

    RecipeId: Name | None = None


class AddRecipeArguments(Arguments):
    """A whole recipe; a changed one needs a higher version."""

    Recipe: recipes.Recipe


class ListArguments(Arguments):
    """At most this many entries."""

    MaxResults: Limit = 100


class ContinuousParameters(Arguments):
    """How a run goes.

    Software-paced (the first three): these parts, one after the other, or `count` parts with made-up ids. On a trigger
    line (the last four): how the PLC's counts and times are compared with the camera's, see docs/commands.md.
    """

    parts: tuple[PartText, ...] = ()
    count: int | None = Field(default=None, ge=1)  # without `parts`; None: until Stop
    interval_ms: float = Field(default=0.0, ge=0, le=3_600_000)  # from start to start; 0: as fast as it goes
    window_ms: float = Field(default=50.0, gt=0, le=60_000)  # receipt of an announcement to its edge, either way
    first_trigger_count: int = Field(default=1, ge=0)  # the PLC's count of the first edge of the run
    count_modulus: int = Field(default=1 << 32, ge=256, le=1 << 63)  # where the PLC's count wraps
    edge_jitter_ms: float = Field(default=15.0, gt=0, le=1000)  # how exactly the PLC tells edge_time_ms

    @property
    def paced(self) -> bool:
        """Tell whether anything was said that belongs to a software-paced run."""
        return bool(self.model_fields_set & {"parts", "count", "interval_ms"})

    @property
    def triggered(self) -> bool:
        """Tell whether anything was said that belongs to a run on a trigger line."""
        return bool(self.model_fields_set - {"parts", "count", "interval_ms"})

    def rules(self) -> Rules:
        """Return how counts and times are compared on a trigger line."""
        return Rules(
            window_s=self.window_ms / 1e3,
            modulus=self.count_modulus,
            first_count=self.first_trigger_count,
            jitter_s=self.edge_jitter_ms / 1e3,
        )


class SingleParameters(Arguments):
    """What a trigger may say beside the part's id.

    `physical_part` is the part's own id where `PartId` names a view, a pass or an exposure of it: pictures of one
    physical part are never on two sides of a split. `lot` is the part's; where the split's plan goes by lot, a lot is
    never on two sides either.
    """

    physical_part: ExternalId = ""
    lot: ExternalId = ""


class StartArguments(Arguments):
    """The trigger. An empty `RecipeId` or `ProductId` means the prepared recipe's."""

    PartId: PartText
    MeasId: ExternalId = ""
    RecipeId: Name | None = None
    ProductId: ExternalId = ""
    Parameters: SingleParameters = SingleParameters()


class StartContinuousArguments(Arguments):
    """A run of parts without a trigger for each. Parts that nobody names are called `PartId`-1, -2 and so on."""

    PartId: Annotated[str, StringConstraints(max_length=100)] = ""
    MeasId: ExternalId = ""
    RecipeId: Name | None = None
    ProductId: ExternalId = ""
    Parameters: ContinuousParameters = ContinuousParameters()


class AnnounceArguments(Arguments):
    """A part that passes the sensor, by the PLC's count of the sensor's edges; the edge may be yet to come.

    `edge_time_ms` is the PLC's clock at the edge, milliseconds since any instant, wrapping at 2^32 or not at all.
    """

    part_id: PartText
    trigger_count: int = Field(ge=0)
    edge_time_ms: float | None = Field(default=None, ge=0)
    meas_id: ExternalId = ""
    product_id: ExternalId = ""
    physical_part: ExternalId = ""
    lot: ExternalId = ""


class ResultArguments(Arguments):
    """A result by its id, which is its job's."""

    ResultId: ExternalId


class ResultListArguments(ListArguments):
    """Which results, newest first. Empty fields don't filter."""

    RecipeId: Name | None = None
    PartId: ExternalId = ""
    Outcome: verdicts.Outcome | None = None
    Since: datetime | None = None


class ConfigurationArguments(Arguments):
    """A calibration by its digest."""

    ConfigurationId: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class EventsArguments(Arguments):
    """Events after a sequence number, oldest first."""

    since: int = Field(default=0, ge=0, lt=1 << 63)
    limit: Limit = 1000


class ReportArguments(Arguments):
    """What another station found about a part."""

    part_id: PartText
    outcome: verdicts.Outcome
    defect_class: Name | None = None
    source: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "plc"
    physical_part: ExternalId = ""  # as in `SingleParameters`
    lot: ExternalId = ""


class HarvestArguments(Arguments):
    """Whose archive is harvested; the prepared recipe's when absent."""

    recipe_id: Name | None = None


class ProcessArguments(Arguments):
    """Whose process; the prepared recipe's when absent."""

    recipe_id: Name | None = None


class ProcessOrdinaryArguments(ProcessArguments):
    """Who says that what the monitor found is ordinary, and why."""

    by: Annotated[str, StringConstraints(min_length=1, max_length=128)] = "operator"
    note: Sentence = ""


class ProcessChangedArguments(ProcessOrdinaryArguments):
    """Who says what changed."""

    what: Cause


class DeployArguments(Arguments):
    """A model by digest, id or unique prefix, or a folder outside the store that is taken in first."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=4096)]
    promote: bool = False
    by: Annotated[str, StringConstraints(min_length=1, max_length=128)] = "operator"


class PromoteArguments(Arguments):
    """Who promotes the model that stands beside."""

    by: Annotated[str, StringConstraints(min_length=1, max_length=128)] = "operator"


class RollbackArguments(PromoteArguments):
    """Who goes back, for which recipe; the prepared one when absent."""

    recipe_id: Name | None = None


class ModelsArguments(Arguments):
    """Models of one recipe, or of all."""

    recipe_id: Name | None = None


class CameraArguments(Arguments):
    """A camera by its name in the settings, its serial number or user id; the first one when empty."""

    camera: ExternalId = ""


class TakeArguments(CameraArguments):
    """Frames to look at. What is absent is the recipe's; without `channels` all of the camera's are taken."""

    recipe_id: Name | None = None  # with no recipe prepared; the only one there is when absent
    channels: tuple[Name, ...] = ()
    count: int = Field(default=1, ge=1, le=256)  # rounds over the channels; fewer come when they take long
    exposure_us: float | None = Field(default=None, gt=0)
    gain_db: float | None = Field(default=None, ge=0)
    lights: dict[Name, recipes.Fraction] | None = None  # instead of the channels' own; {}: darkness
    region: recipes.Rect | None = None  # where sharpness is measured; the middle when absent
    part_id: ExternalId = ""  # which part an emulated cell presents
    #: Keeps them below `snaps/` of the state directory: all in one stack, or each by itself.
    save: Literal["no", "stack", "frames"] = "no"


class TakeSeriesArguments(Arguments):
    """A series for a calibration. Exposures and lights are factors on the recipe's own, a level for each pair."""

    kind: Literal["repeats", "dark", "flat", "target", "ball"]
    recipe_id: Name | None = None  # with no recipe prepared; the only one there is when absent
    count: int = Field(default=16, ge=2, le=64)  # repeats of each level
    exposures: tuple[Annotated[float, Field(gt=0, le=64)], ...] = Field(default=(1.0,), min_length=1, max_length=16)
    lights: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(default=(1.0,), min_length=1, max_length=16)
    height_mm: float = 0.0  # of the target above its usual place
    dot_pitch_mm: float | None = Field(default=None, gt=0)
    ball_radius_mm: float | None = Field(default=None, gt=0)
    part_id: ExternalId = ""  # what an emulated cell presents
    add: bool = False  # beside the series of that kind that is there, not in its place


class ShineArguments(Arguments):
    """Relative intensities of light lines; those that are not named go off."""

    lights: dict[Name, recipes.Fraction] = Field(default_factory=dict)
