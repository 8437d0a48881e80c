"""Where a defect lies and what outline it has: seeds' shapes, interpolated, turned, stretched and placed.

The outline comes from one or two seeds of the class: their signed distance fields are mixed (interpolation, and past
the seeds extrapolation), scaled, turned and warped. The place follows the seeds' places on the part, or is uniform in
what is allowed. A part's edge cuts a shape as it cuts a real defect; never less than `_LEAST_INSIDE` of it may remain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask
from cell.errors import DataError
from trainer.generate.base import BackgroundSample, GenerateRequest, SeedSample, Shape

_MARGIN = 6
_FEATHER = 2.5  # pixels from full to none
_LEAST_INSIDE = 0.7
_TRIES = 40


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """A seed's signed distance (positive inside, pixels), its place on the part (0..1) and its mask's orientation."""

    seed: SeedSample
    distance: NDArray[np.float32]
    place: tuple[float, float]
    orientation_deg: float


def outline(seed: SeedSample, part: Mask) -> Outline:
    """Measure a seed's mask. `part` (H, W) bool is where the part is."""
    rows, columns = np.nonzero(seed.mask)
    cut = seed.mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    padded = np.pad(cut, max(_MARGIN, max(cut.shape) // 4))
    area = np.nonzero(part)
    top, left = area[0].min(), area[1].min()
    extent = (max(np.ptp(area[0]), 1), max(np.ptp(area[1]), 1))
    place = (float((rows.mean() - top) / extent[0]), float((columns.mean() - left) / extent[1]))
    return Outline(seed, signed_distance(padded), place, orientation(cut))


def signed_distance(mask: Mask) -> NDArray[np.float32]:
    """Return the distance to the mask's edge, pixels, positive inside and negative outside; (h, w) float32."""
    distance = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    signed: NDArray[np.float32] = distance.astype(np.float32)
    return signed


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


def draw(
    outlines: list[Outline], background: BackgroundSample, request: GenerateRequest, rng: np.random.Generator
) -> Shape | None:
    """Draw outline and place of one defect; None when nothing fits on this background after many tries."""
    if not outlines:
        raise DataError("a class without seeds has no outlines; confirm seeds first")
    for _ in range(_TRIES):
        distance, seeds, morphology, turn = _outline(outlines, request, rng)
        shape = _place(distance, seeds, morphology, turn, background.allowed, request, rng)
        if shape is not None:
            return shape
    return None


def _outline(
    outlines: list[Outline], request: GenerateRequest, rng: np.random.Generator
) -> tuple[NDArray[np.float32], list[Outline], dict[str, float], float]:
    first, second = (outlines[int(i)] for i in rng.integers(len(outlines), size=2))
    # Only alike sizes are mixed: a blend of a dot and a stripe is neither.
    mix = float(rng.uniform(-0.2, 0.5)) if _alike(first, second) else 0.0
    size = float(np.exp(rng.uniform(*np.log(request.size))))
    stretch = float(np.exp(rng.normal(0.0, 0.12)))
    # The part itself sets the direction of a defect that spans it; a small one may lie in any.
    spans = max(first.distance.shape) > 0.5 * min(first.seed.mask.shape)
    turn = float(rng.normal(0.0, 3.0)) if spans else float(rng.normal(0.0, 12.0))
    if not spans and rng.random() < 0.25:
        turn = float(rng.uniform(-180, 180))
    flip = (bool(rng.integers(2)), bool(rng.integers(2)))
    field = first.distance
    if mix:
        other = second.distance
        shape = tuple(max(a, b) for a, b in zip(field.shape, other.shape, strict=True))
        field = (1 - mix) * _padded(field, shape) + mix * _padded(other, shape)
    field = np.flip(field, tuple(axis for axis in (0, 1) if flip[axis]))
    field = _warped(field, size, stretch, turn, rng)
    morphology = {"mix": mix, "size": size, "stretch": stretch, "turn_deg": turn}
    sign = -1.0 if flip[0] != flip[1] else 1.0
    return field, [first, second] if mix else [first], morphology, sign * first.orientation_deg + turn


def _alike(first: Outline, second: Outline) -> bool:
    areas = sorted(((first.distance > 0).sum(), (second.distance > 0).sum()))
    return first is not second and bool(areas[1] < 2.5 * max(areas[0], 1))


def _padded(field: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    grow = [(n - length) // 2 for length, n in zip(field.shape, shape, strict=True)]
    widths = [(g, n - length - g) for g, length, n in zip(grow, field.shape, shape, strict=True)]
    return np.pad(field, widths, mode="linear_ramp", end_values=float(field.min()) - max(max(w) for w in widths))


def _warped(
    field: NDArray[np.float32], size: float, stretch: float, turn: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Scale, stretch, turn and ripple a distance field; its values stay about in pixels."""
    height, width = field.shape
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    out_height = int(np.ceil(size * (abs(cos) * height + abs(sin) * width))) + 2 * _MARGIN
    out_width = int(np.ceil(size * (abs(sin) * height + abs(cos) * width))) + 2 * _MARGIN
    rows, columns = np.mgrid[:out_height, :out_width].astype(np.float32)
    rows -= (out_height - 1) / 2
    columns -= (out_width - 1) / 2
    ripple = [_smooth_noise((out_height, out_width), rng) for _ in range(2)]
    source = np.stack(
        [
            (cos * rows - sin * columns) / (size * stretch) + (height - 1) / 2 + ripple[0],
            (sin * rows + cos * columns) / (size / stretch) + (width - 1) / 2 + ripple[1],
        ]
    )
    outside = float(field.min())
    warped = ndimage.map_coordinates(field, source, order=1, mode="constant", cval=outside) * size
    result: NDArray[np.float32] = warped.astype(np.float32)
    return result


def _smooth_noise(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a random field with about a tenth of the window as wavelength and as amplitude a percent of it, pixels."""
    scale = max(3.0, max(shape) / 10.0)
    field = ndimage.gaussian_filter(rng.standard_normal(shape).astype(np.float32), scale, mode="wrap")
    ripple: NDArray[np.float32] = field / max(float(field.std()), 1e-9) * max(0.4, min(2.0, max(shape) / 100.0))
    return ripple


def _place(
    distance: NDArray[np.float32],
    seeds: list[Outline],
    morphology: dict[str, float],
    turn: float,
    allowed: Mask,
    request: GenerateRequest,
    rng: np.random.Generator,
) -> Shape | None:
    mask = distance > 0
    if not mask.any():
        return None
    height, width = distance.shape
    rows, columns = np.nonzero(allowed)
    if rows.size == 0:
        raise DataError("the background has no place where a defect may lie; correct ROI and exclusion zones")
    uniform = rng.random() < request.uniform_share
    if uniform:
        at = int(rng.integers(rows.size))
        centre = (float(rows[at]), float(columns[at]))
    else:
        spot = np.clip(np.asarray(seeds[0].place) + rng.normal(0.0, 0.08, 2), 0.0, 1.0)
        centre = (
            float(rows.min() + spot[0] * np.ptp(rows)),
            float(columns.min() + spot[1] * np.ptp(columns)),
        )
    own = np.nonzero(mask)
    top, left = round(centre[0] - own[0].mean()), round(centre[1] - own[1].mean())
    # The window is clipped to the frame; what lies beyond is cut off like a defect at the part's edge.
    y0, x0 = max(0, -top), max(0, -left)
    y1, x1 = min(height, allowed.shape[0] - top), min(width, allowed.shape[1] - left)
    if y1 - y0 < 3 or x1 - x0 < 3:
        return None
    inside = allowed[top + y0 : top + y1, left + x0 : left + x1]
    soft = np.clip(distance[y0:y1, x0:x1] / _FEATHER + 0.5, 0.0, 1.0).astype(np.float32) * inside
    if (soft > 0.5).sum() < max(4, _LEAST_INSIDE * mask.sum()):
        return None
    ids = tuple(dict.fromkeys(o.seed.seed_id for o in seeds))
    angle = (turn + 180.0) % 360.0 - 180.0
    return Shape(top + y0, left + x0, soft, angle, ids, morphology | {"uniform": float(uniform)})
