"""The daemon's commands: names, arguments and results. ``docs/commands.md`` holds the same table.

Methods of OPC 40100-1 keep its spelling of arguments; verbs of the ``inspectd.`` namespace use the project's own.
Unknown arguments are refused. A command with an effect goes through the request ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from cell import recipes, verdicts
from cell.errors import ProtocolError
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
    physical part are never on two sides of a split.
    """

    physical_part: ExternalId = ""


class StartArguments(Arguments):
    """The trigger. An empty `RecipeId` or `ProductId` means the prepared recipe's."""

    PartId: PartText
    MeasId: ExternalId = ""
    RecipeId: Name | None = None
    ProductId: ExternalId = ""
    Parameters: SingleParameters = SingleParameters()


class StartContinuousArguments(Arguments):
    """A run of parts without a trigger for each."""

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

    since: int = Field(default=0, ge=0)
    limit: Limit = 1000


class ReportArguments(Arguments):
    """What another station found about a part."""

    part_id: PartText
    outcome: verdicts.Outcome
    defect_class: Name | None = None
    source: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "plc"
    physical_part: ExternalId = ""  # as in `SingleParameters`


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


@dataclass(frozen=True, slots=True)
class Spec:
    """One row of the table. `result` names the keys of the reply's result."""

    arguments: type[Arguments]
    has_effect: bool
    summary: str
    result: str = ""


_START = "Error, JobId, Result"

