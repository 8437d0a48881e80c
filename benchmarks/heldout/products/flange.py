"""Milled flange: cast aluminium, face milled, with a chamfered bore in one corner. A product that is hard on purpose.

The mill leaves arcs whose contrast is that of the defects. Good parts have what a factory lets pass: pores below the
limit, drag marks along the arcs, a smudge, tarnish, dust. Defects: `crack` (a hairline, straight to branched), `dent`
(a bowl of a few micrometres), `stain` (a patch of residue), `porosity` (one large pore to a string or cloud of small
ones). Severity is log-uniform, down to what can hardly be seen.
Metal: aluminium at 625 nm, n = 1.37, k = 7.62.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from benchmarks.heldout import fields, marks
from benchmarks.heldout.model import Counts, Field, Grid, Material, Model, ProductKind, Random, Region

_ETA, _K = 1.37, 7.62
_MILL_MM, _FEED_MM, _INSERTS = 42.0, 0.26, 5
_BORE_MM, _CHAMFER_MM, _FLOOR_MM = 1.7, 0.22, -1.5


def build(grid: Grid, part: Random, defect_class: str, defect: Random) -> Model:
    """Return one flange face; see `ProductKind`."""
    height, tarnish, alpha, face = _good_face(grid, part)
    top = face > 0.1
    region = np.zeros(grid.shape, np.bool_)
    facts: dict[str, float] = {}
    if defect_class:
        at = marks.somewhere(grid, defect, face > 0.5)
    if defect_class == "crack":
        opening, region, facts = marks.hairline(grid, defect, at, (0.010, 0.040), (0.6, 4.5))
        height, tarnish = height - 0.02 * opening, np.maximum(tarnish, 0.9 * opening)
    elif defect_class == "dent":
        size, depth = marks.log_uniform(defect, 0.45, 1.7), marks.log_uniform(defect, 0.008, 0.04)
        bowl = marks.bowl(grid, defect, at, size)
        height, region = height - depth * bowl, bowl > 0.25
        facts = {"size_mm": size, "depth_um": depth * 1e3}
    elif defect_class == "stain":
        size, strength = marks.log_uniform(defect, 0.5, 2.4), marks.log_uniform(defect, 0.08, 0.35)
        share = marks.blot(grid, defect, at, size)
        tarnish, alpha = 1 - (1 - tarnish) * (1 - strength * share), alpha * (1 + 0.5 * strength * share)
        region, facts = share > 0.3, {"size_mm": size, "strength": strength}
    elif defect_class == "porosity":
        height, tarnish, region, facts = _porosity(grid, height, tarnish, at, defect)
    region &= top
    return Model(height, _material(face, alpha, tarnish), region, marks.dust(grid, part, height, 2.5, 0.8), facts)


def _lay(grid: Grid, random: Random, towards: float) -> tuple[Field, Field]:
    """Return the arcs' height (mm) and the distance to the mill's axis: cusps of unequal inserts, and finer noise."""
    turn = np.deg2rad(towards + random.normal(0, 4))
    axis = _MILL_MM * np.cos(turn) + random.normal(0, 1), _MILL_MM * np.sin(turn) + random.normal(0, 1)
    radius = np.hypot(grid.x - axis[0], grid.y - axis[1])
    reach = np.arange(_MILL_MM - 14, _MILL_MM + 14, grid.step / 2)
    feed = _FEED_MM * random.uniform(0.93, 1.07)
    tooth = reach / feed + random.uniform(0, 1)
    cusp = 4 * ((tooth % 1) - 0.5) ** 2 - 1 / 3
    inserts = 0.5 * random.standard_normal(_INSERTS)
    uneven = (
        inserts[np.floor(tooth).astype(int) % _INSERTS]
        + 0.15 * random.standard_normal(len(reach) // 10 + 1)[(np.floor(tooth) - np.floor(tooth[0])).astype(int)]
    )
    fine = ndimage.gaussian_filter1d(random.standard_normal(len(reach)), 2.5)
    slow = ndimage.gaussian_filter1d(random.standard_normal(len(reach)), 30)
    profile = 0.0034 * cusp + 0.0019 * uneven + 0.0010 * fine / fine.std() + 0.0014 * slow / slow.std()
    profile = ndimage.gaussian_filter1d(profile, 1.5)
    return np.interp(radius, reach, profile), radius


def _good_face(grid: Grid, part: Random) -> tuple[Field, Field, Field, Field]:
    """Return height, tarnish (0 to 1), roughness, and the distance (mm) to the bore's chamfer, positive on the face."""
    first, radius = _lay(grid, part, 25.0)
    second, _ = _lay(grid, part, 205.0)
    pressed = np.clip(0.75 + 0.25 * fields.band_noise(grid, part, 1.5, 8.0), 0.2, 1.3)
    height = first * pressed + part.uniform(0.0, 0.5) * second
    height += 0.0009 * fields.band_noise(grid, part, 1.2, 7.0, 3.0) + 0.00016 * fields.band_noise(
        grid, part, 0.06, 0.3, 0.5
    )
    for _ in range(int(part.poisson(1.0))):
        at = marks.somewhere(grid, part, np.ones(grid.shape, np.bool_))
        height += _drag_mark(grid, part, radius, at)
    tarnish = np.clip(0.06 + 0.014 * fields.band_noise(grid, part, 0.8, 9.0, 2.4), 0, 1)
    tarnish += 0.02 * fields.band_noise(grid, part, 0.08, 0.6, 0.8)
    if part.random() < 0.5:
        smudge = marks.blot(grid, part, marks.somewhere(grid, part, np.ones(grid.shape, np.bool_)), part.uniform(2, 5))
        tarnish += 0.02 * ndimage.gaussian_filter(smudge, 12)
    count = int(part.poisson(5))
    places = [marks.somewhere(grid, part, np.ones(grid.shape, np.bool_), 0.05) for _ in range(count)]
    holes, _ = marks.pits(grid, places, [marks.log_uniform(part, 0.015, 0.034) for _ in places], 0.7)
    height = height - holes
    tarnish = np.clip(np.where(holes > 0, 0.7, tarnish), 0, 1)
    bore = np.hypot(grid.x - 3.1 - part.normal(0, 0.12), grid.y + 3.1 - part.normal(0, 0.12)) - _BORE_MM
    chamfer = np.clip(_CHAMFER_MM - bore, 0, _CHAMFER_MM)
    height = np.where(bore > _CHAMFER_MM, height, -chamfer)
    height = np.where(bore > 0, height, np.maximum(-_CHAMFER_MM + bore * 8, _FLOOR_MM))
    alpha = 0.24 + 0.006 * fields.band_noise(grid, part, 0.1, 3.0) + part.normal(0, 0.006)
    return height, tarnish, alpha, bore - _CHAMFER_MM


