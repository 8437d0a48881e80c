"""Near-duplicates: two pictures of one physical part under two names.

A part's own texture (grain, marks, scale) is on every picture of it; what all parts of a product share (edges, holes,
the lights' fall-off) says nothing. So each channel is reduced, freed of its slow course and of the strength of its
edges, and compared after registration by its normalised correlation. Because parts of one product agree by their
shape alone, a pair counts as one part only when it agrees far better than parts of that product usually do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from cell.frames import Stack

#: (K, H, W) int8: a picture reduced to its texture; what :func:`fingerprint` gives.
Fingerprint = NDArray[np.int8]

#: Longest side of a fingerprint, pixels.
SIDE = 128
#: Widths of the Gaussians that free a fingerprint of slow course and of strong edges, pixels of the fingerprint.
_COURSE_PX, _STRENGTH_PX = 2.0, 6.0
#: Quantisation: standard deviations at 127.
_LARGEST = 4.0
#: Largest shift that is looked for, share of the side.
_REACH = 0.125
#: Least correlation of a near-duplicate, and by how many robust deviations (of Fisher's z) it must stand out from the
#: correlations of other parts.
LEAST, STANDS_OUT = 0.5, 8.0
#: Correlation from which two pictures are near-duplicates while too few parts are known to say what is usual.
CERTAIN = 0.97
#: Other parts that are needed to say what is usual.
ENOUGH = 6


@dataclass(frozen=True, slots=True)
class Twin:
    """The known picture that a new one resembles as only pictures of one part do."""

    index: int
    correlation: float
    usual: float  # median correlation of the other pictures


def fingerprint(stack: Stack) -> Fingerprint:
    """Return a picture's texture, (K, H, W) int8 with the longer side at most `SIDE`; zero where there is none.

    :param stack: (K, H, W) uint8 or uint16 DN.
    """
    factor = max(1, -(-max(stack.shape[1:]) // SIDE))
    height, width = (max(1, length // factor) for length in stack.shape[1:])
    cut = stack[:, : height * factor, : width * factor]
    small = cut.reshape(len(stack), height, factor, width, factor).mean(axis=(2, 4), dtype=np.float32)
    # Square roots: photon noise is then as strong in bright places as in dark ones (Anscombe, 1948).
    np.sqrt(small, out=small)
    print_ = np.zeros(small.shape, np.int8)
    for channel, out in zip(small, print_, strict=True):
        detail = channel - ndimage.gaussian_filter(channel, _COURSE_PX, mode="nearest")
        strength = np.sqrt(ndimage.gaussian_filter(detail**2, _STRENGTH_PX, mode="nearest"))
        floor = max(0.25 * float(np.sqrt((detail**2).mean())), 1e-3)
        even = detail / (strength + floor)
        spread = float(even.std())
        if spread > 1e-3:
            out[...] = np.clip(np.rint((even - even.mean()) / spread * (127 / _LARGEST)), -127, 127)
    return print_


def correlation(one: Fingerprint, two: Fingerprint) -> float:
    """Return the correlation of two fingerprints in [-1, 1] at the shift where it is highest.

    0 for fingerprints of different shapes or without texture.
    """
    return float(correlations(one, [two])[0])


def correlations(one: Fingerprint, others: Sequence[Fingerprint]) -> NDArray[np.float64]:
    """Return :func:`correlation` of one fingerprint with each of `others`."""
    found = np.zeros(len(others))
    if one.size == 0 or not others:
        return found
    size = [fft.next_fast_len(length + int(length * _REACH) + 1, real=True) for length in one.shape[1:]]
    norm = float(np.linalg.norm(one.astype(np.float32)))
    spectrum = np.conj(fft.rfft2(one.astype(np.float32), s=size))
    reach = [max(1, int(length * _REACH)) for length in one.shape[1:]]
    for index, two in enumerate(others):
        length = float(np.linalg.norm(two.astype(np.float32)))
        if two.shape != one.shape or norm * length == 0:
            continue
        both = (spectrum * fft.rfft2(two.astype(np.float32), s=size)).sum(axis=0)
        surface = fft.irfft2(both, s=size)
        near = np.take(surface, range(-reach[0], reach[0] + 1), axis=0, mode="wrap")
        found[index] = float(np.take(near, range(-reach[1], reach[1] + 1), axis=1, mode="wrap").max()) / (norm * length)
    return np.clip(found, -1.0, 1.0)


def twin(one: Fingerprint, others: Sequence[Fingerprint], parts: Sequence[str]) -> Twin | None:
    """Return the picture among `others` that shows the part of `one`, or None.

    :param parts: physical part of each of `others`: what is usual is judged on pictures of other parts than the best's.
    """
    found = correlations(one, others)
    return judged(found, parts)


def judged(found: NDArray[np.float64], parts: Sequence[str]) -> Twin | None:
    """Return which of the correlations says "the same part", or None; see :func:`twin`."""
    if found.size == 0:
        return None
    best = int(found.argmax())
    rest = np.array([value for value, part in zip(found, parts, strict=True) if part != parts[best]])
    usual = float(np.median(rest)) if rest.size else 0.0
    if rest.size < ENOUGH:
        return Twin(best, float(found[best]), usual) if found[best] >= CERTAIN else None
    z = np.arctanh(np.clip(rest, -0.999, 0.999))
    spread = max(1.4826 * float(np.median(np.abs(z - np.median(z)))), 0.02)
    limit = float(np.tanh(np.median(z) + STANDS_OUT * spread))
    if found[best] < max(LEAST, limit):
        return None
    return Twin(best, float(found[best]), usual)
