"""Modulation transfer from slanted edges (ISO 12233:2017, e-SFR): how sharp lens and pixel together are.

An edge that runs a few degrees off the pixels' rows crosses them at every phase: projected along itself it is sampled
four times finer than the pixels. Its derivative is the line spread, whose transform is the transfer function. Edges
are looked for; nobody has to say where they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from cell.errors import CalibrationError

Floats = NDArray[np.float64]

#: Frequencies that a transfer function is given at, cycles per pixel.
FREQUENCIES = np.linspace(0.0, 0.5, 26)
#: Along and across an edge, pixels.
_LENGTH, _REACH = 32, 14
_FINER = 4
_MOST_EDGES = 24
#: Slants that serve, degrees, and how straight an edge must be, pixels.
_SLANT_DEG, _STRAIGHT_PX = (1.9, 30.0), 0.12
#: How even both sides must be, and how much brighter one than the other, as shares of the contrast and of the mean.
_EVEN, _CONTRAST = 0.06, 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """One edge: where its window's middle lies, its slant, and its transfer at :data:`FREQUENCIES`."""

    row: float
    column: float
    slant_deg: float
    upright: bool
    unevenness: float
    mtf: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Transfer:
    """The median of all edges: MTF50 in cycles per pixel and the Gaussian that comes nearest, pixels."""

    mtf50: float
    sigma_px: float
    mtf: Floats
    edges: tuple[Edge, ...]


def transfer(picture: NDArray[np.generic]) -> Transfer:
    """Return the modulation transfer that a picture (H, W) shows; the mean of many repeats is best.

    :raises CalibrationError: when it holds no straight, slanted edge between two even areas, or only blurred ones.
    """
    return combined(list(edges(np.asarray(picture, np.float64))))


def combined(measured: Sequence[Edge]) -> Transfer:
    """Return the transfer of several edges together, the most even ones counting. Raises as :func:`transfer` does."""
    found = sorted(measured, key=lambda edge: edge.unevenness)[:_MOST_EDGES]
    if not found:
        raise CalibrationError(
            f"no straight edge of {_LENGTH} pixels between two even areas, slanted by 2 to 30 degrees, was found; show "
            "a target with such edges"
        )
    curve = np.median([edge.mtf for edge in found], axis=0)
    return Transfer(mtf50(curve), _sigma(curve), curve, tuple(found))


def edges(picture: Floats) -> Iterator[Edge]:
    """Look for edges in both directions and measure each."""
    for upright in (True, False):
        turned = picture if upright else np.ascontiguousarray(picture.T)
        for top, middle in _candidates(turned):
            window = turned[top : top + _LENGTH, middle - _REACH : middle + _REACH + 1]
            measured = measure(window)
            if measured is not None:
                slant, unevenness, curve = measured
                row, column = top + _LENGTH / 2, float(middle)
                yield Edge(row if upright else column, column if upright else row, slant, upright, unevenness, curve)


def measure(window: Floats) -> tuple[float, float, Floats] | None:
    """Return slant (degrees), unevenness and transfer of an upright edge in a window; None when it is none that serves.

    :param window: (rows, columns), the edge near the middle column.
    """
    rows, columns = window.shape
    left, right = window[:, :4], window[:, -4:]
    contrast = abs(float(right.mean()) - float(left.mean()))
    if contrast < _CONTRAST * float(window.mean()) or contrast <= 0:
        return None
    unevenness = max(float(left.std()), float(right.std())) / contrast
    if unevenness > _EVEN:
        return None
    line = _line(window, rows, columns)
    if line is None:
        return None
    place, slope = line
    slant = float(np.degrees(np.arctan(abs(slope))))
    if not _SLANT_DEG[0] <= slant <= _SLANT_DEG[1]:
        return None
    curve = _curve(window, place, slope)
    return None if curve is None else (slant, unevenness, curve)


def mtf50(curve: Floats) -> float:
    """Return the frequency (cycles per pixel) at which a transfer function falls to a half.

    Raises `CalibrationError` when it does not: then the pixels, not the lens, are the limit.
    """
    below = np.flatnonzero(curve < 0.5)
    if not below.size or below[0] == 0:
        raise CalibrationError("the edge's transfer does not fall to a half below Nyquist; check that it is in focus")
    after = int(below[0])
    high, low = float(curve[after - 1]), float(curve[after])
    step = float(FREQUENCIES[1])
    return float(FREQUENCIES[after - 1]) + step * (high - 0.5) / max(high - low, 1e-12)


