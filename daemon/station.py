"""The station: what is prepared, which parts are under way, and who gives their verdict when the line does not.

The command loop calls it; the line thread calls back when a part may leave. Every trigger that is taken gets exactly
one verdict: from the line, from its deadline (:meth:`Station.expire`), from an abort, or at once when it can only be
FAULT.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from cell.clock import Monotonic, monotonic
from cell.errors import HardwareError, LightError, StateError
from cell.events import JobStarted, Ready, StateChanged
from cell.frames import AcquisitionFault
from cell.recipes import Recipe
from cell.store.line import LineStore
from cell.verdicts import Verdict
from cell.wire.server import Request
from daemon.arguments import (
    AnnounceArguments,
    ContinuousParameters,
    SingleParameters,
    StartArguments,
    StartContinuousArguments,
)
from daemon.hardware_trigger import TriggerRun
from daemon.line import Line, PartSource
from daemon.notices import Conditions, EventLog
from daemon.parts import ABORTED, Part
from daemon.reply import Answers
from daemon.states import EXECUTING, NOBODY, Cause, Origin, Snapshot, State, StateMachine

#: Latencies kept for the status.
_RECENT = 1000
#: Longest wait for the line and its camera at the start of a run, seconds.
_ARM_S = 30.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """The recipe that parts are judged by, and the calibration that results refer to (empty when there is none)."""

    recipe: Recipe
    configuration_id: str = ""


class Station:
    """Thread-safe where it says so; everything else belongs to the command loop."""

    def __init__(
        self, store: LineStore, log: EventLog, *, emulated: bool, on_line: bool = False, clock: Monotonic = monotonic
    ) -> None:
        """`on_line` tells that the camera's trigger line starts exposures, and not a command."""
        self._store = store
        self._log = log
        self._emulated = emulated
        self._on_line = on_line
        self._clock = clock
        self._lock = threading.Lock()
        self._parts: dict[str, Part] = {}
        self._line: Line | None = None
        self._answers: Answers | None = None
        self._trigger_run: TriggerRun | None = None
        self.machine = StateMachine(self._moved)
        self.prepared: Prepared | None = None
        self.counts: Counter[str] = Counter()
        self.latencies_ms: deque[float] = deque(maxlen=_RECENT)
        self.wake: Callable[[], None] = lambda: None  # makes the command loop look at the deadlines again
        self.on_prepared: Callable[[bool], None] = lambda _: None  # told when a recipe is prepared, or none any more
        self.conditions: Conditions | None = None  # set once: they are told of it, too

    def connect(self, line: Line, answers: Answers) -> None:
        """Join the station to the line that works for it; before the first part."""
        self._line, self._answers = line, answers

    @property
    def on_line(self) -> bool:
        """Tell whether the camera's trigger line starts exposures."""
        return self._on_line

    @property
    def line(self) -> Line:
        """The line thread."""
        if self._line is None:
            raise StateError("the station is not connected to a line yet; the daemon is still starting")
        return self._line

    def trigger(self, request: Request, arguments: StartArguments) -> None:
        """Take a trigger; its answer comes later, exactly once. Raises `StateError` when no recipe is prepared."""
        if self._on_line:
            raise StateError("this cell's camera is triggered by its line; StartContinuous, then announce each part")
        prepared = self._require(arguments.RecipeId, Cause.START_SINGLE_JOB)
        part = self._part(prepared, arguments, request)
        problem = self._why_not()
        if problem:
            self._give_fault(part, problem)
            return
        origin = Origin(request.request_id, part.job_id, f"part {part.part_id}")
        if self.machine.fire_if_allowed(Cause.START_SINGLE_JOB, origin):
            # Here and not on the line's thread, which has exposures to make: telling wakes this one up.
            started = JobStarted(
                at=part.created_at, request_id=request.request_id, job_id=part.job_id, part_id=part.part_id
            )
            self._log.tell(started)
            self.line.submit(part)
        else:  # another thread moved the machine just now
            self._give_fault(part, f"the cell went to {self.machine.now.state.title} as the trigger came")

    def start_continuous(self, arguments: StartContinuousArguments, request_id: str = "") -> str:
        """Begin a continuous run and return its job id. Raises `StateError`."""
        prepared = self._require(arguments.RecipeId, Cause.START_CONTINUOUS)
        self.machine.check(Cause.START_CONTINUOUS)
        job_id = self._store.next_job_id()
        source = self._source(prepared, arguments, job_id)
        origin = Origin(request_id, job_id, job_id)
        self.machine.fire(Cause.START_CONTINUOUS, origin)
        self.line.run_continuously(source, lambda: self._execution_done(State.CONTINUOUS_EXECUTION, origin))
        return job_id

    def start_on_triggers(self, arguments: StartContinuousArguments, request_id: str = "") -> str:
        """Begin a run whose parts are triggered by the camera's line and announced; return its job id.

        On return edges are counted, the next one as the first. Waits for the line: not for the command loop. Raises
        `StateError`, `HardwareError` and `DataError`; then there is no run.
        """
        prepared = self._require(arguments.RecipeId, Cause.START_CONTINUOUS)
        self.machine.check(Cause.START_CONTINUOUS)
        job_id = self._store.next_job_id()
        origin = Origin(request_id, job_id, job_id)
        run = TriggerRun(
            self.line.acquirer,
            prepared.recipe,
            arguments.Parameters.rules(),
            lambda: self._part_of_nobody(prepared),
            partial(self._run_over, origin),
        )
        self.line.between_parts(lambda: self.line.follow_triggers(run), _ARM_S)
        self._trigger_run = run
        if self.conditions is not None:
            self.conditions.resolve("light")  # it was lit for this run
        try:
            self.machine.fire(Cause.START_CONTINUOUS, origin)
        except StateError:
            self.line.stop_continuous()
            raise
        return job_id

    @property
    def trigger_run(self) -> TriggerRun | None:
        """The run on the trigger line, or the last one; None before the first."""
        return self._trigger_run

    def announce(self, request: Request, arguments: AnnounceArguments) -> None:
        """Take a part that the PLC announced; its answer comes later, exactly once. Raises `StateError`."""
        now = self.machine.now
        if not self._on_line:
            raise StateError(
                "this cell's camera is triggered by software; StartSingleJob, or set camera.trigger to line"
            )
        if now.state not in {State.CONTINUOUS_EXECUTION, State.ERROR} or self.prepared is None:
            raise StateError(
                f"parts are announced while a run goes on, not in state {now.state.title}; StartContinuous"
            )
        single = StartArguments(
            PartId=arguments.part_id,
            MeasId=arguments.meas_id,
            ProductId=arguments.product_id,
            Parameters=SingleParameters(physical_part=arguments.physical_part, lot=arguments.lot),
        )
        part = self._part(self.prepared, single, request)
        if now.state is State.ERROR:
            self._give_fault(part, "the cell is in Error: see the daemon's conditions")
            return
        edge_time_s = None if arguments.edge_time_ms is None else arguments.edge_time_ms / 1e3
        self.line.announce(part, arguments.trigger_count, edge_time_s)

    def stop(self, origin: Origin = NOBODY) -> Snapshot:
        """End the execution after the part under way. Raises `StateError` when nothing is executed."""
        # First the state: the line may be through at once, and would say so before.
        after = self.machine.fire(Cause.STOP, origin)
        self.line.stop_continuous()
        return after

    def abort(self, cause: Cause, origin: Origin = NOBODY) -> Snapshot:
        """Give every part under way its FAULT now and move by `cause` (Abort, Halt or Reset). Raises `StateError`."""
        after = self.machine.fire(cause, origin)
        self.line.stop_continuous()
        for part in self._under_way():
            self._give_fault(part, f"{ABORTED}: {origin.detail or cause}")
        if not after.prepared:
            self.prepared = None
        return after

    def expire(self) -> None:
        """Give FAULT to every part whose deadline is near."""
        now = self._clock()
        for part in self._under_way():
            if part.expires <= now:
                limit = f"no verdict within {part.recipe.deadline_ms:g} ms"
                why_late = part.why_late
                reason = f"deadline: {limit}; the camera or the engine is late"
                if self._give_fault(part, reason if why_late is None else f"{why_late()} ({limit})"):
                    self.counts["deadline"] += 1

    def give_up(self, reason: str) -> None:
        """Give FAULT to every part under way: there is nobody left to judge them."""
        for part in self._under_way():
            self._give_fault(part, reason)

    def next_deadline_in_s(self) -> float | None:
        """Seconds until :meth:`expire` is due; None while no part is under way."""
        expires = [part.expires for part in self._under_way()]
        return max(0.0, min(expires) - self._clock()) if expires else None

    def part_may_leave(self, part: Part) -> None:
        """Note that all frames of the part under way are taken. Called by the line thread."""
        request_id = part.request.request_id if part.request is not None else ""
        self._execution_done(State.SINGLE_EXECUTION, Origin(request_id, part.job_id))

    def given(self, verdict: Verdict) -> None:
        """Note a verdict that was given. Called by whoever gave it."""
        with self._lock:
            self._parts.pop(verdict.job_id, None)
            self.counts[str(verdict.outcome)] += 1
            self.latencies_ms.append(verdict.timings.total_ms)

    def severe(self, is_open: bool, sentence: str) -> None:
        """Follow severe conditions into Error and out of it. Called by any thread."""
        if not is_open:
            self.machine.fire_if_allowed(Cause.ERROR_RESOLVED, Origin(detail=f"{sentence} is resolved"))
            return
        if self.machine.now.state is State.CONTINUOUS_EXECUTION:
            self.line.stop_continuous()
        self.machine.fire_if_allowed(Cause.ERROR, Origin(detail=sentence))

    def _why_not(self) -> str:
        """Return why a trigger can only be FAULT at present, or an empty string."""
        now = self.machine.now
        if self.line.occupied or now.state in EXECUTING:
            return f"{AcquisitionFault.OVERRUN}: the trigger came before the previous part was taken"
        if now.state is State.ERROR:
            return "the cell is in Error: see the daemon's conditions"
        return ""

    def _require(self, recipe_id: str | None, cause: Cause) -> Prepared:
        prepared = self.prepared
        if prepared is None or not self.machine.now.prepared:
            self.machine.check(cause)
            raise StateError("no recipe is prepared; PrepareRecipe first")
        if recipe_id is not None and recipe_id != prepared.recipe.recipe_id:
            raise StateError(
                f"recipe {recipe_id} is not prepared, {prepared.recipe.recipe_id} is; PrepareRecipe {recipe_id} first"
            )
        return prepared

    def _part(self, prepared: Prepared, arguments: StartArguments, request: Request | None) -> Part:
        part = Part(
            job_id=self._store.next_job_id(),
            trigger_id=self._store.next_trigger_id(),
            part_id=arguments.PartId,
            physical_part=arguments.Parameters.physical_part,
            lot=arguments.Parameters.lot,
            recipe=prepared.recipe,
            received=request.received if request is not None else self._clock(),
            created_at=self._log.now(),
            meas_id=arguments.MeasId,
            product_id=arguments.ProductId or prepared.recipe.product,
            configuration_id=prepared.configuration_id,
            request=request,
        )
        with self._lock:
            self._parts[part.job_id] = part
        return part

    def _part_of_nobody(self, prepared: Prepared) -> Part:
        part = self._part(prepared, StartArguments(PartId="unannounced"), None)
        part.part_id = f"surplus-{part.job_id}"
        return part

    def _source(self, prepared: Prepared, arguments: StartContinuousArguments, job_id: str) -> PartSource:
        start = self._clock()
        for index, part_id in enumerate(_part_ids(arguments.Parameters, arguments.PartId or job_id)):
            due = start + index * arguments.Parameters.interval_ms / 1e3
            single = StartArguments(PartId=part_id, MeasId=arguments.MeasId, ProductId=arguments.ProductId)
            yield due, partial(self._self_triggered, prepared, single)

    def _self_triggered(self, prepared: Prepared, arguments: StartArguments) -> Part:
        part = self._part(prepared, arguments, None)
        self.wake()
        return part

    def _under_way(self) -> list[Part]:
        with self._lock:
            return [part for part in self._parts.values() if not part.claimed]

    def _give_fault(self, part: Part, reason: str) -> bool:
        total_s = self._clock() - part.received
        fault = part.fault(reason, emulated=self._emulated, total_s=total_s)
        return self._answers is not None and self._answers.give(part, fault) is not None

    def _run_over(self, origin: Origin, error: HardwareError | None) -> None:
        """Note that a run on the trigger line ended, by an error or as it should. Called by the line thread.

        A camera that is gone has its own condition, until it is brought back; what the light needs only a person knows.
        """
        if isinstance(error, LightError) and self.conditions is not None:
            sentence = f"the run on the trigger line ended: {error}; see to the light, then StartContinuous"
            self.conditions.raise_("light", sentence)
        self._execution_done(State.CONTINUOUS_EXECUTION, origin)

    def _execution_done(self, execution: State, origin: Origin) -> None:
        if self.machine.now.state is execution:
            self.machine.fire_if_allowed(Cause.DONE, Origin(origin.request_id, origin.job_id))

    def _moved(self, before: Snapshot, after: Snapshot, cause: str, origin: Origin) -> None:
        now, request_id = self._log.now(), origin.request_id
        told = StateChanged(
            at=now, request_id=request_id, state=after.state.title, previous=before.state.title, cause=cause
        )
        self._log.tell(told)
        if after.state is State.READY:
            self._log.tell(Ready(at=now, request_id=request_id, recipe_id=after.recipe_id, job_id=origin.job_id))
        if before.prepared != after.prepared:
            self.on_prepared(after.prepared)


def _part_ids(parameters: ContinuousParameters, prefix: str) -> Iterator[str]:
    if parameters.parts:
        yield from parameters.parts
        return
    numbers = itertools.count(1) if parameters.count is None else range(1, parameters.count + 1)
    yield from (f"{prefix}-{number}" for number in numbers)
