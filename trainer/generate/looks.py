"""What the seeds of a class look like: their log contrast, and its mean course from the edge to the middle.

The course (contrast against depth below the outline) is what the procedural arm renders and what the diffusion arm is
told; what the course leaves over is texture, of which spread and grain are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask
from cell.imaging import contrast
from cell.imaging.contrast import Maps
from trainer.generate.base import Scene, SeedSample, Shape
from trainer.generate.plan import Outline, outline, signed_distance

_BINS = 6
_MARGIN = 12
#: Texture finer than this many pixels (Gaussian sigma) is compared with the surroundings'.
_FINE = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One seed, ready to be learned from. Window arrays have the seed's bounding box with a margin.

    `contrast` (K, h, w) log contrast against the estimated background; `distance` (h, w) pixels; `course` (K, _BINS)
    mean contrast at relative depths 0..1; `spread` (K,) and `grain` describe the rest; `fine_ratio` is fine texture
    inside over outside, `background` (K, h, w) the texture of the estimated background.
    """

    outline: Outline
    contrast: Maps
    background: Maps
    distance: NDArray[np.float32]
    course: NDArray[np.float32]
    spread: NDArray[np.float32]
    grain: float
    fine_ratio: float

    @property
    def seed(self) -> SeedSample:
        """The seed that was measured."""
        return self.outline.seed


def look_at(seed: SeedSample, scene: Scene) -> Look:
    """Measure one seed."""
    part = part_mask(seed, scene)
    window = _window(seed.mask)
    mask = seed.mask[window]
    known = part[window]
    stack = seed.stack[:, window[0], window[1]]
    background = contrast.local_background(stack, mask, known)
    log = contrast.of(stack, background, scene.recipe.bit_depth) * known
    distance = signed_distance(mask)
    course = _course(log, distance)
    return Look(
        outline=outline(seed, part),
        contrast=log,
        background=np.where(mask, 0, log).astype(np.float32),
        distance=distance,
        course=course,
        spread=_spread(log - render(course, distance), mask, known),
        grain=_grain(log - render(course, distance), mask),
        fine_ratio=_fine_ratio(log, mask, known),
    )


def part_mask(seed: SeedSample, scene: Scene) -> Mask:
    """Return where the part is on the seed's picture, (H, W) bool."""
    limit = scene.recipe.carrier_max_dn
    if limit is None:
        return np.ones(seed.mask.shape, np.bool_)
    lit: Mask = ndimage.binary_fill_holes((seed.stack > limit).any(axis=0) | seed.mask)
    return lit


def render(course: NDArray[np.float32], distance: NDArray[np.float32]) -> Maps:
    """Return the log contrast (K, h, w) that a course gives an outline; 0 outside."""
    depth = np.clip(distance / max(float(distance.max()), 1.0), 0, 1)
    knots = (np.arange(_BINS) + 0.5) / _BINS
    rendered = np.stack([np.interp(depth, knots, row) for row in course])
    inside: Maps = (rendered * np.clip(distance + 0.5, 0, 1)).astype(np.float32)
    return inside


def distance_of(shape: Shape) -> NDArray[np.float32]:
    """Return the signed distance to a planned outline, pixels, (h, w) float32."""
    return signed_distance(np.pad(shape.mask, 1))[1:-1, 1:-1] if shape.mask.any() else -np.ones_like(shape.soft)


def grainy(shape: tuple[int, ...], grain: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a random field of unit spread whose neighbours hang together over `grain` pixels."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape).astype(np.float32), grain, mode="reflect")
    unit: NDArray[np.float32] = field / max(float(field.std()), 1e-6)
    return unit


def _window(mask: Mask) -> tuple[slice, slice]:
    rows, columns = np.nonzero(mask)
    margin = max(_MARGIN, int(0.3 * max(np.ptp(rows), np.ptp(columns))))
    return (
        slice(max(0, int(rows.min()) - margin), int(rows.max()) + margin + 1),
        slice(max(0, int(columns.min()) - margin), int(columns.max()) + margin + 1),
    )


def _course(log: Maps, distance: NDArray[np.float32]) -> NDArray[np.float32]:
    inside = distance > 0
    depth = np.clip(distance[inside] / max(float(distance.max()), 1.0), 0, 1 - 1e-6)
    index = (depth * _BINS).astype(np.intp)
    count = np.bincount(index, minlength=_BINS)
    course = np.stack([np.bincount(index, weights=c[inside], minlength=_BINS) / np.maximum(count, 1) for c in log])
    # Empty bins of small masks take their neighbour's value.
    for position in range(1, _BINS):
        if count[position] == 0:
            course[:, position] = course[:, position - 1]
    return course.astype(np.float32)


def _spread(rest: Maps, mask: Mask, known: Mask) -> NDArray[np.float32]:
    """Return the defect's own texture per channel, (K,): what is left inside beyond the surface's texture around it."""
    outer = known & ~ndimage.binary_dilation(mask, iterations=4)
    surface = rest[:, outer].var(axis=1) if outer.sum() >= 12 else np.zeros(len(rest), np.float32)
    spread: NDArray[np.float32] = np.sqrt(np.maximum(rest[:, mask].var(axis=1) - surface, 0)).astype(np.float32)
    return spread


def _grain(rest: Maps, mask: Mask) -> float:
    """Return the Gaussian sigma whose smoothing gives white noise the neighbour correlation of `rest` inside `mask`."""
    pair = mask[:, 1:] & mask[:, :-1]
    if pair.sum() < 20:
        return 1.0
    one, two = rest[:, :, 1:][:, pair].ravel(), rest[:, :, :-1][:, pair].ravel()
    correlation = float(np.corrcoef(one, two)[0, 1]) if one.std() > 0 and two.std() > 0 else 0.0
    # White noise smoothed by sigma has the neighbour correlation exp(-1 / (4 sigma^2)).
    return float(np.clip(np.sqrt(-1.0 / (4.0 * np.log(np.clip(correlation, 1e-3, 0.999)))), 0.2, 12.0))


def _fine_ratio(log: Maps, mask: Mask, known: Mask) -> float:
    fine = contrast.fine_texture(log, _FINE)
    inner = ndimage.binary_erosion(mask, iterations=2)
    outer = known & ~ndimage.binary_dilation(mask, iterations=4)
    if inner.sum() < 12 or outer.sum() < 12:
        return 1.0
    return float(np.clip(fine[:, inner].std() / max(float(fine[:, outer].std()), 1e-6), 0.0, 3.0))
