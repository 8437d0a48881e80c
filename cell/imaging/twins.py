"""Near-duplicates: two pictures of one physical part under two names.

A part's own texture (grain, marks, scale) is on every picture of it; edges, holes and the lights' fall-off are on every
part of the product. So pictures are freed of their slow course and of the strength of their edges, registered by a
shift to a fraction of a pixel, and compared by their normalised correlation; and a pair counts as one part only when
what keeps it from agreeing wholly is a small share of what keeps the next part from it (Lowe's ratio, IJCV 60, 2004).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell.frames import Stack

#: (K, H, W) uint8: a picture made small; what :func:`fingerprint` gives.
Fingerprint = NDArray[np.uint8]
#: (K, H, W) float32: what is fine in it, of norm 1.
Texture = NDArray[np.float32]
#: Spectrum of a coarse texture, complex64: by it the pictures worth a closer look are found.
Sketch = NDArray[np.complex64]

#: Longest side of a fingerprint, pixels, and most channels that are kept of a picture.
SIDE, CHANNELS = 160, 3
#: Widths of the Gaussians that free a picture of slow course and of strong edges, pixels of the fingerprint.
_COURSE_PX, _STRENGTH_PX = 2.0, 6.0
#: Largest shift between two pictures of one part, share of the side.
_REACH = 0.06
#: Least correlation of a near-duplicate, and the largest share that 1 minus it may be of the next part's.
LEAST, RATIO = 0.8, 0.5
#: Correlation from which a pair is one while no further part is known to compare with.
CERTAIN = 0.98
#: Pictures that are looked at closely.
CLOSELY = 8


@dataclass(frozen=True, slots=True)
class Twin:
    """The known picture that shows the same part as a new one; `next` is the correlation of the next part."""

    index: int
    correlation: float
    next: float


def fingerprint(stack: Stack) -> Fingerprint:
    """Return a picture made small, (K, H, W) uint8 with the longer side at most `SIDE` and at most `CHANNELS` channels.

    :param stack: (K, H, W) uint8 or uint16 DN.
    """
    chosen = stack[:: max(1, -(-len(stack) // CHANNELS))]
    factor = max(1, -(-max(stack.shape[1:]) // SIDE))
    height, width = (max(1, length // factor) for length in stack.shape[1:])
    cut = chosen[:, : height * factor, : width * factor]
    small = cut.reshape(len(chosen), height, factor, width, factor).mean(axis=(2, 4), dtype=np.float32)
    # Square roots: photon noise is then as strong in bright places as in dark ones (Anscombe, 1948).
    np.sqrt(small, out=small)
    low, top = (np.quantile(small, share, axis=(1, 2))[:, None, None] for share in (0.001, 0.999))
    print_: Fingerprint = np.clip(np.rint((small - low) / np.maximum(top - low, 1e-3) * 255), 0, 255).astype(np.uint8)
    return print_


def texture(print_: Fingerprint) -> Texture:
    """Return what is fine in a fingerprint, evened out over it, of mean 0 and norm 1; all 0 where nothing is."""
    out = np.zeros(print_.shape, np.float32)
    for channel, even in zip(print_.astype(np.float32), out, strict=True):
        detail = channel - _blurred(channel, _COURSE_PX)
        strength = np.sqrt(_blurred(detail**2, _STRENGTH_PX))
        floor = 0.25 * float(np.sqrt((detail**2).mean()))
        if floor > 1e-3:
            limited = np.clip(detail / (strength + floor), -2.5, 2.5)
            even[...] = limited - limited.mean()
    norm = float(np.linalg.norm(out))
    return out / np.float32(norm) if norm > 0 else out


def sketch(fine: Texture) -> Sketch:
    """Return the spectrum of a texture at half its size, all channels together, for :func:`rank`."""
    flat = _blurred(fine.mean(axis=0), 1.0)[::2, ::2]
    norm = float(np.linalg.norm(flat))
    found: Sketch = np.fft.rfft2(flat / norm if norm > 0 else flat, s=_padded(flat.shape)).astype(np.complex64)
    return found


def rank(one: Sketch, others: Sequence[Sketch]) -> NDArray[np.float64]:
    """Return how alike a sketch and each of `others` are at the best shift; -1 for one of another size."""
    found = np.full(len(others), -1.0)
    for index, two in enumerate(others):
        if two.shape == one.shape:
            surface = np.fft.irfft2(np.conj(one) * two)
            found[index] = float(_near(surface, surface.shape).max())
    return found


def correlation(one: Texture, two: Texture) -> float:
    """Return the correlation of two textures in [-1, 1], one shifted over the other to a fraction of a pixel."""
    if one.shape != two.shape or not one.any() or not two.any():
        return 0.0
    size = _padded(one.shape[1:])
    spectrum = np.fft.rfft2(two, s=size)
    surface = np.fft.irfft2((np.conj(np.fft.rfft2(one, s=size)) * spectrum).sum(axis=0), s=size)
    near = _near(surface, one.shape[1:])
    row, column = (int(at) for at in np.unravel_index(int(near.argmax()), near.shape))
    far = [length // 2 for length in near.shape]
    down = row - far[0] + _between(near[:, column], row)
    across = column - far[1] + _between(near[row, :], column)
    turn = np.exp(
        2j * np.pi * (down * np.fft.fftfreq(size[0])[:, None] + across * np.fft.rfftfreq(size[1])[None, :])
    ).astype(np.complex64)
    moved = np.fft.irfft2(spectrum * turn, s=size)[:, : one.shape[1], : one.shape[2]]
    inner = (slice(None), *(slice(f, length - f) for f, length in zip(_far(one.shape[1:]), one.shape[1:], strict=True)))
    a, b = one[inner].ravel(), moved[inner].ravel().astype(np.float32)
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.clip(a @ b / norm, -1, 1)) if norm > 0 else 0.0


def judged(found: Sequence[float], parts: Sequence[str]) -> Twin | None:
    """Return which of the correlations says "the same part", or None.

    :param parts: physical part of each picture.
    """
    if not found:
        return None
    best = int(np.argmax(found))
    rest = [value for value, part in zip(found, parts, strict=True) if part != parts[best]]
    value = float(found[best])
    if not rest:
        return Twin(best, value, 0.0) if value >= CERTAIN else None
    following = max(rest)
    if value < LEAST or 1 - value > RATIO * (1 - following):
        return None
    return Twin(best, value, following)


def _blurred(picture: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    # By matrices instead of scipy's filters: the trainer's service opens the store and is kept small.
    down, across = (_gaussian(length, sigma) for length in picture.shape)
    return np.asarray(down @ picture @ across.T)


@lru_cache(maxsize=32)
def _gaussian(length: int, sigma: float) -> NDArray[np.float32]:
    """Return the matrix of a Gaussian filter along one axis; at the rim what is missing is left out."""
    offsets = np.arange(length)[:, None] - np.arange(length)[None, :]
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    matrix: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return matrix


def _padded(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(_fast(length + far) for length, far in zip(shape, _far(shape), strict=True))


def _fast(length: int) -> int:
    """Return the next even length without prime factors above 5."""
    length += length % 2
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 2


def _far(shape: tuple[int, ...]) -> list[int]:
    return [max(1, int(length * _REACH)) for length in shape]


def _near(surface: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the middle of a correlation surface: shifts within reach, no shift in its centre."""
    rows, columns = _far(shape)
    near = np.take(surface, range(-rows, rows + 1), axis=0, mode="wrap")
    return np.asarray(np.take(near, range(-columns, columns + 1), axis=1, mode="wrap"))


def _between(line: NDArray[Any], peak: int) -> float:
    if not 0 < peak < len(line) - 1:
        return 0.0
    before, at, after = (float(value) for value in line[peak - 1 : peak + 2])
    bend = before - 2 * at + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0
