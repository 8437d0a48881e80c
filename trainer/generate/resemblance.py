"""How alike two defects are: their log contrast on all lights, laid over each other where it fits best.

Two defects are compared in place and scale as they are: a copy is at distance 0 wherever it was put and however strong
it is, one with nothing in common at 1. A turned or mirrored copy is another defect: its lights would not agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from cell.defects import Mask
from cell.imaging.contrast import Maps
from trainer.generate.flank import BINS
from trainer.generate.looks import course_of, render, without_structure
from trainer.generate.outlines import signed_distance

#: Cells of the grid on which prints lie, and how many of them the longest seed may take.
_GRID, _LONGEST = 128, 64
#: Finest texture (Gaussian sigma, pixels) of an appearance.
_FINE = 2.0


def cell_of(longest_px: float) -> int:
    """Return the pixels of a grid's cell for a class whose longest seed has that extent."""
    return max(1, int(np.ceil(longest_px / _LONGEST)))


def print_of(contrast: Maps, mask: Mask, cell_px: int) -> NDArray[np.float32]:
    """Return a defect's print, (K, n, n) float32 of norm 1: its contrast (K, h, w) inside the mask, in cells.

    What is smaller than a pixel or a cell is left out: it is noise. A defect larger than the grid shows its middle.
    """
    smooth = ndimage.gaussian_filter(contrast * mask, (0, 0.7 * cell_px, 0.7 * cell_px), mode="constant")
    rows, columns = np.nonzero(mask)
    window = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    cut = smooth[:, window[0], window[1]]
    grown = [(0, 0), *((0, -size % cell_px) for size in cut.shape[1:])]
    cut = np.pad(cut, grown)
    height, width = (size // cell_px for size in cut.shape[1:])
    cells = cut.reshape(len(cut), height, cell_px, width, cell_px).mean(axis=(2, 4))
    limit = _GRID // 2
    top, left = max(0, (height - limit) // 2), max(0, (width - limit) // 2)
    cells = cells[:, top : top + limit, left : left + limit]
    shown = np.zeros((len(cells), limit, limit), np.float32)
    shown[:, : cells.shape[1], : cells.shape[2]] = cells
    found: NDArray[np.float32] = shown / max(float(np.sqrt((shown**2).sum())), 1e-12)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Prints:
    """Prints of several defects, ready to be compared: `spectra` (N, K, _GRID, ...) complex64."""

    spectra: NDArray[np.complex64]

    @classmethod
    def of(cls, prints: NDArray[np.float32]) -> Prints:
        """Transform prints (N, K, n, n)."""
        return cls(fft.rfft2(prints, (_GRID, _GRID)).astype(np.complex64))

    def distances(self, one: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the distance of a print (K, n, n) to each, (N,), in [0, 1]."""
        spectrum = fft.rfft2(one, (_GRID, _GRID))
        crossed = np.einsum("nkij,kij->nij", self.spectra.conj(), spectrum)
        best = fft.irfft2(crossed, (_GRID, _GRID)).max(axis=(1, 2))
        return np.clip(1.0 - best, 0.0, 1.0).astype(np.float64)


def between(prints: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return all distances of prints (N, K, n, n) from one another, (N, N), infinite on the diagonal."""
    known = Prints.of(prints)
    table = np.stack([known.distances(one) for one in prints])
    np.fill_diagonal(table, np.inf)
    return table


def appearance_of(contrast: Maps, mask: Mask) -> NDArray[np.float32]:
    """Return what a defect looks like whatever its outline and strength, (F,) float32.

    Its mean course from the edge to the middle on each light, and the spread of what that leaves over, coarse and
    fine; all in units of the root mean square of its contrast.
    """
    distance = signed_distance(np.pad(mask, 1))[1:-1, 1:-1]
    strength = max(float(np.sqrt((contrast[:, mask] ** 2).mean())), 1e-9)
    course = course_of(contrast, distance)
    rest = contrast - render(course, distance)
    fine = without_structure(rest, mask, _FINE)[0]
    spread = np.concatenate([(rest - fine)[:, mask].std(axis=1), fine[:, mask].std(axis=1)])
    rows = np.concatenate([course.ravel() / np.sqrt(BINS), spread])
    found: NDArray[np.float32] = (rows / strength).astype(np.float32)
    return found
