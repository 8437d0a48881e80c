"""Pixels between a camera's process and the daemon: memory that both see, in slots that are used again and again.

::

    daemon: FrameRing.take() -> slot --"expose into slot n"--> camera's process: SlotWriter.allocate() or place()
    daemon: FrameRing.lease(slot) -> read-only array; when it and all its views are gone, the slot is free again

The vendor's buffer is copied once, into the slot, by whichever process has it; the daemon's frame is the slot itself.
The memory has no name (memfd), so nothing is left behind whoever is killed, and its size is sealed, so neither process
can pull it from under the other. Slots cost memory only once they were written; the last one freed is the next used.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import weakref
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from cell.errors import CameraError
from cell.frames import AcquisitionFault, Pixels
from cell.recipes import Recipe

#: Memory that the frames of one camera may take unless `_LEAST_PARTS` need more, bytes.
_BUDGET = 2 << 30
#: Parts whose frames have room at the same time: one is taken, one judged, the others wait for archive and harvest,
#: which both count bytes.
_LEAST_PARTS, _MOST_PARTS = 6, 48
_DTYPES: dict[str, np.dtype[Any]] = {"uint8": np.dtype(np.uint8), "uint16": np.dtype(np.uint16)}
_PAGE = mmap.PAGESIZE


@dataclass(frozen=True, slots=True)
class RingPlan:
    """How large a slot is, in bytes and whole pages, and how many there are at most."""

    slot_bytes: int
    slots: int

    @classmethod
    def of(cls, recipe: Recipe) -> RingPlan:
        """Return what the frames of a recipe need."""
        size = recipe.height * recipe.width * (1 if recipe.bit_depth <= 8 else 2)
        slot_bytes = -(-size // _PAGE) * _PAGE
        channels = len(recipe.channels)
        affordable = min(_MOST_PARTS * channels, _BUDGET // slot_bytes)
        return cls(slot_bytes, max(_LEAST_PARTS * channels, affordable))


class FrameRing:
    """The daemon's side: hands out slots and takes them back. Frames outlive it; the memory goes with the last."""

    def __init__(self, plan: RingPlan) -> None:
        self.plan = plan
        size = plan.slot_bytes * plan.slots
        self.descriptor = os.memfd_create("inspectd-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.descriptor, size)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, seals)
            self._memory = mmap.mmap(self.descriptor, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        except OSError as error:
            os.close(self.descriptor)
            raise CameraError(
                f"no memory for {plan.slots} frames of the camera: {error.strerror}; free some"
            ) from error
        self._address = int(np.frombuffer(self._memory, np.uint8).ctypes.data)
        self._free: deque[int] = deque(reversed(range(plan.slots)))

    @property
    def free(self) -> int:
        """Slots that no frame holds."""
        return len(self._free)

    def take(self) -> int:
        """Return a free slot; it is the caller's until :meth:`lease` or :meth:`give_back`. Raises `CameraError`."""
        try:
            return self._free.pop()
        except IndexError:
            raise CameraError(
                f"all {self.plan.slots} frame buffers still hold earlier parts; the archive or a reader is behind",
                fault=AcquisitionFault.OVERRUN,
            ) from None

    def give_back(self, slot: int) -> None:
        """Free a slot that no frame was made of."""
        self._free.append(slot)

    def lease(self, slot: int, shape: tuple[int, int], dtype: str) -> Pixels:
        """Return a slot's pixels, (H, W) uint8 or uint16, read-only; the slot is free when the last view of them dies.

        Raises `CameraError` when no such frame fits a slot; the slot is free then.
        """
        height, width = shape
        kind = _DTYPES.get(dtype)
        if kind is None or height < 1 or width < 1 or height * width * kind.itemsize > self.plan.slot_bytes:
            self._free.append(slot)
            raise CameraError(f"the camera's process told of a frame of {width}x{height} {dtype}, which can't be")
        lease = _Lease(self._memory, self._address + slot * self.plan.slot_bytes, shape, kind)
        # Called by whichever thread drops the last view: appending to a deque needs no lock.
        weakref.finalize(lease, self._free.append, slot).atexit = False
        pixels: Pixels = np.asarray(lease)
        return pixels

    def close(self) -> None:
        """Close the descriptor; frames stay valid."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class _Lease:
    """What every view of a frame has as its base, so that the end of the last view is the end of this."""

    def __init__(self, memory: mmap.mmap, address: int, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self._memory = memory  # stays mapped
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": dtype.str, "data": (address, True)}


class SlotWriter:
    """The camera process's side: the memory that the next frame goes to."""

    def __init__(self) -> None:
        self._memory: mmap.mmap | None = None
        self._slot_bytes = 0
        self._start = 0
        self._given: Pixels | None = None

    def attach(self, descriptor: int, slot_bytes: int) -> None:
        """Map the daemon's memory in place of what was mapped, and close the descriptor. Raises `OSError`."""
        try:
            self._given = None
            self._memory = mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        finally:
            os.close(descriptor)
        self._slot_bytes = slot_bytes

    def select(self, slot: int) -> None:
        """Let the next frame go to this slot."""
        self._start = slot * self._slot_bytes
        self._given = None

    def allocate(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> Pixels:
        """Return memory for a frame, as `numpy.empty` does: the selected slot, once, where the frame fits it.

        The array is good until the next exposure; a driver that keeps pixels for longer keeps a copy.
        """
        if self._memory is None or self._given is not None or shape[0] * shape[1] * dtype.itemsize > self._slot_bytes:
            empty: Pixels = np.empty(shape, dtype)
            return empty
        self._given = self._view(shape, dtype)
        return self._given

    def place(self, pixels: Pixels) -> None:
        """See to it that a frame's pixels are in the selected slot. Raises `CameraError` when they are too many."""
        given = self._given
        if given is not None and pixels.ctypes.data == given.ctypes.data and pixels.flags.c_contiguous:
            return
        if pixels.ndim != 2 or pixels.nbytes > self._slot_bytes or pixels.dtype.name not in _DTYPES:
            size = "x".join(str(length) for length in reversed(pixels.shape))
            raise CameraError(
                f"the camera delivered {size} {pixels.dtype} pixels, no frame of the recipe; correct its region",
                fault=AcquisitionFault.WRONG_SIZE,
            )
        height, width = pixels.shape
        np.copyto(self._view((height, width), pixels.dtype), pixels)

    def _view(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> Pixels:
        if self._memory is None:
            raise CameraError("the camera's process was given no memory for frames; prepare a recipe first")
        view: Pixels = np.ndarray(shape, dtype, self._memory, self._start)
        return view