COMMANDS: dict[str, Spec] = {
    "SelectModeAutomatic": Spec(Arguments, True, "Preoperational to Operational/Initialized.", "Error, State"),
    "Halt": Spec(CauseArguments, True, "Stop everything and switch the light off.", "Error, State"),
    "Reset": Spec(CauseArguments, True, "To Preoperational, from any state.", "Error, State"),
    "ConfirmAll": Spec(ConfirmArguments, True, "Confirm all conditions.", "Error, Confirmed"),
    "PrepareRecipe": Spec(
        RecipeArguments,
        True,
        "Configure the camera and load the recipe's deployed model. Without one every verdict is FAULT and the frames "
        "are archived: so a new cell gathers its pictures.",
        "Error, RecipeId, InternalRecipeId, ModelDigest",
    ),
    "UnprepareRecipe": Spec(OptionalRecipeArguments, True, "Unload the recipe and its model.", "Error, State"),
    "GetRecipeListFiltered": Spec(ListArguments, False, "The latest version of each recipe.", "Recipes"),
    "AddRecipe": Spec(AddRecipeArguments, True, "Keep a recipe.", "RecipeId, InternalRecipeId"),
    "RemoveRecipe": Spec(
        RecipeArguments,
        True,
        "Offer a recipe no longer and remove its file; refused while prepared. Results, pictures and models stay, "
        "and AddRecipe brings it back.",
        "Error, RecipeId, InternalRecipeId",
    ),
    "StartSingleJob": Spec(
        StartArguments,
        True,
        "Inspect one part. The reply comes with the verdict, before the recipe's deadline; what is not known by then "
        "is FAULT.",
        _START,
    ),
    "StartContinuous": Spec(
        StartContinuousArguments,
        True,
        "Inspect parts one after the other until they are through or Stop: paced by the daemon, with results as "
        "ResultReady events, or, where the camera is on a trigger line, as the sensor sees and the PLC announces them.",
        "Error, JobId",
    ),
    "inspectd.announce_part": Spec(
        AnnounceArguments,
        True,
        "Name a part of a run on a trigger line, before, during or after its exposure. The reply comes with the "
        "verdict, as that of StartSingleJob.",
        _START,
    ),
    "Stop": Spec(CauseArguments, True, "End an execution after the part under way.", "Error, State"),
    "Abort": Spec(CauseArguments, True, "End an execution now; the part under way is FAULT, aborted.", "Error, State"),
    "GetResultById": Spec(ResultArguments, False, "One result.", "Result"),
    "GetResultListFiltered": Spec(ResultListArguments, False, "Results, newest first.", "Results"),
    "GetResultComponentsById": Spec(ResultArguments, False, "Where a result's archived frames lie.", "Components"),
    "GetConfigurationList": Spec(ListArguments, False, "Calibrations of the prepared recipe.", "Configurations"),
    "GetConfigurationById": Spec(ConfigurationArguments, False, "One calibration.", "Configuration"),
    "ActivateConfiguration": Spec(
        ConfigurationArguments, True, "Name the calibration that results refer to.", "Error, ConfigurationId"
    ),
    "inspectd.ping": Spec(Arguments, False, "Tell that the daemon lives.", "version, cell_name"),
    "inspectd.status": Spec(
        Arguments,
        False,
        "All that a person wants to see at a glance.",
        "version, cell_name, emulated, state, recipe, model, standby, previous, counts, trigger_line, latency_ms, "
        "conditions, cameras, archive, harvest, process, calibration, uptime_s, last_sequence",
    ),
    "inspectd.events": Spec(EventsArguments, False, "Stored events again.", "events, last_sequence"),
    "inspectd.report_part": Spec(
        ReportArguments, True, "Tell what another station found about a part.", "part_id, outcome"
    ),
    "inspectd.harvest.run": Spec(
        HarvestArguments, True, "Look through the archive for backgrounds and seed proposals.", "harvest"
    ),
    "inspectd.harvest.start": Spec(Arguments, True, "Harvest while parts run.", "harvesting"),
    "inspectd.harvest.stop": Spec(Arguments, True, "No longer harvest while parts run.", "harvesting"),
    "inspectd.harvest.summary": Spec(HarvestArguments, False, "What was taken, refused and why.", "harvest"),
    "inspectd.process": Spec(
        ProcessArguments,
        False,
        "Whether the process is what it was, and what rests on how it was before.",
        "monitor, changes, stale, fresh, asks",
    ),
    "inspectd.process.changed": Spec(
        ProcessChangedArguments,
        True,
        "Say that the process changed: what rests on the old state is marked, and the new one is learned.",
        "change, stale, asks",
    ),
    "inspectd.process.ordinary": Spec(
        ProcessOrdinaryArguments, True, "Say that a change which the monitor found is ordinary variation.", "change"
    ),
    "inspectd.deploy": Spec(
        DeployArguments,
        True,
        "Load a model beside the running one and put it through its checks; with `promote`, promote it then.",
        "model_digest, model_id, recipe_id, promoted",
    ),
    "inspectd.promote": Spec(
        PromoteArguments,
        True,
        "Let the model that stands beside judge from the next part on.",
        "model_digest, previous_digest, recipe_id",
    ),
    "inspectd.rollback": Spec(
        RollbackArguments, True, "Go back to the model before.", "model_digest, previous_digest, recipe_id"
    ),
    "inspectd.cameras": Spec(Arguments, False, "Who the cameras are, and how they are.", "cameras"),
    "inspectd.camera.info": Spec(
        CameraArguments, False, "A camera's features with their values.", "camera, name, driver, emulated, features"
    ),
    "inspectd.camera.take": Spec(
        TakeArguments,
        False,
        "Take frames to look at, between two parts; refused while a run is on. The reply has each frame's levels, "
        "clipping and sharpness.",
        "recipe_id, frames, failures, lost, seconds, paths",
    ),
    "inspectd.calibration.take": Spec(
        TakeSeriesArguments,
        False,
        "Take repeats of a still scene for a calibration, between two parts; refused while a run is on. A series that "
        "does not serve is told and not kept.",
        "recipe_id, kind, levels, findings, folder, frame_sets",
    ),
    "inspectd.lights": Spec(
        Arguments, False, "The light's lines, and how brightly each shines.", "lines, driver, mode"
    ),
    "inspectd.light.shine": Spec(
        ShineArguments,
        False,
        "Switch light lines, between two parts, until the next part or the light's own time-out; refused while a run "
        "is on.",
        "lines, driver, mode",
    ),
    "inspectd.models": Spec(ModelsArguments, False, "Models in the store and which is deployed.", "models"),
}


def has_effect(command: str) -> bool:
    """Tell whether a command goes through the ledger; unknown ones don't, they are refused."""
    spec = COMMANDS.get(command)
    return spec is not None and spec.has_effect


def begins_durably(command: str) -> bool:
    """Tell whether a command's begin must outlive a power cut.

    A trigger's need not: its frames may be taken again when it was never answered, and synchronising the disk twice
    would double what storing costs the deadline. The end of the process it does outlive.
    """
    return command not in PARTS


#: Commands that are answered with the verdict of a part.
PARTS = frozenset({"StartSingleJob", "inspectd.announce_part"})


def parse(command: str, arguments: dict[str, Any]) -> Arguments:
    """Return a command's validated arguments. Raises `ProtocolError` naming the argument and what is wrong with it."""
    spec = COMMANDS.get(command)
    if spec is None:
        raise ProtocolError(f"there is no command {command!r}; docs/commands.md lists them")
    try:
        return spec.arguments.model_validate(arguments)
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(str(part) for part in detail["loc"]) or "arguments"
        raise ProtocolError(
            f"{command}: {key}: {detail['msg'].lower()}; docs/commands.md lists what it takes"
        ) from error
