"""Pixels per millimetre: from a grid of dots at a known pitch, or from the known length of a part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, spatial

from cell.defects import Mask
from cell.errors import CalibrationError

Floats = NDArray[np.float64]

_FEWEST_DOTS = 9
#: How far a dot may lie from its place in the grid, as a share of the pitch.
_TOLERANCE = 0.15


@dataclass(frozen=True, slots=True)
class Scale:
    """Pixels per millimetre along both directions of a grid, and how well the dots lie on it (pixels, rms)."""

    px_per_mm: float
    along: float
    across: float
    residual_px: float
    dots: int


def from_dots(picture: NDArray[np.generic], pitch_mm: float) -> Scale:
    """Return the scale that a grid of dark dots on a bright plate shows.

    :param picture: (H, W), the mean of repeats; other marks on the plate are left out by their size.
    :param pitch_mm: distance of neighbouring dots.
    :raises CalibrationError: when fewer than nine dots lie on one grid.
    """
    centres = _dots(np.asarray(picture, np.float64))
    if len(centres) < _FEWEST_DOTS:
        raise CalibrationError(
            f"{len(centres)} dots were found, at least {_FEWEST_DOTS} are needed; show the plate with dots, in focus "
            "and well exposed"
        )
    vectors = _neighbours(centres)
    index = _indices(centres, vectors)
    for _ in range(3):
        inside = index[:, 0] > np.iinfo(np.intp).min
        design = np.column_stack([np.ones(inside.sum()), index[inside]])
        solution, *_ = np.linalg.lstsq(design, centres[inside], rcond=None)
        vectors = solution[1:]
        left = np.linalg.norm(centres - (solution[0] + np.where(inside[:, None], index, 0) @ vectors), axis=1)
        pitch = float(np.linalg.norm(vectors, axis=1).mean())
        index = np.where((inside & (left < _TOLERANCE * pitch))[:, None], index, np.iinfo(np.intp).min)
    inside = index[:, 0] > np.iinfo(np.intp).min
    if inside.sum() < _FEWEST_DOTS:
        raise CalibrationError("the dots do not lie on one grid; show the plate with dots square to the camera")
    lengths = np.linalg.norm(vectors, axis=1)
    along, across = (float(length) / pitch_mm for length in lengths)
    residual = float(np.sqrt(np.mean(left[inside] ** 2)))
    return Scale((along + across) / 2, along, across, residual, int(inside.sum()))


def from_length(mask: Mask, length_mm: float) -> Scale:
    """Return the scale at which a part (H, W) is `length_mm` long, measured where it is longest.

    :raises CalibrationError: when the part reaches the frame's edge or nothing is marked.
    """
    rows, columns = np.nonzero(mask)
    if not rows.size:
        raise CalibrationError("no part was found to measure; check the recipe's carrier_max_dn")
    if mask[[0, -1]].any() or mask[:, [0, -1]].any():
        raise CalibrationError(
            "the part reaches the edge of the frame, so its length can't be measured; show dots instead"
        )
    corners = np.concatenate([np.column_stack([rows + a, columns + b]) for a in (-0.5, 0.5) for b in (-0.5, 0.5)])
    hull = corners[spatial.ConvexHull(corners).vertices]
    longest = float(spatial.distance.pdist(hull).max())
    return Scale(longest / length_mm, longest / length_mm, longest / length_mm, 1.0, 0)


def _dots(picture: Floats) -> Floats:
    """Return the centres (N, 2) of the dark marks that are as large as most, row and column."""
    smooth = ndimage.gaussian_filter(picture, 0.8)
    paper = ndimage.percentile_filter(smooth[::2, ::2], 85, size=31)
    paper = ndimage.zoom(paper, 2, order=1)[: picture.shape[0], : picture.shape[1]]
    paper = np.pad(paper, [(0, a - b) for a, b in zip(picture.shape, paper.shape, strict=True)], mode="edge")
    depth = np.maximum(paper - smooth, 0)
    dark = depth > 0.5 * float(np.percentile(depth, 99))
    labels, count = ndimage.label(dark)
    if count == 0:
        return np.empty((0, 2))
    numbers = np.arange(1, count + 1)
    sizes = ndimage.sum_labels(dark, labels, numbers)
    rim = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    whole = (sizes >= 5) & ~np.isin(numbers, rim)
    if not whole.any():
        return np.empty((0, 2))
    usual = float(np.median(sizes[whole]))
    alike = numbers[whole & (sizes > 0.5 * usual) & (sizes < 2.0 * usual)]
    # The whole of a dot and its blurred rim weigh in: the threshold must not move its centre.
    grown = ndimage.grey_dilation(labels, size=5)
    near = np.where(np.isin(grown, alike), grown, 0)
    return np.asarray(ndimage.center_of_mass(depth, near, alike), np.float64)


def _neighbours(centres: Floats) -> Floats:
    """Return the grid's two vectors (2, 2) as most dots and their nearest neighbours have them."""
    distances, nearest = spatial.KDTree(centres).query(centres, k=min(5, len(centres)))
    pitch = float(np.median(distances[:, 1]))
    steps = (centres[nearest[:, 1:]] - centres[:, None]).reshape(-1, 2)
    steps = steps[np.abs(np.linalg.norm(steps, axis=1) - pitch) < _TOLERANCE * pitch]
    # Modulo a quarter turn all steps point one way.
    angle = float(np.angle(np.mean(np.exp(4j * np.arctan2(steps[:, 0], steps[:, 1]))))) / 4
    along = pitch * np.array([np.sin(angle), np.cos(angle)])
    return np.stack([along, [along[1], -along[0]]])


def _indices(centres: Floats, vectors: Floats) -> NDArray[np.intp]:
    """Number the dots by walking from neighbour to neighbour, so that no error adds up over the field."""
    unset = np.iinfo(np.intp).min
    index: NDArray[np.intp] = np.full((len(centres), 2), unset, np.intp)
    tree = spatial.KDTree(centres)
    pitch = float(np.linalg.norm(vectors[0]))
    start = int(tree.query(centres.mean(axis=0))[1])
    index[start] = 0
    waiting = [start]
    while waiting:
        at = waiting.pop()
        for direction in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            place = centres[at] + np.asarray(direction) @ vectors
            distance, found = tree.query(place)
            if distance < _TOLERANCE * pitch and index[found, 0] == unset:
                index[found] = index[at] + direction
                waiting.append(int(found))
    return index
