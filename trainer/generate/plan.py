"""Where a defect lies and what outline it has: seeds' shapes, interpolated, bent, stretched, turned and placed.

The outline comes from one or two seeds of the class: their signed distance fields are mixed (interpolation, and past
the seeds extrapolation), scaled, turned and warped. The place follows the seeds' places on the part, or is uniform in
what is allowed. What starts at a part's edge does so on the new part too, and what spans a part spans the new one; an
edge cuts a shape as it cuts a real defect, but never less than `_LEAST_INSIDE` of it may remain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask
from cell.errors import DataError
from trainer.generate.base import BackgroundSample, GenerateRequest, SeedSample, Shape

_MARGIN, _WIDEST_MARGIN = 6, 24
#: Pixels around the outline that painting and compositor look at.
_CONTEXT = 10
_FEATHER = 2.5  # pixels from full to none
_LEAST_INSIDE = 0.7
_TRIES = 40
#: A mask that comes so near to the part's edge, pixels, touches it.
_NEAR_EDGE = 3
#: Outlines are mixed when they cover each other by this share of their union: a blend of a dot and a line is neither.
_LEAST_OVERLAP = 0.35
#: Bends: (wavelength, amplitude) in shares of the window's longer side; the second is a ripple of the edge.
_BENDS = ((0.5, 0.02), (0.12, 0.006))


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """A seed's outline: signed distance (positive inside, pixels) over its box with a margin, and its way to lie.

    `corner` is the row and column of the field's first pixel in the seed's picture, `core` the box without the margin,
    `extent` height and width of the part, `place` the centre on it (0..1); `touches` tells for rows and columns whether
    the outline meets the part's first and last ones, and there the field goes on into the margin.
    """

    seed: SeedSample
    distance: NDArray[np.float32]
    corner: tuple[int, int]
    core: tuple[int, int]
    area: int
    extent: tuple[int, int]
    place: tuple[float, float]
    touches: tuple[tuple[bool, bool], tuple[bool, bool]]
    orientation_deg: float


def outline_of(seed: SeedSample, mask: Mask, part: Mask) -> Outline:
    """Measure a seed's outline. `mask` (H, W) bool is where the defect is, `part` where the part is."""
    rows, columns = np.nonzero(mask)
    spans = _spans(part)
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
        distance=signed_distance(padded),
        corner=(int(rows.min()) - margin, int(columns.min()) - margin),
        core=(cut.shape[0], cut.shape[1]),
        area=int(mask.sum()),
        extent=(spans[0][1] - spans[0][0] + 1, spans[1][1] - spans[1][0] + 1),
        place=(place[0], place[1]),
        touches=(touches[0], touches[1]),
        orientation_deg=orientation(cut),
    )


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
    if not background.allowed.any():
        raise DataError("the background has no place where a defect may lie; correct ROI and exclusion zones")
    spans = _spans(background.allowed)
    extent = (spans[0][1] - spans[0][0] + 1, spans[1][1] - spans[1][0] + 1)
    for _ in range(_TRIES):
        shape = _place(_vary(outlines, extent, request, rng), background.allowed, spans, request, rng)
        if shape is not None:
            return shape
    return None


@dataclass(frozen=True, slots=True, eq=False)
class _Variant:
    """A warped outline before it has a place: `distance` (h, w), `source` (2, h, w) in the seed's picture."""

    distance: NDArray[np.float32]
    source: NDArray[np.float32]
    core: tuple[float, float]  # height and width of the box without the margin
    area: float
    touches: tuple[tuple[bool, bool], tuple[bool, bool]]
    seeds: tuple[Outline, ...]
    orientation_deg: float
    morphology: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Warp:
    """How an outline is changed: flips, scale of rows and columns, turn in degrees, share of the usual bending."""

    flip: tuple[bool, bool]
    scale: tuple[float, float]
    turn: float
    bend: float


