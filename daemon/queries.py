"""Commands that only look: results, recipes, configurations, events, status."""

from __future__ import annotations

import importlib.metadata
from dataclasses import asdict
from typing import Any

import numpy as np

from cell.calibration import Calibration
from cell.clock import monotonic
from cell.errors import NotFound, StoreError
from cell.settings import Settings
from cell.store.calibrations import standing
from cell.store.learning import LearningStore
from cell.store.line import LineStore, VerdictFilter
from cell.verdicts import Verdict
from daemon.acquire import Acquirer
from daemon.archive import Archive
from daemon.arguments import EventsArguments, ResultListArguments
from daemon.hardware_trigger import TriggerRun
from daemon.harvest.harvester import Harvester
from daemon.notices import Conditions
from daemon.process.watch import ProcessWatch
from daemon.recovery import Attendant
from daemon.reply import result_of
from daemon.station import Prepared, Station
from daemon.swap import LoadedModel, ModelSlot

Result = dict[str, Any]


def version() -> str:
    """Return the version of the installed package."""
    try:
        return importlib.metadata.version("inspectd")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


class Records:
    """What the stores hold, in the standard's words."""

    def __init__(self, store: LineStore, learning: LearningStore, station: Station) -> None:
        self._store = store
        self._learning = learning
        self._station = station

    def result(self, result_id: str) -> Result:
        """Return one result. Raises `NotFound`."""
        return {"Result": result_of(self._store.verdict(result_id))}

    def results(self, wanted: ResultListArguments) -> Result:
        """Return results, newest first."""
        found = self._store.verdicts(
            VerdictFilter(
                recipe_id=wanted.RecipeId or "",
                part_id=wanted.PartId,
                outcome=wanted.Outcome,
                since=wanted.Since,
                limit=wanted.MaxResults,
            )
        )
        return {"Results": [result_of(verdict) for verdict in found]}

    def components(self, result_id: str) -> Result:
        """Return where the archived frames of a result lie, one component for each channel. Raises `NotFound`.

        Frames that were given up have no path; `RemovedAt` and `RemovedBecause` say when and why.
        """
        verdict: Verdict = self._store.verdict(result_id)
        part = self._store.archive.get(result_id)
        recipe = self._store.recipes.get(verdict.recipe_id, verdict.recipe_version)
        return {
            "Components": [
                {
                    "ComponentId": f"{result_id}/{channel}",
                    "Channel": channel,
                    "Page": page,
                    "Path": None if part.removed_at else part.path,
                    "Hash": part.digest,
                    "HashAlgorithm": "SHA-256",
                    "SizeBytes": part.size_bytes,
                    "RemovedAt": part.removed_at.isoformat() if part.removed_at else None,
                    "RemovedBecause": part.removed_because,
                }
                for page, channel in enumerate(recipe.channel_names)
            ]
        }

    def recipes(self, most: int) -> Result:
        """Return the latest version of each recipe and whether a model is deployed for it."""
        prepared = self._station.prepared
        entries = []
        for recipe in self._store.recipes.list()[:most]:
            deployment = self._store.deployments.current(recipe.recipe_id)
            entries.append(
                {
                    "RecipeId": recipe.recipe_id,
                    "Version": recipe.version,
                    "Hash": recipe.record_digest(),
                    "HashAlgorithm": "SHA-256",
                    "ProductId": recipe.product,
                    "ModelDigest": deployment.active if deployment is not None else "",
                    "IsPrepared": prepared is not None and prepared.recipe.recipe_id == recipe.recipe_id,
                    "Recipe": recipe.model_dump(mode="json"),
                }
            )
        return {"Recipes": entries}

    def configurations(self, most: int) -> Result:
        """Return the calibrations of the prepared recipe, newest first."""
        prepared = self._station.prepared
        if prepared is None:
            return {"Configurations": []}
        found = self._learning.calibrations(prepared.recipe.recipe_id)[:most]
        return {
            "Configurations": [self._configuration(calibration, prepared.configuration_id) for calibration in found]
        }

    def configuration(self, configuration_id: str) -> Result:
        """Return one calibration. Raises `NotFound`."""
        prepared = self._station.prepared
        active = prepared.configuration_id if prepared is not None else ""
        return {"Configuration": self._configuration(self._learning.calibration_by_digest(configuration_id), active)}

    def calibration_for(self, configuration_id: str, recipe_id: str) -> Calibration:
        """Return a calibration if it belongs to the recipe. Raises `NotFound`."""
        found = self._learning.calibration_by_digest(configuration_id)
        if found.recipe_id != recipe_id:
            raise NotFound(f"the configuration {configuration_id[:12]} is of recipe {found.recipe_id}, not {recipe_id}")
        return found

    def events(self, wanted: EventsArguments) -> Result:
        """Return the events after a sequence number, oldest first: all that watchers were told."""
        self._store.flush_events()
        found = self._store.events_since(wanted.since, wanted.limit)
        return {
            "events": [event.model_dump(mode="json") for event in found],
            "last_sequence": self._store.last_sequence(),
        }

    @staticmethod
    def _configuration(calibration: Calibration, active: str) -> Result:
        configuration_id = calibration.record_digest()
        return {
            "ConfigurationId": configuration_id,
            "RecipeId": calibration.recipe_id,
            "IsActive": configuration_id == active,
            "InternalConfigurationId": {
                "Id": calibration.calibration_id,
                "Version": str(calibration.version),
                "Hash": configuration_id,
                "HashAlgorithm": "SHA-256",
                "Description": f"{calibration.kind} calibration of {calibration.recipe_id}",
            },
            "LastCalibration": calibration.created_at.isoformat(),
            "NextCalibration": calibration.valid_until.isoformat() if calibration.valid_until else None,
            "Calibration": calibration.model_dump(mode="json"),
        }


