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
_NOTHING = np.float32(-1e9)
FloatPair = NDArray[np.float64]


class Relief:
    """The heights of part and carrier together, and the shadows that they cast."""

    def __init__(self, work: Workpiece, oversampling: int) -> None:
        top = np.where(work.cover > 0.5, work.height_um, np.float32(-work.thickness_um))
        self._oversampling = oversampling
        self._shape = top.shape
        self._pixel_um = 1000 * work.step_mm * oversampling
        self._height = _by_blocks(top, oversampling)
        # Texture alone must not make every part pass for deep: the coarse range decides how far to look.
        self._range_um = float(self._height.max() - self._height.min())

    def lit(self, source: Source) -> FloatMap | None:
        """Return the share of a source's light that gets through, (H', W') float32; None where nothing stands in it."""
        lx, ly, lz = source.toward
        across = float(np.hypot(lx, ly))
        climb = self._pixel_um * lz / max(across, 1e-6)  # of the ray for each pixel along the ground
        if self._range_um < _SHALLOW * climb:
            return None
        height = self._height
        reach = min(self._range_um / climb + 1, float(max(height.shape)))
        step = np.array([ly, lx]) / across  # one pixel toward the lamp: (row, column)
        highest = _shifted(height, step) - np.float32(climb)
        length = 1
        while length < reach:
            further = _shifted(highest, step * length)
            further -= np.float32(climb * length)
            np.maximum(highest, further, out=highest)
            length *= 2
        highest -= height
        if not (highest > 0).any():
            return None
        # The edge of the shadow is as soft as a pixel is wide.
        lit = np.clip(0.5 - highest * np.float32(1 / (0.8 * climb)), 0, 1)
        return _refined(lit, self._oversampling, self._shape)


def _shifted(values: FloatMap, step: FloatPair) -> FloatMap:
    """Return values at x + step: bilinear near by, the next whole pixel for long steps, nothing beyond the picture."""
    row, column = float(step[0]), float(step[1])
    if max(abs(row), abs(column)) >= _LONG or (row.is_integer() and column.is_integer()):
        return _moved(values, round(row), round(column))
    top, left = int(np.floor(row)), int(np.floor(column))
    y, x = np.float32(row - top), np.float32(column - left)
    out = _moved(values, top, left)
    out *= (1 - y) * (1 - x)
    for dy, dx, weight in ((0, 1, (1 - y) * x), (1, 0, y * (1 - x)), (1, 1, y * x)):
        if weight > 0:
            out += weight * _moved(values, top + dy, left + dx)
    return out


def _moved(values: FloatMap, row: int, column: int) -> FloatMap:
    out = np.full(values.shape, _NOTHING, np.float32)
    rows, columns = values.shape
    if abs(row) < rows and abs(column) < columns:
        out[max(-row, 0) : rows - max(row, 0), max(-column, 0) : columns - max(column, 0)] = values[
            max(row, 0) : rows - max(-row, 0), max(column, 0) : columns - max(-column, 0)
        ]
    return out


def _by_blocks(values: FloatMap, size: int) -> FloatMap:
    rows, columns = values.shape[0] // size, values.shape[1] // size
    return np.asarray(values.reshape(rows, size, columns, size).mean(axis=(1, 3)), np.float32)


def _refined(values: FloatMap, size: int, shape: tuple[int, ...]) -> FloatMap:
    fine = np.repeat(np.repeat(values, size, axis=0), size, axis=1)
    return fine[: shape[0], : shape[1]]
