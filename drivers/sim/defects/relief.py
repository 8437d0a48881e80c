"""Defects that change the height: scratch, crack, dent, pit, blowhole.

Depths are for severity 1 and grow with it; every function returns the parameters that it drew.
"""

from __future__ import annotations

import numpy as np

from drivers.sim.defects.site import Generator, Parameters, Path, Ragged, Site, bent, jagged, smooth_step, stroke
from drivers.sim.render.textures import Waves, course
from drivers.sim.render.workpiece import FloatMap

_METAL = 0.3  # specular reflectance above which a surface is one


def scratch(site: Site, generator: Generator, severity: float) -> Parameters:
    """A groove with ploughed lips, 1.2 to 5.5 mm long; burnished in metal, whitened in plastic and print."""
    canvas, work = site.canvas, site.work
    length, width = float(generator.uniform(1.6, 5.5)), float(generator.uniform(0.04, 0.11))
    depth = float(generator.uniform(4.0, 12.0)) * severity
    heading, bend = float(generator.uniform(0, np.pi)), float(abs(generator.normal(0, 0.25)))
    path = bent(generator, site, length, heading, bend)
    skips = np.clip(0.85 + 0.35 * course(generator, 200, 14), 0.15, 1.3)
    # A groove narrower than the grid keeps its cross-section.
    sigma = max(width / 2.35, 0.75 * canvas.step_mm)
    drawn = depth * (width / 2.35) / sigma
    line = stroke(canvas, path, 4.5 * sigma)
    pressure = np.interp(line.along, np.linspace(0, 1, 200), skips).astype(np.float32)
    pressure *= np.sqrt(np.clip(1 - (2 * line.along - 1) ** 2, 0, 1))
    groove = _bell(line.distance / np.float32(sigma)) * pressure
    heaped = np.where(line.side > 0, 0.45, 0.25).astype(np.float32)
    lips = _bell((line.distance - np.float32(2.1 * sigma)) / np.float32(0.7 * sigma)) * pressure * heaped
    bare = np.clip(groove * np.float32(min(0.95, 0.12 * depth)), 0, 1)
    site.smear(line.window, bare, 2 * sigma)
    work.height_um[line.window] += np.float32(drawn) * (lips - groove)
    site.reveal(line.window, bare)
    skin = work.specular[line.window]  # nothing of it where the stroke lies beside the picture
    if skin.size and skin.mean() > _METAL:
        site.scale(line.window, roughness=1 - np.float32(0.3 * min(1, severity)) * np.clip(groove, 0, 1))
    return {"length_mm": length, "width_um": 1000 * width, "depth_um": depth, "heading_deg": float(np.rad2deg(heading))}


