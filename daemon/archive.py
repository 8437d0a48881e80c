"""Pixels behind the verdict: which parts keep their frames, written by a thread of its own.

All NG and FAULT parts are kept, and the share of OK parts that the recipe says, chosen by their job's number so that a
restart chooses the same; of the other OK parts the last N form a ring. The queue is bounded in parts: when the disk is
slower than the line, the line goes on and what is not written is counted and raised as a condition. The same thread
gives old pictures up, as :mod:`daemon.retention` says.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import queue
import threading
from collections import deque
from dataclasses import dataclass

from cell.clock import Monotonic, monotonic
from cell.errors import DataError, DiskFull, StoreError
from cell.frames import FrameSet
from cell.recipes import ArchiveRule
from cell.store.files import remove
from cell.store.images import stored, write_stack
from cell.store.layout import StateDir
from cell.store.line import LineStore
from cell.store.line_records import ArchivedPart
from cell.verdicts import Outcome, Verdict
from daemon.notices import Conditions
from daemon.retention import Retention

_LOG = logging.getLogger(__name__)

#: Parts that may wait for the disk.
QUEUE_PARTS = 32
#: Memory that they may hold of the camera's frame buffers; large frames wait in smaller number.
_QUEUE_BYTES = 1 << 30
_PAGE = 1000
#: How often room is looked at, and how often age and number are, seconds.
_LOOK_S, _RULE_S = 2.0, 60.0


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    frames: FrameSet
    verdict: Verdict
    rule: ArchiveRule


class Archive:
    """Takes frames from the line without waiting and writes them behind it.

    :param retention: says when nothing is written, so that verdicts still find room, and what is given up.
    """

    def __init__(
        self, store: LineStore, conditions: Conditions, retention: Retention, clock: Monotonic = monotonic
    ) -> None:
        self._store = store
        self._state: StateDir = store.state
        self._conditions = conditions
        self._retention = retention
        self._clock = clock
        self._looked = self._ruled = -1e9
        self._helped = False  # giving pictures up got the archive out of the last full disk
        self._queue: queue.Queue[_Entry | None] = queue.Queue(QUEUE_PARTS)
        self._rings: dict[str, deque[ArchivedPart]] = {}
        self._thread = threading.Thread(target=self._run, name="archive")
        self.written = 0
        self.dropped = 0
        self.failed = 0
        self.given_up = 0

    @property
    def waiting(self) -> int:
        """Parts in the queue."""
        return self._queue.qsize()

    def start(self) -> None:
        """Start the writer. Raises `StoreError` when the state directory can't even be looked at."""
        self._retention.restore_ballast()
        self._thread.start()

    def offer(self, frames: FrameSet, verdict: Verdict, rule: ArchiveRule) -> None:
        """Take over a part's frames if the rule keeps them. Never waits."""
        if not keeps_for_good(verdict, rule) and rule.ring == 0:
            return
        try:
            if self._queue.qsize() >= max(1, _QUEUE_BYTES // frames.nbytes):
                raise queue.Full
            self._queue.put_nowait(_Entry(frames, verdict, rule))
        except queue.Full:
            self.dropped += 1
            self._conditions.raise_(
                "archive-behind",
                f"frames of part {verdict.part_id} and perhaps later ones are not archived because the disk is slower "
                "than the line; lower the recipe's ok_share and ring or use a faster disk",
            )

    def stop(self, timeout_s: float) -> bool:
        """Write what waits, then end; tell whether that was done in time."""
        if not self._thread.is_alive():
            return True
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return False
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            try:
                entry = self._queue.get(timeout=_LOOK_S)
            except queue.Empty:
                self._tidy()
                continue
            if entry is None:
                return
            self._keep(entry)
            self._tidy()

    def _keep(self, entry: _Entry) -> None:
        try:
            try:
                self._write(entry)
            except DiskFull:
                self._get_out()
                self._write(entry)
        except DiskFull as error:
            self.failed += 1
            self._full(str(error), helped=False)
        except (StoreError, DataError) as error:
            self.failed += 1
            self._conditions.raise_("archive", f"frames can't be archived: {error}")
        else:
            self._conditions.resolve("archive")
            if self._queue.qsize() < QUEUE_PARTS // 2:
                self._conditions.resolve("archive-behind")

    def _tidy(self) -> None:
        """Give up what is to go, now and then. What can't be is raised as a condition: the archive goes on."""
        now = self._clock()
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        try:
            if self._retention.full or not self._retention.restore_ballast():
                self._get_out()
            gone = self._retention.keep_room()
            if now - self._ruled >= _RULE_S:
                self._ruled = now
                gone += self._retention.by_rule()
            self._went(gone)
            self._retention.require_room()
        except DiskFull as error:
            self._full(str(error), helped=False)
        except StoreError as error:
            self._conditions.raise_("retention", f"old pictures can't be given up: {error}")
        else:
            self._conditions.resolve("retention")
            self._conditions.resolve("disk-full")

    def _get_out(self) -> None:
        """Make room on a full disk and say so. Raises `StoreError` when the stores can't even be asked."""
        gone, freed = self._retention.get_out()
        self._went(gone)
        if gone:
            self._full(
                f"the disk of {self._state.root} was full; to go on, {freed / 2**20:.1f} MiB of old pictures ({gone}) "
                "were given up; free space on it or let archive.max_parts keep fewer",
                helped=True,
            )

    def _full(self, sentence: str, *, helped: bool) -> None:
        if helped is not self._helped:
            self._conditions.resolve("disk-full")  # it is another sentence that a person must read now
        self._helped = helped
        self._conditions.raise_("disk-full", sentence)

    def _went(self, count: int) -> None:
        self.given_up += count
        if count:
            self._rings.clear()  # some of them may be gone: found anew on disk

    def _write(self, entry: _Entry) -> None:
        self._retention.require_room()
        frames, verdict = entry.frames, entry.verdict
        stack = stored(frames, job_id=verdict.job_id, outcome=str(verdict.outcome), model_digest=verdict.model_digest)
        path = self._state.archive_path(verdict.recipe_id, verdict.job_id, verdict.created_at)
        # Uncompressed: a codec would take processor time from the line for pixels that are mostly noise.
        pixels_digest = write_stack(path, stack, compression="none")
        part = ArchivedPart(
            job_id=verdict.job_id,
            part_id=verdict.part_id,
            recipe_id=verdict.recipe_id,
            path=self._state.relative(path),
            digest=pixels_digest,
            outcome=verdict.outcome,
            size_bytes=path.stat().st_size,
            emulated=frames.emulated,
            at=verdict.created_at,
            physical_part=verdict.physical_part,
            lot=verdict.lot,
        )
        try:
            self._store.archive.add(part)
        except StoreError:
            with contextlib.suppress(StoreError):
                remove((path,))  # no row will ever name it
            raise
        self.written += 1
        if not keeps_for_good(verdict, entry.rule):
            self._turn_ring(part, entry.rule)

    def _turn_ring(self, part: ArchivedPart, rule: ArchiveRule) -> None:
        ring = self._rings.get(part.recipe_id)
        if ring is None:
            ring = self._rings[part.recipe_id] = self._ring_on_disk(part.recipe_id, rule)
        else:
            ring.append(part)
        surplus = [ring.popleft() for _ in range(len(ring) - rule.ring)]
        if surplus:
            self._store.archive.delete(surplus)

    def _ring_on_disk(self, recipe_id: str, rule: ArchiveRule) -> deque[ArchivedPart]:
        ring: deque[ArchivedPart] = deque()
        after = ""
        while page := self._store.archive.list(recipe_id=recipe_id, outcome=Outcome.OK, after_job=after, limit=_PAGE):
            ring.extend(part for part in page if not _in_share(part.job_id, rule.ok_share))
            after = page[-1].job_id
        return ring


def keeps_for_good(verdict: Verdict, rule: ArchiveRule) -> bool:
    """Tell whether a part's frames are kept, whatever comes after."""
    return verdict.outcome is not Outcome.OK or _in_share(verdict.job_id, rule.ok_share)


def _in_share(job_id: str, share: float) -> bool:
    number = int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:4], "big")
    return number < share * 2**32
