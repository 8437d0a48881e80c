"""Defects as physics: what a scratch, pit, stain or crack does to height, albedo and gloss.

Each flaw changes the surface's own fields, once, before any light is on; what the channels show follows. The true mask
is where the fields were changed by more than a small share of the flaw's strongest change.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask
from drivers.sim.surface import FloatMap, Surface, cloudy

Flaw = Callable[[Surface, np.random.Generator, tuple[float, float]], Mask]

#: A change below this share of the flaw's strongest does not count as defect.
_VISIBLE = 0.12


def scratch(surface: Surface, generator: np.random.Generator, center: tuple[float, float]) -> Mask:
    """A slightly bent groove with raised lips, 25-110 px long, burnished at the bottom."""
    length, bend = generator.uniform(25, 110), generator.normal(0, 0.004)
    depth, width = generator.uniform(0.25, 0.9), generator.uniform(0.8, 1.8)
    steps = np.linspace(-length / 2, length / 2, max(int(length), 2))
    heading = generator.uniform(0, np.pi) + bend * steps
    path = np.stack([np.cumsum(np.sin(heading)), np.cumsum(np.cos(heading))], axis=1)
    path += np.array(center) - path[len(path) // 2]
    distance, along = _distance_to(path, surface.height.shape)
    taper = np.sqrt(np.clip(1 - (2 * along - 1) ** 2, 0, 1))
    groove = np.exp(-((distance / width) ** 2)) * taper
    lips = np.exp(-(((distance - 2 * width) / (0.7 * width)) ** 2)) * taper
    surface.height += (depth * (0.35 * lips - groove)).astype(np.float32)
    surface.albedo *= (1 - 0.15 * groove).astype(np.float32)
    return _mask(groove + 0.35 * lips)


def pit(surface: Surface, generator: np.random.Generator, center: tuple[float, float]) -> Mask:
    """One to three rough craters of 1.8-5 px radius, darker inside."""
    change = np.zeros(surface.height.shape, np.float32)
    for _ in range(generator.integers(1, 4)):
        radius, depth = generator.uniform(1.8, 5.0), generator.uniform(0.6, 1.8)
        offset = generator.normal(0, 7, 2)
        y, x = _grid(surface.height.shape, (center[0] + offset[0], center[1] + offset[1]))
        rough = 1 + 0.25 * cloudy(generator, *surface.size, 6)
        bowl = np.exp(-(((x * x + y * y) / (radius * rough) ** 2) ** 2)).astype(np.float32)
        surface.height -= np.float32(depth) * bowl
        change = np.maximum(change, bowl)
    surface.albedo *= 1 - np.float32(0.35) * change
    surface.gloss *= 1 - np.float32(0.7) * change
    return _mask(change)


def stain(surface: Surface, generator: np.random.Generator, center: tuple[float, float]) -> Mask:
    """A film with a ragged outline and a darker rim, 8-26 px in radius: no height, only albedo and gloss."""
    radius = generator.uniform(8, 26)
    stretch, turn = generator.uniform(0.5, 1.0), generator.uniform(0, np.pi)
    y, x = _grid(surface.height.shape, center)
    u, v = x * np.cos(turn) + y * np.sin(turn), (y * np.cos(turn) - x * np.sin(turn)) / stretch
    ragged = 1 + 0.22 * cloudy(generator, *surface.size, 14)
    inside = np.asarray(1 / (1 + np.exp(6 * (np.sqrt(u * u + v * v) / (radius * ragged) - 1))), np.float32)
    rim = 4 * inside * (1 - inside)
    strength = generator.uniform(0.12, 0.38)
    surface.albedo *= 1 - np.float32(strength) * (inside + 0.5 * rim)
    surface.gloss *= 1 - np.float32(generator.uniform(0.3, 0.9)) * inside
    return _mask(np.maximum(inside, rim * 0.5))


def crack(surface: Surface, generator: np.random.Generator, center: tuple[float, float]) -> Mask:
    """A jagged, sometimes branching fissure, 30-100 px long and about a pixel wide, dark at the bottom."""
    trunk = _walk(generator, np.array(center), generator.uniform(0, 2 * np.pi), generator.uniform(30, 100))
    trunk += np.array(center) - trunk[len(trunk) // 2]
    branches = [trunk]
    for _ in range(generator.integers(0, 3)):
        start = trunk[generator.integers(len(trunk) // 5, 4 * len(trunk) // 5)]
        branches.append(_walk(generator, start, generator.uniform(0, 2 * np.pi), generator.uniform(10, 30)))
    width, depth = generator.uniform(0.6, 1.1), generator.uniform(0.4, 1.2)
    gap = np.zeros(surface.height.shape, np.float32)
    for path in branches:
        distance, along = _distance_to(path, surface.height.shape)
        opening = width * (1.1 - 0.6 * along)
        gap = np.maximum(gap, np.exp(-((distance / opening) ** 2)).astype(np.float32))
    surface.height -= np.float32(depth) * gap
    # Light that falls into a fissure does not come out again.
    surface.albedo *= 1 - np.float32(0.6) * gap
    surface.gloss *= 1 - gap
    return _mask(gap)


FLAWS: dict[str, Flaw] = {"scratch": scratch, "pit": pit, "stain": stain, "crack": crack}


def _mask(change: NDArray[np.floating]) -> Mask:
    mask: Mask = change > _VISIBLE * max(float(change.max()), 1e-6)
    return mask


def _grid(shape: tuple[int, ...], center: tuple[float, float]) -> tuple[FloatMap, FloatMap]:
    y = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(center[0])
    x = np.arange(shape[1], dtype=np.float32)[None, :] - np.float32(center[1])
    return y, x


def _walk(
    generator: np.random.Generator, start: NDArray[np.float64], heading: float, length: float
) -> NDArray[np.float64]:
    turns = generator.normal(0, 0.35, max(int(length), 3))
    # Cracks follow a general direction: the heading reverts to its mean instead of wandering off.
    wander = ndimage.uniform_filter1d(turns, 3) * 2.2
    steps = np.stack([np.sin(heading + wander), np.cos(heading + wander)], axis=1)
    return np.asarray(start + np.cumsum(steps, axis=0))


def _distance_to(path: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[FloatMap, FloatMap]:
    """Return (distance in px to the path, position along it in [0, 1]); far away the distance is only 'far'."""
    margin = 12
    low = np.clip(np.floor(path.min(axis=0)).astype(int) - margin, 0, None)
    high = np.clip(np.ceil(path.max(axis=0)).astype(int) + margin, None, np.array(shape))
    distance = np.full(shape, 1e3, np.float32)
    along = np.zeros(shape, np.float32)
    if (high <= low).any():
        return distance, along
    y = np.arange(low[0], high[0])[:, None, None] - path[:, 0]
    x = np.arange(low[1], high[1])[None, :, None] - path[:, 1]
    squared = y * y + x * x
    nearest = squared.argmin(axis=2)
    window = (slice(low[0], high[0]), slice(low[1], high[1]))
    distance[window] = np.sqrt(np.take_along_axis(squared, nearest[..., None], axis=2)[..., 0])
    along[window] = nearest / max(len(path) - 1, 1)
    return distance, along