def _vary(
    outlines: list[Outline], extent: tuple[int, int], request: GenerateRequest, rng: np.random.Generator
) -> _Variant:
    first, second = (outlines[int(i)] for i in rng.integers(len(outlines), size=2))
    share = float(rng.uniform(-0.2, 0.5))
    field, shift = first.distance, (0, 0)
    seeds: tuple[Outline, ...] = (first,)
    if first is not second and first.touches == second.touches:
        mixed, overlap, moved = _mixed(first.distance, second.distance, share)
        if overlap > _LEAST_OVERLAP:
            field, shift, seeds = mixed, moved, (first, second)
    warp = _warp(first, extent, request, rng)
    field = np.flip(field, tuple(axis for axis in (0, 1) if warp.flip[axis]))
    distance, at = _warped(field, warp, rng)
    for axis in (0, 1):
        if warp.flip[axis]:
            at[axis] = field.shape[axis] - 1 - at[axis]
        at[axis] += first.corner[axis] - shift[axis]
    cos, sin = abs(math.cos(math.radians(warp.turn))), abs(math.sin(math.radians(warp.turn)))
    height, width = (length * scale for length, scale in zip(first.core, warp.scale, strict=True))
    sign = -1.0 if warp.flip[0] != warp.flip[1] else 1.0
    return _Variant(
        distance=distance,
        source=at,
        core=(cos * height + sin * width, sin * height + cos * width),
        area=first.area * warp.scale[0] * warp.scale[1],
        touches=_flipped(first.touches, warp.flip),
        seeds=seeds,
        orientation_deg=(sign * first.orientation_deg + warp.turn + 180.0) % 360.0 - 180.0,
        morphology={
            "mix": share if len(seeds) == 2 else 0.0,
            "scale_y": warp.scale[0],
            "scale_x": warp.scale[1],
            "turn_deg": warp.turn,
        },
    )


def _warp(first: Outline, extent: tuple[int, int], request: GenerateRequest, rng: np.random.Generator) -> _Warp:
    size = float(np.exp(rng.uniform(*np.log(request.size))))
    stretch = float(np.exp(rng.normal(0.0, 0.12)))
    spans = [all(ends) for ends in first.touches]
    fitted = [new / old for new, old in zip(extent, first.extent, strict=True)]
    scale = [fitted[axis] if spans[axis] else size * (stretch, 1 / stretch)[axis] for axis in (0, 1)]
    # The part itself sets the direction of a defect that starts at its edge or spans it; another may lie in any.
    if any(spans):
        turn = float(rng.normal(0.0, 2.0))
    elif any(end for ends in first.touches for end in ends):
        turn = float(rng.normal(0.0, 6.0))
    else:
        turn = float(rng.uniform(-180, 180) if rng.random() < 0.25 else rng.normal(0.0, 12.0))
    # A surface's lay goes through what spans the part, and a lay is straight.
    bend = 0.3 if any(spans) else 1.0
    return _Warp((bool(rng.integers(2)), bool(rng.integers(2))), (scale[0], scale[1]), turn, bend)


def _flipped(
    touches: tuple[tuple[bool, bool], tuple[bool, bool]], flip: tuple[bool, bool]
) -> tuple[tuple[bool, bool], tuple[bool, bool]]:
    (top, bottom), (left, right) = touches
    return (bottom, top) if flip[0] else (top, bottom), (right, left) if flip[1] else (left, right)


