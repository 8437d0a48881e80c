"""What a product is: how its parts are drawn, where defects sit on them, and which defects it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from drivers.sim.defects.site import Material
from drivers.sim.render.workpiece import Canvas, FloatMap, Workpiece

Generator = np.random.Generator


@dataclass(frozen=True, slots=True)
class Batch:
    """A lot of material or a state of the tool; all 1 is what the cell was set up with."""

    tone: float = 1.0  # of the diffuse reflectance
    roughness: float = 1.0
    relief: float = 1.0  # of the texture's height
    grain: float = 1.0  # of the texture's size

    @classmethod
    def number(cls, number: int) -> Batch:
        """Return the batch of that number: 0 is the first, any other is a little different, always in the same way."""
        if number == 0:
            return cls()
        generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence([20_777, number])))
        low, high = np.array([0.86, 0.82, 0.75, 0.85]), np.array([0.94, 0.92, 0.88, 0.94])
        away = generator.uniform(low, high)
        up = generator.random(4) < 0.5
        tone, roughness, relief, grain = (float(value) for value in np.where(up, 1 / away, away))
        return cls(tone, roughness, relief, grain)


@dataclass(frozen=True, slots=True)
class Rim:
    """A place on the outline of a part, with the direction that leads outward."""

    u: float  # mm
    v: float
    outward_rad: float


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A product of the emulated cell."""

    name: str
    title: str
    field_mm: tuple[float, float]  # width and height of the picture on the part
    draw: Callable[[Canvas, Generator, Batch], Workpiece]
    face: Callable[[Generator], tuple[float, float]]  # a random place (u, v) in mm, clear of holes and rim
    rim: Callable[[Generator], Rim]
    defects: tuple[str, ...]
    beneath: Material  # what comes to light where the skin is gone
    jitter_mm: float = 0.06  # standard deviation of a part's place in the fixture, each way
    jitter_deg: float = 0.3
    any_turn: bool = False  # the fixture does not hold the part's rotation
    exposure_level: float = 0.34  # of saturation: mean of the part's face under each lamp
    focus_um: float = 0.0


def box(u: FloatMap, v: FloatMap, half_width: float, half_height: float, corner: float) -> FloatMap:
    """Return the signed distance to a rectangle with rounded corners around (0, 0), positive inside; all in mm."""
    x = np.abs(u) - np.float32(half_width - corner)
    y = np.abs(v) - np.float32(half_height - corner)
    inner = np.minimum(np.maximum(x, y), 0)
    outside = np.sqrt(np.square(np.maximum(x, 0, out=x), out=x) + np.square(np.maximum(y, 0, out=y), out=y))
    return np.asarray(corner - outside - inner, np.float32)


def disc(u: FloatMap, v: FloatMap, center: tuple[float, float], radius: float) -> FloatMap:
    """Return the signed distance to a disc, positive inside; all in mm."""
    x, y = u - np.float32(center[0]), v - np.float32(center[1])
    return np.asarray(radius - np.sqrt(x * x + y * y), np.float32)


def rounded(inside_mm: FloatMap, radius_mm: float) -> FloatMap:
    """Return how far (um, 0 or below) the top face has dropped near an edge of that radius."""
    short = np.clip(radius_mm - inside_mm, 0, 0.985 * radius_mm)
    drop = np.sqrt(np.float32(radius_mm * radius_mm) - short * short)
    return np.asarray(1000 * drop - np.float32(1000 * radius_mm), np.float32)


def step_up(inside_mm: FloatMap, height_um: float, ramp_mm: float) -> FloatMap:
    """Return a plateau of `height_um` where `inside_mm` is positive, its flank smooth and `ramp_mm` wide."""
    t = np.clip(inside_mm / np.float32(ramp_mm) + np.float32(0.5), 0, 1)
    return np.asarray(height_um * t * t * (3 - 2 * t), np.float32)


def on_box(generator: Generator, half_width: float, half_height: float, corner: float) -> Rim:
    """Return a random place on the straight sides of a rectangle."""
    side = int(generator.integers(0, 4))
    reach = (half_width if side % 2 else half_height) - corner - 0.6
    along = float(generator.uniform(-reach, reach))
    places = (
        Rim(half_width, along, 0.0),
        Rim(along, half_height, np.pi / 2),
        Rim(-half_width, along, np.pi),
        Rim(along, -half_height, -np.pi / 2),
    )
    return places[side]


def in_box(
    generator: Generator, half_width: float, half_height: float, clear: tuple[tuple[float, float, float], ...] = ()
) -> tuple[float, float]:
    """Return a random place in a rectangle, outside of the circles (u, v, radius) of `clear`."""
    while True:
        u, v = float(generator.uniform(-half_width, half_width)), float(generator.uniform(-half_height, half_height))
        if all(np.hypot(u - x, v - y) > radius for x, y, radius in clear):
            return u, v
