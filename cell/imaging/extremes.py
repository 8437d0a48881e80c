"""How far a part's most extreme filter responses lie beyond those of good parts, filter by filter.

:mod:`cell.imaging.surprise` sums over filters, octaves and channels, which suits what is odd in many ways; a thin crack
is odd in one filter on one channel, and drowns in the sum. So for every filter the highest and the lowest responses of
each good part are remembered, and a part is as odd as its oddest filter: the deviation of its extreme from the good
parts' extremes, in their robust spread. Responses are taken as the bins have them, on the scale of asinh.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cell.imaging.surprise import BINS, FILTERS, OCTAVES, Look, Maps, enlarged

#: (K, octave, filter, 2): extreme responses upward and downward, in bins.
Extremes = NDArray[np.float32]

#: Pixels whose mean response counts as the extreme at the finest octave, and at the coarsest.
_PIXELS, _LEAST_PIXELS = 32, 4
#: Least spread of extremes among good parts, bins: a few per cent of the response.
_LEAST_SPREAD = 1.5
#: Deviations that count in full; beyond them only the order matters.
MOST = 60.0


def of(look: Look) -> Extremes:
    """Return a part's extremes."""
    channels = look.bins[0].shape[0]
    found = np.zeros((channels, OCTAVES, FILTERS, 2), np.float32)
    for octave, bins in enumerate(look.bins):
        flat = bins.reshape(channels, FILTERS, -1)
        count = min(max(_LEAST_PIXELS, _PIXELS >> (2 * octave)), flat.shape[-1])
        sorted_ = np.partition(flat, (count - 1, flat.shape[-1] - count), axis=-1)
        found[:, octave, :, 0] = sorted_[..., -count:].mean(axis=-1)
        found[:, octave, :, 1] = BINS - sorted_[..., :count].mean(axis=-1)
    return found


def usual(known: Iterable[Extremes]) -> tuple[Extremes, Extremes]:
    """Return median and robust spread of the extremes of good parts."""
    stacked = np.stack(list(known))
    middle = np.median(stacked, axis=0).astype(np.float32)
    spread = 1.4826 * np.median(np.abs(stacked - middle), axis=0)
    return middle, np.maximum(spread, _LEAST_SPREAD).astype(np.float32)


def deviation(own: Extremes, middle: Extremes, spread: Extremes) -> float:
    """Return how far a part's oddest filter lies beyond good parts, in their spread; at most `MOST`."""
    return float(np.minimum((own - middle) / spread, MOST).max())


def deviation_map(look: Look, middle: Extremes, spread: Extremes) -> Maps:
    """Return for each pixel (H, W) by how many spreads its oddest response passes good parts' extremes; 0 if none."""
    result = np.zeros(look.shape, np.float32)
    for octave, bins in enumerate(look.bins):
        here = np.zeros(bins.shape[2:], np.float32)
        for channel in range(bins.shape[0]):
            for which in range(FILTERS):
                responses = bins[channel, which].astype(np.float32)
                above, below = middle[channel, octave, which], spread[channel, octave, which]
                np.maximum(here, (responses - above[0]) / below[0], out=here)
                np.maximum(here, (BINS - responses - above[1]) / below[1], out=here)
        np.maximum(result, enlarged(here, octave, look.shape), out=result)
    return result
