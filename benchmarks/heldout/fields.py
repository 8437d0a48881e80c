"""Random fields, outlines and meshes that products and defects are modelled with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from benchmarks.heldout.model import Field, Grid, Random, Region


def band_noise(grid: Grid, random: Random, shortest: float, longest: float, slope: float = 2.0) -> Field:
    """Return a Gaussian field of unit deviation whose power falls as frequency**-slope between two wavelengths (mm)."""
    rows, columns = grid.shape
    white = fft.rfft2(random.standard_normal((rows, columns)))
    frequency = np.hypot(fft.fftfreq(rows, grid.step)[:, None], fft.rfftfreq(columns, grid.step)[None, :])
    inside = (frequency > 1 / longest) & (frequency < 1 / shortest)
    weight = np.where(inside, np.maximum(frequency, 1 / longest) ** (-slope / 2), 0.0)
    noise: Field = fft.irfft2(white * weight, s=(rows, columns))
    return noise / max(float(noise.std()), 1e-12)


def smoothstep(values: Field, low: float, high: float) -> Field:
    """Return 0 below `low`, 1 above `high`, and a cubic in between."""
    share = np.clip((values - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)


def signed_distance(inside: Region, grid: Grid) -> Field:
    """Return the distance (mm) to a region's outline, positive inside."""
    distance: Field = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    return (distance - np.sign(distance) * 0.5) * grid.step


def soft_union(first: Field, second: Field, reach: float) -> Field:
    """Return the larger of two heights, rounded where they meet within `reach` (polynomial smooth maximum)."""
    blend = np.clip(0.5 + 0.5 * (first - second) / reach, 0, 1)
    return second * (1 - blend) + first * blend + reach * blend * (1 - blend)


def turned(grid: Grid, centre: tuple[float, float], degrees: float) -> tuple[Field, Field]:
    """Return the grid's coordinates in a frame that is moved to `centre` and turned by `degrees`."""
    angle = np.deg2rad(degrees)
    x, y = grid.x - centre[0], grid.y - centre[1]
    return x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)


def box_distance(x: Field, y: Field, half: tuple[float, float], corner: float = 0.0) -> Field:
    """Return the distance to a rounded rectangle's outline, positive inside."""
    dx, dy = np.abs(x) - half[0] + corner, np.abs(y) - half[1] + corner
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return corner - (outside + np.minimum(np.maximum(dx, dy), 0))


def wandering_path(
    random: Random, start: tuple[float, float], heading: float, length: float, wander: float
) -> NDArray[np.float64]:
    """Return points (N, 2) about 0.02 mm apart along a path whose heading is a correlated random walk."""
    count = max(int(length / 0.02), 4)
    turns = ndimage.gaussian_filter1d(random.standard_normal(count), 3) * wander
    headings = heading + np.cumsum(turns) * 0.1
    steps = 0.02 * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    return np.asarray(start) + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])


def along_path(grid: Grid, path: NDArray[np.float64]) -> tuple[Field, Field, Field]:
    """Return for every grid point: distance to a path (mm), side of it (+1 left), position along it (0 to 1)."""
    rows = (grid.y[0, 0] - path[:, 1]) / grid.step
    columns = (path[:, 0] - grid.x[0, 0]) / grid.step
    fine = np.linspace(0, len(path) - 1, len(path) * 3)
    rows, columns = np.interp(fine, np.arange(len(path)), rows), np.interp(fine, np.arange(len(path)), columns)
    seeds = np.full(grid.shape, -1, np.int64)
    at = np.round(rows).astype(int), np.round(columns).astype(int)
    within = (at[0] >= 0) & (at[0] < grid.shape[0]) & (at[1] >= 0) & (at[1] < grid.shape[1])
    seeds[at[0][within], at[1][within]] = np.flatnonzero(within)
    index = ndimage.distance_transform_edt(seeds < 0, return_distances=False, return_indices=True)
    nearest = seeds[index[0], index[1]]
    positions = np.interp(fine, np.arange(len(path)), np.arange(len(path)))
    point = path[np.minimum(positions[nearest].round().astype(int), len(path) - 1)]
    tangents = np.gradient(path, axis=0)[np.minimum(positions[nearest].round().astype(int), len(path) - 1)]
    dx, dy = grid.x - point[..., 0], grid.y - point[..., 1]
    side = np.where(tangents[..., 0] * dy - tangents[..., 1] * dx >= 0, 1.0, -1.0)
    return np.hypot(dx, dy), side, nearest / max(len(fine) - 1, 1)


def ball_mesh(subdivisions: int = 3) -> tuple[Field, NDArray[np.uint32]]:
    """Return a unit sphere: vertices (N, 3) and outward faces (M, 3), an icosahedron subdivided."""
    golden = (1 + 5**0.5) / 2
    corners: list[tuple[float, float, float]] = [(-1, golden, 0), (1, golden, 0), (-1, -golden, 0), (1, -golden, 0)]
    corners += [(0, -1, golden), (0, 1, golden), (0, -1, -golden), (0, 1, -golden)]
    corners += [(golden, 0, -1), (golden, 0, 1), (-golden, 0, -1), (-golden, 0, 1)]
    vertices = [np.asarray(corner) / np.hypot(1, golden) for corner in corners]
    faces = [
        (0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11), (1, 5, 9), (5, 11, 4), (11, 10, 2), (10, 7, 6),
        (7, 1, 8), (3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8), (3, 8, 9), (4, 9, 5), (2, 4, 11), (6, 2, 10),
        (8, 6, 7), (9, 8, 1),
    ]  # fmt: skip
    for _ in range(subdivisions):
        middles: dict[tuple[int, int], int] = {}

        def middle(one: int, other: int, known: dict[tuple[int, int], int] = middles) -> int:
            key = min(one, other), max(one, other)
            if key not in known:
                point = vertices[one] + vertices[other]
                known[key] = len(vertices)
                vertices.append(point / np.linalg.norm(point))
            return known[key]

        finer = []
        for a, b, c in faces:
            ab, bc, ca = middle(a, b), middle(b, c), middle(c, a)
            finer += [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
        faces = finer
    return np.asarray(vertices, np.float64), np.asarray(faces, np.uint32)


def rough_ball(random: Random, subdivisions: int, roughness: float, lobes: int = 6) -> tuple[Field, NDArray[np.uint32]]:
    """Return a unit ball whose radius varies by `roughness` in a few smooth lobes."""
    vertices, faces = ball_mesh(subdivisions)
    radius = np.ones(len(vertices))
    for _ in range(lobes):
        direction = random.standard_normal(3)
        waves = np.cos(vertices @ (direction * random.uniform(1.0, 2.5)) + random.uniform(0, 6.28))
        radius += roughness / lobes**0.5 * waves
    return vertices * radius[:, None], faces


def height_at(grid: Grid, height: Field, x: float, y: float) -> float:
    """Return the height at a place of the grid, by its nearest point."""
    row = int(np.clip(round((grid.y[0, 0] - y) / grid.step), 0, grid.shape[0] - 1))
    column = int(np.clip(round((x - grid.x[0, 0]) / grid.step), 0, grid.shape[1] - 1))
    return float(height[row, column])
