"""How surprising the texture around each pixel is, learned from good parts alone.

At four octaves, eight signed filters look at each channel: second derivatives along and across, the saddle, blobs (dark
or bright on both axes), the gradient down and the gradient's size (Gaussian derivatives after Lindeberg, IJCV 30,
1998), and the darkest and the brightest line through a pixel, over eight orientations: a crack is faint everywhere but
long. Histograms of their responses on good parts say how rare a response is; signed, because on machined surfaces
bright streaks are common and dark pits are not, and apart for the part's rim, where edges are common. A pixel's
surprise is the sum of ``-log10 p``; beyond what good parts ever showed it grows with the distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from cell.defects import Mask

Maps = NDArray[np.float32]
Counts = NDArray[np.int64]

OCTAVES = 4
FILTERS = 8
#: Interior; rim of 12 pixels and its outermost 4, at upper or lower and at left or right sides.
STRATA = 5
BINS = 512
_RIM_PX, _OUTERMOST_PX = 12, 4
# Responses are binned by asinh: fine near 0, and nothing is out of range.
_FINE, _LARGEST = 0.01, 40.0
#: Tail probability beyond which single good parts decide; the surprise goes on linearly from there.
_RARE = 1e-5
_BEYOND = 3.0
_SMOOTHING_PX = 1.5
#: Widths of a line filter along and across, pixels, and its orientations.
_LINE_PX, _ORIENTATIONS = (5.0, 1.0), 8


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A picture as the filters see it: bin of each response (K, F, h, w) uint16 and stratum (h, w) at each octave."""

    bins: tuple[NDArray[np.uint16], ...]
    strata: tuple[NDArray[np.uint8], ...]
    shape: tuple[int, int]


def empty_counts(channels: int) -> Counts:
    """Return histograms (K, octave, filter, stratum, bin) of nothing."""
    return np.zeros((channels, OCTAVES, FILTERS, STRATA, BINS), np.int64)


def look(maps: Maps, part: Mask) -> Look:
    """Filter normalised log maps (K, H, W) of a part; outside `part` (H, W) they must go on smoothly."""
    zones = _zones(part)
    bins, strata = [], []
    current = maps
    for octave in range(OCTAVES):
        bins.append(np.stack([np.stack([_binned(r) for r in _responses(channel)]) for channel in current]))
        strata.append(zones[:: 1 << octave, :: 1 << octave][: current.shape[1], : current.shape[2]])
        current = ndimage.gaussian_filter(current, (0, 1.0, 1.0), mode="nearest")[:, ::2, ::2]
    return Look(tuple(bins), tuple(strata), (int(maps.shape[1]), int(maps.shape[2])))


def count(counts: Counts, seen: Look) -> None:
    """Add a good part's responses to the histograms, in place."""
    for octave, (bins, strata) in enumerate(zip(seen.bins, seen.strata, strict=True)):
        # One short call for each filter: a long one would keep other threads waiting.
        zone = strata.astype(np.intp) * BINS
        for channel in range(bins.shape[0]):
            for which in range(FILTERS):
                found = np.bincount((zone + bins[channel, which]).ravel(), minlength=STRATA * BINS)
                counts[channel, octave, which] += found.reshape(STRATA, BINS)


def tables(counts: Counts) -> Maps:
    """Return the surprise of every bin, of the shape of `counts`; 0 where a stratum was never seen."""
    flat = counts.reshape(-1, BINS).astype(np.float64)
    total = flat.sum(axis=1, keepdims=True)
    share = np.divide(np.cumsum(flat, axis=1) - flat / 2, total, out=np.full_like(flat, 0.5), where=total > 0)
    tail = np.minimum(share, 1 - share)
    rare = np.maximum(_RARE, 3.0 / np.maximum(total, 1.0))
    surprise = -np.log10(np.clip(2 * tail, rare, 1.0))
    values = np.broadcast_to(_bin_values(), flat.shape)
    at = np.arange(len(flat))
    middle = values[at, (share < 0.5).sum(axis=1).clip(max=BINS - 1)][:, None]
    inside = tail >= rare
    lowest = values[at, inside.argmax(axis=1)][:, None]
    highest = values[at, BINS - 1 - inside[:, ::-1].argmax(axis=1)][:, None]
    above = np.maximum(values - highest, 0) / np.maximum(highest - middle, _FINE)
    below = np.maximum(lowest - values, 0) / np.maximum(middle - lowest, _FINE)
    surprise += _BEYOND * np.minimum(above + below, 10.0)
    surprise[total[:, 0] == 0] = 0.0
    result: Maps = surprise.reshape(counts.shape).astype(np.float32)
    return result


