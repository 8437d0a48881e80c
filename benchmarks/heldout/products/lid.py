"""Painted lid: blasted cast iron under a grey coat, seen under a ring of eight. A product that is hard on purpose.

The coat follows the blasted surface, so that its grain has the contrast of the defects. Good parts have what a factory
lets pass: nibs, blast pits, scuffs, waves of the casting, dust. Defects: `fissure` (a hairline through the coat, its
edges a little raised), `sink` (a bowl of some ten micrometres), `thin` (the coat is thin: primer shines through, the
grain is less filled), `pinholes` (one crater to a string or cloud of small ones). Severity is log-uniform, down to what
can hardly be seen.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from benchmarks.heldout import fields, marks
from benchmarks.heldout.model import Counts, Field, Grid, Model, ProductKind, Random, Region
from benchmarks.heldout.rigs import RING

_COAT, _PRIMER, _DARK = 0.30, 0.40, 0.04
_STEP_MM, _GRAIN_MM = 0.25, 0.0035


def build(grid: Grid, part: Random, defect_class: str, defect: Random) -> Model:
    """Return one lid; see `ProductKind`."""
    blasted = _GRAIN_MM * fields.band_noise(grid, part, 0.1, 0.9, 1.6)
    height, tone = _good_lid(grid, part, blasted)
    region = np.zeros(grid.shape, np.bool_)
    facts: dict[str, float] = {}
    if defect_class:
        at = marks.somewhere(grid, defect, np.ones(grid.shape, np.bool_))
    if defect_class == "fissure":
        opening, region, facts = marks.hairline(grid, defect, at, (0.010, 0.040), (0.6, 4.5))
        curl = defect.uniform(0, 0.003) * np.clip(ndimage.gaussian_filter(opening, 3) * 3, 0, 1)
        height = height + curl - 0.04 * opening
        tone = tone * (1 - 0.8 * opening)
    elif defect_class == "sink":
        size, depth = marks.log_uniform(defect, 0.6, 2.2), marks.log_uniform(defect, 0.010, 0.05)
        bowl = marks.bowl(grid, defect, at, size)
        height, region = height - depth * bowl, bowl > 0.25
        facts = {"size_mm": size, "depth_um": depth * 1e3}
    elif defect_class == "thin":
        size, strength = marks.log_uniform(defect, 0.5, 2.4), marks.log_uniform(defect, 0.25, 1.0)
        share = strength * marks.blot(grid, defect, at, size)
        height, tone = height + 0.8 * share * blasted - 0.004 * share, tone * (1 - share) + _PRIMER * share
        region, facts = share > 0.3 * strength, {"size_mm": size, "strength": strength}
    elif defect_class == "pinholes":
        height, tone, region, facts = _pinholes(grid, height, tone, at, defect)
    material = {"type": "roughplastic", "alpha": 0.22, "diffuse_reflectance": np.clip(tone, 0.02, 0.9)}
    return Model(height, material, region, marks.dust(grid, part, height, 2.5, 0.8), facts)


def _good_lid(grid: Grid, part: Random, blasted: Field) -> tuple[Field, Field]:
    """Return height and diffuse reflectance."""
    everywhere = np.ones(grid.shape, np.bool_)
    x, y = fields.turned(grid, (part.normal(0, 0.12), part.normal(0, 0.12)), part.normal(0, 0.8))
    waves = 0.004 * fields.band_noise(grid, part, 1.2, 7.0, 3.0)
    pad = fields.box_distance(x - 5.0, y - 4.2, (4.4, 3.2), 1.2)
    height = blasted + waves + _STEP_MM * fields.smoothstep(pad, -0.3, 0.25)
    bumps = np.zeros(grid.shape)
    for _ in range(int(part.poisson(9))):
        at, wide = marks.somewhere(grid, part, everywhere, 0.05), marks.log_uniform(part, 0.03, 0.1)
        tall = float(part.choice([-1, 1])) * wide * part.uniform(0.03, 0.12)
        bumps += tall * np.exp(-((grid.x - at[0]) ** 2 + (grid.y - at[1]) ** 2) / (2 * wide**2))
    tone = _COAT * (1 + part.normal(0, 0.02) + 0.02 * fields.band_noise(grid, part, 0.8, 8.0, 2.4))
    tone = tone * (1 + 0.015 * fields.band_noise(grid, part, 0.1, 0.6, 1.0) + 0.015 * blasted / _GRAIN_MM)
    for _ in range(int(part.poisson(0.8))):
        tone = tone * (1 + _scuff(grid, part))
    return height + bumps, tone


def _scuff(grid: Grid, random: Random) -> Field:
    """Return how much lighter or darker a straight, soft line is that something rubbed on the coat."""
    at = marks.somewhere(grid, random, np.ones(grid.shape, np.bool_))
    x, y = fields.turned(grid, at, random.uniform(0, 180))
    line = np.exp(-((y / random.uniform(0.02, 0.06)) ** 2)) * (
        1 - fields.smoothstep(np.abs(x), 0.2, random.uniform(0.4, 2))
    )
    scuff: Field = random.choice([-1, 1]) * random.uniform(0.03, 0.09) * line
    return scuff


def _pinholes(
    grid: Grid, height: Field, tone: Field, at: marks.Place, random: Random
) -> tuple[Field, Field, Region, dict[str, float]]:
    """Open one crater, or a string or cloud of up to 14 small holes, each with a slight rim."""
    if random.random() < 0.25:
        places, radii = [at], [marks.log_uniform(random, 0.06, 0.11)]
    else:
        count = int(random.integers(3, 15))
        places = [
            at,
            *marks.scattered(random, at, count - 1, random.uniform(0.1, 0.4), marks.log_uniform(random, 1, 4)),
        ]
        largest = marks.log_uniform(random, 0.03, 0.06)
        radii = [largest * float(random.uniform(0.5, 1.0)) for _ in places]
    holes, region = marks.pits(grid, places, radii, float(random.uniform(0.8, 1.4)))
    rim = 0.1 * (ndimage.gaussian_filter(holes, 2.5) - ndimage.gaussian_filter(holes, 1.5)).clip(0)
    shade = 0.65 * (holes > 0)
    return (
        height + rim - holes,
        tone * (1 - shade) + _DARK * shade,
        region,
        {"holes": float(len(places)), "radius_um": 1e3 * max(radii)},
    )


KIND = ProductKind(
    "lid",
    ("fissure", "pinholes", "sink", "thin"),
    build,
    exposures=(8e5,) * 8,
    rig=RING,
    size=(144, 144),
    counts=Counts(seeds=5, test=25, backgrounds=40, test_good=60),
    fineness=2,
    samples=16,
    depth=2,
)
