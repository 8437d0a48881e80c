"""Small marks on a surface: hairline cracks, pits and pores, shallow bowls, blots, and dust that is no defect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.heldout import fields
from benchmarks.heldout.model import PIXEL_MM, Field, Grid, Random, Region, Solid

Place = tuple[float, float]
#: Marked around a line's middle, and around a pore's rim (mm): the lens spreads what is finer than a pixel.
_SEEN_MM = 0.06


def log_uniform(random: Random, low: float, high: float) -> float:
    """Return a number whose logarithm is uniform."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def somewhere(grid: Grid, random: Random, allowed: Region, margin: float = 0.6) -> Place:
    """Return a place that is allowed and at least `margin` (mm) within the picture."""
    half_x, half_y = grid.width * PIXEL_MM / 2 - margin, grid.height * PIXEL_MM / 2 - margin
    seen = allowed & (np.abs(grid.x) < half_x) & (np.abs(grid.y) < half_y)
    row, column = np.argwhere(seen)[random.integers(int(seen.sum()))]
    return float(grid.x[row, column]), float(grid.y[row, column])


def hairline(
    grid: Grid, random: Random, middle: Place, width: tuple[float, float], length: tuple[float, float]
) -> tuple[Field, Region, dict[str, float]]:
    """Return how much of each grid cell a crack opens (0 to 1), where it runs, and its facts.

    From straight to wandering, unbranched to four branches; it closes towards its ends and in places between.

    :param width: least and greatest gap (mm). :param length: likewise, of the main branch.
    """
    gap, long = log_uniform(random, *width), log_uniform(random, *length)
    heading, wander = float(random.uniform(0, 2 * np.pi)), float(random.uniform(0.1, 1.1))
    start = middle[0] - np.cos(heading) * long / 2, middle[1] - np.sin(heading) * long / 2
    trunk = fields.wandering_path(random, start, heading, long, wander)
    branches = [(trunk, 1.0, 0.15)]
    for _ in range(int(random.choice([0, 0, 0, 1, 2, 4]))):
        at = int(random.integers(len(trunk) // 5, max(len(trunk) * 4 // 5, len(trunk) // 5 + 1)))
        ahead = trunk[min(at + 3, len(trunk) - 1)] - trunk[max(at - 3, 0)]
        turn = float(np.arctan2(ahead[1], ahead[0]) + random.choice([-1, 1]) * random.uniform(0.4, 1.2))
        root = float(trunk[at, 0]), float(trunk[at, 1])
        path = fields.wandering_path(random, root, turn, long * random.uniform(0.15, 0.5), wander)
        branches.append((path, float(random.uniform(0.4, 0.8)), 1e-3))
    closed = fields.smoothstep(fields.band_noise(grid, random, 0.25, 1.5), -1.4, -0.5)
    opening, region = np.zeros(grid.shape), np.zeros(grid.shape, np.bool_)
    for path, share, root_taper in branches:
        away, _, along = fields.along_path(grid, path)
        taper = fields.smoothstep(along, 0.0, root_taper) * fields.smoothstep(1 - along, 0.0, 0.3)
        half = gap / 2 * share * (0.3 + 0.7 * taper) * (taper > 0)
        this = np.clip(2 * half / grid.step, 0, 1) * np.clip((half + grid.step - away) / grid.step, 0, 1)
        opening = np.maximum(opening, this * closed)
        region |= (away < np.maximum(half, _SEEN_MM)) & (taper > 0.02)
    return opening, region, {"gap_um": gap * 1e3, "length_mm": long, "branches": float(len(branches) - 1)}


def pits(grid: Grid, places: Sequence[Place], radii: Sequence[float], steepness: float) -> tuple[Field, Region]:
    """Return the depth (mm) of round pits with flat to hemispherical floors, and where they are."""
    depth, region = np.zeros(grid.shape), np.zeros(grid.shape, np.bool_)
    for (x, y), radius in zip(places, radii, strict=True):
        row, column = (grid.y[0, 0] - y) / grid.step, (x - grid.x[0, 0]) / grid.step
        reach = int((radius + _SEEN_MM) / grid.step) + 2
        rows = slice(max(int(row) - reach, 0), max(int(row) + reach + 1, 0))
        columns = slice(max(int(column) - reach, 0), max(int(column) + reach + 1, 0))
        away = np.hypot(grid.x[rows, columns] - x, grid.y[rows, columns] - y)
        bowl = steepness * radius * np.sqrt(np.clip(1 - (away / radius) ** 2, 0, 1))
        depth[rows, columns] = np.maximum(depth[rows, columns], bowl)
        region[rows, columns] |= away < radius + 0.75 * _SEEN_MM
    return depth, region


def scattered(random: Random, middle: Place, count: int, spread: float, stretch: float) -> list[Place]:
    """Return places around a middle, `stretch` times as far along a random direction as across it."""
    turn = random.uniform(0, np.pi)
    along, across = random.normal(0, spread * stretch, count), random.normal(0, spread, count)
    x, y = (
        middle[0] + along * np.cos(turn) - across * np.sin(turn),
        middle[1] + along * np.sin(turn) + across * np.cos(turn),
    )
    return [(float(one), float(other)) for one, other in zip(x, y, strict=True)]


def bowl(grid: Grid, random: Random, middle: Place, size: float) -> Field:
    """Return a smooth bowl of depth 1: round to long, its rim soft to firm, its outline a little uneven.

    :param size: geometric mean of its two diameters (mm).
    """
    x, y = fields.turned(grid, middle, random.uniform(0, 180))
    stretch = log_uniform(random, 1.0, 2.6) ** 0.5
    uneven = 1 + 0.12 * fields.band_noise(grid, random, 0.8, 4.0)
    away = np.hypot(x / stretch, y * stretch) / (size / 2 * uneven)
    power = random.uniform(2.0, 4.5)
    shape: Field = np.exp(-0.7 * away**power)
    return shape


def blot(grid: Grid, random: Random, middle: Place, size: float) -> Field:
    """Return the share (0 to 1) that a patch covers: round, long or ragged, full or a ring, its rim soft to sharp."""
    x, y = fields.turned(grid, middle, random.uniform(0, 180))
    stretch = log_uniform(random, 1.0, 3.0) ** 0.5
    ragged = random.uniform(0.1, 0.4) * fields.band_noise(grid, random, 0.3, 2.5)
    rim = size / 2 * (1 + ragged) - np.hypot(x / stretch, y * stretch)
    share = fields.smoothstep(rim, 0.0, random.uniform(0.06, 0.5) * size)
    if random.random() < 0.3:
        share = share * (1 - random.uniform(0.4, 0.8) * fields.smoothstep(rim, 0.15 * size, 0.4 * size))
    islands = fields.smoothstep(fields.band_noise(grid, random, 0.25, 0.9), 1.3, 2.0)
    return share * (1 - islands)


def dust(grid: Grid, random: Random, height: Field, specks: float, fibres: float) -> tuple[Solid, ...]:
    """Return loose specks and fibres, on average so many of each: what air leaves on any part, and no defect."""
    lying: list[Solid] = []
    anywhere = np.ones(grid.shape, np.bool_)
    for _ in range(int(random.poisson(specks))):
        x, y = somewhere(grid, random, anywhere, 0.1)
        radius = log_uniform(random, 0.018, 0.05)
        vertices, faces = fields.rough_ball(random, 2, 0.15)
        base = fields.height_at(grid, height, x, y)
        lying.append(_loose(random, vertices * radius * [1, 1, 0.7] + [x, y, base + 0.4 * radius], faces))
    for _ in range(int(random.poisson(fibres))):
        start = somewhere(grid, random, anywhere, 0.1)
        path = fields.wandering_path(
            random, start, random.uniform(0, 2 * np.pi), log_uniform(random, 0.3, 1.6), random.uniform(0.3, 1.5)
        )
        lying.append(_loose(random, *_tube(grid, height, path[::3], float(random.uniform(0.006, 0.011)))))
    return tuple(lying)


def _loose(random: Random, vertices: Field, faces: NDArray[np.uint32]) -> Solid:
    grey = {"type": "diffuse", "reflectance": log_uniform(random, 0.06, 0.6)}
    return Solid(vertices, faces, {"type": "twosided", "bsdf": grey}, is_defect=False)


def _tube(grid: Grid, height: Field, path: Field, radius: float) -> tuple[Field, NDArray[np.uint32]]:
    """Return a six-sided tube that lies on the surface along a path (N, 2)."""
    ahead = np.gradient(path, axis=0)
    across = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1) / np.maximum(np.hypot(*ahead.T), 1e-9)[:, None]
    base = np.array([fields.height_at(grid, height, x, y) for x, y in path]) + radius
    turn = np.arange(6) * np.pi / 3
    sides = path[:, None, :] + radius * np.cos(turn)[None, :, None] * across[:, None, :]
    level = base[:, None] + radius * np.sin(turn)[None, :]
    vertices = np.concatenate([sides, level[..., None]], axis=-1).reshape(-1, 3)
    ring = np.arange(len(path) * 6, dtype=np.uint32).reshape(len(path), 6)
    a, b = ring[:-1].ravel(), np.roll(ring, -1, axis=1)[:-1].ravel()
    c, d = np.roll(ring, -1, axis=1)[1:].ravel(), ring[1:].ravel()
    return vertices, np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