class Status:
    """Everything a person wants to see at a glance."""

    def __init__(  # noqa: PLR0913, PLR0917 (what a glance takes in)
        self,
        settings: Settings,
        learning: LearningStore,
        station: Station,
        store: LineStore,
        slot: ModelSlot,
        acquirer: Acquirer,
        archive: Archive,
        harvester: Harvester,
        process: ProcessWatch,
        conditions: Conditions,
    ) -> None:
        self._settings = settings
        self._learning = learning
        self._station = station
        self._store = store
        self._slot = slot
        self._acquirer = acquirer
        self._archive = archive
        self._harvester = harvester
        self._process = process
        self._conditions = conditions
        self._started = monotonic()

    def report(self) -> Result:
        """Return the status; its keys stand in docs/commands.md."""
        now = self._station.machine.now
        prepared = self._station.prepared
        return {
            "version": version(),
            "cell_name": self._settings.cell_name,
            "emulated": self._acquirer.emulated,
            "state": {"id": int(now.state), "name": now.state.title},
            "recipe": None
            if prepared is None
            else {
                "recipe_id": prepared.recipe.recipe_id,
                "version": prepared.recipe.version,
                "product": prepared.recipe.product,
                "channels": list(prepared.recipe.channel_names),
                "deadline_ms": prepared.recipe.deadline_ms,
                "configuration_id": prepared.configuration_id,
            },
            "model": _model(self._slot.active),
            "standby": _model(self._slot.standby),
            "previous": _model(self._slot.previous),
            "counts": {
                **{name: self._station.counts[name] for name in ("OK", "NG", "FAULT", "deadline")},
                "late_results": self._station.line.late_results,
                "camera_recoveries": self._acquirer.recoveries,
                "light_faults": self._acquirer.light_faults,
            },
            "cameras": {role: _camera(attendant) for role, attendant in self._acquirer.cameras.items()},
            "trigger_line": _counts(self._station.trigger_run),
            "latency_ms": self._latency(),
            "conditions": self._open_conditions(),
            "archive": {
                "waiting": self._archive.waiting,
                "written": self._archive.written,
                "dropped": self._archive.dropped,
                "failed": self._archive.failed,
                "given_up": self._archive.given_up,
                "free_mb": round(self._store.state.free_mb()),
            },
            "harvest": {
                "running": self._harvester.running,
                "passed_over": self._harvester.passed_over,
                "cost": self._harvester.cost.report(),
            },
            "process": None if prepared is None else self._process.brief(prepared.recipe.recipe_id),
            "calibration": self._calibration(prepared),
            "uptime_s": round(monotonic() - self._started, 1),
            "last_sequence": self._store.last_sequence(),
        }

    def line(self) -> str:
        """Return the status in a few words, for ``systemctl status``."""
        prepared = self._station.prepared
        counts = self._station.counts
        recipe = f", recipe {prepared.recipe.recipe_id}" if prepared is not None else ""
        return (
            f"{self._station.machine.now.state.title}{recipe}; "
            f"OK {counts['OK']}, NG {counts['NG']}, FAULT {counts['FAULT']}"
        )

    def _calibration(self, prepared: Prepared | None) -> Result | None:
        if prepared is None:
            return None
        try:
            return standing(self._learning, prepared.recipe).told()
        except StoreError as error:
            return {"CalibrationNeeded": None, "Reason": str(error), "LastCalibration": None, "NextCalibration": None}

    def _latency(self) -> dict[str, float | int]:
        recent = np.asarray(self._station.latencies_ms, np.float64)
        if recent.size == 0:
            return {"parts": 0}
        p50, p99 = np.percentile(recent, (50, 99))
        return {
            "parts": int(recent.size),
            "p50": round(float(p50), 2),
            "p99": round(float(p99), 2),
            "max": round(float(recent.max()), 2),
        }

    def _open_conditions(self) -> list[Result]:
        stored = {condition.name: condition for condition in self._store.conditions.open()}
        open_now = self._conditions.open
        entries = [condition.model_dump(mode="json") for condition in stored.values()]
        # What the store could not keep stands here all the same.
        unkept = {name: sentence for name, sentence in open_now.items() if name not in stored}
        return entries + [{"name": name, "message": sentence} for name, sentence in unkept.items()]


def _counts(run: TriggerRun | None) -> Result | None:
    return None if run is None else {"on": not run.ended, **asdict(run.counts)}


def _camera(attendant: Attendant) -> Result:
    return {
        "name": attendant.camera.name,
        "emulated": attendant.camera.emulated,
        "lost": attendant.lost,
        "faults": {str(fault): count for fault, count in sorted(attendant.faults.items())},
        "recoveries": attendant.recoveries,
        "process_restarts": attendant.restarts,
    }


def _model(model: LoadedModel | None) -> Result | None:
    if model is None:
        return None
    manifest = model.manifest
    return {
        "model_id": manifest.model_id,
        "model_digest": model.digest,
        "recipe_id": manifest.recipe_id,
        "threshold": manifest.threshold,
        "engine": model.engine.name,
        "provider": model.engine.provider,
        "validated": manifest.evaluation.validated,
        "reviewed_by_people": manifest.reviewed_by_people,
        "emulated": manifest.emulated,
        "golden_difference": model.golden_difference,
    }
