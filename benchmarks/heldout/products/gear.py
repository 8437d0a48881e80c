"""Sintered gear: the end face of four teeth. Porous iron, a chamfer all around, a recessed web, a dark fixture below.

Defects: `gouge` (a ball-nosed tool swept along a curve, the metal it pushed aside), `breakout` (a green part's tooth
that broke off along a rough cone), `spatter` (weld beads), `film` (press lubricant: smoother and darker where it wets).
Metal: iron at 625 nm, n = 2.90, k = 3.07 (Johnson and Christy 1974).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from benchmarks.heldout import fields
from benchmarks.heldout.model import Field, Grid, Material, Model, ProductKind, Random, Region, Solid

_IRON_ETA, _IRON_K = 2.90, 3.07
_FLOOR_MM = -2.2
_CHAMFER_MM = 0.16
_TIP_MM, _ROOT_MM, _TEETH = 14.6, 11.4, 26


def build(grid: Grid, part: Random, defect_class: str, defect: Random) -> Model:
    """Return one gear face; see `ProductKind`."""
    x, y = fields.turned(grid, (part.normal(0, 0.12), part.normal(0, 0.12)), part.normal(0, 0.8))
    inside = _outline(x, y)
    edge = fields.signed_distance(inside, grid)
    height, floor, porosity = _good_face(grid, part, x, y, edge)
    alpha = 0.30 + 0.025 * fields.band_noise(grid, part, 0.1, 3.0) + 0.06 * porosity
    region = np.zeros(grid.shape, np.bool_)
    wet = np.zeros(grid.shape)
    solids: tuple[Solid, ...] = ()
    facts: dict[str, float] = {}
    top = edge > 0.35
    if defect_class == "gouge":
        changed, facts = _gouge(grid, height, top, defect)
        region, height = (np.abs(changed - height) > 0.004) & ~floor, np.where(floor, height, changed)
        alpha = np.where(region, 0.17, alpha)
    elif defect_class == "breakout":
        changed, facts = _breakout(grid, height, edge, x, y, defect)
        region = (height - changed > 0.008) & ~floor
        height = changed
        alpha = np.where(region, 0.45, alpha)
    elif defect_class == "spatter":
        solids, facts = _spatter(grid, height, top, defect)
    elif defect_class == "film":
        wet, facts = _film(grid, top, ~floor, defect)
        region = wet > 0.25
    return Model(height, _material(floor, np.clip(alpha, 0.1, 0.6), wet, porosity), region, solids, facts)


def _outline(x: Field, y: Field) -> Region:
    """Return where the gear is: involute-like teeth, the gear's axis 11.9 mm below the picture's centre."""
    radius = np.hypot(x, y + 11.9)
    turn = (np.arctan2(x, y + 11.9) * _TEETH / (2 * np.pi)) % 1.0
    from_middle = np.abs(turn - 0.5) * 2
    share = np.clip((radius - _ROOT_MM) / (_TIP_MM - _ROOT_MM), 0, 1)
    half_width = 0.80 - 0.50 * share**0.85 - 0.08 * share**4
    inside: Region = (radius < _ROOT_MM) | ((radius < _TIP_MM) & (from_middle < half_width))
    return inside


def _good_face(grid: Grid, part: Random, x: Field, y: Field, edge: Field) -> tuple[Field, Region, Field]:
    wave = 0.0022 * fields.band_noise(grid, part, 0.25, 6.0, 3.0) + 0.0007 * fields.band_noise(
        grid, part, 0.1, 0.5, 1.0
    )
    pores = fields.band_noise(grid, part, 0.09, 0.35, 0.5)
    density = 0.25 * fields.band_noise(grid, part, 1.5, 8.0)
    porosity = fields.smoothstep(pores + density, 2.35, 3.1)
    chamfer = np.clip(_CHAMFER_MM - edge, 0, _CHAMFER_MM) * 0.7
    web = 0.35 * fields.smoothstep(9.6 - np.hypot(x, y + 11.9), -0.12, 0.12)
    face = wave - 0.02 * porosity - chamfer - web
    flank = -edge / 0.06
    height = np.where(edge > 0, face, np.maximum(face - flank * 0.4 - 0.1, _FLOOR_MM))
    floor = edge < -0.3
    return np.where(floor, _FLOOR_MM + 0.003 * fields.band_noise(grid, part, 0.2, 2.0), height), floor, porosity


def _material(floor: Region, alpha: Field, wet: Field, porosity: Field) -> Material:
    """Iron, duller in its pores, smoother and darker where wet; the fixture below is the same metal, blackened."""
    shine = np.clip(0.9 - 0.35 * porosity, 0, 1) * (1 - 0.4 * wet)
    soft = ndimage.uniform_filter(floor.astype(np.float64), 5)
    return {
        "type": "roughconductor",
        "distribution": "ggx",
        "eta": _IRON_ETA,
        "k": _IRON_K,
        "alpha": np.clip(alpha * (1 - 0.45 * wet) * (1 - soft) + 0.5 * soft, 0.1, 0.6),
        "specular_reflectance": shine * (1 - soft) + 0.07 * soft,
    }


def _somewhere(grid: Grid, allowed: Region, random: Random) -> tuple[float, float]:
    """Return a place that is allowed and at least 0.8 mm within the picture."""
    seen = allowed & (np.abs(grid.x) < 4.9) & (np.abs(grid.y) < 3.5)
    row, column = np.argwhere(seen)[random.integers(int(seen.sum()))]
    return float(grid.x[row, column]), float(grid.y[row, column])


def _gouge(grid: Grid, height: Field, top: Region, random: Random) -> tuple[Field, dict[str, float]]:
    """Sweep a ball-nosed tool along a curve; a third of the metal it cuts is pushed up on both sides."""
    depth, nose = float(np.exp(random.uniform(np.log(0.018), np.log(0.07)))), float(random.uniform(0.08, 0.3))
    length = float(random.uniform(0.8, 3.0))
    path = fields.wandering_path(
        random, _somewhere(grid, top, random), random.uniform(0, 6.28), length, 0.12 * random.uniform(0.2, 1.5)
    )
    away, side, along = fields.along_path(grid, path)
    chatter = 1 + 0.15 * np.sin(along * length / 0.12 * 2 * np.pi + random.uniform(0, 6.28))
    entry = depth * fields.smoothstep(along, -0.02, 0.35) * fields.smoothstep(-along, -1.0, -0.9) * chatter
    floor = entry - nose + np.sqrt(np.maximum(nose**2 - away**2, 0))
    cut = np.where(away < nose, np.maximum(floor, 0), 0)
    half = np.sqrt(np.maximum(2 * nose * entry - entry**2, 1e-6))
    lean = 1 + 0.6 * side * random.uniform(-1, 1)
    ridge = 0.35 * entry * lean * np.exp(-(((away - half * 1.25) / (0.4 * half + 0.012)) ** 2))
    ridge *= 1 + 0.3 * fields.band_noise(grid, random, 0.08, 0.4)
    ridge = np.where((along > 0.005) & (along < 0.995), np.maximum(ridge, 0), 0)
    return height - cut + np.where(cut > 0, 0, ridge), {"depth_um": depth * 1e3, "length_mm": length}


def _breakout(
    grid: Grid, height: Field, edge: Field, x: Field, y: Field, random: Random
) -> tuple[Field, dict[str, float]]:
    """Cut the part by a rough cone that enters at a tooth's outline."""
    rim = (edge > 0.02) & (edge < 0.1) & (np.hypot(x, y + 11.9) > 11.6)
    at = _somewhere(grid, rim, random)
    size, steepness = float(random.uniform(0.25, 1.1)), float(random.uniform(0.35, 1.2))
    inwards_y, inwards_x = np.gradient(ndimage.gaussian_filter(edge, 8), grid.step)
    row, column = np.argwhere((np.abs(grid.x - at[0]) < grid.step) & (np.abs(grid.y - at[1]) < grid.step))[0]
    normal = np.array([inwards_x[row, column], -inwards_y[row, column]])
    normal /= max(float(np.linalg.norm(normal)), 1e-9)
    inwards = (grid.x - at[0]) * normal[0] + (grid.y - at[1]) * normal[1]
    across = -(grid.x - at[0]) * normal[1] + (grid.y - at[1]) * normal[0]
    rough = 0.045 * fields.band_noise(grid, random, 0.08, 1.2, 2.4)
    bowl = size - np.hypot(inwards, across) + rough / steepness
    plane = -bowl * steepness + 0.012 * fields.band_noise(grid, random, 0.08, 0.3)
    return np.where(bowl > 0, np.minimum(height, np.maximum(plane, -1.5)), height), {"size_mm": size}


