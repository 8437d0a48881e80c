"""Candidates made side by side: a process each, in their order, the same ones as one process makes.

    scene, looks -> shelf (large pictures written once, mapped by all) -> processes -> parcels -> drafts, in order

A candidate depends on its number alone, so it does not matter who makes it. A process returns the surroundings of what
it changed; the rest of the picture is the background's, which the caller has. To start one takes about 8 s of a
processor, most of it for imports.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from cell.defects import Draft, Mask
from cell.errors import JobCancelled, JobError
from cell.frames import Stack
from cell.store.files import disk_errors
from trainer.child import die_with
from trainer.generate.base import BackgroundSample, Cancelled

#: Arrays of at least so many bytes lie on the shelf; others travel with what refers to them.
_LARGE = 1 << 18
#: Candidates of each process that are begun before the first of them is asked for.
_AHEAD = 2
_POLL_S = 0.2
_STOPPED = "generation was stopped; resume the job to go on"


class Making(Protocol):
    """Makes one candidate of a class by its number, as :class:`trainer.generate.making.Maker` does."""

    def candidate(self, defect_class: str, number: int) -> Draft:
        """Return the candidate."""


class Workshop(Protocol):
    """What a process is given: it can be pickled, and sets up a maker there."""

    def open(self) -> Making:
        """Return the maker, whatever it needs loaded."""


@dataclass(frozen=True, slots=True, eq=False)
class Parcel:
    """A draft without the pixels that its background has too: `stack`, `mask` and `support` of a window."""

    rows: slice
    columns: slice
    stack: Stack
    mask: Mask
    support: Mask
    rest: Draft  # with empty arrays


def packed(draft: Draft) -> Parcel:
    """Return a draft's parcel."""
    rows, columns = np.flatnonzero(draft.support.any(axis=1)), np.flatnonzero(draft.support.any(axis=0))
    down, across = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    nothing = np.zeros((0, 0), np.bool_)
    return Parcel(
        rows=down,
        columns=across,
        stack=draft.stack[:, down, across].copy(),
        mask=draft.mask[down, across].copy(),
        support=draft.support[down, across].copy(),
        rest=replace(draft, stack=draft.stack[:, :0, :0].copy(), mask=nothing, support=nothing),
    )


def unpacked(parcel: Parcel, background: BackgroundSample) -> Draft:
    """Return the draft of a parcel on its background."""
    stack = background.stack.copy()
    stack[:, parcel.rows, parcel.columns] = parcel.stack
    mask, support = np.zeros((2, *stack.shape[1:]), np.bool_)
    mask[parcel.rows, parcel.columns] = parcel.mask
    support[parcel.rows, parcel.columns] = parcel.support
    return replace(parcel.rest, stack=stack, mask=mask, support=support)


class _Shelf(pickle.Pickler):
    """Pickles a workshop; its large arrays it writes once, as files that every process maps."""

    def __init__(self, stream: BinaryIO, folder: Path) -> None:
        super().__init__(stream, protocol=pickle.HIGHEST_PROTOCOL)
        self._folder = folder
        self._known: dict[int, tuple[str, Any]] = {}

    def persistent_id(self, obj: Any) -> str | None:
        """Return the name of a large array's file; None for anything else."""
        if not isinstance(obj, np.ndarray) or obj.nbytes < _LARGE or obj.dtype.hasobject:
            return None
        if id(obj) not in self._known:
            name = f"{len(self._known)}.npy"
            np.save(self._folder / name, obj)
            # The array is kept, so that no other gets its id.
            self._known[id(obj)] = name, obj
        return self._known[id(obj)][0]


class _Borrower(pickle.Unpickler):
    """Unpickles a workshop with its large arrays mapped, read only."""

    def __init__(self, stream: BinaryIO, folder: Path) -> None:
        super().__init__(stream)
        self._folder = folder

    def persistent_load(self, pid: Any) -> Any:
        """Return an array of the shelf."""
        return np.load(self._folder / str(pid), mmap_mode="r")


_maker: Making | None = None


def _join(parent: int, folder: Path) -> None:
    die_with(parent)
    # The job is told to stop, and tells; a process that works on a candidate is not asked twice.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    global _maker
    with (folder / "workshop").open("rb") as stream:
        workshop: Workshop = _Borrower(stream, folder).load()
    _maker = workshop.open()


def _make(defect_class: str, number: int) -> Parcel:
    if _maker is None:
        raise JobError("a process was given work before it had joined; resume the job")
    return packed(_maker.candidate(defect_class, number))


def made_beside(
    workshop: Workshop,
    orders: Sequence[tuple[str, int]],
    backgrounds: Sequence[BackgroundSample],
    workers: int,
    cancelled: Cancelled,
) -> Iterator[Draft]:
    """Yield the candidates of `orders` (class and number) in that order, made by `workers` processes.

    :raises JobCancelled: when `cancelled` says so.
    :raises JobError: when a process was killed; and whatever a maker raises.
    """
    by_id = {one.background_id: one for one in backgrounds}
    with tempfile.TemporaryDirectory(prefix="beside-") as name:
        folder = Path(name)
        with disk_errors(folder), (folder / "workshop").open("wb") as stream:
            _Shelf(stream, folder).dump(workshop)
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, context, _join, (os.getpid(), folder))
        try:
            waiting: deque[Future[Parcel]] = deque()
            left = iter(orders)
            for _ in range(len(orders)):
                parcel = _following(pool, waiting, left, _AHEAD * workers, cancelled)
                yield unpacked(parcel, by_id[parcel.rest.provenance.background_id])
        finally:
            # What was begun is dropped: a candidate takes seconds at most, and nobody wants it any more.
            pool.shutdown(wait=True, cancel_futures=True)


def _following(
    pool: ProcessPoolExecutor,
    waiting: deque[Future[Parcel]],
    left: Iterator[tuple[str, int]],
    ahead: int,
    cancelled: Cancelled,
) -> Parcel:
    try:
        while len(waiting) < ahead and (order := next(left, None)) is not None:
            waiting.append(pool.submit(_make, *order))
        return _heard(waiting.popleft(), cancelled)
    except BrokenProcessPool as error:
        # The order to stop goes to the whole job, so the processes may be gone before it is looked at here.
        if cancelled():
            raise JobCancelled(_STOPPED) from error
        raise JobError(
            "a process that makes candidates was killed, most likely because memory ran out; lower trainer.threads, "
            "which is how many run side by side, and resume the job: what was written stays"
        ) from error


def _heard(future: Future[Parcel], cancelled: Cancelled) -> Parcel:
    while True:
        if cancelled():
            raise JobCancelled(_STOPPED)
        if wait((future,), timeout=_POLL_S).done:
            return future.result()
