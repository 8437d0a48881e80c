"""The trainer's commands: name, handler, and whether it has an effect that must happen once."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from importlib import metadata
from typing import Any

from cell.clock import utc_now
from cell.defects import Seed, SeedState, Split
from cell.errors import DataError, GateError, ProtocolError
from cell.jobs import Job, JobKind, JobState
from cell.recipes import Recipe
from cell.settings import Settings
from cell.store import calibration_files
from cell.store.calibrations import current, standing
from cell.store.learning import LearningStore
from cell.store.limits import check_seeds, warnings
from cell.wire.messages import Command
from cell.wire.server import Request
from trainer import arguments
from trainer.backgrounds import for_candidates
from trainer.exporting import export
from trainer.generate.control import check_plan
from trainer.jobs import Runner
from trainer.parameters import checked
from trainer.recipes import check_relative, load_recipe
from trainer.review import ReviewCommands
from trainer.seeds import SeedCommands
from trainer.slow import SlowCommands, Work

Result = dict[str, Any]
Handler = Callable[[Command], Result]

#: Commands that change nothing but what a reviewer sees, and so need no place in the ledger.
_READING = frozenset(
    {
        "inspectd.jobs",
        "inspectd.job",
        "inspectd.backgrounds",
        "inspectd.calibrations",
        "inspectd.seeds",
        "inspectd.seeds.lacks",
        "inspectd.split",
        "inspectd.review.summary",
        "inspectd.review.next",
        "inspectd.review.displayed",
        "inspectd.review.history",
        "inspectd.models",
        "inspectd.trainer.status",
    }
)


def has_effect(command: str) -> bool:
    """Tell whether a command goes through the ledger."""
    return command not in _READING


class Commands:
    """Answers every command of the trainer. All calls from the service's one thread; what takes time is handed on."""

    def __init__(
        self, settings: Settings, store: LearningStore, runner: Runner, slow: SlowCommands, beside: SlowCommands
    ) -> None:
        self._settings = settings
        self._store = store
        self._runner = runner
        self._slow = slow
        self._beside = beside
        self._started_at: datetime = utc_now()
        review = ReviewCommands(store)
        self._handlers: dict[str, Handler] = {
            "inspectd.calibrate": self._calibrate,
            "inspectd.calibrations": self._calibrations,
            "inspectd.generate": self._generate,
            "inspectd.gap": self._gap,
            "inspectd.oddity": self._oddity,
            "inspectd.jobs": self._jobs,
            "inspectd.job": self._job,
            "inspectd.job.cancel": self._cancel,
            "inspectd.job.pause": self._pause,
            "inspectd.job.resume": self._resume,
            "inspectd.backgrounds": review.backgrounds,
            "inspectd.seeds": review.seeds,
            "inspectd.review.summary": review.summary,
            "inspectd.review.next": review.next_candidate,
            "inspectd.review.displayed": review.displayed,
            "inspectd.review.decide": review.decide,
            "inspectd.review.history": review.history,
            "inspectd.models": self._models,
            "inspectd.trainer.status": self._status,
        }
        #: Commands that read many pictures: worked off by a thread of their own.
        self._slow_handlers: dict[str, Callable[[Command], Work]] = {
            "inspectd.train": self._train,
            "inspectd.export": self._export,
        }
        #: Those about seeds too, by another: a person who confirms must not wait for an export.
        self._seed_handlers = SeedCommands(store, self._recipe).works()

    @property
    def names(self) -> tuple[str, ...]:
        """The commands there are."""
        return (*self._handlers, *self._slow_handlers, *self._seed_handlers)

    def answer(self, request: Request) -> Result | None:
        """Answer a command, or return None when its answer follows."""
        name = request.command.command
        if name in self._slow_handlers:
            self._slow.submit(request, self._slow_handlers[name](request.command))
            return None
        if name in self._seed_handlers:
            self._beside.submit(request, self._seed_handlers[name](request.command))
            return None
        if name not in self._handlers:
            raise ProtocolError(f"the trainer knows no command {name}; see docs/trainer.md")
        return self._handlers[name](request.command)

    def _calibrate(self, command: Command) -> Result:
        asked = arguments.read(command, arguments.Calibrate)
        recipe = self._recipe(asked.recipe_id)
        series = calibration_files.there_are(self._store.state.calibrations / recipe.recipe_id)
        if not series and not self._store.backgrounds(recipe.recipe_id, Split.LEARN):
            raise DataError(
                f"there are no backgrounds of {recipe.recipe_id} to calibrate from; run harvest first, or inspectctl "
                "calibrate take"
            )
        return self._queue(JobKind.CALIBRATE, recipe, asked.model_dump(mode="json", exclude={"recipe_id"}))

    def _calibrations(self, command: Command) -> Result:
        recipe = self._recipe(arguments.read(command, arguments.OfRecipe).recipe_id)
        found = self._store.calibrations(recipe.recipe_id)
        return {
            "calibrations": [{"digest": one.record_digest(), **one.model_dump(mode="json")} for one in found],
            "series": calibration_files.listed(self._store.state.calibrations / recipe.recipe_id),
            **standing(self._store, recipe).told(),
        }

    def _generate(self, command: Command) -> Result:
        asked = arguments.read(command, arguments.Generate)
        recipe = self._recipe(asked.recipe_id)
        if unknown := sorted(set(asked.classes) - set(recipe.class_names)):
            raise DataError(
                f"{recipe.recipe_id} has no defect class {', '.join(unknown)}; it has {', '.join(recipe.class_names)}"
            )
        for_candidates(self._store, recipe.recipe_id, stale=asked.stale)
        source = recipe
        if asked.adapters_from is not None:
            source = check_relative(recipe, self._recipe(asked.adapters_from))
        seeds = self._store.seeds(source.recipe_id, state=SeedState.CONFIRMED, split=Split.LEARN)
        with_seeds = {seed.defect_class for seed in seeds} & set(recipe.class_names)
        missing = sorted(set(asked.classes) - with_seeds) or ([] if with_seeds else list(recipe.class_names))
        if missing:
            raise DataError(f"no seed of {', '.join(missing)} is confirmed; confirm at least three of each class")
        check_plan(asked.control, asked.class_control, recipe, current(self._store, recipe).px_per_mm)
        _check_enough(recipe, set(asked.classes) or with_seeds, seeds)
        # A job's row tells what was asked, not what was left out.
        special = {"control", "class_control", "randomise", "adapters_from"}
        plan = asked.model_dump(mode="json", include=special, exclude_defaults=True)
        rest = asked.model_dump(mode="json", exclude={"recipe_id", *special})
        queued = self._queue(JobKind.GENERATE, recipe, rest | plan)
        said = warnings(recipe, set(asked.classes) or with_seeds)
        return queued | ({"warnings": said} if said else {})

    def _gap(self, command: Command) -> Result:
        asked = arguments.read(command, arguments.Gap)
        recipe = self._recipe(asked.recipe_id)
        if not self._store.seeds(recipe.recipe_id, state=SeedState.CONFIRMED):
            raise DataError(f"no seed of {recipe.recipe_id} is confirmed; there is no real defect to compare with")
        if not self._store.candidates.list(recipe.recipe_id, job_id=asked.job_id or "", limit=1):
            raise DataError(f"there are no candidates of {recipe.recipe_id} to compare; generate some first")
        self._store.calibration(recipe.recipe_id)
        return self._queue(JobKind.GAP, recipe, asked.model_dump(mode="json", exclude={"recipe_id"}))

    def _oddity(self, command: Command) -> Result:
        asked = arguments.read(command, arguments.Oddity)
        recipe = self._recipe(asked.recipe_id)
        if not self._store.backgrounds(recipe.recipe_id, Split.LEARN):
            raise DataError(f"there are no backgrounds of {recipe.recipe_id} to learn from; run harvest first")
        return self._queue(JobKind.ODDITY, recipe, asked.model_dump(mode="json", exclude={"recipe_id"}))

    def _train(self, command: Command) -> Work:
        asked = arguments.read(command, arguments.Train)
        recipe = self._recipe(asked.recipe_id)

        def work(_: Callable[[], bool]) -> Result:
            # Issued before the job exists: who asks hears the gate's refusal, and the job names what it may see.
            manifest = self._store.gate.issue_training_set(
                recipe, synthetic_ratio=asked.synthetic_ratio, classes=asked.classes or None
            )
            values = asked.model_dump(mode="json", include={"random_seed", "updates"})
            queued = self._queue(JobKind.TRAIN, recipe, {"manifest_id": manifest.manifest_id, **values})
            said = warnings(recipe, manifest.classes)
            return queued | ({"warnings": said} if said else {})

        return work

    def _export(self, command: Command) -> Work:
        asked = arguments.read(command, arguments.Export)
        recipe = self._recipe(asked.recipe_id)
        # A relative folder lies where the service may write under its unit; an absolute one is the caller's business.
        directory = self._store.state.root / "exports" / asked.directory

        def work(cancelled: Callable[[], bool]) -> Result:
            files = export(self._store, recipe, asked.format, directory, cancelled)
            return {"files": files, "directory": str(directory)}

        return work

    def _queue(self, kind: JobKind, recipe: Recipe, values: dict[str, Any]) -> Result:
        self._store.state.require_free(self._settings.minimum_free_mb)
        parameters = checked(kind, values).model_dump(mode="json")
        job = self._store.jobs.create(kind, recipe.recipe_id, parameters)
        self._runner.announce(job)
        return {"job_id": job.job_id}

    def _jobs(self, command: Command) -> Result:
        limit = arguments.read(command, arguments.Jobs).limit
        return {"jobs": [self._current(job).model_dump(mode="json") for job in self._store.jobs.list(limit=limit)]}

    def _job(self, command: Command) -> Result:
        job = self._current(self._store.jobs.get(arguments.read(command, arguments.OfJob).job_id))
        return {"job": job.model_dump(mode="json"), "log": self._runner.log_tail(job.job_id)}

    def _cancel(self, command: Command) -> Result:
        return _moved(self._runner.cancel(arguments.read(command, arguments.OfJob).job_id))

    def _pause(self, command: Command) -> Result:
        return _moved(self._runner.pause(arguments.read(command, arguments.OfJob).job_id))

    def _resume(self, command: Command) -> Result:
        return _moved(self._runner.resume(arguments.read(command, arguments.OfJob).job_id))

    def _models(self, command: Command) -> Result:
        recipe_id = arguments.read(command, arguments.Models).recipe_id
        return {"models": [model.model_dump(mode="json") for model in self._store.models(recipe_id or "")]}

    def _status(self, command: Command) -> Result:
        arguments.read(command, arguments.Nothing)
        running = self._runner.running
        queued = self._store.jobs.list(state=JobState.QUEUED, limit=1000)
        return {
            "version": metadata.version("inspectd"),
            "pid": os.getpid(),
            "started_at": self._started_at.isoformat(),
            "running": running.model_dump(mode="json") if running else None,
            "queued": [job.job_id for job in reversed(queued)],
            "free_mb": round(self._store.state.free_mb()),
        }

    def _recipe(self, recipe_id: str) -> Recipe:
        return load_recipe(self._settings.recipes_dir, recipe_id)

    def _current(self, job: Job) -> Job:
        # The runner's copy is fresher than the row, which is written once a second.
        running = self._runner.running
        return running if running is not None and running.job_id == job.job_id else job


def _check_enough(recipe: Recipe, classes: Collection[str], seeds: Sequence[Seed]) -> None:
    # Told when it is asked, not when the job's turn comes; here it is what was given that lacks, not a decision.
    try:
        for one in recipe.defect_classes:
            if one.name in classes:
                check_seeds(one, [seed for seed in seeds if seed.defect_class == one.name])
    except GateError as error:
        raise DataError(str(error)) from error


def _moved(job: Job) -> Result:
    return {"job_id": job.job_id, "state": job.state.value}
