"""Frames on their way to stack, digest and network input, while the camera takes the next one.

A camera is waited for most of a part's time. What can be done with each channel alone is done then, on a thread beside
the line's: after the last exposure one channel is left to do instead of all.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cell import digest
from cell.frames import Frame, Stack
from cell.imaging.preprocess import FloatMaps, Preprocessing
from cell.recipes import Recipe


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A part's pixels in the three forms that its verdict needs. `tensor` is None without a model."""

    stack: Stack
    digest: str
    tensor: FloatMaps | None


class Intake:
    """Takes in the frames of one part, in the recipe's order, and prepares them on `worker`."""

    def __init__(self, recipe: Recipe, preprocessing: Preprocessing | None, worker: ThreadPoolExecutor) -> None:
        dtype = np.dtype(np.uint8 if recipe.bit_depth <= 8 else np.uint16)
        shape = (len(recipe.channels), recipe.height, recipe.width)
        self._stack: Stack = np.empty(shape, dtype)
        self._digest = digest.ArrayDigest(dtype, shape)
        self._preprocessing = preprocessing
        self._tensor: FloatMaps | None = None
        self._worker = worker
        self._work: list[Future[None]] = []
        self._last: Frame | None = None

    def add(self, frame: Frame) -> None:
        """Take the next frame; its shape and dtype are the recipe's."""
        if len(self._work) + 1 < self._stack.shape[0]:
            self._work.append(self._worker.submit(self._prepare, len(self._work), frame))
        else:
            self._last = frame

    def finish(self) -> Prepared:
        """Prepare the last frame and return the part. Raises `DataError` when the preprocessing does not fit."""
        for work in self._work:
            work.result()
        if self._last is not None:
            # Nothing is exposed any more: handing it to another thread would cost two wake-ups and gain nothing.
            self._prepare(len(self._work), self._last)
        return Prepared(self._stack, self._digest.hexdigest(), self._tensor)

    def _prepare(self, index: int, frame: Frame) -> None:
        self._stack[index] = frame.pixels
        self._digest.add(frame.pixels)
        if self._preprocessing is None:
            return
        if self._tensor is None:
            self._tensor = self._preprocessing.empty_input(*frame.shape)
        self._preprocessing.apply_channel(frame.pixels, self._tensor[index])
