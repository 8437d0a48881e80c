"""Limbs that grow out of an outline: what makes a line branched."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trainer.generate.outlines import longest, orientation

Field = NDArray[np.float32]

#: Share of the outline's longest extent that a limb is long, degrees between limb and outline, and half width at its
#: root and tip as shares of the outline's own there.
_LENGTH, _ANGLE_DEG, _TAPER = (0.25, 0.5), (25.0, 65.0), (0.75, 0.35)
#: Standard deviation of a limb's change of heading, radians a pixel, and how much of it is kept.
_WANDER, _KEPT = 0.12, 0.9


def with_limbs(distance: Field, source: Field, count: int, rng: np.random.Generator) -> tuple[Field, Field]:
    """Return distance (h, w) and source coordinates (2, h, w) with `count` limbs; what leaves the window is cut off.

    A limb's pixels are taken from where the outline itself is as deep, so that it looks like the rest.
    """
    inside = distance > 0
    middle = inside & (distance >= ndimage.maximum_filter(distance, 3))
    roots = np.argwhere(middle)
    axis, length = math.radians(orientation(inside)), longest(inside)
    nearest = ndimage.distance_transform_edt(~middle, return_distances=False, return_indices=True)
    grown, taken = distance.copy(), source.copy()
    for number in range(count):
        root = _root(roots, axis, (number + float(rng.random())) / count)
        side, back = (1.0 if rng.random() < 0.5 else -1.0 for _ in range(2))
        heading = axis + (0.0 if back > 0 else math.pi)
        lean = side * math.radians(rng.uniform(*_ANGLE_DEG))
        path, headings = _path(root, heading + lean, rng.uniform(*_LENGTH) * length, rng)
        half = max(float(distance[tuple(root)]), 1.0)
        limb, near = _stroke(path, half, distance.shape)
        new = (limb > grown) & (limb > -3.0)
        taken[:, new] = _from_trunk(new, near, path, headings, (root, heading), nearest, source)
        grown = np.maximum(grown, limb)
    return grown, taken


def _root(roots: NDArray[np.intp], axis: float, share: float) -> NDArray[np.intp]:
    """Return the pixel of the middle line at a share of the way along the outline, its ends left out."""
    along = roots @ np.array([math.sin(axis), math.cos(axis)])
    found: NDArray[np.intp] = roots[np.argsort(along)[int((0.1 + 0.8 * share) * (len(roots) - 1))]]
    return found


def _path(
    root: NDArray[np.intp], heading: float, length: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points (N, 2), a pixel apart, and the heading at each; the heading comes back to its mean."""
    steps = max(3, round(length))
    lean, headings = 0.0, np.empty(steps)
    for index in range(steps):
        lean = _KEPT * lean + float(rng.normal(0.0, _WANDER))
        headings[index] = heading + lean
    path = np.cumsum(np.stack([np.sin(headings), np.cos(headings)], axis=1), axis=0) + root.astype(np.float64)
    return path, headings


def _stroke(path: NDArray[np.float64], half: float, shape: tuple[int, ...]) -> tuple[Field, NDArray[np.intp]]:
    """Return the limb's signed distance (h, w), and the number of the path's nearest point for each pixel."""
    numbers = np.full(shape, -1, np.intp)
    points = np.rint(path).astype(np.intp)
    fits = ((points >= 0) & (points < np.asarray(shape))).all(axis=1)
    numbers[points[fits, 0], points[fits, 1]] = np.flatnonzero(fits)
    if not fits.any():
        return np.full(shape, -1e3, np.float32), numbers
    away, at = ndimage.distance_transform_edt(numbers < 0, return_indices=True)
    near = numbers[at[0], at[1]]
    width = half * np.interp(near / max(len(path) - 1, 1), [0.0, 1.0], _TAPER)
    stroke: Field = (np.maximum(width, 0.8) - away).astype(np.float32)
    return stroke, near


def _from_trunk(
    new: NDArray[np.bool_],
    near: NDArray[np.intp],
    path: NDArray[np.float64],
    headings: NDArray[np.float64],
    trunk: tuple[NDArray[np.intp], float],
    nearest: NDArray[np.intp],
    source: Field,
) -> Field:
    """Return the source coordinates (2, N) of a limb's pixels: as far along the trunk, and as far beside it."""
    root, heading = trunk
    pixels = np.argwhere(new)
    number = near[new]
    bound = np.asarray(new.shape) - 1
    along = root + np.outer(number, [math.sin(heading), math.cos(heading)])
    spot = np.clip(np.rint(along), 0, bound).astype(np.intp)
    middle = nearest[:, spot[:, 0], spot[:, 1]].T
    offset = pixels - path[number]
    turn = heading - headings[number]
    cos, sin = np.cos(turn), np.sin(turn)
    beside = np.stack([cos * offset[:, 0] + sin * offset[:, 1], cos * offset[:, 1] - sin * offset[:, 0]], axis=1)
    at = np.clip(np.rint(middle + beside), 0, bound).astype(np.intp)
    found: Field = source[:, at[:, 0], at[:, 1]]
    return found
