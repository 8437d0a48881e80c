"""Where a defect lies and what outline it has: seeds' shapes, varied as asked, placed on a background.

The outline comes from one or two seeds of the class (:mod:`trainer.generate.vary`). The place follows the seeds' places
on the part, or is uniform in what is allowed. What starts at a part's edge does so on the new part too, and what spans
a part spans the new one; an edge cuts a shape as it cuts a real defect, but never less than `_LEAST_INSIDE` of it may
remain.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cell.defects import Mask
from cell.errors import DataError
from trainer.generate.base import BackgroundSample, GenerateRequest, Shape
from trainer.generate.control import AS_SEEDS, NOTHING, Asked, Control
from trainer.generate.ground import Ground, ground_of
from trainer.generate.lay import Lay, lay_at
from trainer.generate.outlines import Outline, orientation, outline_of, signed_distance, spans_of
from trainer.generate.vary import Variant, Wanted, vary

__all__ = ["Outline", "draw", "orientation", "outline_of", "seen_extent", "signed_distance", "suitable"]

#: Pixels around the outline that painting and compositor look at.
_CONTEXT = 10
_FEATHER = 2.5  # pixels from full to none
_LEAST_INSIDE = 0.7
#: Least share of an outline on surface of the brightness and roughness that were asked for.
_LEAST_ON_SURFACE = 0.6
_TRIES = 40
#: Pixels by which a defect is usually seen beyond its outline, and the shortest outline that is made.
_HALO, _LEAST_EXTENT = 1.8, 2.0
#: Spread of places about the seeds', as a share of the part.
_PLACE_SPREAD = 0.08
#: Degrees by which a direction "as the seeds" varies.
_DIRECTION_SPREAD = 6.0
#: Places that are drawn on the ground to choose among when the seeds' own are not on it.
_CHOICE = 64

Spans = tuple[tuple[int, int], tuple[int, int]]


def suitable(outlines: list[Outline], control: Control, name: str) -> list[Outline]:
    """Return the outlines that can be varied as asked: what spans the part has the part's size and direction.

    :raises DataError: when there is none left.
    """
    if not outlines:
        raise DataError("a class without seeds has no outlines; confirm seeds first")
    if control.size is None and control.orientation is None:
        return outlines
    free = [one for one in outlines if not any(one.spans)]
    if not free:
        what = "size" if control.size is not None else "orientation"
        raise DataError(
            f"every seed of {name} spans the part, which sets its size and direction; leave {what} out for {name}"
        )
    return free


def seen_extent(outline: Outline) -> float:
    """Return the longest extent, pixels, at which a defect of that outline is seen: its edge is not sharp."""
    return outline.longest + 2 * _HALO


def draw(  # noqa: PLR0913 (what a shape depends on; all beyond the first four have defaults)
    outlines: list[Outline],
    background: BackgroundSample,
    request: GenerateRequest,
    rng: np.random.Generator,
    asked: Asked = NOTHING,
    control: Control = AS_SEEDS,
    *,
    ground: Ground | None = None,
    px_per_mm: float | None = None,
    taken: Mask | None = None,
) -> Shape | None:
    """Draw outline and place of one defect; None when nothing fits on this background after many tries.

    :param ground: where on the background; what `control` says when None.
    :param taken: (H, W) bool, where other defects lie already.
    :raises DataError: without outlines, without an allowed place, or for a size in mm where the scale is not known.
    """
    if not background.allowed.any():
        raise DataError("the background has no place where a defect may lie; correct ROI and exclusion zones")
    ground = ground or ground_of(background, control)
    if not ground.allowed.any():
        return None
    able = suitable(outlines, control, outlines[0].seed.defect_class if outlines else "")
    spans = spans_of(background.allowed)
    extent = (spans[0][1] - spans[0][0] + 1, spans[1][1] - spans[1][0] + 1)
    most = math.hypot(*extent)
    uniform_share = request.uniform_share if control.uniform_share is None else control.uniform_share
    for _ in range(_TRIES):
        first = able[int(rng.integers(len(able)))]
        uniform = bool(rng.random() < uniform_share)
        spot = _spot(first, ground, spans, rng, uniform=uniform)
        lay = None if control.orientation is None else lay_at(background.stack, background.allowed, *spot)
        wanted = _wanted(first, asked, control, lay, px_per_mm, rng)
        if wanted.longest is not None and wanted.longest > most:
            continue
        shape = _place(vary(first, able, extent, wanted, request, rng), ground, spans, spot, lay, uniform=uniform)
        if shape is not None and (taken is None or not (taken[shape.window] & (shape.soft > 0)).any()):
            return shape
    return None


def _wanted(
    first: Outline, asked: Asked, control: Control, lay: Lay | None, px_per_mm: float | None, rng: np.random.Generator
) -> Wanted:
    longest = None
    if asked.size is not None:
        unit = {"seeds": seen_extent(first), "px": 1.0, "mm": px_per_mm}[control.size_unit]
        if unit is None:
            raise DataError(
                "the calibration knows no pixels per mm; calibrate with a dot pitch, or ask for sizes in px"
            )
        longest = max(_LEAST_EXTENT, asked.size * unit - 2 * _HALO)
    turned = asked.orientation
    if control.orientation == "as-seeds":
        turned = first.to_lay_deg + float(rng.normal(0.0, _DIRECTION_SPREAD))
    direction = turned + lay.reference_deg if turned is not None and lay is not None else None
    return Wanted.of(asked, orientation_deg=direction, longest_px=longest)


def _spot(
    first: Outline, ground: Ground, spans: Spans, rng: np.random.Generator, *, uniform: bool
) -> tuple[float, float]:
    """Return the row and column where the middle of the outline is to lie."""
    if uniform:
        return _somewhere(ground.allowed, spans, rng)
    share = np.clip(np.asarray(first.place) + rng.normal(0.0, _PLACE_SPREAD, 2), 0.0, 1.0)
    row, column = (low + float(at) * (high - low) for at, (low, high) in zip(share, spans, strict=True))
    if not ground.restricted or ground.allowed[round(row), round(column)]:
        return row, column
    # The nearest to the seed's place of some places on the ground.
    spots = [_somewhere(ground.allowed, spans, rng) for _ in range(_CHOICE)]
    return min(spots, key=lambda at: (at[0] - row) ** 2 + (at[1] - column) ** 2)


def _somewhere(allowed: Mask, spans: Spans, rng: np.random.Generator) -> tuple[float, float]:
    """Return a pixel drawn uniformly from what is allowed. Large pictures make a list of all pixels too dear."""
    for _ in range(200):
        row, column = (int(rng.integers(first, last + 1)) for first, last in spans)
        if allowed[row, column]:
            return float(row), float(column)
    flat = np.flatnonzero(allowed)
    row, column = divmod(int(flat[rng.integers(flat.size)]), allowed.shape[1])
    return float(row), float(column)


def _place(
    variant: Variant, ground: Ground, spans: Spans, spot: tuple[float, float], lay: Lay | None, *, uniform: bool
) -> Shape | None:
    own = np.nonzero(variant.distance > 0)
    if own[0].size == 0:
        return None
    corner = []
    for axis, (first, last) in enumerate(spans):
        starts, ends = variant.touches[axis]
        middle, half = (variant.distance.shape[axis] - 1) / 2, variant.core[axis] / 2
        if starts and ends:
            corner.append(round((first + last) / 2 - middle))
        elif starts or ends:
            corner.append(round((first + half - 0.5 if starts else last - half + 0.5) - middle))
        else:
            corner.append(round(spot[axis] - float(own[axis].mean())))
    return _cut(variant, (corner[0], corner[1]), ground, lay, uniform=uniform)


def _cut(variant: Variant, corner: tuple[int, int], ground: Ground, lay: Lay | None, *, uniform: bool) -> Shape | None:
    """Clip the window to the frame; what lies beyond is cut off like a defect at the part's edge."""
    (top, left), (height, width) = corner, variant.distance.shape
    y0, x0 = max(0, -top), max(0, -left)
    y1, x1 = min(height, ground.allowed.shape[0] - top), min(width, ground.allowed.shape[1] - left)
    if y1 - y0 < 3 or x1 - x0 < 3:
        return None
    window = slice(top + y0, top + y1), slice(left + x0, left + x1)
    soft = (
        np.clip(variant.distance[y0:y1, x0:x1] / _FEATHER + 0.5, 0.0, 1.0).astype(np.float32) * ground.allowed[window]
    )
    inside = soft > 0.5
    if inside.sum() < max(4, _LEAST_INSIDE * variant.area):
        return None
    if ground.surface is not None and ground.surface[window][inside].mean() < _LEAST_ON_SURFACE:
        return None
    # Every pixel of the window costs painting: keep what the outline needs around it and no more.
    (r0, r1), (c0, c1) = spans_of(soft > 0)
    r0, c0 = max(0, r0 - _CONTEXT), max(0, c0 - _CONTEXT)
    near = slice(r0, r1 + 1 + _CONTEXT), slice(c0, c1 + 1 + _CONTEXT)
    turned = {} if lay is None else {"lay_deg": lay.reference_deg, "lay_coherence": lay.coherence}
    return Shape(
        top=top + y0 + r0,
        left=left + x0 + c0,
        soft=_contiguous(soft[near]),
        source=variant.source[:, y0:y1, x0:x1][:, near[0], near[1]],
        orientation_deg=variant.orientation_deg,
        seed_ids=tuple(dict.fromkeys(one.seed.seed_id for one in variant.seeds)),
        morphology=variant.morphology | {"uniform": float(uniform)} | turned,
    )


def _contiguous(soft: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a copy, so that no large field is kept for a small window."""
    return np.ascontiguousarray(soft)
