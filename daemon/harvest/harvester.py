"""Harvest: from judged parts to backgrounds and seed proposals, while the line runs and no person picks files.

::

    offer(frames, verdict) --bounded queue--> thread --> look --> background | proposal | refusal with its reason
    run_once(recipe)       --archive-------------------> look --> the same

A part that another station reported bad, or that is unlike all that is known to be good, becomes a seed proposal; one
reported good, or very like the others, becomes a background as long as it adds to what the backgrounds cover. While
nothing is known, parts of which nobody spoke wait in a nursery until there are enough to tell the odd ones from the
others. What a part may be used for is decided once for the physical part before anything is learned: parts reported by
the source ``acceptance`` are held out, and where nobody set parts aside so, a fifth of all.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cell.defects import Split
from cell.errors import DataError, InspectdError, SplitError
from cell.frames import FrameSet, StoredStack
from cell.store.images import read_stack, stored
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.store.line import LineStore
from cell.store.line_records import ArchivedPart, PartReport
from cell.verdicts import Outcome, Verdict
from daemon.harvest import keeping, memory, withdrawn
from daemon.harvest.memory import Gathered, Shown
from daemon.harvest.nursery import LEAST
from daemon.harvest.quality import Finding, Subject, examine, remember
from daemon.physical import PhysicalParts

_LOG = logging.getLogger(__name__)

#: Frame sets waiting for the thread; more are left to `run_once`, which reads them from the archive.
_WAITING = 8
#: Memory that they may hold of the camera's frame buffers.
_WAITING_BYTES = 1 << 29
#: Source of reports that set a part aside for the acceptance test.
ACCEPTANCE = "acceptance"
#: Archived parts that are looked at a second time, the newest.
_MOST_WAITING = 2000
#: Parts taken by the thread between two writes of what it knows.
_SAVE_EVERY = 50


@dataclass(slots=True)
class Cost:
    """What harvest costs the verdict path, processor time of the line's thread alone."""

    parts: int = 0
    total_ns: int = 0
    most_ns: int = 0

    def add(self, spent_ns: int) -> None:
        """Count one part."""
        self.parts += 1
        self.total_ns += spent_ns
        self.most_ns = max(self.most_ns, spent_ns)

    def report(self) -> dict[str, Any]:
        """Return the figures in milliseconds."""
        mean = self.total_ns / self.parts / 1e6 if self.parts else 0.0
        return {"parts": self.parts, "mean_ms": round(mean, 4), "max_ms": round(self.most_ns / 1e6, 4)}