def _spatter(grid: Grid, height: Field, top: Region, random: Random) -> tuple[tuple[Solid, ...], dict[str, float]]:
    """Throw one to five weld beads of different size, flattened and partly sunk, around one place."""
    centre = _somewhere(grid, top, random)
    beads: list[Solid] = []
    for _ in range(int(random.integers(1, 6))):
        x, y = centre if not beads else (centre[0] + random.normal(0, 0.5), centre[1] + random.normal(0, 0.5))
        radius = float(np.exp(random.uniform(np.log(0.09), np.log(0.28))))
        vertices, faces = fields.rough_ball(random, 4, 0.06)
        flat = random.uniform(0.5, 0.9)
        base = fields.height_at(grid, height, x, y)
        placed = vertices * radius * [1, 1, flat] + [x, y, base + radius * flat * random.uniform(0.3, 0.8)]
        bead = {
            "type": "roughconductor",
            "distribution": "ggx",
            "eta": _IRON_ETA,
            "k": _IRON_K,
            "alpha": float(random.uniform(0.12, 0.3)),
            "specular_reflectance": float(random.uniform(0.5, 1)),
        }
        beads.append(Solid(placed, faces, bead, is_defect=True))
    return tuple(beads), {"beads": float(len(beads))}


def _film(grid: Grid, top: Region, metal: Region, random: Random) -> tuple[Field, dict[str, float]]:
    """Wet an irregular patch: full inside, thinning out over 0.1 to 0.4 mm, with dry islands."""
    at = _somewhere(grid, top, random)
    size = float(random.uniform(0.5, 1.6))
    x, y = fields.turned(grid, at, random.uniform(0, 180))
    rim = size * (1 + 0.28 * fields.band_noise(grid, random, 0.5, 3.0)) - np.hypot(x, y * random.uniform(1.0, 1.8))
    islands = fields.smoothstep(fields.band_noise(grid, random, 0.25, 0.9), 1.5, 2.0)
    strength = float(random.uniform(0.4, 1.0))
    share = strength * fields.smoothstep(rim, 0.0, random.uniform(0.1, 0.4)) * (1 - islands) * metal
    return share, {"size_mm": size, "strength": strength}


KIND = ProductKind("gear", ("breakout", "film", "gouge", "spatter"), build, exposures=(3.2e5, 5e4, 1.5e5, 2.2e5))
