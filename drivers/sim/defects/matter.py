"""Defects of matter and finish: inclusion, fibre, stain, discolouration."""

from __future__ import annotations

import numpy as np

from drivers.sim.defects.site import Generator, Material, Parameters, Ragged, Site, bent, smooth_step, stroke
from drivers.sim.render.textures import Waves

_LINT = Material(albedo=0.62, specular=0.04, roughness=0.45)
_HAIR = Material(albedo=0.05, specular=0.045, roughness=0.3)
_SLAG = (Material(0.05, 0.04, 0.5), Material(0.35, 0.04, 0.55), Material(0.10, 0.06, 0.25))


def inclusion(site: Site, generator: Generator, severity: float) -> Parameters:
    """A foreign grain of 0.09 to 0.28 mm in the surface: of another material, proud of it, with a gap around it."""
    radius, stretch = float(generator.uniform(0.09, 0.28)), float(generator.uniform(1.0, 2.2))
    proud = float(generator.uniform(2.0, 9.0)) * severity
    kind = int(generator.integers(0, len(_SLAG)))
    outline, lumps = Ragged(generator, radius, 0.10, stretch), Waves(generator, 0.6 * radius)
    window = site.window(2.5 * radius * stretch)
    x, y = site.local(window)
    ratio = outline.ratio(x, y)
    grain = smooth_step((1.12 - ratio) * 4)
    gap = np.exp(-np.square((ratio - np.float32(1.15)) / np.float32(0.14)))
    lumpy = (1 + 0.3 * lumps.at(x, y)) * proud
    site.work.height_um[window] += np.asarray(grain * lumpy - gap * (min(1, severity) + 0.4 * proud), np.float32)
    contrast = min(1.0, 0.9 * severity)
    site.reveal(window, np.asarray(contrast * grain, np.float32), _SLAG[kind])
    return {"radius_mm": radius, "height_um": proud, "material": float(kind), "contrast": contrast}


def fibre(site: Site, generator: Generator, severity: float) -> Parameters:
    """A curved fibre of 18 to 45 um lying on the part: lint, bright, or hair, dark; it throws a thin shadow."""
    length, width = float(generator.uniform(1.5, 4.5)), float(generator.uniform(0.018, 0.045)) * severity
    heading, light = float(generator.uniform(0, np.pi)), bool(generator.random() < 0.6)
    # What lies on white paper and is seen there is dark.
    light &= float(site.work.albedo[site.window(0.2)].mean()) < 0.5
    path = bent(generator, site, length, heading, float(generator.uniform(0.5, 1.6)))
    sigma = max(width / 2, 0.7 * site.canvas.step_mm)
    line = stroke(site.canvas, path, 3.5 * sigma)
    body = np.exp(-(np.square(line.distance / np.float32(sigma)) ** 2))
    ends = smooth_step(np.minimum(line.along, 1 - line.along) * 25)
    body *= ends * np.float32(width / (2 * sigma))
    site.work.height_um[line.window] += np.float32(1000 * width * 0.8) * body
    site.reveal(line.window, np.clip(1.1 * body, 0, 1), _LINT if light else _HAIR)
    return {
        "length_mm": length,
        "width_um": 1000 * width,
        "height_um": 800 * width,
        "light": float(light),
        "heading_deg": float(np.rad2deg(heading)),
    }


def stain(site: Site, generator: Generator, severity: float) -> Parameters:
    """A dried film, 0.4 to 1.4 mm in radius, thicker toward its rim: no height, the same under all lamps."""
    radius, stretch = float(generator.uniform(0.4, 1.4)), float(generator.uniform(1.0, 1.9))
    contrast = min(0.85, float(generator.uniform(0.24, 0.46)) * severity)
    outline, cloud = Ragged(generator, radius, 0.10, stretch), Waves(generator, 0.45 * radius)
    window = site.window(2.3 * radius * stretch)
    x, y = site.local(window)
    ratio = outline.ratio(x, y)
    inside = smooth_step((1.06 - ratio) * 9)
    rim = np.exp(-np.square((ratio - np.float32(0.96)) / np.float32(0.07)))
    film = np.clip(inside * (0.72 + 0.12 * cloud.at(x, y)) + 0.55 * rim, 0, 1.2)
    keep = np.clip(1 - np.float32(contrast) * film, 0.05, 1)
    # Light crosses an absorbing film twice, whichever way the surface sends it.
    site.work.specular[window] *= keep
    site.scale(window, albedo=keep, roughness=1 + np.float32(0.5 * contrast) * np.asarray(film, np.float32))
    return {"radius_mm": radius, "contrast": contrast, "stretch": stretch}


def discolouration(site: Site, generator: Generator, severity: float) -> Parameters:
    """Heat tint, oxide or faded print: a broad patch of 0.9 to 2.4 mm without an outline, in bands on metal."""
    radius, bands = float(generator.uniform(0.9, 2.4)), float(generator.uniform(0.8, 2.2))
    contrast = min(0.8, float(generator.uniform(0.28, 0.48)) * severity)
    outline, cloud = Ragged(generator, radius, 0.05, float(generator.uniform(1.0, 1.8))), Waves(generator, 0.9 * radius)
    window = site.window(3.2 * radius)
    x, y = site.local(window)
    ratio = outline.ratio(x, y) + np.float32(0.16) * cloud.at(x, y)
    patch = np.exp(-(np.square(ratio) ** 1.5))
    work = site.work
    metal = float(work.specular[window].mean()) > 0.3
    if metal:
        # Oxide of growing thickness: its interference runs through minima and maxima toward the middle.
        wave = 0.65 - 0.35 * np.cos(2 * np.pi * bands * patch)
        keep = np.asarray(1 - contrast * np.clip(patch * 3, 0, 1) * wave, np.float32)
        work.specular[window] *= keep
        work.albedo[window] *= keep
    else:
        toward = 0.6 if float(work.albedo[window].mean()) < 0.3 else 0.2
        work.albedo[window] += np.asarray(contrast * patch * (toward - work.albedo[window]), np.float32)
    return {"radius_mm": radius, "contrast": contrast, "bands": bands if metal else 0.0}
