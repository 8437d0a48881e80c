"""Work side by side: a process for each piece, one thread in it, the pictures shared.

    chores -> shelf (pictures written once, mapped by all) -> processes -> results in the order of the chores

Fits of this network gain little from threads: on an idle machine an update took 0.091 s with one and 0.061 s with
four; with threads that sleep while they wait, as beside a line they must, 0.19 s. Pieces that don't need each other
(the folds of a cross-validation, the fit to everything) run as processes instead: four of one thread took 0.10 s an
update each. The results do not depend on how many run at a time.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields
from multiprocessing.sharedctypes import RawArray, RawValue
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import numpy as np
import torch

from cell.defects import Sample
from cell.errors import JobCancelled, JobError
from cell.jobs import Progress
from cell.store.files import disk_errors
from trainer.child import die_with
from trainer.fit import Cancelled, ReportProgress, ignore_progress, never_cancelled

_PREFIX = "crew-"
_POLL_S = 0.2
_NOTE_BYTES = 80

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Chore(Protocol[T_co]):
    """A piece of work that needs no other; it can be pickled, and so can what it returns or raises."""

    def __call__(self, progress: ReportProgress, cancelled: Cancelled, /) -> T_co:
        """Do it."""


def side_by_side(
    chores: Sequence[Chore[T]],
    workers: int,
    stage: str,
    *,
    progress: ReportProgress = ignore_progress,
    cancelled: Cancelled = never_cancelled,
    folder: Path | None = None,
) -> list[T]:
    """Do all chores, `workers` at a time, and return their results in order.

    :param stage: of the reports, which add up what the chores say; with one worker each chore's own stages are told.
    :param folder: an existing folder for the shared pictures while it lasts; else where temporary files go.
    :raises JobCancelled: when `cancelled` says so and the chores have stopped.
    :raises JobError: when a process was killed.
    """
    workers = min(workers, len(chores))
    if workers <= 1:
        return [chore(part_of(progress, index, len(chores)), cancelled) for index, chore in enumerate(chores)]
    _sweep(folder)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder) as scratch:
        _shelve(chores, Path(scratch))
        results = _work(len(chores), workers, Path(scratch), stage, progress, cancelled)
    return [pickle.loads(result) for result in results]  # noqa: S301 - written by this very module


def _sweep(folder: Path | None) -> None:
    # A killed job leaves its pictures behind, and one job at a time works in a folder.
    for left in folder.glob(f"{_PREFIX}*") if folder else ():
        shutil.rmtree(left, ignore_errors=True)


def part_of(progress: ReportProgress, index: int, count: int) -> ReportProgress:
    """Return a report for the chore `index` of `count` that follow one another."""

    def report(own: Progress) -> None:
        done, total = own.done + index * own.total, count * own.total
        progress(own.model_copy(update={"done": done, "total": total}))

    return report


class _Shelf(pickle.Pickler):
    """Pickles chores; their pictures it writes once, as files that every process maps."""

    def __init__(self, stream: BinaryIO, folder: Path, known: dict[int, str]) -> None:
        super().__init__(stream, protocol=pickle.HIGHEST_PROTOCOL)
        self._folder, self._known = folder, known

    def persistent_id(self, obj: Any) -> tuple[str, dict[str, Any]] | None:
        """Return where a sample's pictures lie and all else of it; None for anything that is no sample."""
        if not isinstance(obj, Sample):
            return None
        name = self._known.get(id(obj))
        if name is None:
            name = self._known[id(obj)] = str(len(self._known))
            np.save(self._folder / f"{name}-stack.npy", obj.stack)
            np.save(self._folder / f"{name}-labels.npy", obj.labels)
        rest = {one.name: getattr(obj, one.name) for one in fields(obj) if one.name not in {"stack", "labels"}}
        return name, rest


class _Borrower(pickle.Unpickler):
    """Unpickles chores with the pictures on the shelf, read only."""

    def __init__(self, stream: BinaryIO, folder: Path) -> None:
        super().__init__(stream)
        self._folder = folder
        self._known: dict[str, Sample] = {}

    def persistent_load(self, pid: tuple[str, dict[str, Any]]) -> Sample:
        """Return a sample; the same one for the same place."""
        name, rest = pid
        if name not in self._known:
            stack = np.load(self._folder / f"{name}-stack.npy", mmap_mode="r")
            labels = np.load(self._folder / f"{name}-labels.npy", mmap_mode="r")
            self._known[name] = Sample(stack, labels, **rest)
        return self._known[name]