class Harvester:
    """See the module. `offer` is the line thread's, `run_once` an errand's; the learning store takes both."""

    def __init__(
        self,
        line: LineStore,
        learning: LearningStore,
        state: StateDir,
        parts: PhysicalParts | None = None,
    ) -> None:
        self._line = line
        self._learning = learning
        self._state = state
        self._parts = parts or PhysicalParts(line.reports)
        self._lock = threading.Lock()
        self._gathered: dict[str, Gathered] = {}
        self._queue: queue.Queue[tuple[FrameSet, Verdict] | None] = queue.Queue(_WAITING)
        self._reported_bad: queue.SimpleQueue[PartReport] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.passed_over = 0
        self.cost = Cost()

    @property
    def running(self) -> bool:
        """True while judged parts are taken in."""
        return self._thread is not None

    def offer(self, frames: FrameSet, verdict: Verdict, *, behind: bool = False) -> None:
        """Take a judged part in without waiting, unless the line is `behind`.

        Counted in `passed_over` when it is, or when the thread is behind; the archive may still have the part.
        """
        if self._thread is None:
            return
        if behind:
            self.passed_over += 1
            return
        started = time.thread_time_ns()
        try:
            if self._queue.qsize() >= max(1, _WAITING_BYTES // frames.nbytes):
                raise queue.Full
            self._queue.put_nowait((frames, verdict))
        except queue.Full:
            self.passed_over += 1
        self.cost.add(time.thread_time_ns() - started)

    def report(self, report: PartReport) -> None:
        """Keep what another station found; it counts from the next part or harvest on."""
        self._line.reports.report_part(report)
        if report.outcome is Outcome.NG and self._thread is not None:
            self._reported_bad.put(report)

    def start(self) -> None:
        """Harvest while parts run, in a thread of its own."""
        if self._thread is None:
            self._queue = queue.Queue(_WAITING)
            self._thread = threading.Thread(target=self._run, name="harvest", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop doing so, after the picture under way."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(timeout=30.0)
            if thread.is_alive():
                _LOG.warning("the harvest thread still compares parts; what it found is looked at again next time")
                return
            for gathered in list(self._gathered.values()):
                with gathered.turn:
                    self._send_away(gathered)
                self._save(gathered)

    def run_once(self, recipe_id: str) -> dict[str, Any]:
        """Look through the archive and return :meth:`summary`. Raises `NotFound` for an unknown recipe."""
        gathered = self._of(recipe_id)
        gathered.acceptance = gathered.acceptance or self._set_aside(recipe_id)
        waiting: list[ArchivedPart] = []
        after = ""
        while parts := self._line.archive.list(recipe_id=recipe_id, after_job=after, limit=200):
            after = parts[-1].job_id
            waiting += [part for part in parts if not self._take_archived(gathered, part)]
            del waiting[:-_MOST_WAITING]
        with gathered.turn:
            withdrawn.take_back(self._learning, gathered, self._bad_parts(self._line.reports.bad()))
            self._settle(gathered)
        if gathered.model.ready:
            # What came before there was anything to compare it with.
            for part in waiting:
                self._take_archived(gathered, part)
        self._save(gathered)
        return self.summary(recipe_id)

    def summary(self, recipe_id: str) -> dict[str, Any]:
        """Return what is there, what was taken and refused and why, what is covered, and what to see to.

        Raises `NotFound` for an unknown recipe.
        """
        gathered = self._of(recipe_id)
        backgrounds = self._learning.backgrounds(recipe_id)
        seeds = self._learning.seeds(recipe_id)
        sheet = memory.sheet_path(self._state, recipe_id)
        return {
            "recipe_id": recipe_id,
            "running": self.running,
            "backgrounds": len(backgrounds),
            "seeds": dict(Counter(seed.state.value for seed in seeds)),
            "withdrawn": len(self._learning.withdrawals.of(recipe_id)),
            "held_out_parts": len({b.part_id for b in backgrounds if b.split is Split.HELD_OUT}),
            "taken": dict(gathered.journal.taken),
            "refused": gathered.journal.refusals(),
            "passed_over": self.passed_over,
            "cost": self.cost.report(),
            "looked_at": gathered.journal.looked_at,
            "waiting": len(gathered.nursery),
            "reasons": gathered.journal.table() + withdrawn.rows(self._learning, recipe_id),
            "findings": gathered.journal.findings(len(backgrounds))
            + withdrawn.findings(self._learning, recipe_id, self._bad_parts(self._line.reports.bad())),
            "coverage": gathered.coverage.table(),
            "complete": gathered.coverage.complete,
            "groups": keeping.groups_of(seeds),
            "sheet": str(sheet) if sheet.exists() else "",
        }

    def _take_archived(self, gathered: Gathered, part: ArchivedPart) -> bool:
        """Look at an archived part; False when it is to be looked at again."""
        physical = self._parts.of(part.part_id, part.physical_part)
        lot = self._parts.lot(part.part_id, part.lot)
        shown = Shown(part.part_id, physical, part.outcome, part.digest, part.at, lot)
        with gathered.turn:
            if self._is_known(gathered, shown):
                return True
            try:
                stack = read_stack(self._state.resolve(part.path), part.digest)
            except DataError as error:
                _LOG.warning("harvest passes over %s: %s", part.path, error)
                gathered.known[part.digest] = physical
                gathered.journal.refused("unreadable", part.part_id)
                return True
            return self._look_at(gathered, stack, shown)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        seen = 0
        while (item := self._queue.get()) is not None:
            frames, verdict = item
            stack = stored(frames)
            try:
                physical = self._parts.of(frames.part_id, verdict.physical_part)
                gathered = self._of(frames.recipe_id)
                lot = self._parts.lot(frames.part_id, verdict.lot)
                shown = Shown(frames.part_id, physical, verdict.outcome, verdict.frames_digest, verdict.created_at, lot)
                self._take_back()
                with gathered.turn:
                    if not self._is_known(gathered, shown):
                        self._look_at(gathered, stack, shown)
                    if gathered.model.ready and len(gathered.nursery):
                        self._settle(gathered)
                seen += 1
                if seen % _SAVE_EVERY == 0:
                    self._save(gathered)
            except (InspectdError, OSError) as error:
                # The line goes on without its harvest; the archive still has the picture.
                _LOG.warning("harvest passes over part %s: %s", frames.part_id, error)

    def _of(self, recipe_id: str) -> Gathered:
        with self._lock:
            if recipe_id not in self._gathered:
                recipe = self._line.recipes.get(recipe_id)
                gathered = memory.recall(recipe, self._state, self._learning)
                gathered.acceptance = self._set_aside(recipe_id)
                self._gathered[recipe_id] = gathered
            return self._gathered[recipe_id]

    def _is_known(self, gathered: Gathered, shown: Shown) -> bool:
        """Tell whether these very pixels were seen before; count them when they came under another part's name."""
        first = gathered.known.get(shown.image_digest)
        if first is None:
            return False
        again = (shown.image_digest, shown.physical)
        if first != shown.physical and again not in gathered.repeated:
            gathered.repeated.add(again)
            gathered.journal.refused("the picture of another part came again", shown.part_id)
        return True

    def _look_at(self, gathered: Gathered, stack: StoredStack, shown: Shown, *, learned: float | None = None) -> bool:
        """Look at one picture and keep what is worth it; False when it is to be looked at again."""
        report = self._last_report(shown.part_id)
        gathered.acceptance |= report is not None and report.source == ACCEPTANCE
        odd = gathered.oddity.deviations(stack.pixels) if self._comparable(gathered, stack) else None
        subject = Subject(stack, shown.part_id, shown.outcome, report, learned, odd)
        finding = examine(subject, gathered.recipe, gathered.quality, gathered.model)
        if finding.view is not None and learned is None and finding.proposed_by in ("", "anomaly"):
            gathered.model.note(finding.view)
        if finding.kind == "wait":
            return self._wait(gathered, stack, shown, finding)
        gathered.known[shown.image_digest] = shown.physical
        split = self._side(gathered, stack, shown, report) if finding.kind != "refused" else Split.LEARN
        if finding.kind == "background" and split is Split.LEARN and learned is None and finding.mask is not None:
            gathered.model.add(stack.pixels, finding.mask, finding.view)
        if finding.kind == "background":
            remember(finding, stack, gathered.quality)
        finding = keeping.worth(gathered, finding, split)
        if finding.kind == "refused":
            gathered.journal.refused(finding.reason, shown.part_id)
            gathered.sheet.add(stack.pixels, f"refused: {finding.reason}")
            return True
        try:
            keeping.keep(self._learning, gathered, stack, shown, split, finding)
        except SplitError as error:
            # Its lot stands on one side, its near-duplicate on the other.
            _LOG.warning("harvest leaves part %s out: %s", shown.part_id, error)
            gathered.journal.refused("its lot or its twin stands on the other side of the split", shown.part_id)
        return True

    @staticmethod
    def _comparable(gathered: Gathered, stack: StoredStack) -> bool:
        shape = (len(gathered.recipe.channels), gathered.recipe.height, gathered.recipe.width)
        return gathered.model.ready and stack.pixels.shape == shape

    def _wait(self, gathered: Gathered, stack: StoredStack, shown: Shown, finding: Finding) -> bool:
        """Let a picture wait: in the nursery while the model is young, else for a report; False for the latter."""
        gathered.journal.passed(shown.part_id)
        if not finding.young or finding.mask is None or shown.outcome is Outcome.NG:
            return False
        gathered.known[shown.image_digest] = shown.physical
        # By its name alone; whether it is another part's twin is asked when it is kept.
        side = self._learning.split_of(gathered.recipe.recipe_id, shown.physical)
        side = side or self._learning.split_book.choose(gathered.recipe.recipe_id, shown.physical, shown.lot)
        teaches = side is Split.LEARN or gathered.acceptance
        gathered.nursery.add(shown, stack, finding.mask, teaches=teaches)
        if gathered.nursery.full:
            self._settle(gathered)
        return True

    def _settle(self, gathered: Gathered) -> None:
        """Decide on all that waits in the nursery, when there is enough or others taught the model meanwhile."""
        nursery = gathered.nursery
        learned: list[float | None] = [None] * len(nursery)
        if not gathered.model.ready:
            if nursery.teachers < LEAST:
                self._send_away(gathered)
                return
            _LOG.warning(
                "nobody reported a good part of %s: harvest believes those of %d parts that are most like the others",
                gathered.recipe.recipe_id,
                len(nursery),
            )
            learned = nursery.settle(gathered.model)
            for (_, stack, _), score in zip(nursery.items(), learned, strict=True):
                if score is not None:
                    gathered.quality.book.learn(stack.pixels)
        for (shown, stack, _), score in zip(nursery.items(), learned, strict=True):
            self._look_at(gathered, stack, shown, learned=score)
        nursery.clear()

    def _send_away(self, gathered: Gathered) -> None:
        # Too few to tell, or no time left: the archive shows them again next time.
        for shown, _, _ in gathered.nursery.items():
            gathered.known.pop(shown.image_digest, None)
        gathered.nursery.clear()

    def _save(self, gathered: Gathered) -> None:
        with gathered.turn:
            gathered.save(self._state)

    def _side(self, gathered: Gathered, stack: StoredStack, shown: Shown, report: PartReport | None) -> Split:
        """Return what the part may be used for; a near-duplicate stands where its twin does."""
        return self._learning.side_for(
            gathered.recipe.recipe_id,
            shown.physical,
            stack,
            lot=shown.lot,
            set_aside=report is not None and report.source == ACCEPTANCE,
            # Where somebody set parts aside, all others are there to be learned from.
            otherwise=Split.LEARN if gathered.acceptance else None,
        )

    def _set_aside(self, recipe_id: str) -> bool:
        """Tell whether any archived part of the recipe was reported by the source `ACCEPTANCE`."""
        return any(
            report.source == ACCEPTANCE
            for part in self._line.archive.list(recipe_id=recipe_id, limit=10_000)
            for report in self._line.reports.of_part(part.part_id)
        )

    def _take_back(self) -> None:
        """Withdraw backgrounds of parts that were reported bad while parts ran."""
        reports: list[PartReport] = []
        while not self._reported_bad.empty():
            reports.append(self._reported_bad.get())
        if not reports:
            return
        bad = self._bad_parts(reports)
        for gathered in list(self._gathered.values()):
            with gathered.turn:
                withdrawn.take_back(self._learning, gathered, bad)

    def _bad_parts(self, reports: Iterable[PartReport]) -> dict[str, PartReport]:
        """Return the reports by physical part."""
        found = {}
        for report in reports:
            archived = self._line.archive.list(part_id=report.part_id, limit=1)
            said = report.physical_part or (archived[0].physical_part if archived else "")
            found[self._parts.of(report.part_id, said)] = report
        return found

    def _last_report(self, part_id: str) -> PartReport | None:
        reports = self._line.reports.of_part(part_id)
        return reports[-1] if reports else None
