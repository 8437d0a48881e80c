"""Put a seed's maps under another outline: middle on middle, long axis on long axis, extent on extent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.imaging.contrast import Maps

#: Stretch of a seed along one axis: beyond it texture would no longer be its own.
_STRETCH = (0.5, 2.0)
#: Ratio of the axes from which an outline has a direction.
_LONG = 1.8

_Frame = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def aligned(
    maps: Maps, own: NDArray[np.float32], planned: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return maps (C, h, w) as they would lie under a planned outline, (C, H, W); 0 beyond them.

    :param own: (h, w) distance to the outline that the maps belong to; :param planned: (H, W) to the planned one.
    Which end of a long outline comes first is drawn.
    """
    middle, axes, spread = _frame(own > 0)
    middle_planned, axes_planned, spread_planned = _frame(planned > 0)
    if min(_ratio(spread), _ratio(spread_planned)) < _LONG:
        # One of them has no direction, so both keep theirs.
        axes = axes_planned = np.eye(2)
        spread, spread_planned = _extent(own > 0), _extent(planned > 0)
    elif rng.random() < 0.5:
        axes = -axes
    stretch = np.clip(spread / np.maximum(spread_planned, 1e-6), *_STRETCH)
    matrix = axes @ np.diag(stretch) @ axes_planned.T
    offset = middle - matrix @ middle_planned
    moved = [ndimage.affine_transform(one, matrix, offset, planned.shape, order=1, mode="constant") for one in maps]
    return np.stack(moved).astype(np.float32)


def _frame(mask: NDArray[np.bool_]) -> _Frame:
    """Return middle, axes (columns, the longest first, turning as a picture does) and spread along them, pixels."""
    places = np.argwhere(mask).astype(np.float64)
    if len(places) < 2:
        return np.asarray(mask.shape, np.float64) / 2, np.eye(2), np.ones(2)
    middle = places.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((places - middle).T) + 1e-6 * np.eye(2))
    long = vectors[:, 1]
    axes = np.stack([long, [-long[1], long[0]]], axis=1)
    return middle, axes, np.sqrt(values[::-1])


def _extent(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    places = np.argwhere(mask)
    return places.std(axis=0) if len(places) > 1 else np.ones(2)


def _ratio(spread: NDArray[np.float64]) -> float:
    return float(spread[0] / max(float(spread[1]), 1e-6))
