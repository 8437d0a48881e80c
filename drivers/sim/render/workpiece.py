"""A part as physics: maps of height and material on a fine grid, and the grid itself.

Axes are the image's: x to the right, y down, z to the camera. The camera looks straight down and is telecentric, so a
height moves nothing sideways. Lengths are millimetres, heights micrometres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FloatMap = NDArray[np.float32]
#: Samples of a coarse grid for the finest detail that it must show.
_SAMPLES_OF_DETAIL = 8
#: Draws a periodic random field of the given shape on a grid of the given step in mm.
Texture = Callable[[np.random.Generator, tuple[int, int], float], FloatMap]


@dataclass(frozen=True, slots=True)
class Placement:
    """How a part lies in front of the camera: shifted by (`x_mm`, `y_mm`), then turned about its own centre."""

    x_mm: float = 0.0
    y_mm: float = 0.0
    turn_deg: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """The fine grid that a part is drawn on: `oversampling` samples across each pixel, in the part's own coordinates.

    `u`, `v` (H', W') float32 are each sample's place in mm from the part's centre. What is drawn as a function of them
    moves and turns with the part.
    """

    height: int  # of the picture in px
    width: int
    pitch_mm: float  # of a pixel on the part
    oversampling: int
    placement: Placement
    u: FloatMap
    v: FloatMap

    @classmethod
    def make(cls, height: int, width: int, pitch_mm: float, oversampling: int, placement: Placement) -> Canvas:
        """Lay out the grid."""
        step = pitch_mm / oversampling
        rows, columns = height * oversampling, width * oversampling
        x = (np.arange(columns) + 0.5) * step - width * pitch_mm / 2 - placement.x_mm
        y = (np.arange(rows) + 0.5) * step - height * pitch_mm / 2 - placement.y_mm
        turn = np.deg2rad(placement.turn_deg)
        cos, sin = np.cos(turn), np.sin(turn)
        return cls(
            height=height,
            width=width,
            pitch_mm=pitch_mm,
            oversampling=oversampling,
            placement=placement,
            u=np.add((cos * x).astype(np.float32)[None, :], (sin * y).astype(np.float32)[:, None]),
            v=np.subtract((cos * y).astype(np.float32)[:, None], (sin * x).astype(np.float32)[None, :]),
        )

    @property
    def step_mm(self) -> float:
        """Distance of two samples."""
        return self.pitch_mm / self.oversampling

    @property
    def shape(self) -> tuple[int, int]:
        """(H', W') of the fine grid."""
        return self.height * self.oversampling, self.width * self.oversampling

    @property
    def turn_rad(self) -> float:
        """Angle by which the part is turned, from x towards y."""
        return float(np.deg2rad(self.placement.turn_deg))

    def full(self, value: float) -> FloatMap:
        """Return a constant map."""
        return np.full(self.shape, value, np.float32)

    def to_grid(self, u: Any, v: Any) -> tuple[Any, Any]:
        """Return (row, column), as floats, of a place on the part in mm."""
        cos, sin = np.cos(self.turn_rad), np.sin(self.turn_rad)
        x = cos * u - sin * v + self.placement.x_mm + self.width * self.pitch_mm / 2
        y = sin * u + cos * v + self.placement.y_mm + self.height * self.pitch_mm / 2
        return y / self.step_mm - 0.5, x / self.step_mm - 0.5

    def window(self, u: float, v: float, radius_mm: float) -> tuple[slice, slice]:
        """Return the part of the grid within `radius_mm` of a place; empty when that lies outside of the picture."""
        row, column = self.to_grid(u, v)
        reach = radius_mm / self.step_mm + 1
        rows, columns = self.shape
        top, left = (int(np.clip(np.floor(at - reach), 0, size)) for at, size in ((row, rows), (column, columns)))
        bottom, right = (int(np.clip(np.ceil(at + reach) + 1, 0, n)) for at, n in ((row, rows), (column, columns)))
        return slice(top, max(bottom, top)), slice(left, max(right, left))

    def carry(self, field_on_part: FloatMap, shift_mm: tuple[float, float] = (0.0, 0.0)) -> FloatMap:
        """Return a periodic field, given in the part's coordinates on a grid of the same step, as the picture has it.

        (H'', W'') float32 to (H', W') float32, bilinear. A texture so drawn stays on the part however that lies, or
        `shift_mm` (u, v) beside its place.
        """
        if self.placement == Placement() and field_on_part.shape == self.shape and shift_mm == (0.0, 0.0):
            return field_on_part
        return _carried(field_on_part, self.shape, self.step_mm, self.placement, shift_mm)

    def grow(self, draw: Texture, generator: np.random.Generator, finest_mm: float) -> FloatMap:
        """Return a random field (H', W') float32 that has no detail finer than `finest_mm`, lying on the part.

        It is drawn on as coarse a grid as shows it, and brought to the fine one by cubic B-splines, whose slopes are
        smooth.
        """
        factor = int(finest_mm / (_SAMPLES_OF_DETAIL * self.step_mm))
        if factor < 2:
            return self.carry(draw(generator, self.shape, self.step_mm))
        # Two samples more on each side: what a spline reaches for.
        shape = (-(-self.shape[0] // factor) + 4, -(-self.shape[1] // factor) + 4)
        step = self.step_mm * factor
        coarse = _carried(draw(generator, shape, step), shape, step, self.placement)
        smooth = _refined(_refined(coarse.T, factor).T, factor)
        top, left = ((have - want) // 2 for have, want in zip(smooth.shape, self.shape, strict=True))
        return smooth[top : top + self.shape[0], left : left + self.shape[1]]


def _carried(
    field_on_part: FloatMap,
    shape: tuple[int, int],
    step_mm: float,
    placement: Placement,
    aside_mm: tuple[float, float] = (0.0, 0.0),
) -> FloatMap:
    """Return a periodic field as it lies on a grid (H', W') of its own step, both about their middles; bilinear."""
    turn = np.deg2rad(placement.turn_deg)
    cos, sin = np.cos(turn), np.sin(turn)
    # part = R^-1 (frame - centre - shift) + centre of the field, in samples; columns are x, rows y.
    matrix = np.array([[cos, sin], [-sin, cos]])
    shift = np.array([placement.x_mm, placement.y_mm]) / step_mm
    middle, own = np.array(shape[::-1]) / 2, np.array(field_on_part.shape[::-1]) / 2
    offset = own - matrix @ (middle + shift) - np.array(aside_mm) / step_mm
    corners = np.array([[x, y] for x in (0, shape[1]) for y in (0, shape[0])]) @ matrix.T + offset
    low = np.floor(corners.min(axis=0)).astype(int) - 2
    high = np.ceil(corners.max(axis=0)).astype(int) + 2
    windows = [np.arange(low[axis], high[axis]) % field_on_part.shape[1 - axis] for axis in range(2)]
    spread = np.take(np.take(field_on_part, windows[1], axis=0), windows[0], axis=1)
    a, b = (*matrix[0], offset[0] - low[0]), (*matrix[1], offset[1] - low[1])
    picture = Image.fromarray(spread)
    moved = picture.transform((shape[1], shape[0]), Image.Transform.AFFINE, (*a, *b), Image.Resampling.BILINEAR)
    return np.array(moved, np.float32)


def _refined(values: FloatMap, factor: int) -> FloatMap:
    """Return rows between rows, `factor` for each, by uniform cubic B-splines; one and a half fall away at each end."""
    count = values.shape[0] - 3
    out = np.empty((count * factor, values.shape[1]), np.float32)
    for phase in range(factor):
        t = (phase + 0.5) / factor
        weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
        total = values[:count] * np.float32(weights[0] / 6)
        for index in (1, 2, 3):
            total += values[index : index + count] * np.float32(weights[index] / 6)
        out[phase::factor] = total
    return out


@dataclass(frozen=True, slots=True)
class Carrier:
    """What a part lies on: a dark, matt plate."""

    albedo: float = 0.022
    roughness: float = 0.6
    specular: float = 0.03


@dataclass(slots=True, eq=False)
class Workpiece:
    """A part's maps, all (H', W') float32 on the canvas's grid."""

    step_mm: float
    height_um: FloatMap  # of the top face, 0 where nominal; goes on beyond the outline, so that slopes stay finite
    albedo: FloatMap  # diffuse reflectance in [0, 1]
    specular: (
        FloatMap  # reflectance of the mirror-like share at normal incidence (F0): 0.04 plastics, 0.5 to 0.9 metals
    )
    along: FloatMap  # GGX roughness (alpha) along the lay
    across: FloatMap  # and across it
    cover: FloatMap  # share of the sample that the part covers, [0, 1]
    inside_mm: FloatMap  # distance to the outline, positive inside, negative outside and in holes
    lay_rad: FloatMap | None = None  # direction of the lay from x towards y; None: roughness is the same all round
    thickness_um: float = 1000.0  # of the part above its carrier
    carrier: Carrier = field(default_factory=Carrier)

    def copy(self) -> Workpiece:
        """Return a copy that can be changed by itself."""
        return self._each(np.copy)

    def cut(self, window: tuple[slice, slice]) -> Workpiece:
        """Return a part of the part; its maps are views."""
        return self._each(lambda values: values[window])

    def _each(self, done: Callable[[FloatMap], FloatMap]) -> Workpiece:
        names = ("height_um", "albedo", "specular", "along", "across", "cover", "inside_mm")
        maps = {name: done(getattr(self, name)) for name in names}
        if self.across is self.along:
            maps["across"] = maps["along"]
        lay = None if self.lay_rad is None else done(self.lay_rad)
        return Workpiece(self.step_mm, **maps, lay_rad=lay, thickness_um=self.thickness_um, carrier=self.carrier)

    def slopes(self) -> tuple[FloatMap, FloatMap]:
        """Return (dz/dx, dz/dy) of the top face."""
        return slope(self.height_um, self.step_mm, 1), slope(self.height_um, self.step_mm, 0)


def slope(height_um: FloatMap, step_mm: float, axis: int) -> FloatMap:
    """Return the slope of heights along an axis, by central differences."""
    values = height_um if axis else height_um.T
    out = np.empty_like(values)
    np.subtract(values[:, 2:], values[:, :-2], out=out[:, 1:-1])
    out[:, 1:-1] *= np.float32(0.0005 / step_mm)
    out[:, 0] = (values[:, 1] - values[:, 0]) * np.float32(0.001 / step_mm)
    out[:, -1] = (values[:, -1] - values[:, -2]) * np.float32(0.001 / step_mm)
    return out if axis else np.asarray(out.T, np.float32)


def cover_of(inside_mm: FloatMap, step_mm: float) -> FloatMap:
    """Return the share of each sample (H', W') that lies inside an outline given by its signed distance."""
    return np.clip(inside_mm * np.float32(1 / step_mm) + np.float32(0.5), 0, 1)


def blank(canvas: Canvas, inside_mm: FloatMap, *, albedo: float, specular: float, roughness: float) -> Workpiece:
    """Return a flat part of one material."""
    return Workpiece(
        step_mm=canvas.step_mm,
        height_um=canvas.full(0.0),
        albedo=canvas.full(albedo),
        specular=canvas.full(specular),
        along=canvas.full(roughness),
        across=canvas.full(roughness),
        cover=cover_of(inside_mm, canvas.step_mm),
        inside_mm=inside_mm,
    )
