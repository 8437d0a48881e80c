"""What the base learns from: rendered surfaces and flaws, nothing else. No picture of any real part goes in.

A flaw is one physical thing: an outline, a change of albedo that all lights see alike and a relief that each light sees
from its own side. The condition is the render that a cell's seeds get: course and flanks as measured on the flaw,
a little stronger or weaker, as seeds of one class differ. What these can't tell is what the network has to add.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trainer.generate.flank import flank_of, lit, slopes_of
from trainer.generate.looks import course_of, render
from trainer.generate.plan import signed_distance

Maps = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One example of side n: `contrast`, `background` and `render` (K, n, n) log contrast, `distance` (n, n) pixels."""

    contrast: Maps
    background: Maps
    render: Maps
    distance: NDArray[np.float32]


def example(side: int, channels: int, rng: np.random.Generator) -> Example:
    """Render one surface with one flaw."""
    distance = signed_distance(_outline(side, rng))
    amplitude = float(np.exp(rng.uniform(np.log(0.08), np.log(2.0)))) * (1 if rng.random() < 0.35 else -1)
    ramp = float(np.exp(rng.uniform(np.log(0.7), np.log(10.0))))
    body = np.clip(distance / ramp, 0, 1)
    gains = 1.0 + rng.normal(0, 0.15, (channels, 1, 1)).astype(np.float32)
    contrast = (amplitude * body[None] * gains).astype(np.float32) + _detail(distance, body, amplitude, channels, rng)
    background = np.stack([_texture(side, rng)] * channels)
    background = background * np.float32(np.exp(rng.uniform(np.log(0.01), np.log(0.25))))
    return Example(contrast, background.astype(np.float32), _measured(contrast, distance, rng), distance)


def _measured(contrast: Maps, distance: NDArray[np.float32], rng: np.random.Generator) -> Maps:
    """Return the render that a cell makes of a seed, off by as much as seeds of one class differ."""
    course = course_of(contrast, distance)
    flank = flank_of(slopes_of(contrast - render(course, distance), distance))
    strength = float(np.exp(rng.normal(0.0, 0.15)))
    return (strength * (render(course, distance) + lit(flank, distance))).astype(np.float32)


def _detail(
    distance: NDArray[np.float32], body: NDArray[np.float32], amplitude: float, channels: int, rng: np.random.Generator
) -> Maps:
    side = distance.shape[0]
    inside = np.clip(distance + 0.5, 0, 1)
    strength = abs(amplitude)
    rough = _texture(side, rng) * strength * float(rng.uniform(0, 0.5))
    rim = np.exp(-((distance - 1.0) ** 2) / float(rng.uniform(0.7, 6.0))) * amplitude * float(rng.normal(0, 0.35))
    patches = _texture(side, rng, coarse=True) * strength * float(rng.uniform(0, 0.35)) * body
    height = ndimage.gaussian_filter(body + 0.2 * rough / max(strength, 1e-3), float(rng.uniform(0.7, 2.0)))
    slopes = np.stack(np.gradient(height))
    relief = float(rng.uniform(0, 1.2)) * strength
    azimuth = rng.uniform(0, 2 * np.pi) + np.arange(channels) * 2 * np.pi / channels
    lit = np.cos(azimuth)[:, None, None] * slopes[1] + np.sin(azimuth)[:, None, None] * slopes[0]
    detail: Maps = ((rough + rim + patches)[None] * inside + relief * lit * inside).astype(np.float32)
    return detail


def _texture(side: int, rng: np.random.Generator, *, coarse: bool = False) -> NDArray[np.float32]:
    """Return a random field of unit spread: one of several scales, often drawn out in one direction."""
    scale = float(np.exp(rng.uniform(np.log(3.0), np.log(12.0)))) if coarse else float(rng.uniform(0.4, 2.5))
    lay = float(np.exp(rng.uniform(0, np.log(8.0)))) if rng.random() < 0.5 else 1.0
    field = rng.standard_normal((side * 2, side * 2)).astype(np.float32)
    field = ndimage.gaussian_filter(field, (scale, scale * lay), mode="wrap")
    if rng.random() < 0.7:
        field = ndimage.rotate(field, float(rng.uniform(0, 180)), reshape=False, order=1, mode="grid-wrap")
    start = side // 2
    cut = field[start : start + side, start : start + side]
    unit: NDArray[np.float32] = (cut - cut.mean()) / max(float(cut.std()), 1e-6)
    return unit


def _outline(side: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return a random outline of at least four pixels: blot, spot, stroke or chip."""
    for _ in range(50):
        kind = rng.integers(4)
        mask = (_blot, _spot, _stroke, _chip)[kind](side, rng)
        if 4 <= mask.sum() <= 0.8 * side * side:
            return mask
    return _spot(side, np.random.default_rng(0))


def _blot(side: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    field = ndimage.gaussian_filter(rng.standard_normal((side, side)), float(rng.uniform(3, side / 5)), mode="reflect")
    mask = field > np.quantile(field, float(rng.uniform(0.6, 0.95)))
    labels, count = ndimage.label(mask)
    chosen: NDArray[np.bool_] = labels == rng.integers(1, count + 1) if count else mask
    return chosen


def _spot(side: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:side, :side] - rng.uniform(0.25, 0.75, 2)[:, None, None] * side
    radius = float(np.exp(rng.uniform(np.log(1.5), np.log(side / 4))))
    angle = np.arctan2(rows, columns)
    wobble = 1 + sum(rng.normal(0, 0.2 / n) * np.cos(n * angle + rng.uniform(0, 6.3)) for n in range(2, 6))
    aspect = float(np.exp(rng.normal(0, 0.3)))
    spot: NDArray[np.bool_] = np.hypot(rows * aspect, columns / aspect) < radius * wobble
    return spot


def _stroke(side: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw a random walk with momentum, one to four pixels wide: scratch or crack."""
    mask = np.zeros((side, side), np.bool_)
    position, heading = rng.uniform(0.1, 0.9, 2) * side, float(rng.uniform(0, 2 * np.pi))
    bend = float(rng.uniform(0, 0.25))
    for _ in range(int(rng.integers(10, 2 * side))):
        heading += rng.normal(0, bend)
        position += np.array([np.sin(heading), np.cos(heading)])
        row, column = (int(value) for value in position)
        if not (0 <= row < side and 0 <= column < side):
            break
        mask[row, column] = True
    grown: NDArray[np.bool_] = ndimage.binary_dilation(mask, iterations=int(rng.integers(1, 4)))
    return grown


def _chip(side: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Cut a corner or an edge off with a few random half planes."""
    rows, columns = np.mgrid[:side, :side] / side - 0.5
    mask = np.ones((side, side), np.bool_)
    for _ in range(int(rng.integers(2, 5))):
        angle = float(rng.uniform(0, 2 * np.pi))
        mask &= np.cos(angle) * rows + np.sin(angle) * columns > float(rng.uniform(-0.25, 0.1))
    return mask
