"""The daemon's commands: names, arguments and results. ``docs/commands.md`` holds the same table.

A command with an effect goes through the request ledger. What each takes: :mod:`daemon.arguments`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from cell.errors import ProtocolError
from daemon.arguments import (
    AddRecipeArguments,
    AnnounceArguments,
    Arguments,
    CameraArguments,
    CauseArguments,
    ConfigurationArguments,
    ConfirmArguments,
    DeployArguments,
    EventsArguments,
    HarvestArguments,
    ListArguments,
    ModelsArguments,
    OptionalRecipeArguments,
    ProcessArguments,
    ProcessChangedArguments,
    ProcessOrdinaryArguments,
    PromoteArguments,
    RecipeArguments,
    ReportArguments,
    ResultArguments,
    ResultListArguments,
    RollbackArguments,
    ShineArguments,
    StartArguments,
    StartContinuousArguments,
    TakeArguments,
    TakeSeriesArguments,
)


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
