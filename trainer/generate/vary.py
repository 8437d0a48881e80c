"""New outlines from seeds' outlines: mixed, scaled, stretched, turned, bent, thinned and branched.

A variant is one affine map of a seed's distance field with a smooth random bend on top. What is asked for is measured
on the result and corrected (extent and direction), since bends, limbs and thickness change both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trainer.generate.base import GenerateRequest
from trainer.generate.control import Asked
from trainer.generate.lay import folded
from trainer.generate.limbs import with_limbs
from trainer.generate.morph import aligned, mixed
from trainer.generate.outlines import Outline, Touches, longest, orientation, signed_distance

Field = NDArray[np.float32]

_MARGIN = 6
#: Outlines are mixed when they cover each other by this share of their union: a blend of a dot and a line is neither.
_LEAST_OVERLAP = 0.35
#: Bends: (wavelength, amplitude) in shares of the window's longer side; the second is a ripple of the edge.
_BENDS = ((0.5, 0.02), (0.12, 0.006))
_CORRECTIONS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """A warped outline before it has a place: `distance` (h, w), `source` (2, h, w) in the seed's picture."""

    distance: Field
    source: Field
    core: tuple[float, float]  # height and width of the box without the margin
    area: float
    touches: Touches
    seeds: tuple[Outline, ...]
    orientation_deg: float
    morphology: dict[str, float]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a variant is to be: absolute, None is as drawn. `orientation_deg` is in the picture, `longest` in pixels."""

    orientation_deg: float | None = None
    longest: float | None = None
    mix: float | None = None
    width: float = 1.0
    elongation: float = 1.0
    branches: int = 0

    @classmethod
    def of(cls, asked: Asked, *, orientation_deg: float | None, longest_px: float | None) -> Wanted:
        """Bring what was asked to pixels of the picture."""
        width, elongation, branches = asked.width or 1.0, asked.elongation or 1.0, int(asked.branches or 0)
        return cls(orientation_deg, longest_px, asked.mix, width, elongation, branches)


@dataclass(frozen=True, slots=True)
class _Warp:
    """How an outline is changed: flips, scale of rows and columns, turn in degrees, share of the usual bending."""

    flip: tuple[bool, bool]
    scale: tuple[float, float]
    turn: float
    bend: float
    #: Factor on length over width at equal area, along this direction of the flipped outline.
    elongation: float
    axis_deg: float

    def matrix(self) -> NDArray[np.float64]:
        """Return the map (2, 2) of (row, column) offsets from the seed's field to the variant's."""
        flips = np.diag([-1.0 if one else 1.0 for one in self.flip])
        along = np.array([math.sin(math.radians(self.axis_deg)), math.cos(math.radians(self.axis_deg))])
        root = math.sqrt(self.elongation)
        stretch = np.eye(2) / root + (root - 1 / root) * np.outer(along, along)
        cos, sin = math.cos(math.radians(self.turn)), math.sin(math.radians(self.turn))
        turned: NDArray[np.float64] = (
            np.array([[cos, sin], [-sin, cos]]) @ stretch @ np.diag(np.asarray(self.scale)) @ flips
        )
        return turned


def vary(
    first: Outline,
    others: list[Outline],
    extent: tuple[int, int],
    wanted: Wanted,
    request: GenerateRequest,
    rng: np.random.Generator,
) -> Variant:
    """Return a variant of `first` for a part of `extent` (height, width) pixels, mixed with one of `others`."""
    field, shift, seeds, share = _blend(first, others, wanted, rng)
    warp = _warp(first, extent, wanted, request, rng)
    seed = int(rng.integers(1 << 62))
    free = not any(end for ends in first.touches for end in ends)
    for _ in range(_CORRECTIONS):
        distance, at, plain = _built(field, warp, wanted, first, seed)
        if not free or (wanted.longest is None and wanted.orientation_deg is None):
            break
        corrected = _corrected(warp, distance > 0, wanted)
        if corrected is None:
            break
        warp = corrected
    for axis in (0, 1):
        at[axis] += first.corner[axis] - shift[axis]
    matrix = warp.matrix()
    core = np.abs(matrix) @ np.asarray(first.core, np.float64)
    grown = float((distance > 0).sum() / max(plain, 1))
    return Variant(
        distance=distance,
        source=at,
        core=(float(core[0]), float(core[1])),
        area=first.area * abs(float(np.linalg.det(matrix))) * grown,
        touches=_flipped(first.touches, warp.flip),
        seeds=seeds,
        orientation_deg=(warp.axis_deg + warp.turn + 180.0) % 360.0 - 180.0,
        morphology={
            "mix": share if len(seeds) == 2 else 0.0,
            "scale_y": warp.scale[0],
            "scale_x": warp.scale[1],
            "turn_deg": warp.turn,
            "width": wanted.width,
            "elongation": wanted.elongation,
            "branches": float(wanted.branches),
        },
    )


def _blend(
    first: Outline, others: list[Outline], wanted: Wanted, rng: np.random.Generator
) -> tuple[Field, tuple[int, int], tuple[Outline, ...], float]:
    """Return the mixed field, how far the first outline was moved in it, what it was mixed from, and the share."""
    second = others[int(rng.integers(len(others)))] if others else first
    share = float(rng.uniform(-0.2, 0.5))
    if wanted.mix is None:
        if second is not first and first.touches == second.touches:
            both, overlap, moved = mixed(first.distance, second.distance, share)
            if overlap > _LEAST_OVERLAP:
                return both, moved, (first, second), share
        return first.distance, (0, 0), (first,), 0.0
    best: tuple[float, Field, Outline] | None = None
    for other in others:
        if other is first or other.touches != first.touches:
            continue
        both, overlap, _ = mixed(first.distance, aligned(other, first), wanted.mix)
        if best is None or overlap > best[0]:
            best = (overlap, both, other)
    if best is None or best[0] <= _LEAST_OVERLAP or not (best[1] > 0).any():
        return first.distance, (0, 0), (first,), 0.0
    return best[1], (0, 0), (first, best[2]), wanted.mix


def _warp(
    first: Outline, extent: tuple[int, int], wanted: Wanted, request: GenerateRequest, rng: np.random.Generator
) -> _Warp:
    size = float(np.exp(rng.uniform(*np.log(request.size))))
    stretch = float(np.exp(rng.normal(0.0, 0.12)))
    if wanted.longest is not None:
        size = wanted.longest / first.longest
    spans = first.spans
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
    flip = (bool(rng.integers(2)), bool(rng.integers(2)))
    axis_deg = -first.orientation_deg if flip[0] != flip[1] else first.orientation_deg
    if wanted.orientation_deg is not None:
        turn = folded(wanted.orientation_deg - axis_deg) + 180.0 * float(rng.integers(2))
    return _Warp(flip, (scale[0], scale[1]), turn, bend, wanted.elongation, axis_deg)


def _corrected(warp: _Warp, inside: NDArray[np.bool_], wanted: Wanted) -> _Warp | None:
    """Return the warp with what misses by more than a degree or two per cent made up for; None when nothing does."""
    if not inside.any():
        return None
    turn, scale = warp.turn, warp.scale
    missed = False
    if wanted.orientation_deg is not None:
        error = folded(wanted.orientation_deg - orientation(inside))
        missed, turn = abs(error) > 1.0, turn + error
    if wanted.longest is not None:
        factor = float(np.clip(wanted.longest / longest(inside), 0.25, 4.0))
        missed |= abs(math.log(factor)) > 0.02
        scale = (scale[0] * factor, scale[1] * factor)
    return replace(warp, turn=turn, scale=scale) if missed else None


def _flipped(touches: Touches, flip: tuple[bool, bool]) -> Touches:
    (top, bottom), (left, right) = touches
    return (bottom, top) if flip[0] else (top, bottom), (right, left) if flip[1] else (left, right)


def _built(field: Field, warp: _Warp, wanted: Wanted, first: Outline, seed: int) -> tuple[Field, Field, float]:
    """Return distance, source coordinates, and how many pixels the outline had before thickness and limbs."""
    rng = np.random.default_rng(seed)
    length = first.longest * max(warp.scale) * max(1.0, math.sqrt(wanted.elongation))
    spare = math.ceil(0.6 * length) if wanted.branches else 0
    if wanted.width > 1.0:
        spare += math.ceil((wanted.width - 1.0) * float(field.max()) * max(warp.scale))
    distance, at = _warped(field, warp, _MARGIN + spare, rng)
    plain = float((distance > 0).sum())
    if wanted.elongation != 1.0 and plain:
        distance = signed_distance(distance > 0)
    if wanted.width != 1.0 and plain:
        # A pixel's middle lies half a pixel from its border; never so thin that nothing is left of a stroke.
        true = np.where(np.abs(distance) < 1, 0.5 * distance, distance - 0.5 * np.sign(distance))
        half = 0.5 * plain / longest(distance > 0)
        distance = np.maximum(true + (wanted.width - 1.0) * half, _ridge(distance)).astype(np.float32)
    if wanted.branches and plain:
        distance, at = with_limbs(distance, at, wanted.branches, rng)
    return distance, at, plain


def _ridge(distance: Field) -> Field:
    """Return a field that is just positive along the middle line of an outline and negative elsewhere."""
    middle = (distance > 0) & (distance >= ndimage.maximum_filter(distance, 3))
    line: Field = np.where(middle, np.float32(0.5), np.float32(-1e3)).astype(np.float32)
    return line


def _warped(field: Field, warp: _Warp, margin: int, rng: np.random.Generator) -> tuple[Field, Field]:
    """Warp and bend a distance field (its values stay about in pixels); return it with its coordinates."""
    height, width = field.shape
    matrix = warp.matrix()
    size = np.abs(matrix) @ np.array([height, width], np.float64)
    out = (math.ceil(size[0]) + 2 * margin, math.ceil(size[1]) + 2 * margin)
    rows, columns = np.mgrid[: out[0], : out[1]].astype(np.float32)
    rows -= (out[0] - 1) / 2
    columns -= (out[1] - 1) / 2
    bends = [warp.bend * sum(_bend(out, *bend, rng) for bend in _BENDS) for _ in range(2)]
    back = np.linalg.inv(matrix)
    source = np.stack(
        [back[axis, 0] * rows + back[axis, 1] * columns + (field.shape[axis] - 1) / 2 + bends[axis] for axis in (0, 1)]
    ).astype(np.float32)
    warped = ndimage.map_coordinates(field, source, order=1, mode="constant", cval=float(field.min()))
    return (warped * math.sqrt(abs(float(np.linalg.det(matrix))))).astype(np.float32), source


def _bend(shape: tuple[int, int], wavelength: float, amplitude: float, rng: np.random.Generator) -> Field:
    """Return a smooth random field (h, w), pixels; wavelength and amplitude are shares of the longer side."""
    step = max(4.0, wavelength * max(shape))
    nodes = [max(2, math.ceil(side / step) + 1) for side in shape]
    field = ndimage.zoom(
        rng.standard_normal(nodes), [s / n for s, n in zip(shape, nodes, strict=True)], order=1, grid_mode=False
    )
    bend: Field = (field * max(0.3, amplitude * max(shape))).astype(np.float32)
    return bend
