"""Porcelain insulator: the glazed flank of a ribbed cylinder, brown glaze with mottling over a pale, rough body.

Defects: `fracture` (a hairline along which one side has moved, dirt in the gap), `crawl` (the glaze drew back before it
set: bare body, a thick rim), `slag` (an angular foreign grain baked in), `blister` (a gas bubble that burst).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.heldout import fields
from benchmarks.heldout.model import Field, Grid, Material, Model, ProductKind, Random, Region, Solid

_RADIUS_MM, _RIB_MM, _RIB_PITCH_MM = 16.0, 0.2, 4.6
_BODY = {"type": "roughplastic", "alpha": 0.4, "diffuse_reflectance": 0.58}
_DIRT = {"type": "diffuse", "reflectance": 0.03}


def build(grid: Grid, part: Random, defect_class: str, defect: Random) -> Model:
    """Return one flank; see `ProductKind`."""
    x, y = fields.turned(grid, (part.normal(0, 0.15), part.normal(0, 0.25)), part.normal(0, 0.8))
    height = _good_flank(grid, part, x, y)
    tone = _tone(grid, part, height)
    bare, dirt = np.zeros(grid.shape), np.zeros(grid.shape)
    region = np.zeros(grid.shape, np.bool_)
    solids: tuple[Solid, ...] = ()
    facts: dict[str, float] = {}
    if defect_class == "fracture":
        height, dirt, region, facts = _fracture(grid, height, defect)
    elif defect_class == "crawl":
        height, bare, region, facts = _crawl(grid, height, defect)
    elif defect_class == "slag":
        height, region, solids, facts = _slag(grid, height, defect)
    elif defect_class == "blister":
        height, bare, region, facts = _blister(grid, height, defect)
    return Model(height, _material(tone, bare, dirt), region, solids, facts)


def _good_flank(grid: Grid, part: Random, x: Field, y: Field) -> Field:
    cylinder = np.sqrt(np.maximum(_RADIUS_MM**2 - y**2, 1)) - _RADIUS_MM
    phase = (x / _RIB_PITCH_MM) * 2 * np.pi + 0.4
    ribs = _RIB_MM * (np.cos(phase) + 0.18 * np.cos(2 * phase + 0.5))
    glaze = 0.0035 * fields.band_noise(grid, part, 0.5, 5.0, 3.5) + 0.00025 * fields.band_noise(grid, part, 0.15, 0.6)
    pinholes = fields.smoothstep(fields.band_noise(grid, part, 0.1, 0.3, 0.5), 4.1, 4.6)
    return cylinder + ribs + glaze - 0.012 * pinholes


def _tone(grid: Grid, part: Random, height: Field) -> Field:
    """Return the glaze's diffuse reflectance: thin and lighter on crests, thick and darker in valleys, mottled."""
    mottle = 0.10 * fields.band_noise(grid, part, 0.2, 3.0, 2.2)
    specks = fields.smoothstep(fields.band_noise(grid, part, 0.12, 0.5, 0.8), 2.4, 3.0)
    crest = 0.12 * height / _RIB_MM
    return np.clip(0.24 * (1 + mottle + crest + 0.03 * part.standard_normal()) - 0.08 * specks, 0.03, 0.9)


def _somewhere(random: Random, margin: float = 0.8) -> tuple[float, float]:
    return float(random.uniform(-5.76 + margin, 5.76 - margin)), float(random.uniform(-4.32 + margin, 4.32 - margin))


def _fracture(grid: Grid, height: Field, random: Random) -> tuple[Field, Field, Region, dict[str, float]]:
    """Cut along a wandering line; one side sinks and swings back within a millimetre; the gap holds dirt in places."""
    length, gap = float(random.uniform(1.2, 5.0)), float(random.uniform(0.025, 0.07))
    step = float(random.uniform(0.002, 0.015))
    heading = float(random.uniform(0, 6.28))
    middle = _somewhere(random, 1.0)
    start = middle[0] - np.cos(heading) * length / 2, middle[1] - np.sin(heading) * length / 2
    path = fields.wandering_path(random, start, heading, length, 0.55)
    away, side, along = fields.along_path(grid, path)
    taper = np.clip(fields.smoothstep(along, 0.0, 0.12) * fields.smoothstep(1 - along, 0.0, 0.12), 0, 1)
    half = gap / 2 * (0.35 + 0.65 * taper) * (1 + 0.2 * fields.band_noise(grid, random, 0.1, 0.6))
    cut = 0.09 * np.clip(1 - away / half, 0, 1) * (taper > 0)
    sunk = step * taper * np.exp(-away / 0.5) * (side > 0)
    patchy = fields.smoothstep(fields.band_noise(grid, random, 0.3, 1.5), -0.9, 0.3)
    dirt = (away < half) * patchy * (taper > 0) * random.uniform(0.5, 1.0)
    region = (away < np.maximum(half, 0.035)) & (taper > 0)
    return height - cut - sunk, dirt, region, {"length_mm": length, "gap_um": gap * 1e3, "step_um": step * 1e3}


