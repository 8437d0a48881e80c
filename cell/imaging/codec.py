"""Finds the traces of JPEG in pixels: sensor statistics taken from such pictures describe the codec.

After decoding, each coefficient of the 8x8 cosine transform lies near a multiple of its quantisation step q, at one of
the 64 positions of the block grid and at no other (Fan and de Queiroz, IEEE Trans. Image Processing 12, 2003). The mean
of ``cos(2 pi c / q)`` is then far from what the other positions give.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Floats = NDArray[np.float64]

_STEPS = np.array([2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32], np.float64)
# Low frequencies speak in coarse coding, high ones in fine coding, whose low steps are 1 and drown in rounding.
_FREQUENCIES = tuple((v, u) for v in range(8) for u in range(8) if v + u in (1, 2, 3, 6, 7, 8))
_LARGEST = 256
#: Fifth largest excess (over the frequencies) of the statistic over other grid positions; above, a picture was coded.
CODED = 0.15


def findings(picture: NDArray[Any]) -> tuple[str, ...]:
    """Return one sentence when the picture (H, W) was JPEG-coded, else nothing."""
    if jpeg_strength(picture) < CODED:
        return ()
    return (
        "the pixels went through JPEG (its 8x8 quantisation shows): noise and sharpness describe the codec, not the "
        "sensor; record raw or lossless frames",
    )


def jpeg_strength(picture: NDArray[Any]) -> float:
    """Return how clearly the block grid of JPEG shows, about 0 (not at all) to 1; 0 for pictures below 64x64.

    :param picture: (H, W) uint8 or uint16 DN; its middle is looked at.
    """
    if picture.ndim != 2 or min(picture.shape) < 64:
        return 0.0
    top, left = (max(0, (side - _LARGEST) // 2) for side in picture.shape)
    part = picture[top : top + _LARGEST, left : left + _LARGEST].astype(np.float64)
    rows, columns = ((side - 7) // 8 * 8 for side in part.shape)
    table = np.empty((64, len(_FREQUENCIES), len(_STEPS)))
    for position in range(64):
        down, across = divmod(position, 8)
        table[position] = _phases(part[down : down + rows, across : across + columns])
    others = np.median(table, axis=0)
    excess = (table - others).max(axis=2)
    return float(np.sort(excess, axis=1)[:, -5].max())


def _phases(picture: Floats) -> Floats:
    blocks = picture.reshape(picture.shape[0] // 8, 8, -1, 8).swapaxes(1, 2)
    coefficients = fft.dctn(blocks, axes=(2, 3), norm="ortho")
    # In single precision, which is several times faster and leaves the phases of 12-bit pixels exact to a hundredth.
    chosen = np.stack([coefficients[:, :, v, u].ravel() for v, u in _FREQUENCIES]).astype(np.float32)
    turns = chosen[:, None, :] * np.asarray(1.0 / _STEPS, np.float32)[None, :, None]
    turns -= np.rint(turns)
    turns *= np.float32(2 * np.pi)
    phases: Floats = np.cos(turns, out=turns).mean(axis=2, dtype=np.float64)
    return phases
