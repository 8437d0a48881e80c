"""Parts of which nobody said anything, until there are enough of them to tell the odd ones from the others.

Pixels wait in an unnamed file beside the backgrounds, so that memory stays bounded. A line that makes more bad parts
than good ones would be learned upside down; that is why reports are always believed first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Generic, TypeVar

import numpy as np

from cell.defects import Mask
from cell.errors import StoreError
from cell.frames import Stack, StoredStack
from cell.imaging.background import LEAST_PARTS, BackgroundModel

#: Parts from which harvest may begin without any report, and how many it compares.
LEAST, MOST = 24, 64
_MOST_BYTES = 2 << 30
#: Working memory for one comparison, bytes; a part takes this many times its pixels in float32.
_WORK_BYTES, _TIMES = 1 << 29, 4
#: Most scores that a model keeps.
_SCORES = 256
#: Robust deviations up to which a part is believed in the first and in the second round.
_BELIEVED = (2.0, 2.5)
#: At least this share is believed: the half that is most like the others.
_LEAST_BELIEVED = 0.5

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[S]):
    subject: S
    stack: StoredStack  # without its pixels
    mask: Mask
    teaches: bool
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.uint8] | np.dtype[np.uint16]


class Nursery(Generic[S]):
    """See the module. `S` says which part it is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._waiting: list[_Waiting[S]] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def teachers(self) -> int:
        """How many of the parts may teach a model."""
        return sum(one.teaches for one in self._waiting)

    @property
    def full(self) -> bool:
        """True when there are enough, or no more has room."""
        return len(self) >= MOST or (len(self) >= LEAST_PARTS and self._bytes > _MOST_BYTES)

    def add(self, subject: S, stack: StoredStack, mask: Mask, *, teaches: bool) -> None:
        """Let a part wait; one that is held out `teaches` nothing. Raises `OSError` when the disk is full."""
        pixels = stack.pixels
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder, prefix=".nursery-")  # noqa: SIM115 (`clear` closes it)
        self._file.seek(self._bytes)
        self._file.write(pixels.tobytes())
        empty = replace(stack, pixels=pixels[:0])
        self._waiting.append(_Waiting(subject, empty, mask, teaches, self._bytes, pixels.shape, pixels.dtype))
        self._bytes += pixels.nbytes

    def items(self) -> Iterator[tuple[S, StoredStack, Mask]]:
        """Give what waits, in the order it came."""
        for one in self._waiting:
            yield one.subject, replace(one.stack, pixels=self._pixels(one)), one.mask

    def settle(self, model: BackgroundModel) -> list[float | None]:
        """Teach `model` what most of the parts have in common; return the deviation of each part that it learned.

        All parts teach a first model; those that it finds odd teach no second one, and so on. Each part is scored by
        what the model would know without it. None for a part that the model did not learn.
        """
        learned = [one.teaches for one in self._waiting]
        for most in _BELIEVED:
            scores = self._taught(model, learned)
            enough = float(np.quantile(scores, _LEAST_BELIEVED))
            odd = iter([score > enough and score > most for score in scores])
            learned = [known and not next(odd) for known in learned]
        last = iter(self._taught(model, learned))
        return [next(last) if known else None for known in learned]

    def clear(self) -> None:
        """Forget what waits and give its file back."""
        self._waiting.clear()
        self._bytes = 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def _taught(self, model: BackgroundModel, learned: list[bool]) -> list[float]:
        """Teach the model those parts and return the deviation of each by what it would know without that part."""
        fit = min(_SCORES, max(LEAST_PARTS, _WORK_BYTES // (4 * _TIMES * self._size())))
        chosen = [index for index, known in enumerate(learned) if known]
        scores = model.begin([self._part(index) for index in chosen[:fit]])
        for index in chosen[fit:]:
            model.add(*self._part(index))
        return scores + [model.view(*self._part(index)).deviations for index in chosen[fit:]]

    def _part(self, index: int) -> tuple[Stack, Mask]:
        one = self._waiting[index]
        return self._pixels(one), one.mask

    def _pixels(self, one: _Waiting[S]) -> Stack:
        if self._file is None:
            raise StoreError("the nursery's file is gone; harvest again from the archive")
        self._file.seek(one.offset)
        count = int(np.prod(one.shape)) * one.dtype.itemsize
        pixels: Stack = np.frombuffer(self._file.read(count), one.dtype).reshape(one.shape)  # type: ignore[assignment]
        return pixels

    def _size(self) -> int:
        return max(1, int(np.prod(self._waiting[0].shape))) if self._waiting else 1
