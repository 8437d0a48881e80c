"""Where the part is: on its carrier, and against another picture of its kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from cell.defects import Mask
from cell.frames import Stack
from cell.recipes import Rect


@dataclass(frozen=True, slots=True, eq=False)
class PartPlace:
    """Where a part lies: its pixels (H, W) bool, their box, their share of the frame; whether they touch its edge."""

    mask: Mask
    box: Rect
    share: float
    touches_edge: bool


def locate(stack: Stack, carrier_max_dn: int | None) -> PartPlace | None:
    """Find the part on its carrier; None when there is none.

    A pixel belongs to the part when any channel is brighter than the carrier; specks are dropped, holes are filled.
    Without a carrier level the part fills the frame.

    :param stack: (K, H, W) uint8 or uint16 DN.
    """
    height, width = stack.shape[1:]
    if carrier_max_dn is None:
        return PartPlace(np.ones((height, width), np.bool_), Rect(x=0, y=0, width=width, height=height), 1.0, False)
    lit = ndimage.binary_opening((stack > carrier_max_dn).any(axis=0), iterations=2)
    labels, count = ndimage.label(lit)
    if count == 0:
        return None
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    mask: Mask = ndimage.binary_fill_holes(labels == int(sizes.argmax()))
    rows, columns = np.nonzero(mask)
    top, bottom, left, right = int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())
    return PartPlace(
        mask=mask,
        box=Rect(x=left, y=top, width=right - left + 1, height=bottom - top + 1),
        share=float(mask.mean()),
        touches_edge=top == 0 or left == 0 or bottom == height - 1 or right == width - 1,
    )


def shift(reference: NDArray[np.float32], image: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return the rows and columns by which `image` lies off `reference`, and the peak's height in [0, 1].

    Phase correlation (Kuglin and Hines, 1975) with a Hann window and a parabola through the peak. A low peak (below
    about 0.03) means that the pictures don't belong together.

    :param reference: (H, W) float32, as is `image`.
    """
    window = np.outer(np.hanning(reference.shape[0]), np.hanning(reference.shape[1]))
    one = fft.rfft2((reference - reference.mean()) * window)
    two = fft.rfft2((image - image.mean()) * window)
    cross = two * np.conj(one)
    surface = fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), s=reference.shape)
    row, column = np.unravel_index(int(surface.argmax()), surface.shape)
    return (
        _refined(surface[:, column], int(row)),
        _refined(surface[row, :], int(column)),
        float(surface[row, column]),
    )


def _refined(line: NDArray[np.float64], peak: int) -> float:
    length = len(line)
    before, at, after = line[peak - 1], line[peak], line[(peak + 1) % length]
    bend = before - 2 * at + after
    offset = 0.5 * (before - after) / bend if bend < 0 else 0.0
    position = peak + float(offset)
    return position - length if position > length / 2 else position
