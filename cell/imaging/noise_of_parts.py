"""Sensor noise from many different good parts: weaker than photon transfer, but nobody has to stop the line for it.

A lens passes next to nothing at the highest frequencies in both directions at once: what the cosine transform of a
block of 8x8 pixels holds there is noise, and of the blocks those count that hold least at lower frequencies. The fixed
pattern is the same in every frame and is taken off as the mean over the frames at each place. Variance against the
blocks' mean then gives gain and noise as repeats would. It holds for raw pixels alone: sharpening, debayering and JPEG
work at just these frequencies. Where texture reaches into the corner all the same, nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, stats

from cell.calibration import NoiseModel, NoiseSource, PhotonTransfer
from cell.frames import Pixels
from cell.imaging.noise import QUANTISATION_DN2
from cell.imaging.photon_transfer import TransferFit

Floats = NDArray[np.float64]

#: Fewer frames don't tell the fixed pattern from noise.
MIN_FRAMES = 8
#: A slope less certain than this is not claimed.
MAX_GAIN_ERROR = 0.2
_SIDE = 8
#: Coefficients (down, across) at the corner of the spectrum, in two rings: the outer holds less texture than the inner.
_OUTER = tuple((v, u) for v in range(8) for u in range(8) if v + u >= 13)
_INNER = tuple((v, u) for v in range(8) for u in range(8) if v + u in {11, 12})
#: Frequencies that tell how much texture a block has; white noise is independent there of what it is in the corner.
_TEXTURE = tuple((v, u) for v in range(8) for u in range(8) if v + u in {4, 6, 8})
#: Low frequencies, which sharpening leaves alone: where the corner holds more than these, it was raised.
_LOW = tuple((v, u) for v in range(8) for u in range(8) if v + u in {2, 3})
_SHARPENED = 1.25
#: Share of the variance at the brightest that may go with the square of the light.
_BENT = 0.25
_EVEN_SHARE = 0.3
#: A gain from parts is never said to be known better than this.
_LEAST_ERROR = 0.05
_OUTLIER_TAIL = 1e-4
_MOST_BLOCKS = 4096
_BINS = 24
_MIN_BIN_BLOCKS = 200
#: White noise has the same power in both rings; more in the inner one, and texture or filtering shows.
_WHITE = 1.15


@dataclass(frozen=True, slots=True)
class _Curve:
    mean: Floats
    outer: Floats
    inner: Floats
    low: Floats
    weight: Floats


def fit_parts(frames: Sequence[Pixels], *, bit_depth: int, above_dn: float = -1.0) -> TransferFit | None:
    """Return the noise of one channel from single frames of many parts; None when they don't tell.

    :param frames: (H, W) uint8 or uint16 of one size, :data:`MIN_FRAMES` at least. Blocks with a mean at or below
        `above_dn` (empty carrier) don't count.

    Gain comes from the slope; how the rest is shared between dark level and read noise is not known, and the model's
    `offset_dn` and `read_noise_dn` only hold together.
    """
    if len(frames) < MIN_FRAMES or len({frame.shape for frame in frames}) > 1:
        return None
    saturation = float((1 << bit_depth) - 1)
    curve = _measure(frames, above_dn, saturation)
    if curve is None:
        return None
    ratio = float(np.sum(curve.weight * curve.inner) / np.sum(curve.weight * curve.outer))
    # Texture hides it; where there is little, as on the carrier, it shows.
    raised = float(np.max(curve.outer / curve.low))
    if not 1 / _WHITE < ratio < _WHITE or raised > _SHARPENED:
        return None
    gain, level, scatter = _slope(curve)
    # What texture the inner ring shows more of than the outer one may be in the outer one too.
    error = float(np.hypot(scatter, max(abs(ratio - 1.0), _LEAST_ERROR)))
    if gain <= 0 or error > MAX_GAIN_ERROR or _bent(curve):
        return None
    # level = read^2 - gain * offset: any split gives the same noise; the one without negative noise is taken.
    offset = max(0.0, -level / gain)
    read_noise = float(np.sqrt(max(level + gain * offset, 0.0)))
    model = NoiseModel(
        gain_dn_per_e=gain,
        read_noise_dn=read_noise,
        offset_dn=offset,
        saturation_dn=saturation,
        lag1_correlation=0.0,
        curve_mean_dn=tuple(round(float(value), 3) for value in curve.mean),
        curve_variance_dn2=tuple(round(float(value), 5) for value in curve.outer),
    )
    transfer = PhotonTransfer(
        source=NoiseSource.PRODUCTION, gain_error=error, saturation_e=(saturation - offset) / gain
    )
    finding = (
        f"gain and noise come from {len(frames)} different good parts and not from repeats of a still one: the gain is "
        f"known to {100 * error:.0f} %, read noise and dark level only together; take repeats and dark frames"
    )
    return TransferFit(model, transfer, error, float("inf"), (finding,))


def _measure(frames: Sequence[Pixels], above_dn: float, saturation: float) -> _Curve | None:
    height, width = frames[0].shape
    rows, columns = height // _SIDE, width // _SIDE
    places = np.arange(rows * columns)
    if places.size > _MOST_BLOCKS:
        places = np.random.default_rng(0).choice(places, _MOST_BLOCKS, replace=False)
    chosen = _OUTER + _INNER + _LOW
    values = np.empty((len(frames), places.size, len(chosen)), np.float32)
    means = np.empty((len(frames), places.size))
    texture = np.empty((len(frames), places.size), np.float32)
    usable = np.empty((len(frames), places.size), np.bool_)
    for index, frame in enumerate(frames):
        picture = frame[: rows * _SIDE, : columns * _SIDE].astype(np.float32)
        blocks = picture.reshape(rows, _SIDE, columns, _SIDE).swapaxes(1, 2).reshape(-1, _SIDE, _SIDE)[places]
        coefficients = fft.dctn(blocks, axes=(1, 2), norm="ortho")
        values[index] = np.stack([coefficients[:, v, u] for v, u in chosen], axis=1)
        texture[index] = np.mean([coefficients[:, v, u] ** 2 for v, u in _TEXTURE], axis=0)
        means[index] = blocks.mean(axis=(1, 2))
        usable[index] = (blocks.min(axis=(1, 2)) > max(above_dn, 0)) & (blocks.max(axis=(1, 2)) < 0.98 * saturation)
    noise, freedom = _without_pattern(values, means, usable)
    good = usable & (freedom > 0)[None, :]
    squares = noise**2 / np.maximum(freedom, 1e-6)[None, :, None]
    return _binned(means[good], squares[good], texture[good])


def _without_pattern(values: NDArray[np.float32], means: Floats, usable: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Take off what a place shows in all frames, in proportion to its light; return it and the share of noise left."""
    count = usable.sum(axis=0)
    weight = np.where(usable, means, 0.0)
    power = np.maximum((weight**2).sum(axis=0), 1e-9)
    pattern = np.einsum("fbk,fb->bk", values, weight) / power[:, None]
    left = values - means[..., None] * pattern[None]
    freedom = np.where(count >= MIN_FRAMES // 2, 1.0 - 1.0 / np.maximum(count, 1), 0.0)
    return left, freedom


def _binned(means: Floats, squares: Floats, texture: NDArray[np.float32]) -> _Curve | None:
    if means.size < 4 * _MIN_BIN_BLOCKS:
        return None
    low, high = np.quantile(means, (0.01, 0.99))
    edges = np.linspace(low, max(high, low + 1e-6), _BINS + 1)
    index = np.clip(np.searchsorted(edges, means, side="right") - 1, 0, _BINS - 1)
    split, end = len(_OUTER), len(_OUTER) + len(_INNER)
    points = []
    for which in range(_BINS):
        here = np.flatnonzero(index == which)
        even = here[texture[here] <= np.quantile(texture[here], _EVEN_SHARE)] if here.size else here
        if even.size < _MIN_BIN_BLOCKS:
            continue
        outer, inner = _power(squares[even, :split]), _power(squares[even, split:end])
        level = _power(squares[even, end:])
        points.append((float(means[even].mean()), outer, inner, level, float(even.size * split)))
    if len(points) < 3:
        return None
    table = np.asarray(points)
    return _Curve(*table.T)


def _bent(curve: _Curve) -> bool:
    """Tell whether the variance grows with the square of the light, as sharp texture's does."""
    top = float(curve.mean.max())
    design = np.stack([np.ones_like(curve.mean), curve.mean / top, (curve.mean / top) ** 2], axis=1)
    weight = curve.weight / (2.0 * np.maximum(curve.outer, 1e-3) ** 2)
    covariance = np.linalg.pinv(design.T @ (design * weight[:, None]))
    square = float((covariance @ (design.T @ (weight * curve.outer)))[2])
    return square > _BENT * float(curve.outer.max()) and square > 3.0 * float(np.sqrt(covariance[2, 2]))


def _power(squares: Floats) -> float:
    """Return the mean square of normal values (N, n), rows that noise alone would not give left out."""
    freedom = squares.shape[1]
    rows = squares.mean(axis=1)
    middle = float(np.median(rows)) / (stats.chi2.median(freedom) / freedom)
    honest = rows <= middle * stats.chi2.isf(_OUTLIER_TAIL, freedom) / freedom
    return float(rows[honest].mean())


def _slope(curve: _Curve) -> tuple[float, float, float]:
    """Return gain, level at 0 DN (quantisation taken off) and the gain's relative standard error."""
    variance = curve.outer - QUANTISATION_DN2
    design = np.stack([np.ones_like(curve.mean), curve.mean], axis=1)
    expected = np.maximum(curve.outer, 1e-3)
    solution, covariance, weight = np.zeros(2), np.zeros((2, 2)), np.ones_like(variance)
    for _ in range(4):
        weight = curve.weight / (2.0 * expected**2)
        covariance = np.asarray(np.linalg.pinv(design.T @ (design * weight[:, None])), np.float64)
        solution = covariance @ (design.T @ (weight * variance))
        expected = np.maximum(design @ solution + QUANTISATION_DN2, 1e-3)
    scatter = max(1.0, float(weight @ (variance - design @ solution) ** 2) / max(len(variance) - 2, 1))
    gain = float(solution[1])
    error = float(np.sqrt(covariance[1, 1] * scatter)) / gain if gain > 0 else float("inf")
    return gain, float(solution[0]), error