def _shelve(chores: Sequence[Chore[T]], folder: Path) -> None:
    known: dict[int, str] = {}
    with disk_errors(folder):
        for index, chore in enumerate(chores):
            with (folder / f"{index}.chore").open("wb") as stream:
                _Shelf(stream, folder, known).dump(chore)


class _Board:
    """What processes tell each other without waiting: plain shared memory, so that a killed one locks nobody out."""

    def __init__(self, chores: int) -> None:
        self.stop = RawValue(ctypes.c_bool, False)
        self._counts = RawArray(ctypes.c_longlong, 2 * chores)  # done and total of each
        self._notes = RawArray(ctypes.c_ubyte, _NOTE_BYTES * chores)

    def tell(self, index: int, progress: Progress) -> None:
        """Write down how far a chore is."""
        self._counts[2 * index], self._counts[2 * index + 1] = progress.done, progress.total
        note = progress.note.encode()[:_NOTE_BYTES]
        self._notes[index * _NOTE_BYTES : (index + 1) * _NOTE_BYTES] = list(note.ljust(_NOTE_BYTES, b"\0"))

    def read(self) -> tuple[int, int, str]:
        """Return what is done, of how much, and the note of the chore that began last."""
        done, totals = self._counts[0::2], self._counts[1::2]
        # One that has not begun counts as long as the longest.
        total = sum(own or max(totals) for own in totals)
        begun = max((index for index, own in enumerate(totals) if own), default=0)
        raw = bytes(self._notes[begun * _NOTE_BYTES : (begun + 1) * _NOTE_BYTES])
        return sum(done), total, raw.rstrip(b"\0").decode(errors="ignore")


@dataclass(slots=True)
class _Place:
    """What a worker knows, once it has joined."""

    board: _Board
    folder: Path
    at_work: bool = False
    told_to_leave: bool = False


_place: _Place | None = None


def _join(parent: int, board: _Board, folder: Path) -> None:
    die_with(parent)
    torch.set_num_threads(1)
    global _place
    place = _place = _Place(board, folder)

    def leave(*_: object) -> None:
        place.told_to_leave = True
        if not place.at_work:
            os._exit(1)

    # The signal goes to the whole job, and a broken pool sends it too: the chore comes to a safe point, then all ends.
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)


def _do(index: int) -> bytes:
    place = _place
    if place is None:
        raise JobError("a process was given work before it had joined; resume the job")

    def told_to_stop() -> bool:
        return place.told_to_leave or bool(place.board.stop.value)

    with (place.folder / f"{index}.chore").open("rb") as stream:
        chore = _Borrower(stream, place.folder).load()
    place.at_work = True
    try:
        result = chore(lambda progress: place.board.tell(index, progress), told_to_stop)
    finally:
        place.at_work = False
        if place.told_to_leave:
            # Nobody may listen any more: waiting for the pool's word would be waiting for ever.
            os._exit(1)
    # Pickled here: left to the pool, tensors would travel as open files that end with this process.
    return pickle.dumps(result)


def _work(
    count: int, workers: int, folder: Path, stage: str, progress: ReportProgress, cancelled: Cancelled
) -> list[bytes]:
    board = _Board(count)
    context = multiprocessing.get_context("spawn")
    started, first, told, stopped = time.monotonic(), 0, (-1, ""), False
    with ProcessPoolExecutor(workers, context, _join, (os.getpid(), board, folder)) as pool:
        try:
            futures = [pool.submit(_do, index) for index in range(count)]
            pending: set[Future[bytes]] = set(futures)
            while pending:
                ended, pending = wait(pending, _POLL_S, FIRST_EXCEPTION)
                stopped = stopped or cancelled()
                if stopped or any(future.exception() for future in ended):
                    board.stop.value = True
                done, total, note = board.read()
                first = first or done
                left = (time.monotonic() - started) / (done - first) * (total - done) if done > first else None
                if (done, note) != told:
                    progress(Progress(stage=stage, done=done, total=total, seconds_left=left, note=note))
                    told = done, note
        finally:
            board.stop.value = True  # leaving the pool waits for its processes
    if stopped:
        raise JobCancelled("the job was stopped; resume it to go on")
    return _results(futures)


def _results(futures: Sequence[Future[bytes]]) -> list[bytes]:
    errors = [error for future in futures if (error := future.exception()) is not None]
    # One that failed has the others stop: their word of having been stopped is not the news.
    errors.sort(key=lambda error: isinstance(error, JobCancelled))
    if not errors:
        return [future.result() for future in futures]
    if isinstance(errors[0], BrokenProcessPool):
        raise JobError(
            "a process of this job was killed, most likely because memory ran out; lower trainer.threads, which is how "
            "many run side by side, and resume the job"
        ) from errors[0]
    raise errors[0]
