"""Harvest: from judged parts to backgrounds and seed proposals, while the line runs and no person picks files.

::

    offer(frames, verdict) --bounded queue--> thread --> look --> background | proposal | refusal with its reason
    run_once(recipe)       --archive-------------------> look --> the same

A part that another station reported bad becomes a seed proposal; one reported good, or unlike nothing that is known to
be good, becomes a background. What a part may be used for is decided once for the physical part before anything is
learned: parts reported by the source ``acceptance`` are held out, and where nobody set parts aside so, a fifth of all.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import queue
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cell.clock import utc_now
from cell.defects import Mask, Split
from cell.errors import DataError, InspectdError
from cell.frames import FrameSet, StoredStack
from cell.imaging.background import BackgroundModel
from cell.imaging.registration import locate
from cell.recipes import Recipe
from cell.store.images import read_stack, stored
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.store.line import LineStore
from cell.store.line_records import ArchivedPart, PartReport
from cell.verdicts import Outcome, Verdict
from daemon.harvest_quality import Finding, Quality, examine
from daemon.harvest_sheet import ContactSheet
from daemon.physical import PhysicalParts

_LOG = logging.getLogger(__name__)

#: Frame sets waiting for the thread; more are left to `run_once`, which reads them from the archive.
_WAITING = 8
#: Memory that they may hold of the camera's frame buffers.
_WAITING_BYTES = 1 << 29
#: Share of physical parts that are held out where nobody set parts aside.
HELD_OUT_SHARE = 0.2
#: Source of reports that set a part aside for the acceptance test.
ACCEPTANCE = "acceptance"
#: Parts from which harvest may begin without any report, and how many it compares.
_LEAST_UNREPORTED, _MOST_UNREPORTED = 24, 64
_MOST_BYTES = 256 << 20
#: Archived parts that are looked at a second time, the newest.
_MOST_WAITING = 2000
#: Good parts kept of one recipe on either side of the split; later ones are refused as "enough".
MOST_BACKGROUNDS = 600


@dataclass(slots=True)
class _Gathered:
    """What the harvester knows of one recipe."""

    recipe: Recipe
    model: BackgroundModel
    quality: Quality = field(default_factory=Quality)
    taken: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    known: dict[str, str] = field(default_factory=dict)  # digest of a picture taken or refused -> its physical part
    repeated: set[tuple[str, str]] = field(default_factory=set)  # digests that came again, and of which part
    backgrounds: Counter[Split] = field(default_factory=Counter)
    acceptance: bool = False
    sheet: ContactSheet = field(default_factory=ContactSheet)
    #: One picture at a time, by the harvest thread or by a run through the archive.
    turn: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class _Subject:
    """What one picture shows, and how it was judged."""

    part_id: str
    physical: str
    outcome: Outcome
    image_digest: str


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
        self._gathered: dict[str, _Gathered] = {}
        self._queue: queue.Queue[tuple[FrameSet, Verdict] | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
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

    def report(self, report: PartReport) -> None:
        """Keep what another station found; it counts from the next harvest on."""
        self._line.reports.report_part(report)

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
            for gathered in list(self._gathered.values()):
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
        if waiting and not gathered.model.ready:
            self._believe_the_most(gathered, waiting)
        if gathered.model.ready:
            # What came before there was anything to compare it with.
            for part in waiting:
                self._take_archived(gathered, part)
        self._save(gathered)
        return self.summary(recipe_id)

    def _take_archived(self, gathered: _Gathered, part: ArchivedPart) -> bool:
        """Look at an archived part; False when it is to be looked at again."""
        stack = self._read(gathered, part)
        return stack is None or self._take(
            gathered, stack, _Subject(part.part_id, self._physical(part), part.outcome, part.digest)
        )

    def _read(self, gathered: _Gathered, part: ArchivedPart) -> StoredStack | None:
        if part.digest in gathered.known:
            self._came_again(gathered, self._physical(part), part.digest)
            return None
        try:
            return read_stack(self._state.resolve(part.path), part.digest)
        except DataError as error:
            _LOG.warning("harvest passes over %s: %s", part.path, error)
            gathered.refused["unreadable"] += 1
            return None

    def _believe_the_most(self, gathered: _Gathered, waiting: list[ArchivedPart]) -> None:
        """Begin without any report: of many parts, the half that is most like all the others is good.

        Needs `_LEAST_UNREPORTED` parts that no judge called bad; a line that makes more bad parts than good ones would
        learn the wrong thing, so the finding is logged.
        """
        recipe = gathered.recipe
        most = _MOST_BYTES // (recipe.height * recipe.width * len(recipe.channels) * (2 if recipe.bit_depth > 8 else 1))
        candidates: list[tuple[ArchivedPart, StoredStack, Mask]] = []
        for part in waiting:
            if len(candidates) >= min(_MOST_UNREPORTED, max(_LEAST_UNREPORTED, most)):
                break
            stack = self._read(gathered, part) if part.outcome is not Outcome.NG else None
            place = locate(stack.pixels, gathered.recipe.carrier_max_dn) if stack is not None else None
            if stack is not None and place is not None and self._last_report(part.part_id) is None:
                candidates.append((part, stack, place.mask))
        if len(candidates) < _LEAST_UNREPORTED:
            return
        everything = BackgroundModel(len(gathered.recipe.channels), gathered.recipe.bit_depth)
        for _, stack, mask in candidates:
            everything.add(stack.pixels, mask)
        scores = [everything.score(stack.pixels, mask) for _, stack, mask in candidates]
        middle = sorted(scores)[len(scores) // 2]
        _LOG.warning(
            "nobody reported a good part of %s: harvest believes the half of %d parts that is most like the others",
            gathered.recipe.recipe_id,
            len(candidates),
        )
        believed = PartReport(part_id="believed", outcome=Outcome.OK, source="harvest", at=utc_now())
        for (part, stack, _), score in zip(candidates, scores, strict=True):
            if score < middle:
                subject = _Subject(part.part_id, self._physical(part), part.outcome, part.digest)
                self._take(gathered, stack, subject, believed)

    def summary(self, recipe_id: str) -> dict[str, Any]:
        """Return what is there, and what this process took and refused, by reason."""
        gathered = self._gathered.get(recipe_id)
        backgrounds = self._learning.backgrounds(recipe_id)
        seeds = self._learning.seeds(recipe_id)
        return {
            "recipe_id": recipe_id,
            "backgrounds": len(backgrounds),
            "seeds": dict(Counter(seed.state.value for seed in seeds)),
            "held_out_parts": len({b.part_id for b in backgrounds if b.split is Split.HELD_OUT}),
            "taken": dict(gathered.taken) if gathered else {},
            "refused": dict(gathered.refused) if gathered else {},
            "passed_over": self.passed_over,
        }

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        while (item := self._queue.get()) is not None:
            frames, verdict = item
            stack = stored(frames)
            try:
                physical = self._parts.of(frames.part_id, verdict.physical_part)
                subject = _Subject(frames.part_id, physical, verdict.outcome, verdict.frames_digest)
                self._take(self._of(frames.recipe_id), stack, subject)
            except InspectdError as error:
                # The line goes on without its harvest; the archive still has the picture.
                _LOG.warning("harvest passes over part %s: %s", frames.part_id, error)

    def _of(self, recipe_id: str) -> _Gathered:
        with self._lock:
            if recipe_id not in self._gathered:
                self._gathered[recipe_id] = self._recalled(self._line.recipes.get(recipe_id))
            return self._gathered[recipe_id]

    def _recalled(self, recipe: Recipe) -> _Gathered:
        """Return what earlier harvests left behind."""
        path = self._model_path(recipe.recipe_id)
        model = BackgroundModel(len(recipe.channels), recipe.bit_depth)
        if path.exists():
            try:
                model = BackgroundModel.load(path)
            except DataError as error:
                _LOG.warning("%s", error)
        gathered = _Gathered(recipe, model)
        kept = self._learning.backgrounds(recipe.recipe_id)
        for background in kept:
            gathered.known[background.image.digest] = background.part_id
            gathered.backgrounds[background.split] += 1
        for seed in self._learning.seeds(recipe.recipe_id):
            gathered.known[seed.image.digest] = seed.part_id
        if not model.ready:
            for background in [one for one in kept if one.split is Split.LEARN][-_MOST_UNREPORTED:]:
                pixels = self._learning.read_image(background.image).pixels
                place = locate(pixels, recipe.carrier_max_dn)
                if place is not None and pixels.shape[0] == model.channels:
                    model.add(pixels, place.mask)
        gathered.acceptance = self._set_aside(recipe.recipe_id)
        return gathered

    def _physical(self, part: ArchivedPart) -> str:
        return self._parts.of(part.part_id, part.physical_part)

    def _take(
        self, gathered: _Gathered, stack: StoredStack, subject: _Subject, believed: PartReport | None = None
    ) -> bool:
        """Look at one picture and keep what is worth it; False when it is to be looked at again."""
        with gathered.turn:
            return self._look_at(gathered, stack, subject, believed)

    def _look_at(self, gathered: _Gathered, stack: StoredStack, subject: _Subject, believed: PartReport | None) -> bool:
        if subject.image_digest in gathered.known:
            self._came_again(gathered, subject.physical, subject.image_digest)
            return True
        report = self._last_report(subject.part_id) or believed
        gathered.acceptance |= report is not None and report.source == ACCEPTANCE
        finding = examine(stack, gathered.recipe, gathered.quality, gathered.model, report, subject.outcome)
        split = self._split(gathered, subject.physical, report)
        if finding.kind == "background" and gathered.backgrounds[split] >= MOST_BACKGROUNDS:
            finding = Finding("refused", "enough good parts of this kind are kept")
        if finding.kind == "wait":
            return False  # nobody has said anything about the part yet
        gathered.known[subject.image_digest] = subject.physical
        if finding.kind == "refused":
            gathered.refused[finding.reason] += 1
            gathered.sheet.add(stack.pixels, f"refused: {finding.reason}")
            return True
        self._keep(gathered, stack, subject.physical, split, finding)
        return True

    def _came_again(self, gathered: _Gathered, physical: str, image_digest: str) -> None:
        # The same pixels under another part's name: a camera that is frozen, or a part that was named twice.
        if gathered.known[image_digest] != physical and (image_digest, physical) not in gathered.repeated:
            gathered.repeated.add((image_digest, physical))
            gathered.refused["the picture of another part came again"] += 1

    def _save(self, gathered: _Gathered) -> None:
        recipe_id = gathered.recipe.recipe_id
        with gathered.turn:
            if gathered.model.ready:
                gathered.model.save(self._model_path(recipe_id))
            gathered.sheet.save(self._state.backgrounds / f"{recipe_id}.sheet.png")

    def _keep(self, gathered: _Gathered, stack: StoredStack, physical: str, split: Split, finding: Finding) -> None:
        recipe = gathered.recipe
        if finding.kind == "background":
            self._learning.add_background(recipe.recipe_id, physical, stack, split, quality=finding.quality)
            gathered.backgrounds[split] += 1
            if split is Split.LEARN and finding.mask is not None:
                gathered.model.add(stack.pixels, finding.mask)
        elif finding.mask is not None:
            self._learning.propose_seed(
                recipe.recipe_id, physical, stack, finding.mask, finding.defect_class or recipe.class_names[0], split
            )
        gathered.taken[finding.kind] += 1
        gathered.sheet.add(stack.pixels, finding.kind, finding.mask if finding.kind == "seed" else None)

    def _split(self, gathered: _Gathered, physical: str, report: PartReport | None) -> Split:
        known = self._learning.split_of(gathered.recipe.recipe_id, physical)
        if known is not None:
            return known
        if report is not None and report.source == ACCEPTANCE:
            return Split.HELD_OUT
        if gathered.acceptance:
            return Split.LEARN
        share = int.from_bytes(hashlib.sha256(physical.encode()).digest()[:4]) / 2**32
        return Split.HELD_OUT if share < HELD_OUT_SHARE else Split.LEARN

    def _set_aside(self, recipe_id: str) -> bool:
        """Tell whether any archived part of the recipe was reported by the source `ACCEPTANCE`."""
        return any(
            report.source == ACCEPTANCE
            for part in self._line.archive.list(recipe_id=recipe_id, limit=10_000)
            for report in self._line.reports.of_part(part.part_id)
        )

    def _last_report(self, part_id: str) -> PartReport | None:
        reports = self._line.reports.of_part(part_id)
        return reports[-1] if reports else None

    def _model_path(self, recipe_id: str) -> Path:
        return self._state.backgrounds / f"{recipe_id}.model.npz"
