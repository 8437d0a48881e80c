"""The line thread: one part after the other, and between two parts whatever else must touch camera, light or model.

::

    wait --part--> light sequence and exposures --> judge --> answer --> hand over to archive and harvest --> wait
      |--errand--> camera set-up, promotion, light off: never while a part is under way --> wait
      |--camera lost--> try to bring it back, with growing pauses --> wait
      |--continuous run--> the next part is due --> as above
      '--run on a trigger line--> frames and announcements come together --> judge, as above

The thread owns camera, light and the choice of model. Nothing here waits for ever but a vendor's call, and then the
deadline answers FAULT for every part that comes, the thread's heartbeat stops, and the watchdog ends the process.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TypeVar

from cell.clock import Monotonic, monotonic
from cell.errors import AcquisitionTimeout, InspectdError, LightError, StoreError
from cell.events import AcquisitionDone, ErrorRaised, JobStarted
from cell.frames import Acquired, FrameSet
from cell.verdicts import Outcome, Verdict
from daemon.acquire import Acquirer
from daemon.hardware_trigger import Findings, TriggerRun, sentence_of
from daemon.health import Beat
from daemon.inspect import Inspection, Inspector
from daemon.line_sets import Sighting
from daemon.notices import Conditions
from daemon.pairing import Paired, Refused, Step, Surplus
from daemon.parts import Part
from daemon.reply import Answers

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

#: The thread's heart beats at least this often while it has nothing to do, seconds.
_IDLE_S = 0.5

#: Takes a judged part: archive, harvest, statistics. Must not wait.
Sink = Callable[[Part, Inspection], None]
#: Gives the parts of a continuous run, each with the instant at which it is due; made and advanced on the line thread.
PartSource = Iterator[tuple[float, Callable[[], Part]]]


class Line:
    """Runs the line thread. `on_free` is called when a part may leave: the next trigger may come."""

    def __init__(
        self,
        acquirer: Acquirer,
        inspector: Inspector,
        answers: Answers,
        conditions: Conditions,
        beat: Beat,
        *,
        sinks: tuple[Sink, ...] = (),
        on_free: Callable[[Part], None] = lambda _: None,
        clock: Monotonic = monotonic,
    ) -> None:
        self._acquirer = acquirer
        self._inspector = inspector
        self._answers = answers
        self._log = conditions.log
        self._conditions = conditions
        self._beat = beat
        self._sinks = sinks
        self._on_free = on_free
        self._clock = clock
        self._queue: queue.SimpleQueue[Part | Callable[[], None] | None] = queue.SimpleQueue()
        self._occupied = False
        self._at_rest = threading.Event()  # no part is being taken or judged
        self._at_rest.set()
        self._source: PartSource | None = None
        self._due: tuple[float, Callable[[], Part]] | None = None
        self._on_source_end: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="line", daemon=True)
        self._triggers: TriggerRun | None = None
        self._light_faults = 0
        self.late_results = 0
        self.surplus_triggers = 0

    @property
    def acquirer(self) -> Acquirer:
        """Camera and light; the line thread's alone."""
        return self._acquirer

    @property
    def occupied(self) -> bool:
        """True from a part's trigger until its frames are taken: a part that comes now is an overrun."""
        return self._occupied

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, part: Part) -> None:
        """Inspect a part after what is under way."""
        self._occupied = True
        self._at_rest.clear()
        self._queue.put(part)

    def let_parts_go_first(self, at_most_s: float) -> None:
        """Wait until no part is under way, at most that long: for work beside the line that takes the interpreter."""
        self._at_rest.wait(at_most_s)

    def between_parts(self, errand: Callable[[], _T], timeout_s: float) -> _T:
        """Run `errand` on the line thread between two parts and return what it returns, or raise what it raises.

        Raises `AcquisitionTimeout` when it is not done in time; it is then not started any more if it was not yet.
        """
        future: Future[_T] = Future()
        self._queue.put(lambda: _carry_out(future, errand))
        try:
            return future.result(timeout_s)
        except FutureTimeout as error:
            future.cancel()
            raise AcquisitionTimeout(
                f"the line did not come to it within {timeout_s:g} s; a camera or engine hangs, see the conditions"
            ) from error

    def follow_triggers(self, run: TriggerRun) -> None:
        """Set the camera up for its trigger line and take what it gives from now on; an errand for the line thread.

        Raises what `TriggerRun.begin` raises; then there is no run.
        """
        self._drop_triggers("aborted: another run was started")
        run.begin()
        self._triggers = run

    def announce(self, part: Part, count: int, edge_time_s: float | None) -> None:
        """Take in a part that the PLC announced, by its count of edges. Safe from any thread."""
        self._queue.put(lambda: self._take_announced(part, count, edge_time_s))

    def run_continuously(self, source: PartSource, on_end: Callable[[], None]) -> None:
        """Take parts from `source` from now on; `on_end` is called when it is through. Safe from any thread."""
        self._queue.put(lambda: self._follow(source, on_end))

    def stop_continuous(self) -> None:
        """Take no more parts from the source; the one under way is judged. Safe from any thread."""
        self._queue.put(self._stop_following)

    def stop(self, timeout_s: float) -> bool:
        """End the thread after the part under way, light off; tell whether it ended in time."""
        if not self._thread.is_alive():
            return True
        self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """False when the thread ended, be it by an error that nobody foresaw: then the process must end too."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while True:
            self._beat()
            if self._queue.empty():
                self._at_rest.set()
            try:
                item = self._queue.get(timeout=self._pause_s()) if self._triggers is None else self._queue.get_nowait()
            except queue.Empty:
                self._idle()
                continue
            if item is None:
                break
            if isinstance(item, Part):
                self._inspect(item)
            else:
                item()
        self._drop_triggers("aborted: the daemon stopped while the part was under way")
        try:
            self._acquirer.dark()
        except LightError as error:
            _LOG.error("the light could not be switched off at the end: %s", error)

    def _pause_s(self) -> float:
        pauses = [_IDLE_S]
        if (retry_in_s := self._acquirer.retry_in_s) is not None:
            pauses.append(retry_in_s)
        if self._due is not None:
            pauses.append(max(0.0, self._due[0] - self._clock()))
        return min(pauses)

    def _idle(self) -> None:
        if self._acquirer.lost:
            self._bring_back()
        if self._triggers is not None:
            self._act_on(self._triggers, self._triggers.turn())
            if self._acquirer.lost:
                self._raise_lost("its trigger line gives no frames")
            if self._triggers.ended:
                self._triggers = None
        if self._due is not None and self._due[0] <= self._clock():
            self._take_due(self._due[1])
            self._look_ahead()

    def _take_due(self, make: Callable[[], Part]) -> None:
        try:
            part = make()
        except StoreError as error:  # no room for a job id: a part that nobody asked for is left out, the line goes on
            self._conditions.raise_("store", f"the run's next part has no number: {error}", severe=True)
            return
        self._inspect(part)

    def _follow(self, source: PartSource | None, on_end: Callable[[], None]) -> None:
        self._source, self._on_source_end = source, on_end
        self._look_ahead()

    def _stop_following(self) -> None:
        self._follow(None, lambda: None)
        if self._triggers is not None:
            self._triggers.close()

    def _drop_triggers(self, reason: str) -> None:
        if self._triggers is not None:
            self._act_on(self._triggers, self._triggers.finish(reason))
            self._triggers = None

    def _take_announced(self, part: Part, count: int, edge_time_s: float | None) -> None:
        if self._triggers is None:
            self._refuse(part, "aborted: the run ended as the part was announced")
        else:
            self._act_on(self._triggers, self._triggers.announce(part, count, edge_time_s))

    def _act_on(self, run: TriggerRun, findings: Findings) -> None:
        for finding in findings:
            self._beat()
            match finding:
                case Paired(part, sighting):
                    self._judge_sighted(part, sighting)
                case Refused(part, reason):
                    self._refuse(part, reason)
                case Surplus(sighting, reason):
                    self._note_surplus(sighting, reason, run.part_of_nobody)
                case Step():
                    self._note_step(finding)
        if blind := run.blind:
            self._conditions.raise_("trigger-window", blind)

    def _judge_sighted(self, part: Part, sighting: Sighting) -> None:
        part.why_late = None
        if part.claimed:
            return
        self._at_rest.clear()
        if sighting.doubt is not None:
            acquired: Acquired = self._acquirer.failed(part, sighting.doubt)
        else:
            acquired = self._acquirer.complete(part, sighting.frames)
        self._log.tell(JobStarted(at=part.created_at, request_id=_id(part), job_id=part.job_id, part_id=part.part_id))
        self._conclude(part, self._inspector.inspect(part, lambda: self._acquired(part), acquired))

    def _refuse(self, part: Part, reason: str) -> None:
        part.why_late = None
        if not part.claimed:
            self._conclude(part, self._inspector.refuse(part, reason))

    def _note_surplus(self, sighting: Sighting, reason: str, part_of_nobody: Callable[[], Part]) -> None:
        """Put on record what no part was announced for: an event, and FAULT with the frames for the archive."""
        self.surplus_triggers += 1
        self._log.tell(ErrorRaised(at=self._log.now(), condition="surplus-trigger", message=reason))
        part = part_of_nobody()
        frames = self._acquirer.complete(part, sighting.frames) if sighting.frames else None
        found = frames if isinstance(frames, FrameSet) else None
        self._conclude(part, self._inspector.refuse(part, reason, found))

    def _note_step(self, step: Step) -> None:
        _LOG.warning("%s", sentence_of(step))
        if step.adrift:
            self._conditions.raise_("trigger-count", sentence_of(step))
        else:
            self._log.tell(ErrorRaised(at=self._log.now(), condition="trigger-count", message=sentence_of(step)))
            self._conditions.resolve("trigger-count")

    def _look_ahead(self) -> None:
        self._due = None if self._source is None else next(self._source, None)
        if self._source is not None and self._due is None:
            self._source = None
            self._on_source_end()

    def _bring_back(self) -> None:
        if self._acquirer.recover():
            self._conditions.resolve("camera")

    def _inspect(self, part: Part) -> None:
        if part.claimed:  # the deadline or an abort was faster
            self._free(part)
            return
        self._at_rest.clear()
        if part.request is None:  # of one that was asked for the station has told it
            self._log.tell(JobStarted(at=part.created_at, job_id=part.job_id, part_id=part.part_id))
        self._conclude(part, self._inspector.inspect(part, lambda: self._acquired(part)))

    def _conclude(self, part: Part, inspection: Inspection) -> None:
        given = self._answers.give(part, inspection.verdict)
        if given is None:
            given = self._note_late(part, inspection)
        if given is not inspection.verdict:
            inspection = Inspection(given, inspection.frames)
        for sink in self._sinks:
            sink(part, inspection)
        reason = inspection.verdict.reasons[0] if inspection.verdict.reasons else "no frame came"
        if self._acquirer.lost:
            self._raise_lost(reason)
        if self._acquirer.light_faults != self._light_faults:
            self._light_faults = self._acquirer.light_faults
            self._conditions.raise_("light", f"see to the light: {reason}")
        elif inspection.frames is not None:
            self._conditions.resolve("light")

    def _raise_lost(self, reason: str) -> None:
        self._conditions.raise_("camera", f"the camera is being brought back: {reason}", severe=True)

    def _acquired(self, part: Part) -> None:
        self._log.tell(
            AcquisitionDone(at=self._log.now(), request_id=_id(part), job_id=part.job_id, part_id=part.part_id)
        )
        self._free(part)

    def _free(self, part: Part) -> None:
        self._occupied = False
        self._on_free(part)

    def _note_late(self, part: Part, inspection: Inspection) -> Verdict:
        """Put on record what came too late to be the answer; return what the part's frames are archived under."""
        self.late_results += 1
        verdict = inspection.verdict
        score = "" if verdict.score is None else f" with score {verdict.score:.3f}"
        message = (
            f"part {part.part_id} (job {part.job_id}) came to {verdict.outcome}{score} after "
            f"{verdict.timings.total_ms:.0f} ms, when it had its FAULT already"
        )
        _LOG.warning("%s", message)
        self._log.tell(ErrorRaised(at=self._log.now(), request_id=_id(part), condition="late", message=message))
        return verdict.model_copy(update={"outcome": Outcome.FAULT, "reasons": (message,)})


def _carry_out(future: Future[_T], errand: Callable[[], _T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(errand())
    except BaseException as error:
        future.set_exception(error)
        if not isinstance(error, InspectdError):
            raise


def _id(part: Part) -> str:
    return part.request.request_id if part.request is not None else ""
