"""Cast shadows: where the part itself stands between a lamp and its surface.

A place is in shadow when somewhere toward the lamp the surface rises above the ray: max over s of h(x + s d) - s tan(e)
is above h(x). The maximum over 1, 2, 4, ... steps comes from that over half as many, so long shadows cost a handful of
passes. It is worked out in whole pixels; finer shadows drown in the lens's blur.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.sim.render.lamps import Source
from drivers.sim.render.workpiece import FloatMap, Workpiece

#: Relief below this share of a pixel's ray casts no shadow worth a pass.
_SHALLOW = 0.4
_LONG = 4.0
FloatPair = NDArray[np.float64]


class Relief:
    """The heights of part and carrier together, and the shadows that they cast."""

    def __init__(self, work: Workpiece, oversampling: int) -> None:
        top = np.where(work.cover > 0.5, work.height_um, np.float32(-work.thickness_um))
        self.oversampling = oversampling
        self._pixel_um = 1000 * work.step_mm * oversampling
        self._height = by_blocks(top, oversampling)
        # Texture alone must not make every part pass for deep: the coarse range decides how far to look.
        self._range_um = float(self._height.max() - self._height.min())

    def lit(self, source: Source) -> FloatMap | None:
        """Return the share of a source's light that gets through, (H, W) float32 in pixels; None where nothing stands
        in it."""
        shares = [self._from(toward) for toward in source.across or (source.toward,)]
        if all(share is None for share in shares):
            return None
        total = np.zeros(self._height.shape, np.float32)
        for share in shares:
            total += np.float32(1) if share is None else share
        total *= np.float32(1 / len(shares))
        return total

    def _from(self, toward: tuple[float, float, float]) -> FloatMap | None:
        lx, ly, lz = toward
        across = float(np.hypot(lx, ly))
        climb = self._pixel_um * lz / max(across, 1e-6)  # of the ray for each pixel along the ground
        if self._range_um < _SHALLOW * climb:
            return None
        height = self._height
        reach = min(self._range_um / climb + 1, float(max(height.shape)))
        step = np.array([ly, lx]) / across  # one pixel toward the lamp: (row, column)
        highest = np.full(height.shape, -np.inf, np.float32)
        _raise(highest, height, step, climb)
        length = 1
        while length < reach:
            _raise(highest, highest, step * length, climb * length)
            length *= 2
        highest -= height
        if not (highest > 0).any():
            return None
        # The edge of the shadow is as soft as a pixel is wide.
        highest *= np.float32(-1 / (0.8 * climb))
        highest += np.float32(0.5)
        return np.clip(highest, 0, 1, out=highest)


def _raise(highest: FloatMap, values: FloatMap, step: FloatPair, climb: float) -> None:
    """Raise `highest` to the values at x + step less `climb`: bilinear near by, the next whole pixel for long steps.

    Nothing stands beyond the picture.
    """
    row, column = float(step[0]), float(step[1])
    if max(abs(row), abs(column)) >= _LONG or (row.is_integer() and column.is_integer()):
        here, there = _overlap(values.shape, round(row), round(column))
        further = values[there] - np.float32(climb)
        np.maximum(highest[here], further, out=highest[here])
        return
    top, left = int(np.floor(row)), int(np.floor(column))
    y, x = row - top, column - left
    # The place between four pixels has all of them within the picture, or the nearest pixel's row and column.
    padded = np.pad(values, 1, mode="edge")
    here, there = _overlap(values.shape, round(row), round(column))
    shift = (top - round(row), left - round(column))
    further = np.full((here[0].stop - here[0].start, here[1].stop - here[1].start), -climb, np.float32)
    for dy, dx, weight in ((0, 0, (1 - y) * (1 - x)), (0, 1, (1 - y) * x), (1, 0, y * (1 - x)), (1, 1, y * x)):
        if weight > 0:
            move = (1 + shift[0] + dy, 1 + shift[1] + dx)
            window = tuple(slice(axis.start + away, axis.stop + away) for axis, away in zip(there, move, strict=True))
            further += np.float32(weight) * padded[window]
    np.maximum(highest[here], further, out=highest[here])


def _overlap(shape: tuple[int, ...], row: int, column: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where a picture and the same one moved by whole pixels lie over each other, in both."""
    here, there = [], []
    for size, away in zip(shape, (row, column), strict=True):
        first, last = min(max(-away, 0), size), max(size - max(away, 0), 0)
        last = max(first, last)
        here.append(slice(first, last))
        there.append(slice(first + away, last + away) if last > first else slice(0, 0))
    return (here[0], here[1]), (there[0], there[1])


def by_blocks(values: FloatMap, size: int) -> FloatMap:
    """Return the mean (H, W) float32 of each pixel's `size` x `size` samples."""
    total = values[::size, ::size].copy()
    for row in range(size):
        for column in range(size):
            if row or column:
                total += values[row::size, column::size]
    total *= np.float32(1 / (size * size))
    return total