def _mixed(
    one: NDArray[np.float32], two: NDArray[np.float32], share: float
) -> tuple[NDArray[np.float32], float, tuple[int, int]]:
    """Return the mixed field, by how much the outlines cover each other, and how far the first one was moved."""
    shape = (max(one.shape[0], two.shape[0]), max(one.shape[1], two.shape[1]))
    first, second = _padded(one, shape), _padded(two, shape)
    union = ((first > 0) | (second > 0)).sum()
    overlap = float(((first > 0) & (second > 0)).sum() / max(union, 1))
    shift = ((shape[0] - one.shape[0]) // 2, (shape[1] - one.shape[1]) // 2)
    return (1 - share) * first + share * second, overlap, shift


def _padded(field: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    grow = [(n - length) // 2 for length, n in zip(field.shape, shape, strict=True)]
    widths = [(g, n - length - g) for g, length, n in zip(grow, field.shape, shape, strict=True)]
    return np.pad(field, widths, mode="linear_ramp", end_values=float(field.min()) - max(max(w) for w in widths))


def _warped(
    field: NDArray[np.float32], warp: _Warp, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale, turn and bend a distance field (its values stay about in pixels); return it with its coordinates."""
    height, width = field.shape
    cos, sin = math.cos(math.radians(warp.turn)), math.sin(math.radians(warp.turn))
    tall, wide = warp.scale[0] * height, warp.scale[1] * width
    out = (
        math.ceil(abs(cos) * tall + abs(sin) * wide) + 2 * _MARGIN,
        math.ceil(abs(sin) * tall + abs(cos) * wide) + 2 * _MARGIN,
    )
    rows, columns = np.mgrid[: out[0], : out[1]].astype(np.float32)
    rows -= (out[0] - 1) / 2
    columns -= (out[1] - 1) / 2
    bends = [warp.bend * sum(_bend(out, *bend, rng) for bend in _BENDS) for _ in range(2)]
    source = np.stack(
        [
            (cos * rows - sin * columns) / warp.scale[0] + (height - 1) / 2 + bends[0],
            (sin * rows + cos * columns) / warp.scale[1] + (width - 1) / 2 + bends[1],
        ]
    ).astype(np.float32)
    warped = ndimage.map_coordinates(field, source, order=1, mode="constant", cval=float(field.min()))
    return (warped * math.sqrt(warp.scale[0] * warp.scale[1])).astype(np.float32), source


def _bend(shape: tuple[int, int], wavelength: float, amplitude: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a smooth random field (h, w), pixels; wavelength and amplitude are shares of the longer side."""
    step = max(4.0, wavelength * max(shape))
    nodes = [max(2, math.ceil(side / step) + 1) for side in shape]
    field = ndimage.zoom(
        rng.standard_normal(nodes), [s / n for s, n in zip(shape, nodes, strict=True)], order=1, grid_mode=False
    )
    bend: NDArray[np.float32] = (field * max(0.3, amplitude * max(shape))).astype(np.float32)
    return bend


def _spans(allowed: Mask) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return first and last row, first and last column of a mask that is not empty."""
    rows, columns = np.flatnonzero(allowed.any(axis=1)), np.flatnonzero(allowed.any(axis=0))
    return (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1]))


def _somewhere(
    allowed: Mask, spans: tuple[tuple[int, int], tuple[int, int]], rng: np.random.Generator
) -> tuple[float, float]:
    """Return a pixel drawn uniformly from what is allowed. Large pictures make a list of all pixels too dear."""
    for _ in range(200):
        row, column = (int(rng.integers(first, last + 1)) for first, last in spans)
        if allowed[row, column]:
            return float(row), float(column)
    flat = np.flatnonzero(allowed)
    row, column = divmod(int(flat[rng.integers(flat.size)]), allowed.shape[1])
    return float(row), float(column)


def _place(
    variant: _Variant,
    allowed: Mask,
    spans: tuple[tuple[int, int], tuple[int, int]],
    request: GenerateRequest,
    rng: np.random.Generator,
) -> Shape | None:
    own = np.nonzero(variant.distance > 0)
    if own[0].size == 0:
        return None
    uniform = bool(rng.random() < request.uniform_share)
    spot = np.clip(np.asarray(variant.seeds[0].place) + rng.normal(0.0, 0.08, 2), 0.0, 1.0)
    free = _somewhere(allowed, spans, rng) if uniform else None
    corner = []
    for axis, (first, last) in enumerate(spans):
        starts, ends = variant.touches[axis]
        middle, half = (variant.distance.shape[axis] - 1) / 2, variant.core[axis] / 2
        if starts and ends:
            corner.append(round((first + last) / 2 - middle))
        elif starts or ends:
            corner.append(round((first + half - 0.5 if starts else last - half + 0.5) - middle))
        else:
            at = free[axis] if free else first + float(spot[axis]) * (last - first)
            corner.append(round(at - float(own[axis].mean())))
    return _cut(variant, (corner[0], corner[1]), allowed, uniform=uniform)


def _cut(variant: _Variant, corner: tuple[int, int], allowed: Mask, *, uniform: bool) -> Shape | None:
    """Clip the window to the frame; what lies beyond is cut off like a defect at the part's edge."""
    (top, left), (height, width) = corner, variant.distance.shape
    y0, x0 = max(0, -top), max(0, -left)
    y1, x1 = min(height, allowed.shape[0] - top), min(width, allowed.shape[1] - left)
    if y1 - y0 < 3 or x1 - x0 < 3:
        return None
    inside = allowed[top + y0 : top + y1, left + x0 : left + x1]
    soft = np.clip(variant.distance[y0:y1, x0:x1] / _FEATHER + 0.5, 0.0, 1.0).astype(np.float32) * inside
    if (soft > 0.5).sum() < max(4, _LEAST_INSIDE * variant.area):
        return None
    # Every pixel of the window costs painting: keep what the outline needs around it and no more.
    (r0, r1), (c0, c1) = _spans(soft > 0)
    r0, c0 = max(0, r0 - _CONTEXT), max(0, c0 - _CONTEXT)
    near = slice(r0, r1 + 1 + _CONTEXT), slice(c0, c1 + 1 + _CONTEXT)
    return Shape(
        top=top + y0 + r0,
        left=left + x0 + c0,
        soft=soft[near],
        source=variant.source[:, y0:y1, x0:x1][:, near[0], near[1]],
        orientation_deg=variant.orientation_deg,
        seed_ids=tuple(dict.fromkeys(one.seed.seed_id for one in variant.seeds)),
        morphology=variant.morphology | {"uniform": float(uniform)},
    )