def surprise_map(table: Maps, seen: Look) -> Maps:
    """Return the summed surprise, (H, W) float32, root of the summed squares over the channels."""
    channels = table.shape[0]
    total = np.zeros((channels, *seen.shape), np.float32)
    for octave, (bins, strata) in enumerate(zip(seen.bins, seen.strata, strict=True)):
        zone = strata.astype(np.intp) * BINS
        for channel in range(channels):
            here = np.zeros(strata.shape, np.float32)
            for which in range(FILTERS):
                # `take` lets other threads run meanwhile, indexing does not.
                here += table[channel, octave, which].ravel().take(zone + bins[channel, which])
            total[channel] += enlarged(here, octave, seen.shape)
    joined: Maps = np.sqrt((total * total).sum(axis=0))
    smooth: Maps = ndimage.gaussian_filter(joined, _SMOOTHING_PX, mode="nearest")
    return smooth


def _responses(channel: Maps) -> Iterator[Maps]:
    def derivative(down: int, across: int) -> Maps:
        result: Maps = ndimage.gaussian_filter(channel, 1.0, order=(down, across), mode="nearest")
        return result

    xx, yy, xy = derivative(0, 2), derivative(2, 0), derivative(1, 1)
    y, x = derivative(1, 0), derivative(0, 1)
    root = np.sqrt((xx - yy) ** 2 + 4 * xy * xy)
    dark = np.maximum((xx + yy - root) / 2, 0)
    bright = np.minimum((xx + yy + root) / 2, 0)
    yield from (xx, yy, xy, dark + bright, y, np.hypot(x, y))
    yield from _lines(channel)


def _lines(channel: Maps) -> tuple[Maps, Maps]:
    """Return the response of the darkest and of the brightest line through each pixel: positive, and negative."""
    height, width = channel.shape
    margin = int(3 * _LINE_PX[0])
    padded = np.pad(channel, margin, mode="edge")
    size = (fft.next_fast_len(padded.shape[0], real=True), fft.next_fast_len(padded.shape[1], real=True))
    spectrum = fft.rfft2(padded, s=size)
    found = [fft.irfft2(spectrum * kernel, s=size) for kernel in _line_spectra(size)]
    inner = (slice(margin, margin + height), slice(margin, margin + width))
    darkest: Maps = np.maximum.reduce(found)[inner]
    brightest: Maps = np.minimum.reduce(found)[inner]
    return darkest, brightest


@lru_cache(maxsize=16)
def _line_spectra(size: tuple[int, int]) -> tuple[NDArray[np.complex64], ...]:
    """Return the spectra of the line filters, second derivatives of a long Gaussian, for an FFT of that size."""
    rows = np.fft.fftfreq(size[0], 1 / size[0])[:, None]
    columns = np.fft.fftfreq(size[1], 1 / size[1])[None, :]
    long, short = _LINE_PX
    spectra = []
    for turn in np.arange(_ORIENTATIONS) * np.pi / _ORIENTATIONS:
        along = rows * np.sin(turn) + columns * np.cos(turn)
        across = rows * np.cos(turn) - columns * np.sin(turn)
        bell = np.exp(-0.5 * ((along / long) ** 2 + (across / short) ** 2)) / (2 * np.pi * long * short)
        kernel = ((across / short) ** 2 - 1) / short**2 * bell
        spectra.append(np.asarray(fft.rfft2((kernel - kernel.mean()).astype(np.float32)), np.complex64))
    return tuple(spectra)


def _binned(response: Maps) -> NDArray[np.uint16]:
    half = BINS / 2
    position = np.arcsinh(response / np.float32(_FINE)) * np.float32(half / np.arcsinh(_LARGEST / _FINE)) + half
    bins: NDArray[np.uint16] = np.clip(position, 0, BINS - 1).astype(np.uint16)
    return bins


def _bin_values() -> NDArray[np.float64]:
    half = BINS / 2
    values: NDArray[np.float64] = _FINE * np.sinh((np.arange(BINS) + 0.5 - half) / half * np.arcsinh(_LARGEST / _FINE))
    return values


def _zones(part: Mask) -> NDArray[np.uint8]:
    framed = np.pad(part, 1)
    distance, nearest = ndimage.distance_transform_edt(framed, return_indices=True)
    rows, columns = np.indices(framed.shape)
    upright = np.abs(nearest[0] - rows) > np.abs(nearest[1] - columns)
    zones = np.zeros(framed.shape, np.uint8)
    rim = distance <= _RIM_PX
    zones[rim] = np.where(upright, 1, 2)[rim]
    zones[rim & (distance <= _OUTERMOST_PX)] += 2
    return zones[1:-1, 1:-1]


def enlarged(small: Maps, octave: int, shape: tuple[int, int]) -> Maps:
    """Return a map of one octave at full size, (H, W), bilinear."""
    if octave == 0:
        return small
    factor = 1 << octave
    rows = np.minimum(np.arange(shape[0]) / factor, small.shape[0] - 1)
    columns = np.minimum(np.arange(shape[1]) / factor, small.shape[1] - 1)
    down = _between(small, rows, 0)
    return _between(down, columns, 1)


def _between(values: Maps, at: NDArray[np.float64], axis: int) -> Maps:
    low = at.astype(np.intp)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    share = (at - low).astype(np.float32)
    share = share[:, None] if axis == 0 else share[None, :]
    mixed: Maps = np.take(values, low, axis) * (1 - share) + np.take(values, high, axis) * share
    return mixed