def _crawl(grid: Grid, height: Field, random: Random) -> tuple[Field, Field, Region, dict[str, float]]:
    """Let the glaze draw back from one to three round places that may merge; its volume thickens the rim."""
    at, size = _somewhere(random), float(np.exp(random.uniform(np.log(0.18), np.log(0.7))))
    open_by = np.full(grid.shape, -9.0)
    for _ in range(int(random.integers(1, 4))):
        x, y = grid.x - at[0] - random.normal(0, size), grid.y - at[1] - random.normal(0, size)
        open_by = np.maximum(open_by, size * random.uniform(0.5, 1.0) - np.hypot(x, y))
    open_by = open_by + 0.05 * size * fields.band_noise(grid, random, 0.3, 1.5)
    thick = float(random.uniform(0.03, 0.09))
    bare = fields.smoothstep(open_by, -0.02, 0.02)
    rim = 0.5 * thick * np.exp(-(((open_by + 0.13) / 0.09) ** 2))
    body = 0.003 * fields.band_noise(grid, random, 0.07, 0.4, 1.0)
    changed = height + (rim - thick * fields.smoothstep(open_by, -0.1, 0.02)) + body * bare
    return changed, bare, open_by > -0.14, {"size_mm": size, "thick_um": thick * 1e3}


def _slag(grid: Grid, height: Field, random: Random) -> tuple[Field, Region, tuple[Solid, ...], dict[str, float]]:
    """Bake an angular grain in: part of it stands out, the glaze climbs it a little and dips around it."""
    at, radius = _somewhere(random), float(np.exp(random.uniform(np.log(0.1), np.log(0.38))))
    vertices, faces = fields.ball_mesh(3)
    reach = np.ones(len(vertices))
    for _ in range(9):
        normal = random.standard_normal(3)
        normal /= np.linalg.norm(normal)
        towards = vertices @ normal
        reach = np.minimum(reach, random.uniform(0.55, 0.9) / np.maximum(towards, 1e-3))
    grain = vertices * np.minimum(reach, 1.0)[:, None] * radius * [1, random.uniform(0.6, 1), 0.8]
    sunk = random.uniform(-0.15, 0.35) * radius
    base = fields.height_at(grid, height, *at)
    away = np.hypot(grid.x - at[0], grid.y - at[1])
    meniscus = 0.25 * radius * np.exp(-(((away - 0.85 * radius) / (0.3 * radius)) ** 2))
    dip = 0.05 * radius * np.exp(-(((away - 1.7 * radius) / (0.4 * radius)) ** 2))
    metal = {"type": "roughconductor", "distribution": "ggx", "eta": 2.9, "k": 3.07, "alpha": 0.3}
    rust = {"type": "roughplastic", "alpha": 0.3, "diffuse_reflectance": float(random.uniform(0.02, 0.12))}
    material = {"type": "blendbsdf", "weight": float(random.uniform(0.4, 1.0)), "metal": metal, "rust": rust}
    solid = Solid(grain + np.array([at[0], at[1], base + sunk]), faces, material, is_defect=True)
    return height + meniscus - dip, away < 1.3 * radius, (solid,), {"radius_mm": radius}


def _blister(grid: Grid, height: Field, random: Random) -> tuple[Field, Field, Region, dict[str, float]]:
    """Blow a dome with a broken crown: a pit with a steep inner wall, a raised collar, sometimes unburst neighbours."""
    at, radius = _somewhere(random), float(np.exp(random.uniform(np.log(0.16), np.log(0.5))))
    changed, bare = height.copy(), np.zeros(grid.shape)
    region = np.zeros(grid.shape, np.bool_)
    for number in range(int(random.integers(1, 4))):
        size = radius if number == 0 else radius * random.uniform(0.3, 0.6)
        offset = (0.0, 0.0) if number == 0 else random.normal(0, 2.2 * radius, 2)
        away = np.hypot(grid.x - at[0] - offset[0], grid.y - at[1] - offset[1])
        dome = 0.28 * size * np.clip(1 - (away / (1.25 * size)) ** 2, 0, 1) ** 1.5
        burst = number == 0 and random.random() < 0.8
        if burst:
            ragged = 0.55 * size * (1 + 0.1 * fields.band_noise(grid, random, 0.15, 0.8)) - away
            hole = fields.smoothstep(ragged, -0.02, 0.03)
            pit = 0.45 * size * np.clip(1 - (away / (0.8 * size)) ** 2, 0, 1)
            dome = dome * (1 - hole) - pit * hole
            bare = np.maximum(bare, 0.6 * hole)
        changed = changed + dome
        region |= away < 1.2 * size
    return changed, bare, region, {"radius_mm": radius}


def _material(tone: Field, bare: Field, dirt: Field) -> Material:
    glaze: dict[str, Any] = {"type": "roughplastic", "alpha": 0.07, "diffuse_reflectance": tone, "nonlinear": True}
    if bare.any():
        glaze = {"type": "blendbsdf", "weight": bare, "glaze": glaze, "body": _BODY}
    if dirt.any():
        glaze = {"type": "blendbsdf", "weight": dirt, "clean": glaze, "dirt": _DIRT}
    return glaze


KIND = ProductKind("insulator", ("blister", "crawl", "fracture", "slag"), build, exposures=(4e5, 1.2e5, 2e5, 2.4e5))
