"""Repeats of a still scene, reduced to what a calibration needs of them: mean, curve of variance, samples of noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from cell.imaging import codec, noise_spectrum
from cell.imaging.figures import levels as levels_of

Floats = NDArray[np.float64]
Frames = NDArray[np.uint8] | NDArray[np.uint16]

_BINS = 64
_MIN_BIN_PIXELS = 64
#: Share of honest pixels that the outlier test may throw away in a bin.
_OUTLIER_TAIL = 1e-4
#: Difference frames that are kept for the noise's spectrum.
_KEPT_DIFFERENCES = 8


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Temporal variance (DN^2) against mean (DN), by bins, and their weight: pixels times degrees of freedom."""

    mean: Floats
    variance: Floats
    weight: Floats


@dataclass(frozen=True, slots=True)
class Spatial:
    """Over all pixels, DN: the mean, the mean of their temporal variances, and the variance of their means."""

    mean: float
    temporal: float
    spatial: float
    pixels: int


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """What is left of repeats of a still scene: small enough for many of large frames to be held together.

    `mean` (H, W) is each pixel's, DN; `curve` the temporal variance against it. `differences` (n, h, w) are of
    successive frames, flicker taken out, of the frame's middle. `levels` are each frame's mean relative to all.
    """

    mean: NDArray[np.float32]
    curve: Curve | None  # None when every pixel is clipped
    over_all: Spatial
    differences: NDArray[np.float32]
    repeats: int
    levels: tuple[float, ...]
    exposure_us: float
    ceiling_dn: float | None  # grey value at which pixels pile up below full scale
    codec: tuple[str, ...]

    @property
    def flicker(self) -> float:
        """Peak to peak, relative."""
        return max(self.levels) - min(self.levels)

    @property
    def middle(self) -> NDArray[np.float32]:
        """The mean where `differences` are."""
        return self.mean[_middle(self.mean.shape)]


def still(
    repeats: Frames,
    bit_depth: int,
    exposure_us: float = 0.0,
    *,
    regular: bool = False,
    usable: NDArray[np.bool_] | None = None,
) -> Still:
    """Reduce repeats (R, H, W) uint8 or uint16 of one channel.

    :param regular: the scene is a regular pattern, which passes for that of a codec: traces of one are not looked for.
    :param usable: (H, W), False where pixels must not count for the curve.

    Successive differences make the variance: a lamp that drifts over the series then counts once per pair and not in
    full. What the lamp flickers from one frame to the next is one factor for all pixels and is taken out.
    """
    count = repeats.shape[0]
    levels = repeats.reshape(count, -1).mean(axis=1, dtype=np.float64)
    mean = repeats.mean(axis=0, dtype=np.float64)
    factors = levels / levels.mean() if levels.mean() > 0 else np.ones(count)
    squares = np.zeros(mean.shape)
    kept: list[NDArray[np.float32]] = []
    for index in range(count - 1):
        difference = (
            repeats[index + 1].astype(np.float64) - repeats[index] - (factors[index + 1] - factors[index]) * mean
        )
        squares += difference * difference
        if index < _KEPT_DIFFERENCES:
            kept.append(difference[_middle(difference.shape)].astype(np.float32))
    variance = squares / (2.0 * (count - 1))
    found = levels_of(repeats[0], bit_depth)
    saturation = float((1 << bit_depth) - 1 if found.ceiling is None else found.ceiling)
    return Still(
        mean=mean.astype(np.float32),
        curve=_curve(mean, variance, count, saturation, usable),
        over_all=_over_all(mean, variance),
        differences=np.stack(kept),
        repeats=count,
        levels=tuple(float(value) for value in factors),
        exposure_us=exposure_us,
        ceiling_dn=None if found.ceiling is None else float(found.ceiling),
        codec=() if regular else codec.findings(repeats[0]),
    )


def freedom_of(repeats: int) -> float:
    """Degrees of freedom of a variance from overlapping successive differences (von Neumann)."""
    return 2.0 * (repeats - 1) ** 2 / (3.0 * repeats - 4.0)


def _middle(shape: tuple[int, ...]) -> tuple[slice, slice]:
    top, left = (max(0, (side - noise_spectrum.LARGEST) // 2) for side in shape)
    return slice(top, top + noise_spectrum.LARGEST), slice(left, left + noise_spectrum.LARGEST)


def _over_all(mean: Floats, variance: Floats) -> Spatial:
    # Pixels that flicker or leak far beyond the others (hot, random telegraph) are counted out.
    sane = variance <= 8.0 * float(variance.mean()) + 1.0
    means = mean[sane]
    return Spatial(float(means.mean()), float(variance[sane].mean()), float(means.var()), int(sane.sum()))


def _curve(
    mean: Floats, variance: Floats, repeats: int, saturation: float, usable: NDArray[np.bool_] | None
) -> Curve | None:
    spread = 4.0 * np.sqrt(ndimage.uniform_filter(variance, 9, mode="nearest"))
    inside = (mean - spread > 0) & (mean + spread < saturation)
    if usable is not None:
        inside &= usable
    mean, variance = mean[inside], variance[inside]
    if mean.size < _MIN_BIN_PIXELS:
        return None
    low, high = np.quantile(mean, (0.001, 0.999))
    # Narrow where it is dark, so that the noise is about the same throughout a bin: it goes with the root of the light.
    edges = low + np.linspace(0.0, np.sqrt(max(high - low, 1e-6)), _BINS + 1) ** 2
    index = np.clip(np.searchsorted(edges, mean, side="right") - 1, 0, _BINS - 1)
    freedom = freedom_of(repeats)
    points: list[tuple[float, float, float]] = []
    for which in range(_BINS):
        here = index == which
        chosen = variance[here]
        if chosen.size < _MIN_BIN_PIXELS:
            continue
        middle = float(np.median(chosen)) / (stats.chi2.median(freedom) / freedom)
        limit = middle * stats.chi2.isf(_OUTLIER_TAIL, freedom) / freedom
        honest = chosen <= max(limit, 1e-9)
        points.append((float(mean[here][honest].mean()), float(chosen[honest].mean()), honest.sum() * freedom))
    if not points:
        return None
    table = np.asarray(points)
    return Curve(table[:, 0], table[:, 1], table[:, 2])