def _drag_mark(grid: Grid, random: Random, radius: Field, at: marks.Place) -> Field:
    """Return the height (mm) of a line that a caught chip drew along an arc."""
    row, column = round((grid.y[0, 0] - at[1]) / grid.step), round((at[0] - grid.x[0, 0]) / grid.step)
    across = radius - radius[row, column]
    along = np.hypot(grid.x - at[0], grid.y - at[1]) / random.uniform(0.4, 2.5)
    width = random.uniform(0.012, 0.03)
    line = np.exp(-((across / width) ** 2)) * (1 - fields.smoothstep(along, 0.6, 1.0))
    mark: Field = random.choice([-1, 1]) * random.uniform(0.0006, 0.002) * line
    return mark


def _porosity(
    grid: Grid, height: Field, tarnish: Field, at: marks.Place, random: Random
) -> tuple[Field, Field, Region, dict[str, float]]:
    """Open one large pore, or a string or cloud of up to 16 small ones."""
    if random.random() < 0.25:
        places, radii = [at], [marks.log_uniform(random, 0.065, 0.12)]
    else:
        count = int(random.integers(3, 17))
        places = [
            at,
            *marks.scattered(random, at, count - 1, random.uniform(0.08, 0.35), marks.log_uniform(random, 1, 4)),
        ]
        largest = marks.log_uniform(random, 0.03, 0.06)
        radii = [largest * float(random.uniform(0.5, 1.0)) for _ in places]
    holes, region = marks.pits(grid, places, radii, float(random.uniform(0.5, 0.9)))
    return (
        height - holes,
        np.where(holes > 0, 0.7, tarnish),
        region,
        {"pores": float(len(places)), "radius_um": 1e3 * max(radii)},
    )


def _material(face: Field, alpha: Field, tarnish: Field) -> Material:
    """Aluminium, duller where it is tarnished; the bore is black inside."""
    inside = ndimage.uniform_filter((face < -_CHAMFER_MM).astype(np.float64), 3)
    return {
        "type": "roughconductor",
        "distribution": "ggx",
        "eta": _ETA,
        "k": _K,
        "alpha": np.clip(alpha * (1 - inside) + 0.5 * inside, 0.1, 0.6),
        "specular_reflectance": np.clip((1 - tarnish) * (1 - inside) + 0.05 * inside, 0, 1),
    }


KIND = ProductKind(
    "flange",
    ("crack", "dent", "porosity", "stain"),
    build,
    exposures=(7.5e4, 1.4e4, 1.6e5, 2.6e5),
    size=(144, 144),
    counts=Counts(seeds=5, test=25, backgrounds=40, test_good=60),
    fineness=2,
    depth=2,
)
