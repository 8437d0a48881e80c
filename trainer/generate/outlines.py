"""The outlines of seeds: distance fields, where they touch the part's edge, how they lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask
from trainer.generate.base import SeedSample
from trainer.generate.lay import Lay, folded, lay_at

Touches = tuple[tuple[bool, bool], tuple[bool, bool]]

_MARGIN, _WIDEST_MARGIN = 6, 24
#: Standard deviation of the Gaussian that takes the steps of pixels from an outline.
_STEPS_PX = 1.0
#: A mask that comes so near to the part's edge, pixels, touches it.
_NEAR_EDGE = 3
#: Directions in which an extent is measured: the longest is missed by 0.1 % at most.
_DIRECTIONS = 36


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """A seed's outline: signed distance (positive inside, pixels) over its box with a margin, and its way to lie.

    `corner` is the row and column of the field's first pixel in the seed's picture, `core` the box without the margin,
    `extent` height and width of the part, `place` the centre on it (0..1), `longest` its longest extent, pixels;
    `touches` tells for rows and columns whether the outline meets the part's first and last ones, and there the field
    goes on into the margin. `orientation_deg` is the longest axis's direction, `lay` that of the surface around.
    """

    seed: SeedSample
    distance: NDArray[np.float32]
    corner: tuple[int, int]
    core: tuple[int, int]
    area: int
    extent: tuple[int, int]
    place: tuple[float, float]
    touches: Touches
    orientation_deg: float
    longest: float
    lay: Lay

    @property
    def spans(self) -> tuple[bool, bool]:
        """Whether the outline reaches from edge to edge, down and across."""
        return all(self.touches[0]), all(self.touches[1])

    @property
    def to_lay_deg(self) -> float:
        """Degrees from the lay to the longest axis, in [-90, 90)."""
        return folded(self.orientation_deg - self.lay.reference_deg)


def outline_of(seed: SeedSample, mask: Mask, part: Mask) -> Outline:
    """Measure a seed's outline. `mask` (H, W) bool is where the defect is, `part` where the part is."""
    rows, columns = np.nonzero(mask)
    spans = spans_of(part)
    cut = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    margin = int(np.clip(max(cut.shape) // 4, _MARGIN, _WIDEST_MARGIN))
    padded = np.pad(cut, margin)
    touches, place = [], []
    for axis, own in enumerate((rows, columns)):
        first, last = spans[axis]
        meets = (bool(own.min() <= first + _NEAR_EDGE), bool(own.max() >= last - _NEAR_EDGE))
        along = np.moveaxis(padded, axis, 0)
        if meets[0]:
            along[:margin] = along[margin]
        if meets[1]:
            along[-margin:] = along[-margin - 1]
        touches.append(meets)
        place.append(float((own.mean() - first) / max(last - first, 1)))
    return Outline(
        seed=seed,
        distance=without_steps(signed_distance(padded)),
        corner=(int(rows.min()) - margin, int(columns.min()) - margin),
        core=(cut.shape[0], cut.shape[1]),
        area=int(mask.sum()),
        extent=(spans[0][1] - spans[0][0] + 1, spans[1][1] - spans[1][0] + 1),
        place=(place[0], place[1]),
        touches=(touches[0], touches[1]),
        orientation_deg=orientation(cut),
        longest=longest(cut),
        lay=lay_at(seed.stack, part & ~seed.mask, float(rows.mean()), float(columns.mean())),
    )


def signed_distance(mask: Mask) -> NDArray[np.float32]:
    """Return the distance to the mask's edge, pixels, positive inside and negative outside; (h, w) float32."""
    distance = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    signed: NDArray[np.float32] = distance.astype(np.float32)
    return signed


def without_steps(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a signed distance (h, w) whose outline has lost the steps of the pixels, with the same area inside.

    Turned and enlarged, the steps of a mask drawn in pixels would be teeth.
    """
    smooth = ndimage.gaussian_filter(distance, _STEPS_PX, mode="nearest")
    area = int((distance > 0).sum())
    level = np.partition(smooth.ravel(), smooth.size - area)[smooth.size - area] if 0 < area < smooth.size else 0.0
    # The outermost pixels inside are half a pixel or more from the outline.
    levelled: NDArray[np.float32] = (smooth - level + 0.5).astype(np.float32)
    return levelled


def orientation(mask: Mask) -> float:
    """Return the direction of the mask's longest axis from its second moments, degrees in [-90, 90]."""
    rows, columns = np.nonzero(mask)
    if rows.size < 3:
        return 0.0
    covariance = np.cov(np.stack([columns, rows]).astype(np.float64))
    values, vectors = np.linalg.eigh(covariance)
    x, y = vectors[:, int(np.argmax(values))]
    angle = float(np.degrees(np.arctan2(y, x)))
    return angle - 180.0 if angle > 90.0 else angle + 180.0 if angle < -90.0 else angle


def elongation(mask: Mask) -> float:
    """Return length over width from the second moments; 1 for round ones."""
    rows, columns = np.nonzero(mask)
    if rows.size < 3:
        return 1.0
    values = np.linalg.eigvalsh(np.cov(np.stack([columns, rows]).astype(np.float64)))
    # A single row of pixels has no second moment across: its own width counts.
    return float(np.sqrt((values[1] + 1 / 12) / (max(values[0], 0.0) + 1 / 12)))


def longest(mask: Mask) -> float:
    """Return the longest extent of a mask that is not empty, pixels: the greatest of its Feret diameters."""
    edge = mask & ~ndimage.binary_erosion(mask)
    rows, columns = (axis.astype(np.float64) for axis in np.nonzero(edge))
    angles = np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
    along = np.outer(np.cos(angles), columns) + np.outer(np.sin(angles), rows)
    # A pixel has an extent of its own.
    return float((along.max(axis=1) - along.min(axis=1)).max() + 1.0)


def spans_of(allowed: Mask) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return first and last row, first and last column of a mask that is not empty."""
    rows, columns = np.flatnonzero(allowed.any(axis=1)), np.flatnonzero(allowed.any(axis=0))
    return (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1]))