def _candidates(picture: Floats) -> Iterator[tuple[int, int]]:
    height, width = picture.shape
    if height < _LENGTH or width < 2 * _REACH + 1:
        return
    slope = np.abs(ndimage.gaussian_filter1d(picture, 1.0, axis=1, order=1))
    step = max(8, (height - _LENGTH) // 64)
    total = np.concatenate([np.zeros((1, width)), np.cumsum(slope, axis=0)])
    for top in range(0, height - _LENGTH + 1, step):
        band = ndimage.uniform_filter1d(total[top + _LENGTH] - total[top], 5)
        limit = 2.0 * float(np.median(band)) + 0.02 * float(picture.max())
        peaks, _ = signal.find_peaks(band, height=limit, distance=_REACH)
        for peak in peaks:
            if _REACH <= peak < width - _REACH:
                yield top, int(peak)


def _line(window: Floats, rows: int, columns: int) -> tuple[float, float] | None:
    """Return place in the first row and slope of the edge, by the centroids of each row's derivative."""
    slope = np.diff(window, axis=1)
    slope = slope * np.sign(slope.sum())
    places = np.arange(columns - 1) + 0.5
    lines = np.arange(rows, dtype=np.float64)
    middle: Floats = np.full(rows, (columns - 1) / 2)
    found = (0.0, 0.0)
    for _ in range(3):
        weight = _hamming((places[None, :] - middle[:, None]) / (columns / 2)) * slope
        total = weight.sum(axis=1)
        if (total <= 0).any():
            return None
        centroid = (weight * places[None, :]).sum(axis=1) / total
        gradient, start = (float(value) for value in np.polyfit(lines, centroid, 1))
        middle = np.clip(start + gradient * lines, 4, columns - 5)
        found = start, gradient
    straight = float(np.sqrt(np.mean((centroid - found[0] - found[1] * lines) ** 2)))
    within = 5 < found[0] < columns - 6 and 5 < found[0] + found[1] * rows < columns - 6
    return found if straight < _STRAIGHT_PX and within else None


def _curve(window: Floats, place: float, slope: float) -> Floats | None:
    rows, columns = window.shape
    across = np.arange(columns)[None, :] - (place + slope * np.arange(rows)[:, None])
    distance = (across / np.sqrt(1 + slope * slope)).ravel()
    reach = min(_REACH - 4.0, float(np.abs(distance).max()))
    # The bins' middles lie at multiples of a quarter of a pixel.
    half = int(reach * _FINER)
    index = np.rint(distance * _FINER).astype(np.intp) + half
    inside = (index >= 0) & (index <= 2 * half)
    count = np.bincount(index[inside], minlength=2 * half + 1)
    if (count == 0).mean() > 0.1:
        return None
    total = np.bincount(index[inside], weights=window.ravel()[inside], minlength=2 * half + 1)
    positions = np.arange(2 * half + 1)
    known = count > 0
    spread = np.interp(positions, positions[known], total[known] / count[known])
    line = (spread[2:] - spread[:-2]) / 2
    offset = (np.arange(line.size) - (line.size - 1) / 2) / _FINER
    # Whole in the middle: a bell as wide as the window would make a blurred line look sharper than it is.
    line = line * _tapered(offset / (reach + 1 / _FINER))
    phase = np.exp(-2j * np.pi * FREQUENCIES[:, None] * offset[None, :])
    power = np.abs(phase @ line)
    if power[0] <= 0:
        return None
    # What the difference over two bins and the averaging within one took away.
    loss = np.sinc(2 * FREQUENCIES / _FINER) * np.sinc(FREQUENCIES / _FINER)
    # A square pixel is narrower for an edge along its side than for a slanted one: told as if along its side.
    turn = np.arctan(slope)
    loss *= np.sinc(FREQUENCIES * np.cos(turn)) * np.sinc(FREQUENCIES * np.sin(turn)) / np.sinc(FREQUENCIES)
    curve: Floats = power / power[0] / loss
    return curve


def _hamming(position: Floats) -> Floats:
    window: Floats = np.where(np.abs(position) <= 1, 0.54 + 0.46 * np.cos(np.pi * position), 0.0)
    return window


def _tapered(position: Floats) -> Floats:
    slope = 0.5 + 0.5 * np.cos(2 * np.pi * (np.abs(position) - 0.5))
    window: Floats = np.where(np.abs(position) <= 0.5, 1.0, np.where(np.abs(position) < 1, slope, 0.0))
    return window


def _sigma(curve: Floats) -> float:
    """Return the standard deviation, pixels, of the Gaussian whose transfer comes nearest."""
    inside = (curve > 0.2) & (curve < 0.95) & (FREQUENCIES > 0)
    if not inside.any():
        return 0.0
    squares = FREQUENCIES[inside] ** 2
    return float(np.sqrt(max(float(squares @ -np.log(curve[inside])) / float(squares @ squares), 0.0) / (2 * np.pi**2)))
