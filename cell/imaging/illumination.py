"""A channel's light over the frame and over time: profile, fall-off, relative intensity, flicker and drift."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cell.calibration import Illumination, LightSource
from cell.defects import Mask
from cell.errors import CalibrationError
from cell.frames import Pixels

Floats = NDArray[np.float64]

#: Rows and columns of the stored grid.
GRID = (18, 24)
#: A cell of the grid counts when at least this share of it is covered.
_COVERED = 0.5


def field(light: Illumination, height: int, width: int) -> Floats:
    """Return the relative illumination of every pixel (H, W): bilinear between the cells' middles, straight beyond."""
    grid = np.asarray(light.grid, np.float64)
    down, row = _between(grid.shape[0], height)
    across, column = _between(grid.shape[1], width)
    row_next, column_next = np.minimum(row + 1, grid.shape[0] - 1), np.minimum(column + 1, grid.shape[1] - 1)
    above = grid[row][:, column] * (1 - across) + grid[row][:, column_next] * across
    below = grid[row_next][:, column] * (1 - across) + grid[row_next][:, column_next] * across
    whole: Floats = above * (1 - down[:, None]) + below * down[:, None]
    return whole


def from_flat(mean: Floats, offset_dn: float, saturation_dn: float, dark: Floats | None = None) -> Illumination:
    """Return the profile that an even, matt target shows.

    :param mean: (H, W) DN, mean of its repeats. :param dark: (H, W) DN, mean picture with the lights off.
    :raises CalibrationError: when it is dark or saturated.
    """
    net = mean - (offset_dn if dark is None or dark.shape != mean.shape else dark)
    clipped = float((mean >= 0.98 * saturation_dn).mean())
    if clipped > 0.001:
        raise CalibrationError(
            f"{100 * clipped:.1f} % of the flat target is saturated; take it again with a shorter exposure"
        )
    if float(net.mean()) < 0.02 * saturation_dn:
        raise CalibrationError("the flat target is dark; take it again with a longer exposure, or check the light")
    grid, covered = cells(net, net > 0.1 * float(np.median(net)))
    return _profile(grid, covered, float(mean.mean()), LightSource.FLAT)


def from_parts(
    frames: Sequence[Pixels], masks: Sequence[Mask], offset_dn: float = 0.0
) -> tuple[Illumination, tuple[float, ...]]:
    """Return the mean light over many good parts and each part's level in DN.

    Each part counts with its own mean level taken out, so that bright and dark parts weigh alike; places that no part
    ever covered get their neighbours' light. What shading the parts have in common is in it too.

    :raises CalibrationError: when there are no parts.
    """
    if not frames:
        raise CalibrationError("no part was found on any background; check the recipe's carrier_max_dn")
    total, count = np.zeros(GRID), np.zeros(GRID)
    levels = []
    for frame, mask in zip(frames, masks, strict=True):
        net = frame.astype(np.float64) - offset_dn
        level = float(net[mask].mean())
        levels.append(level + offset_dn)
        index = _cell_index(frame.shape)[mask]
        size = GRID[0] * GRID[1]
        total += np.bincount(index, weights=net[mask] / max(level, 1e-9), minlength=size).reshape(GRID)
        count += np.bincount(index, minlength=size).reshape(GRID)
    covered = count > 0
    grid = np.where(covered, total / np.maximum(count, 1), 1.0)
    return _profile(grid, covered, float(np.mean(levels)), LightSource.PARTS), tuple(levels)


def cells(picture: Floats, usable: Mask) -> tuple[Floats, Mask]:
    """Return the mean of each cell of the grid, and which cells are covered by usable pixels."""
    index = _cell_index(picture.shape).ravel()
    size = GRID[0] * GRID[1]
    inside = usable.ravel()
    total = np.bincount(index[inside], weights=picture.ravel()[inside], minlength=size).reshape(GRID)
    count = np.bincount(index[inside], minlength=size).reshape(GRID)
    pixels = np.bincount(index, minlength=size).reshape(GRID)
    covered: Mask = (count >= _COVERED * np.maximum(pixels, 1)) & (count > 0)
    return np.where(covered, total / np.maximum(count, 1), 0.0), covered


def flicker_of(levels: Sequence[float]) -> float:
    """Return the relative standard deviation of the light from frame to frame, slow drift left out."""
    values = np.asarray(levels, np.float64)
    if values.size < 3:
        return 0.0
    steps = np.diff(values) / values.mean()
    return float(np.sqrt(np.mean(steps**2) / 2))


def drift_of(levels: Sequence[float], times_s: Sequence[float]) -> float | None:
    """Return the relative change of the light for each second (Theil and Sen's slope); None when it can't be told.

    It can't where the interval of the slope (95 %) holds 0, or all was taken at once.
    """
    values, times = np.asarray(levels, np.float64), np.asarray(times_s, np.float64)
    if values.size < 8 or np.ptp(times) <= 0:
        return None
    slope = stats.theilslopes(values / values.mean(), times)
    if slope.low_slope <= 0 <= slope.high_slope:
        return None
    return float(slope.slope)


def relative(lights: Sequence[Illumination], exposures_us: Sequence[float], offsets: Sequence[float]) -> Floats:
    """Return the channels' light for the same exposure against the brightest one."""
    net = np.array([light.mean_dn - offset for light, offset in zip(lights, offsets, strict=True)])
    rates = np.maximum(net, 0.0) / np.asarray(exposures_us, np.float64)
    brightest = float(rates.max(initial=0.0))
    return np.asarray(rates / brightest if brightest > 0 else rates, np.float64)


def _profile(grid: Floats, covered: Mask, mean_dn: float, source: LightSource) -> Illumination:
    values = _filled(grid, covered)
    values = values / values[covered].mean()
    inside = values[covered]
    rows = tuple(tuple(round(float(value), 5) for value in row) for row in values)
    falloff = 1.0 - float(inside.min()) / float(inside.max())
    return Illumination(grid=rows, mean_dn=mean_dn, source=source, falloff=round(max(falloff, 0.0), 4))


def _filled(grid: Floats, covered: Mask) -> Floats:
    """Give cells that nothing covered the value of the nearest one that something did."""
    if covered.all():
        return grid
    rows, columns = np.nonzero(covered)
    filled = grid.copy()
    for row, column in zip(*np.nonzero(~covered), strict=True):
        nearest = int(np.argmin((rows - row) ** 2 + (columns - column) ** 2))
        filled[row, column] = grid[rows[nearest], columns[nearest]]
    return filled


def _cell_index(shape: tuple[int, ...]) -> NDArray[np.intp]:
    rows = np.arange(shape[0]) * GRID[0] // shape[0]
    columns = np.arange(shape[1]) * GRID[1] // shape[1]
    return np.asarray(rows[:, None] * GRID[1] + columns[None, :], np.intp)


def _between(count: int, length: int) -> tuple[Floats, NDArray[np.intp]]:
    """Return for each pixel how far it lies from the cell before it to the next (below 0 and above 1 at the rims)."""
    place = (np.arange(length) + 0.5) / length * count - 0.5
    first = np.clip(np.floor(place), 0, max(count - 2, 0)).astype(np.intp)
    return place - first, first
