"""Photometric stereo (Woodham, Optical Engineering 19, 1980): light directions from a matt ball, normals from them.

Three or more directional channels of one matt surface give its normals. The directions come from a ball of known
radius: its normals are known, and its light says where the lamp stands. What a flat target showed of the lamps' cones
is divided out first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.errors import CalibrationError

Floats = NDArray[np.float64]

#: Share of the ball's radius that is used: at its rim pixels mix with the ground, and shadows begin.
_INSIDE = 0.85
#: Light below this share of the ball's brightest is taken for shadow.
_SHADOW = 0.12
_MIN_PIXELS = 200
#: A light whose direction leaves more than this unexplained is not one direction (a ring, a dome, a coaxial light).
DIRECTIONAL = 0.15
#: Lights less slanted than this, as the horizontal part of the unit vector, tell little of a slope.
_SLANTED = 0.3


@dataclass(frozen=True, slots=True)
class Ball:
    """A ball in the picture: middle (pixels) and the radius that is seen of it."""

    row: float
    column: float
    rim_px: float


@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """A light's unit vector (x right, y down, z to the camera) and what of the ball's light it leaves unexplained."""

    vector: Floats
    residual: float

    @property
    def directional(self) -> bool:
        """Tell whether the light comes from one side, so that normals can be had from it."""
        return self.residual < DIRECTIONAL and float(np.hypot(*self.vector[:2])) > _SLANTED


def find_ball(lit: Floats) -> Ball:
    """Find the ball: where channels shine in other proportions than on the ground around it.

    :param lit: (K, H, W) light of at least two channels, dark level taken off, flat-field corrected.
    :raises CalibrationError: when there is none.
    """
    total = lit.sum(axis=0)
    share = lit / np.maximum(total, 1e-6)
    ground = np.median(share.reshape(len(lit), -1), axis=1)
    departure = np.abs(ndimage.gaussian_filter(share, (0, 1.5, 1.5)) - ground[:, None, None]).sum(axis=0)
    noise = float(np.median(departure))
    labels, count = ndimage.label(ndimage.binary_opening(departure > max(6 * noise, 0.05), iterations=2))
    if count == 0:
        raise CalibrationError("no ball was found; lay a matt ball on the flat target, in the middle of the field")
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    blob = ndimage.binary_fill_holes(labels == int(sizes.argmax()))
    rows, columns = np.nonzero(blob)
    return _circle(blob, Ball(float(rows.mean()), float(columns.mean()), float(np.sqrt(blob.sum() / np.pi))))


def directions(lit: Floats, ball: Ball, radius_px: float) -> tuple[Direction, ...]:
    """Return each channel's direction.

    :param lit: as for :func:`find_ball`.
    :param radius_px: the ball's own radius; the rim that is seen is smaller when it is sunk into the ground.
    :raises CalibrationError: when the ball is too small.
    """
    height, width = lit.shape[1:]
    x = np.arange(width)[None, :] - ball.column
    y = np.arange(height)[:, None] - ball.row
    away = np.hypot(x, y)
    inside = away < _INSIDE * min(ball.rim_px, radius_px)
    if inside.sum() < _MIN_PIXELS:
        raise CalibrationError(
            f"the ball covers {int(inside.sum())} pixels, at least {_MIN_PIXELS} are needed; take a larger one"
        )
    rise = np.sqrt(np.maximum(radius_px**2 - away**2, 0.0))
    normals = np.stack([np.broadcast_to(x, away.shape), np.broadcast_to(y, away.shape), rise])[:, inside].T / radius_px
    return tuple(_direction(normals, channel[inside]) for channel in lit)


def normals(lit: Floats, lights: Sequence[Floats]) -> tuple[Floats, Floats, Floats]:
    """Return normals (3, H, W), albedo (H, W) and what is left unexplained (H, W), relative.

    :param lit: (K, H, W), K at least 3, dark level taken off and divided by what a flat, level white face shows there.
    :param lights: unit vectors of the K channels.
    :raises CalibrationError: for fewer than three channels, or lights that lie in one plane.
    """
    table = np.asarray([light / light[2] for light in lights])
    if len(table) < 3 or np.linalg.matrix_rank(table, tol=0.05) < 3:
        raise CalibrationError("normals need three lights from different sides; add directional channels")
    flat = lit.reshape(len(lit), -1)
    solution = np.linalg.lstsq(table, flat, rcond=None)[0]
    albedo = np.linalg.norm(solution, axis=0)
    left = np.sqrt(np.mean((table @ solution - flat) ** 2, axis=0)) / np.maximum(flat.mean(axis=0), 1e-9)
    shape = lit.shape[1:]
    unit: Floats = (solution / np.maximum(albedo, 1e-9)).reshape(3, *shape)
    return unit, albedo.reshape(shape), left.reshape(shape)


def _direction(normals_of: Floats, light: Floats) -> Direction:
    usable = light > _SHADOW * float(np.percentile(light, 99))
    solution: Floats = np.zeros(3)
    for _ in range(4):
        solution = np.asarray(np.linalg.lstsq(normals_of[usable], light[usable], rcond=None)[0], np.float64)
        expected = normals_of @ solution
        # Attached shadow: faces that look away from the light show what others throw at them.
        usable = (expected > _SHADOW * float(np.linalg.norm(solution))) & (light > 0)
    left = light[usable] - normals_of[usable] @ solution
    strength = float(np.linalg.norm(solution))
    residual = float(np.sqrt(np.mean(left**2))) / max(float(light[usable].mean()), 1e-9)
    return Direction(solution / max(strength, 1e-12), residual)


def _circle(blob: NDArray[np.bool_], start: Ball) -> Ball:
    """Fit a circle to the outline of a blob (Kasa), points far off left out."""
    rim = blob & ~ndimage.binary_erosion(blob)
    rows, columns = (axis.astype(np.float64) for axis in np.nonzero(rim))
    ball = start
    for _ in range(3):
        away = np.abs(np.hypot(rows - ball.row, columns - ball.column) - ball.rim_px)
        near = away <= max(3.0 * float(np.median(away)), 1.0)
        design = np.column_stack([rows[near], columns[near], np.ones(near.sum())])
        a, b, c = np.linalg.lstsq(design, rows[near] ** 2 + columns[near] ** 2, rcond=None)[0]
        row, column = float(a) / 2, float(b) / 2
        ball = Ball(row, column, float(np.sqrt(max(float(c) + row**2 + column**2, 1.0))))
    return ball
