"""The dispatch table: each name of :mod:`daemon.vocabulary` and what carries it out.

A handler runs in the command loop and returns its result, or hands the request to a worker or the line and returns
None; then it is answered from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC
from typing import Any

from cell.errors import StateError
from cell.recipes import Recipe
from cell.settings import Settings
from cell.store.files import write_bytes
from cell.store.line import LineStore
from cell.store.line_records import PartReport
from cell.wire.server import Request
from daemon import arguments as a
from daemon import vocabulary as v
from daemon.calibration import SeriesTaker
from daemon.deploy import Deployer
from daemon.errands import Errands
from daemon.hardware import Hardware
from daemon.harvest.harvester import Harvester
from daemon.notices import EventLog
from daemon.process.watch import ProcessWatch
from daemon.queries import Records, Status, version
from daemon.recipes import Recipes
from daemon.states import Cause, Origin, Snapshot
from daemon.station import Station

Result = dict[str, Any]
Handler = Callable[[Request, Any], Result | None]

#: Kinds of errands, a thread each.
RECIPES, MODELS, HARVEST, QUERIES, HOUSEKEEPING = "recipes", "models", "harvest", "queries", "housekeeping"


@dataclass(frozen=True)
class Rooms:
    """The objects that carry commands out; built by ``main``."""

    settings: Settings
    store: LineStore
    log: EventLog
    station: Station
    recipes: Recipes
    deployer: Deployer
    records: Records
    status: Status
    harvester: Harvester
    process: ProcessWatch
    hardware: Hardware
    series: SeriesTaker
    errands: Errands


class Dispatcher:
    """Answers requests from the table. A name of the vocabulary without a handler is found at start-up."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._handlers = self._production() | self._looking() | self._learning() | self._bench()
        unequal = set(self._handlers) ^ set(v.COMMANDS)
        if unequal:
            raise StateError(f"the command table does not fit the vocabulary: {', '.join(sorted(unequal))}")

    def __call__(self, request: Request) -> Result | None:
        """Carry a request out. Raises `ProtocolError` for what the vocabulary lacks, and what the handler raises."""
        command = request.command
        arguments = v.parse(command.command, command.arguments)
        return self._handlers[command.command](request, arguments)

    def _production(self) -> dict[str, Handler]:
        return {
            "SelectModeAutomatic": self._select_mode,
            "Halt": self._halt,
            "Reset": self._reset,
            "ConfirmAll": self._confirm_all,
            "PrepareRecipe": self._prepare,
            "UnprepareRecipe": self._unprepare,
            "AddRecipe": self._add_recipe,
            "RemoveRecipe": self._remove_recipe,
            "StartSingleJob": self._start_single,
            "StartContinuous": self._start_continuous,
            "inspectd.announce_part": self._announce,
            "Stop": lambda request, a: _moved(self._rooms.station.stop(_cause(request, a))),
            "Abort": lambda request, a: _moved(self._rooms.station.abort(Cause.ABORT, _cause(request, a))),
            "ActivateConfiguration": self._activate,
        }

    def _looking(self) -> dict[str, Handler]:
        rooms, records = self._rooms, self._rooms.records
        looking: dict[str, Callable[[Any], Result]] = {
            "GetRecipeListFiltered": lambda a: records.recipes(a.MaxResults),
            "GetResultById": lambda a: records.result(a.ResultId),
            "GetResultListFiltered": records.results,
            "GetResultComponentsById": lambda a: records.components(a.ResultId),
            "GetConfigurationList": lambda a: records.configurations(a.MaxResults),
            "GetConfigurationById": lambda a: records.configuration(a.ConfigurationId),
            "inspectd.status": lambda _: rooms.status.report(),
            "inspectd.events": records.events,
            "inspectd.models": lambda a: {"models": rooms.deployer.listing(a.recipe_id)},
            "inspectd.harvest.summary": lambda a: {"harvest": rooms.harvester.summary(self._recipe_id(a.recipe_id))},
            "inspectd.process": lambda a: rooms.process.report(self._recipe_id(a.recipe_id)),
        }
        handlers: dict[str, Handler] = {name: self._aside(look) for name, look in looking.items()}
        handlers["inspectd.ping"] = lambda _, __: {"version": version(), "cell_name": rooms.settings.cell_name}
        return handlers

    def _aside(self, look: Callable[[Any], Result], worker: str = QUERIES) -> Handler:
        """Let a query be answered by a worker: a thousand results must not hold up a trigger."""

        def handler(request: Request, arguments: a.Arguments) -> None:
            self._rooms.errands.defer(worker, request, lambda: look(arguments))

        return handler

    def _learning(self) -> dict[str, Handler]:
        harvester = self._rooms.harvester
        return {
            "inspectd.report_part": self._report_part,
            "inspectd.harvest.run": self._harvest_run,
            "inspectd.harvest.start": lambda _, __: self._harvesting(harvester.start, goes_on=True),
            "inspectd.harvest.stop": lambda _, __: self._harvesting(harvester.stop, goes_on=False),
            "inspectd.process.changed": self._process_changed,
            "inspectd.process.ordinary": self._process_ordinary,
            "inspectd.deploy": self._deploy,
            "inspectd.promote": self._promote,
            "inspectd.rollback": self._roll_back,
        }

    def _bench(self) -> dict[str, Handler]:
        """Cameras and lights for people. With recipes in one worker: what sets a camera up must not cross."""
        hardware = self._rooms.hardware
        looks: dict[str, Callable[[Any], Result]] = {
            "inspectd.cameras": lambda _: {"cameras": hardware.cameras()},
            "inspectd.camera.info": lambda a: hardware.info(a.camera),
            "inspectd.camera.take": hardware.take,
            "inspectd.calibration.take": self._rooms.series.take,
            "inspectd.lights": lambda _: hardware.lights(),
            "inspectd.light.shine": lambda a: hardware.shine(a.lights),
        }
        return {name: self._aside(look, RECIPES) for name, look in looks.items()}

    def _select_mode(self, request: Request, _: a.Arguments) -> Result:
        return _moved(self._rooms.station.machine.fire(Cause.SELECT_MODE_AUTOMATIC, Origin(request.request_id)))

    def _halt(self, request: Request, arguments: a.CauseArguments) -> None:
        after = self._rooms.station.abort(Cause.HALT, _cause(request, arguments))
        self._end_production(request, after)

    def _reset(self, request: Request, arguments: a.CauseArguments) -> None:
        after = self._rooms.station.abort(Cause.RESET, _cause(request, arguments))
        self._end_production(request, after)

    def _end_production(self, request: Request, after: Snapshot) -> None:
        def work() -> Result:
            self._rooms.recipes.put_away()
            return _moved(after)

        self._rooms.errands.defer(RECIPES, request, work)

    def _confirm_all(self, _: Request, arguments: a.ConfirmArguments) -> Result:
        return {"Error": 0, "Confirmed": self._rooms.store.conditions.confirm_all(arguments.Comment)}

    def _prepare(self, request: Request, arguments: a.RecipeArguments) -> None:
        def work() -> Result:
            prepared, model_digest = self._rooms.recipes.prepare(arguments.RecipeId, Origin(request.request_id))
            recipe = prepared.recipe
            return {
                "Error": 0,
                "RecipeId": recipe.recipe_id,
                "InternalRecipeId": _internal(recipe),
                "ModelDigest": model_digest,
            }

        self._rooms.station.machine.check(Cause.PREPARE_RECIPE)
        self._rooms.errands.defer(RECIPES, request, work)

    def _unprepare(self, request: Request, arguments: a.OptionalRecipeArguments) -> None:
        def work() -> Result:
            self._rooms.recipes.unprepare(arguments.RecipeId, Origin(request.request_id))
            return _moved(self._rooms.station.machine.now)

        self._rooms.errands.defer(RECIPES, request, work)

    def _add_recipe(self, request: Request, arguments: a.AddRecipeArguments) -> None:
        recipe = arguments.Recipe

        def work() -> Result:
            found = self._rooms.store.recipes.add(recipe)
            # The trainer and the pages read recipes from the folder; the line's database is the daemon's alone.
            write_bytes(
                self._rooms.settings.recipes_dir / f"{recipe.recipe_id}.json", recipe.model_dump_json(indent=1).encode()
            )
            return {"Error": 0, "RecipeId": recipe.recipe_id, "InternalRecipeId": _internal(recipe, found)}

        self._rooms.errands.defer(RECIPES, request, work)

    def _remove_recipe(self, request: Request, arguments: a.RecipeArguments) -> None:
        def work() -> Result:
            store, recipe_id = self._rooms.store.recipes, arguments.RecipeId
            version = self._rooms.recipes.remove(recipe_id, self._rooms.settings.recipes_dir)
            return {"Error": 0, "RecipeId": recipe_id, "InternalRecipeId": _internal(store.get(recipe_id, version))}

        self._rooms.errands.defer(RECIPES, request, work)

    def _start_single(self, request: Request, arguments: a.StartArguments) -> None:
        self._rooms.station.trigger(request, arguments)

    def _start_continuous(self, request: Request, arguments: a.StartContinuousArguments) -> Result | None:
        station, parameters = self._rooms.station, arguments.Parameters
        if not station.on_line:
            if parameters.triggered:
                raise StateError("window_ms and the like belong to a trigger line; set camera.trigger to line")
            return {"Error": 0, "JobId": station.start_continuous(arguments, request.request_id)}
        if parameters.paced or arguments.PartId:
            raise StateError(
                "PartId, parts, count and interval_ms are for software triggers; announce each part instead"
            )

        def work() -> Result:
            return {"Error": 0, "JobId": station.start_on_triggers(arguments, request.request_id)}

        # The camera is set up first, which takes longer than the command loop may stand still.
        station.machine.check(Cause.START_CONTINUOUS)
        self._rooms.errands.defer(RECIPES, request, work)
        return None

    def _announce(self, request: Request, arguments: a.AnnounceArguments) -> None:
        self._rooms.station.announce(request, arguments)

    def _activate(self, _: Request, arguments: a.ConfigurationArguments) -> Result:
        station = self._rooms.station
        prepared = station.prepared
        if prepared is None:
            raise StateError("no recipe is prepared; PrepareRecipe first")
        self._rooms.records.calibration_for(arguments.ConfigurationId, prepared.recipe.recipe_id)
        station.prepared = replace(prepared, configuration_id=arguments.ConfigurationId)
        return {"Error": 0, "ConfigurationId": arguments.ConfigurationId}

    def _report_part(self, _: Request, arguments: a.ReportArguments) -> Result:
        report = PartReport(
            part_id=arguments.part_id,
            outcome=arguments.outcome,
            defect_class=arguments.defect_class or "",
            source=arguments.source,
            physical_part=arguments.physical_part,
            lot=arguments.lot,
            at=self._rooms.log.now().astimezone(UTC),
        )
        self._rooms.harvester.report(report)
        return {"part_id": report.part_id, "outcome": str(report.outcome)}

    def _harvest_run(self, request: Request, arguments: a.HarvestArguments) -> None:
        recipe_id = self._recipe_id(arguments.recipe_id)
        harvester = self._rooms.harvester
        self._rooms.errands.defer(HARVEST, request, lambda: {"harvest": harvester.run_once(recipe_id)})

    def _harvesting(self, change: Callable[[], None], *, goes_on: bool) -> Result:
        change()
        return {"harvesting": goes_on}

    def _process_changed(self, request: Request, arguments: a.ProcessChangedArguments) -> None:
        recipe_id, process = self._recipe_id(arguments.recipe_id), self._rooms.process

        def work() -> Result:
            change = process.changed(recipe_id, arguments.what, arguments.by, arguments.note, request.request_id)
            report = process.report(recipe_id)
            return {"change": change.model_dump(mode="json"), "stale": report["stale"], "asks": report["asks"]}

        self._rooms.errands.defer(HARVEST, request, work)

    def _process_ordinary(self, request: Request, arguments: a.ProcessOrdinaryArguments) -> None:
        recipe_id = self._recipe_id(arguments.recipe_id)

        def work() -> Result:
            change = self._rooms.process.ordinary(recipe_id, arguments.by, arguments.note, request.request_id)
            return {"change": change.model_dump(mode="json")}

        self._rooms.errands.defer(HARVEST, request, work)

    def _deploy(self, request: Request, arguments: a.DeployArguments) -> None:
        def work() -> Result:
            deployer, request_id = self._rooms.deployer, request.request_id
            return deployer.deploy(arguments.model, promote=arguments.promote, by=arguments.by, request_id=request_id)

        self._rooms.errands.defer(MODELS, request, work)

    def _promote(self, request: Request, arguments: a.PromoteArguments) -> None:
        deployer = self._rooms.deployer
        self._rooms.errands.defer(MODELS, request, lambda: deployer.promote(arguments.by, request.request_id))

    def _roll_back(self, request: Request, arguments: a.RollbackArguments) -> None:
        def work() -> Result:
            return self._rooms.deployer.roll_back(arguments.recipe_id, arguments.by, request.request_id)

        self._rooms.errands.defer(MODELS, request, work)

    def _recipe_id(self, named: str | None) -> str:
        prepared = self._rooms.station.prepared
        if named is not None:
            return named
        if prepared is None:
            raise StateError("no recipe is prepared; name the recipe_id")
        return prepared.recipe.recipe_id


def _moved(after: Snapshot) -> Result:
    return {"Error": 0, "State": after.state.title}


def _internal(recipe: Recipe, digest: str = "") -> Result:
    digest = digest or recipe.record_digest()
    return {"Id": recipe.recipe_id, "Version": str(recipe.version), "Hash": digest, "HashAlgorithm": "SHA-256"}


def _cause(request: Request, arguments: a.CauseArguments) -> Origin:
    numbered = f"cause {arguments.Cause}" if arguments.Cause else ""
    return Origin(request.request_id, detail=arguments.CauseDescription or numbered)
