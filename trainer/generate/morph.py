"""Between the outlines of two seeds, and beyond them: signed distance fields mixed (Cohen-Or et al., 1998)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trainer.generate.outlines import Outline

Field = NDArray[np.float32]


def mixed(one: Field, two: Field, share: float) -> tuple[Field, float, tuple[int, int]]:
    """Return the mixed field, by how much the outlines cover each other, and how far the first one was moved."""
    shape = (max(one.shape[0], two.shape[0]), max(one.shape[1], two.shape[1]))
    first, second = _padded(one, shape), _padded(two, shape)
    union = ((first > 0) | (second > 0)).sum()
    overlap = float(((first > 0) & (second > 0)).sum() / max(union, 1))
    shift = ((shape[0] - one.shape[0]) // 2, (shape[1] - one.shape[1]) // 2)
    return (1 - share) * first + share * second, overlap, shift


def aligned(outline: Outline, to: Outline) -> Field:
    """Return an outline's distance field on another one's grid, turned and scaled to lie as that one does.

    An outline that the part's edge cuts keeps its direction.
    """
    free = not any(end for ends in to.touches for end in ends)
    turn = math.radians(to.orientation_deg - outline.orientation_deg) if free else 0.0
    scale = to.longest / outline.longest
    cos, sin = math.cos(turn), math.sin(turn)
    # Offsets (row, column) in the other's field to those in this one's.
    back = np.array([[cos, -sin], [sin, cos]]) / scale
    at = (np.asarray(to.distance.shape) - 1) / 2
    own = _middle(outline.distance)
    offset = own - back @ (_middle(to.distance) if free else at)
    drawn = ndimage.affine_transform(
        outline.distance, back, offset, to.distance.shape, order=1, cval=float(outline.distance.min())
    )
    field: Field = (drawn * scale).astype(np.float32)
    return field


def _middle(field: Field) -> NDArray[np.float64]:
    return np.asarray(ndimage.center_of_mass(field > 0), np.float64)


def _padded(field: Field, shape: tuple[int, int]) -> Field:
    grow = [(n - length) // 2 for length, n in zip(field.shape, shape, strict=True)]
    widths = [(g, n - length - g) for g, length, n in zip(grow, field.shape, shape, strict=True)]
    return np.pad(field, widths, mode="linear_ramp", end_values=float(field.min()) - max(max(w) for w in widths))
