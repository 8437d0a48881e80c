"""The line thread: one part after the other, and between two parts whatever else must touch camera, light or model.

::

    wait --part--> light sequence and exposures --> judge --> answer --> hand over to archive and harvest --> wait
      |--errand--> camera set-up, promotion, light off: never while a part is under way --> wait
      |--camera lost--> try to bring it back, with growing pauses --> wait
      '--continuous run--> the next part is due --> as above

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
from cell.errors import AcquisitionTimeout, InspectdError, LightError
from cell.events import AcquisitionDone, ErrorRaised, JobStarted
from cell.verdicts import Outcome, Verdict
from daemon.acquire import Acquirer
from daemon.health import Beat
from daemon.inspect import Inspection, Inspector
from daemon.notices import Conditions
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
        on_free: Callable[[], None] = lambda: None,
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
        self._source: PartSource | None = None
        self._due: tuple[float, Callable[[], Part]] | None = None
        self._on_source_end: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="line", daemon=True)
        self.late_results = 0

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
        self._queue.put(part)

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

    def run_continuously(self, source: PartSource, on_end: Callable[[], None]) -> None:
        """Take parts from `source` from now on; `on_end` is called when it is through. Safe from any thread."""
        self._queue.put(lambda: self._follow(source, on_end))

    def stop_continuous(self) -> None:
        """Take no more parts from the source; the one under way is judged. Safe from any thread."""
        self._queue.put(lambda: self._follow(None, lambda: None))

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
            try:
                item = self._queue.get(timeout=self._pause_s())
            except queue.Empty:
                self._idle()
                continue
            if item is None:
                break
            if isinstance(item, Part):
                self._inspect(item)
            else:
                item()
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
        if self._due is not None and self._due[0] <= self._clock():
            part = self._due[1]()
            self._inspect(part)
            self._look_ahead()

    def _follow(self, source: PartSource | None, on_end: Callable[[], None]) -> None:
        self._source, self._on_source_end = source, on_end
        self._look_ahead()

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
            self._free()
            return
        self._log.tell(JobStarted(at=part.created_at, request_id=_id(part), job_id=part.job_id, part_id=part.part_id))
        inspection = self._inspector.inspect(part, lambda: self._acquired(part))
        given = self._answers.give(part, inspection.verdict)
        if given is None:
            given = self._note_late(part, inspection)
        if given is not inspection.verdict:
            inspection = Inspection(given, inspection.frames)
        for sink in self._sinks:
            sink(part, inspection)
        if self._acquirer.lost:
            reason = inspection.verdict.reasons[0] if inspection.verdict.reasons else "no frame came"
            self._conditions.raise_("camera", f"the camera is being brought back: {reason}", severe=True)

    def _acquired(self, part: Part) -> None:
        self._log.tell(
            AcquisitionDone(at=self._log.now(), request_id=_id(part), job_id=part.job_id, part_id=part.part_id)
        )
        self._free()

    def _free(self) -> None:
        self._occupied = False
        self._on_free()

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