def crack(site: Site, generator: Generator, severity: float) -> Parameters:
    """A jagged, often branching gap of 25 to 70 um that swallows light, its two banks at slightly different heights."""
    length, width = float(generator.uniform(1.8, 4.8)), float(generator.uniform(0.025, 0.07)) * severity
    heading, step_um = float(generator.uniform(0, np.pi)), float(generator.uniform(1.0, 4.0)) * severity
    middle = np.array([site.u, site.v])
    trunk = jagged(generator, middle, heading, length, 0.55)
    trunk += middle - trunk[len(trunk) // 2]
    branches = [trunk]
    for _ in range(int(generator.integers(0, 3))):
        start = trunk[int(generator.integers(len(trunk) // 5, 4 * len(trunk) // 5))]
        away = heading + float(generator.choice([-1, 1]) * generator.uniform(0.4, 1.1))
        branches.append(jagged(generator, start, away, length * float(generator.uniform(0.15, 0.4)), 0.6))
    for index, path in enumerate(branches):
        _split(site, path, width * (1 if index == 0 else 0.7), 22.0 * severity, step_um if index == 0 else 0.0)
    return {
        "length_mm": length,
        "width_um": 1000 * width,
        "depth_um": 22.0 * severity,
        "step_um": step_um,
        "branches": float(len(branches) - 1),
        "heading_deg": float(np.rad2deg(heading)),
    }


def _split(site: Site, path: Path, width: float, depth_um: float, step_um: float) -> None:
    canvas, work = site.canvas, site.work
    line = stroke(canvas, path, 0.3)
    opening = width * (1.15 - 0.75 * np.abs(2 * line.along - 1))
    sigma = np.maximum(opening / 2, np.float32(0.6 * canvas.step_mm))
    # What is narrower than the grid darkens less, in proportion.
    share = np.clip(opening / (2 * sigma), 0, 1)
    gap = _bell(np.asarray(line.distance / sigma, np.float32)) * share
    ends = np.clip(4 * line.along * (1 - line.along) * 3, 0, 1)
    bank = np.float32(step_um / 2) * line.side * np.exp(-line.distance * np.float32(1 / 0.12)) * ends
    work.height_um[line.window] += np.asarray(bank - np.float32(depth_um) * gap * 0.5, np.float32)
    _darken(site, line.window, np.asarray(0.97 * gap, np.float32))


def dent(site: Site, generator: Generator, severity: float) -> Parameters:
    """A bowl of 0.35 to 1.1 mm radius that a blow left, with a low wall around; the texture in it is pressed flat."""
    radius, stretch = float(generator.uniform(0.35, 1.1)), float(generator.uniform(1.0, 1.7))
    depth = float(generator.uniform(55, 115)) * radius * severity
    outline = Ragged(generator, radius, 0.03, stretch)
    window = site.window(2.4 * radius * stretch)
    ratio = outline.ratio(*site.local(window))
    bowl = np.clip(1 - ratio * ratio, 0, 1) ** np.float32(1.4)
    wall = _bell((ratio - np.float32(1.1)) / np.float32(0.13))
    site.smear(window, np.float32(min(0.8, 0.5 * severity)) * smooth_step((1 - ratio) * 3), 0.1)
    site.work.height_um[window] += np.float32(depth) * (np.float32(0.12) * wall - bowl)
    site.scale(window, roughness=1 - np.float32(0.15 * min(1, severity)) * smooth_step((1 - ratio) * 3))
    return {"radius_mm": radius, "depth_um": depth, "stretch": stretch}


def pit(site: Site, generator: Generator, severity: float) -> Parameters:
    """One to four small ragged craters, rough and darker inside, as corrosion leaves them."""
    count = int(generator.integers(1, 5))
    size = float(generator.uniform(0.07, 0.18))
    depth = float(generator.uniform(18, 55)) * severity
    for index in range(count):
        aside = generator.normal(0, 0.28, 2) if index else np.zeros(2)
        own = size * float(generator.uniform(0.6, 1.15))
        _crater(site, generator, (float(aside[0]), float(aside[1])), own, depth * own / size, min(0.8, 0.55 * severity))
    return {"count": float(count), "radius_mm": size, "depth_um": depth}


def blowhole(site: Site, generator: Generator, severity: float) -> Parameters:
    """An open gas pore of 0.15 to 0.5 mm radius with a sharp edge: a hole that is dark under every lamp."""
    radius = float(generator.uniform(0.15, 0.5)) * float(min(1, severity) ** 0.5)
    dark = min(0.92, severity)
    depth = float(generator.uniform(0.7, 1.1)) * 1000 * radius * severity
    _crater(site, generator, (0.0, 0.0), radius, depth, dark)
    if generator.random() < 0.4:
        turn = generator.uniform(0, 2 * np.pi)
        aside = (1.5 * radius * float(np.cos(turn)), 1.5 * radius * float(np.sin(turn)))
        _crater(site, generator, aside, 0.35 * radius, 0.35 * depth, 0.9 * dark)
    return {"radius_mm": radius, "depth_um": depth}


def _crater(
    site: Site, generator: Generator, aside: tuple[float, float], radius: float, depth_um: float, dark: float
) -> None:
    outline = Ragged(generator, radius, 0.10, float(generator.uniform(1.0, 1.5)))
    floor = Waves(generator, radius)
    window = site.window(2.2 * radius + float(np.hypot(*aside)))
    x, y = site.local(window)
    x, y = x - np.float32(aside[0]), y - np.float32(aside[1])
    ratio = outline.ratio(x, y)
    hollow = np.exp(-np.square(ratio * ratio * np.float32(1.1)))
    site.work.height_um[window] -= np.asarray(depth_um * hollow * (1 + 0.12 * floor.at(x, y)), np.float32)
    _darken(site, window, np.asarray(dark * hollow, np.float32))


def _darken(site: Site, window: tuple[slice, slice], share: FloatMap) -> None:
    """Let light that falls in not come out again, and roughen what still reflects."""
    work = site.work
    work.albedo[window] *= 1 - np.float32(0.8) * share
    work.specular[window] *= 1 - share
    site.scale(window, roughness=1 + np.float32(0.6) * share)


def _bell(ratio: FloatMap) -> FloatMap:
    return np.asarray(np.exp(-0.5 * ratio * ratio), np.float32)
