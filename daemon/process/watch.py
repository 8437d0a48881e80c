"""The process watch: looks at judged parts beside the line and tells when the process is no longer what it was.

::

    offer(frames, verdict) --two places--> thread --> Monitor --> condition, event, marks in the learning store
                            (full: counted, the line never waits)

The thread runs at the lowest priority and rests after each part, so that it takes at most its share of one processor:
on a fast line it looks at every other part or fewer, and says how many it passed over. What a recipe's monitor learned
lies in ``process/<recipe>.npz`` and goes on after a restart.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
from pathlib import Path
from typing import Any

from cell.clock import Monotonic, monotonic
from cell.errors import DataError, InspectdError, StoreError
from cell.events import ProcessChanged
from cell.frames import FrameSet
from cell.process import ASKS, RENEWS, Cause, ProcessChange
from cell.recipes import Recipe
from cell.store.learning import LearningStore
from cell.store.line import LineStore
from cell.verdicts import Verdict
from daemon.notices import Conditions
from daemon.process.monitor import Finding, Monitor, setup_digest

_LOG = logging.getLogger(__name__)

#: Conditions are called so, and by their recipe.
CONDITION = "process-change"
_WAITING = 2
#: Memory that waiting parts may hold of the camera's frame buffers.
_WAITING_BYTES = 1 << 28
_SAVE_S = 60.0
_STOP_S = 10.0


class ProcessWatch:
    """See the module. `offer` is the line thread's; commands and the thread share the monitors under a lock.

    :param share: of one processor that the thread may take.
    """

    def __init__(
        self,
        line: LineStore,
        learning: LearningStore,
        conditions: Conditions,
        *,
        share: float = 0.1,
        clock: Monotonic = monotonic,
    ) -> None:
        self._line = line
        self._learning = learning
        self._conditions = conditions
        self._share = share
        self._clock = clock
        self._folder = learning.state.root / "process"
        self._lock = threading.Lock()
        self._monitors: dict[str, Monitor] = {}
        self._recipes: dict[str, Recipe] = {}  # the thread's own
        self._saved_at = clock()
        self._unsaved: set[str] = set()
        self._queue: queue.Queue[tuple[FrameSet, Verdict] | None] = queue.Queue(_WAITING)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.looked_at = 0
        self.passed_over = 0

    def offer(self, frames: FrameSet, verdict: Verdict) -> None:
        """Take a judged part in without waiting; counted in `passed_over` when the thread is behind."""
        if self._thread is None:
            return
        try:
            if self._queue.qsize() >= max(1, _WAITING_BYTES // frames.nbytes):
                raise queue.Full
            self._queue.put_nowait((frames, verdict))
        except queue.Full:
            self.passed_over += 1

    def start(self) -> None:
        """Start the thread, and tell again of changes that nobody has settled."""
        for recipe in self._line.recipes.list():
            suspected = self._learning.process.suspected(recipe.recipe_id)
            if suspected is not None:
                self._raise(suspected)
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="process-watch")
            self._thread.start()

    def stop(self) -> None:
        """End the thread after the part under way, and keep what was learned."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopping.set()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        thread.join(_STOP_S)
        self._save()

    def report(self, recipe_id: str) -> dict[str, Any]:
        """Return how the process of a recipe stands: monitor, changes, what rests on an old state.

        Raises `NotFound` for an unknown recipe.
        """
        recipe = self._line.recipes.get(recipe_id)
        standing = self._learning.process.standing(recipe_id)
        with self._lock:
            monitor = self._of(recipe).report()
        return {
            "monitor": monitor | {"passed_over": self.passed_over, "running": self._thread is not None},
            "changes": [change.model_dump(mode="json") for change in self._learning.process.list(recipe_id)],
            "stale": {kind.value: list(names) for kind, names in standing.stale.items()},
            "fresh": {kind.value: count for kind, count in standing.fresh.items()},
            "asks": list(standing.asks),
        }

    def brief(self, recipe_id: str) -> dict[str, Any]:
        """Return a few words for the daemon's status; never looks at the stores."""
        with self._lock:
            monitor = self._monitors.get(recipe_id)
            known = monitor.report() if monitor is not None else {}
        return {
            "watching": self._thread is not None,
            "state": known.get("state", "no parts yet"),
            "parts": known.get("parts", 0),
            "looked_at": self.looked_at,
            "passed_over": self.passed_over,
        }

    def changed(self, recipe_id: str, what: Cause, by: str, note: str = "", request_id: str = "") -> ProcessChange:
        """Record that a person says what changed; the monitor learns the new state.

        Raises `NotFound` for an unknown recipe.
        """
        recipe = self._line.recipes.get(recipe_id)
        change = self._learning.process.declare(recipe_id, what, by, note)
        self._settle(recipe, change, request_id)
        return change

    def ordinary(self, recipe_id: str, by: str, note: str = "", request_id: str = "") -> ProcessChange:
        """Record that a suspected change is ordinary: nothing is stale for it, and the monitor learns it as such.

        Raises `StateError` when none is suspected.
        """
        recipe = self._line.recipes.get(recipe_id)
        change = self._learning.process.withdraw(recipe_id, by, note)
        self._settle(recipe, change, request_id)
        return change

    def _settle(self, recipe: Recipe, change: ProcessChange, request_id: str) -> None:
        with self._lock:
            self._of(recipe).restart()
            self._unsaved.add(recipe.recipe_id)
        self._conditions.resolve(f"{CONDITION}-{recipe.recipe_id}")
        self._tell(change, request_id)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        while not self._stopping.is_set() and (item := self._queue.get()) is not None:
            begun = self._clock()
            frames, verdict = item
            try:
                self._look(frames, verdict)
            except InspectdError as error:
                _LOG.warning("the process watch passes over part %s: %s", verdict.part_id, error)
            del item, frames
            spent = self._clock() - begun
            if self._clock() - self._saved_at > _SAVE_S:
                self._save()
            self._stopping.wait(spent * (1 / self._share - 1))

    def _look(self, frames: FrameSet, verdict: Verdict) -> None:
        recipe = self._recipe(verdict.recipe_id, verdict.recipe_version)
        with self._lock:
            monitor = self._of(recipe)
            told = monitor.alarmed
            finding = monitor.take(frames.stack(), verdict.created_at, verdict.score, verdict.model_digest)
            self.looked_at += 1
            self._unsaved.add(recipe.recipe_id)
        if finding is not None and not told:
            self._suspect(recipe, finding)

    def _recipe(self, recipe_id: str, version: int) -> Recipe:
        known = self._recipes.get(recipe_id)
        if known is None or known.version != version:
            known = self._recipes[recipe_id] = self._line.recipes.get(recipe_id, version)
        return known

    def _suspect(self, recipe: Recipe, finding: Finding) -> None:
        diagnosis = finding.diagnosis
        if self._learning.process.suspected(recipe.recipe_id) is not None:
            return
        change = self._learning.process.suspect(
            recipe.recipe_id, diagnosis.cause, finding.since, diagnosis.sentence, diagnosis.evidence
        )
        # A restart that forgot the alarm would find it a second time.
        self._save()
        self._raise(change)
        self._tell(change)

    def _raise(self, change: ProcessChange) -> None:
        asked = "; ".join(ASKS[kind] for kind in RENEWS[change.what])
        self._conditions.raise_(
            f"{CONDITION}-{change.recipe_id}",
            f"the process of {change.recipe_id} changed since {change.since:%Y-%m-%d %H:%M:%S}: {change.sentence}; "
            f"say what it was with inspectctl process changed --what {change.what}, or inspectctl process ordinary; "
            f"likely to do then: {asked}",
        )

    def _tell(self, change: ProcessChange, request_id: str = "") -> None:
        log = self._conditions.log
        log.keep((ProcessChanged(at=log.now(), request_id=request_id, change=change),))

    def _of(self, recipe: Recipe) -> Monitor:
        known = self._monitors.get(recipe.recipe_id)
        if known is None or setup_digest(known.recipe) != setup_digest(recipe):
            known = self._monitors[recipe.recipe_id] = self._recalled(recipe)
        return known

    def _recalled(self, recipe: Recipe) -> Monitor:
        path = self._path(recipe.recipe_id)
        if path.exists():
            try:
                return Monitor.load(path, recipe)
            except DataError as error:
                _LOG.warning("%s", error)
        return Monitor(recipe)

    def _save(self) -> None:
        self._saved_at = self._clock()
        with self._lock:
            for recipe_id in sorted(self._unsaved):
                try:
                    self._monitors[recipe_id].save(self._path(recipe_id))
                except StoreError as error:
                    # It is learned again after a restart; the disk's own condition tells people.
                    _LOG.warning("what the process watch of %s learned can't be kept: %s", recipe_id, error)
            self._unsaved.clear()

    def _path(self, recipe_id: str) -> Path:
        return self._folder / f"{recipe_id}.npz"
