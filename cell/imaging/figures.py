"""Figures of one frame that a person sets a camera up by: levels with their clipping, and sharpness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cell.frames import Pixels
from cell.recipes import Rect

#: Pixels that are counted at a time: :func:`numpy.bincount` widens what it is given to 64 bit.
_BLOCK = 1 << 21
#: A sensor may saturate below full scale (black level subtracted, gain below 1): its largest value then holds more
#: than this share of the frame, and this many times what the values below it hold on average.
_PILE_SHARE, _PILE_TIMES, _PILE_BELOW = 5e-4, 20.0, 8
#: Longest side of the region that sharpness is measured in, when none is named, pixels.
FOCUS_PX = 1024


@dataclass(frozen=True, slots=True)
class Levels:
    """How often each digital number (DN) occurs in a frame.

    `counts` has one entry for each DN, at least up to full scale, (2**bit_depth - 1). `dark_share` and
    `saturated_share` are the shares of pixels at 0 and at or above full scale, in [0, 1]. `ceiling` is the DN at which
    pixels pile up below full scale, None when they don't: a sensor that saturates earlier than its format.
    """

    counts: NDArray[np.int64]
    bit_depth: int
    low: int
    high: int
    mean: float
    dark_share: float
    saturated_share: float
    ceiling: int | None
    ceiling_share: float

    @property
    def full_scale(self) -> int:
        """The largest DN of the format."""
        return (1 << self.bit_depth) - 1

    @property
    def clipped_share(self) -> float:
        """Share of pixels whose value says nothing any more: at 0, at full scale, or piled up below it."""
        return self.dark_share + self.saturated_share + self.ceiling_share

    def binned(self, bins: int) -> NDArray[np.int64]:
        """Return the counts of `bins` ranges of equal width from 0 to full scale; what lies above is in the last."""
        bins = min(bins, 1 << self.bit_depth)
        which = np.minimum(np.arange(self.counts.size) * bins >> self.bit_depth, bins - 1)
        return np.bincount(which, weights=self.counts, minlength=bins).astype(np.int64)


def levels(pixels: Pixels, bit_depth: int) -> Levels:
    """Count the digital numbers of a frame (H, W), uint8 or uint16, with `bit_depth` significant bits."""
    flat = pixels.reshape(-1)
    counts = np.zeros(max(1 << bit_depth, 1 << 8), np.int64)
    for start in range(0, flat.size, _BLOCK):
        found = np.bincount(flat[start : start + _BLOCK], minlength=counts.size)
        if found.size > counts.size:  # values above the format's full scale: counted, and saturated
            counts = np.concatenate([counts, np.zeros(found.size - counts.size, np.int64)])
        counts[: found.size] += found
    counts = counts[: max(1 << bit_depth, int(np.flatnonzero(counts)[-1]) + 1)]
    present = np.flatnonzero(counts)
    total, full_scale = int(flat.size), (1 << bit_depth) - 1
    ceiling, ceiling_share = _ceiling(counts, int(present[-1]), full_scale, total)
    return Levels(
        counts=counts,
        bit_depth=bit_depth,
        low=int(present[0]),
        high=int(present[-1]),
        mean=float(counts @ np.arange(counts.size)) / total,
        dark_share=float(counts[0]) / total,
        saturated_share=float(counts[full_scale:].sum()) / total,
        ceiling=ceiling,
        ceiling_share=ceiling_share,
    )


def sharpness(pixels: Pixels, region: Rect | None = None) -> float:
    """Return how sharp a region of a frame (H, W) is: Tenengrad, relative to the square of its mean; no unit.

    Tenengrad is the mean of the squared gradient after Sobel (E. Krotkov, "Focusing", IJCV 1, 1988; measure GRA6 in
    S. Pertuz et al., "Analysis of focus measure operators for shape-from-focus", Pattern Recognition 46, 2013, where
    gradient measures hold up best against noise and low contrast). The gradient is in DN for each pixel; divided by the
    mean it does not follow a lamp that drifts or an iris that is turned. Comparable only between frames of one scene
    and region. Without `region` the middle of the frame is taken, at most `FOCUS_PX` long.
    """
    region = region or middle(*pixels.shape)
    crop = pixels[region.y : region.y + region.height, region.x : region.x + region.width].astype(np.float32)
    if min(crop.shape) < 3:
        return 0.0
    # Sobel: [1 2 1] across, [-1 0 1] along; divided by 8 it is the slope in DN for each pixel.
    smooth_y = crop[:-2] + 2 * crop[1:-1] + crop[2:]
    smooth_x = crop[:, :-2] + 2 * crop[:, 1:-1] + crop[:, 2:]
    slope_x = (smooth_y[:, 2:] - smooth_y[:, :-2]) / 8
    slope_y = (smooth_x[2:] - smooth_x[:-2]) / 8
    energy = float(np.mean(slope_x * slope_x + slope_y * slope_y, dtype=np.float64))
    mean = max(1.0, float(crop.mean(dtype=np.float64)))
    return energy / (mean * mean)


def middle(height: int, width: int, longest: int = FOCUS_PX) -> Rect:
    """Return the middle of a frame, at most `longest` pixels high and wide."""
    wide, tall = min(width, longest), min(height, longest)
    return Rect(x=(width - wide) // 2, y=(height - tall) // 2, width=wide, height=tall)


def _ceiling(counts: NDArray[np.int64], high: int, full_scale: int, total: int) -> tuple[int | None, float]:
    if high >= full_scale or high < _PILE_BELOW:
        return None, 0.0
    share = float(counts[high]) / total
    below = float(counts[high - _PILE_BELOW : high].mean())
    piled = share > _PILE_SHARE and counts[high] > _PILE_TIMES * max(below, 1.0)
    return (high, share) if piled else (None, 0.0)
