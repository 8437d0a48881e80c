"""Soldered board: an 8-lead package with gull wings, two chip capacitors, traces under solder mask, silkscreen, vias.

Defects: `bridge` (solder between neighbouring leads), `starved` (a joint without its fillet, the pad's copper open),
`flake` (solder mask that came off; the loose flake may lie curled beside it), `balls` (loose solder spheres).
Normal reflectance at 625 nm: tin-rich solder 0.83 (n = 2.1, k = 6.4), copper 0.93 (n = 0.25, k = 3.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from benchmarks.heldout import fields
from benchmarks.heldout.model import Field, Grid, Material, Model, ProductKind, Random, Region, Solid

_TIN_REFLECTANCE, _COPPER_REFLECTANCE = 0.83, 0.93
_PITCH, _PAD_Y, _LEADS = 1.27, 2.72, 4
_MASK_MM = 0.025


@dataclass(slots=True, eq=False)
class _Board:
    """The board while it is put together: heights, and where solder, copper, laminate and package are (0..1)."""

    x: Field
    y: Field
    height: Field
    pads: Region
    tin: Field
    copper: Field
    laminate: Field
    mould: Field
    paint: Field


def build(grid: Grid, part: Random, defect_class: str, defect: Random) -> Model:
    """Return one board; see `ProductKind`."""
    board = _bare_board(grid, part)
    joints = [(column, row) for column in range(_LEADS) for row in (-1, 1)]
    starved = joints[int(defect.integers(len(joints)))] if defect_class == "starved" else None
    region = np.zeros(grid.shape, np.bool_)
    solids: tuple[Solid, ...] = ()
    facts: dict[str, float] = {}
    _package(grid, part, board)
    for joint in joints:
        before = board.height.copy()
        _joint(grid, part, board, joint, defect if joint == starved else None)
        if joint == starved:
            full = _fillet(board, joint, 1.0)
            region = (full > before + 0.01) & (full > board.height + 0.01)
    _chips(grid, part, board)
    if defect_class == "bridge":
        region, facts = _bridge(grid, board, defect)
    elif defect_class == "flake":
        region, solids, facts = _flake(grid, board, defect)
    elif defect_class == "balls":
        solids, facts = _balls(grid, board, defect)
    rough = 0.16 + 0.03 * fields.band_noise(grid, part, 0.1, 1.0)
    return Model(board.height, _material(board, np.clip(rough, 0.08, 0.4)), region, solids, facts)


def _bare_board(grid: Grid, part: Random) -> _Board:
    x, y = fields.turned(grid, (part.normal(0, 0.1), part.normal(0, 0.1)), part.normal(0, 0.7))
    height = 0.0018 * fields.band_noise(grid, part, 0.3, 4.0, 3.0) + 0.0012 * np.sin(x * 2 * np.pi / 0.45) * np.sin(
        y * 2 * np.pi / 0.45
    )
    pads = np.zeros(grid.shape, np.bool_)
    traces = np.full(grid.shape, -9.0)
    for column in range(_LEADS):
        at = (column - 1.5) * _PITCH
        for row in (-1, 1):
            pads |= fields.box_distance(x - at, y - row * _PAD_Y, (0.31, 0.78), 0.08) > 0
            traces = np.maximum(traces, fields.box_distance(x - at, y - row * 4.4, (0.11, 1.2)))
    traces = np.maximum(traces, fields.box_distance(x - 4.15, y, (0.12, 5.0)))
    traces = np.maximum(traces, fields.box_distance(x + 3.0, y + 0.6, (1.2, 0.11)))
    via = np.hypot(x - 4.15, y - 2.6), np.hypot(x - 4.15, y + 3.1)
    nearest = np.minimum(*via)
    height += 0.03 * fields.smoothstep(np.maximum(traces, 0.32 - nearest), -0.05, 0.05)
    height -= 0.12 * fields.smoothstep(0.15 - nearest, -0.04, 0.04)
    height = np.where(pads, 0.002, height)
    letters = (fields.box_distance(x + 4.6, y - 3.0, (0.07, 0.45)) > 0) | (
        fields.box_distance(x + 4.4, y - 3.4, (0.25, 0.07)) > 0
    )
    letters |= (np.abs(fields.box_distance(x, y, (3.0, 1.72), 0.1)) < 0.06) & (np.abs(x) > 2.7)
    soft: Field = ndimage.gaussian_filter(letters.astype(np.float64), 1.2)
    zero = np.zeros(grid.shape)
    return _Board(x, y, height + 0.008 * soft, pads, zero, pads.astype(np.float64), zero.copy(), zero.copy(), soft)


def _package(grid: Grid, part: Random, board: _Board) -> None:
    """Set the moulded body on the board: bevelled sides, pin-1 dimple, laser marking."""
    inside = fields.box_distance(board.x, board.y, (2.45, 1.5), 0.1)
    body = np.clip(inside / 0.16, 0, 1) * 1.25
    texture = 0.004 * fields.band_noise(grid, part, 0.15, 0.8, 1.5)
    dimple = 0.1 * fields.smoothstep(0.3 - np.hypot(board.x + 1.9, board.y + 1.0), -0.05, 0.05)
    board.mould = (inside > 0).astype(np.float64)
    board.height = np.where(inside > 0, np.maximum(body + texture - dimple, board.height), board.height)
    marks = np.zeros(grid.shape, np.bool_)
    strokes = np.random.default_rng(5).random((2, 7, 5, 3)) < 0.55
    for line in range(2):
        for letter in range(7):
            for row in range(5):
                for column in range(3):
                    if strokes[line, letter, row, column]:
                        at = -1.5 + letter * 0.47 + column * 0.11, 0.55 - line * 0.75 - row * 0.11
                        marks |= (np.abs(board.x - at[0]) < 0.06) & (np.abs(board.y - at[1]) < 0.06)
    board.paint = np.maximum(board.paint, 0.35 * ndimage.gaussian_filter(marks.astype(np.float64), 1.0))


def _fillet(board: _Board, joint: tuple[int, int], volume: float) -> Field:
    """Return the solder's upper face over one pad: highest at the lead's heel and toe, falling to the pad's rim."""
    x, y = board.x - (joint[0] - 1.5) * _PITCH, (board.y - joint[1] * _PAD_Y) * joint[1]
    rim = np.maximum(fields.box_distance(x, y, (0.31, 0.78), 0.08), 0)
    crown = 0.30 * np.sqrt(np.clip(rim / 0.31, 0, 1)) * (0.62 + 0.38 * np.cos(y * 2.2))
    return np.where(rim > 0, 0.002 + crown * volume, -1.0)


def _joint(grid: Grid, part: Random, board: _Board, joint: tuple[int, int], starve: Random | None) -> None:
    """Put a gull-wing lead and its solder on a pad; a starved joint keeps a thin, patchy rest."""
    x, y = board.x - (joint[0] - 1.5) * _PITCH, (board.y - joint[1] * _PAD_Y) * joint[1]
    volume = 1 + 0.08 * part.standard_normal()
    solder = _fillet(board, joint, volume) + 0.004 * fields.band_noise(grid, part, 0.2, 0.8)
    if starve is not None:
        rest = fields.smoothstep(fields.band_noise(grid, starve, 0.2, 0.9) + starve.uniform(-0.6, 0.7), -0.2, 0.5)
        solder = np.where(solder > 0, 0.002 + (solder - 0.002) * rest * starve.uniform(0.1, 0.45), solder)
    wetted = (solder > board.height + 0.003) & board.pads
    board.height = np.where(wetted, solder, board.height)
    board.tin = np.where(wetted, 1.0, board.tin)
    lead = np.abs(x) - 0.205
    shoulder = fields.smoothstep(-y, 0.25, 0.95)
    top = 0.17 + 0.55 * shoulder - 0.35 * np.maximum(np.abs(x) - 0.17, 0) + 0.002 * part.standard_normal()
    along = (y < 0.42) & (y > -1.32)
    is_lead = (lead < 0) & along & (board.mould < 0.5)
    board.tin = np.where(is_lead, 1.0, board.tin)
    board.height = np.where(is_lead, np.maximum(board.height, top), board.height)


def _chips(grid: Grid, part: Random, board: _Board) -> None:
    """Put two ceramic capacitors with tinned ends beside the package."""
    for side_y in (-1.6, 1.2):
        x, y = fields.turned(grid, (0, 0), 0)
        x, y = board.x + 4.35 - part.normal(0, 0.03), board.y - side_y - part.normal(0, 0.03)
        outline = fields.box_distance(x, y, (0.42, 0.8), 0.06)
        ends = np.abs(y) > 0.5
        pad = fields.box_distance(x, y, (0.5, 1.05), 0.06)
        slope = 0.42 * np.clip(pad / 0.28, 0, 1) ** 1.6
        solder = (pad > 0) & ends
        board.height = np.where(solder, np.maximum(board.height, slope), board.height)
        block = np.where(outline > 0, 0.45 - 0.25 * np.maximum(0.07 - outline, 0) / 0.07, -1) + 0.012 * ends
        board.height = np.maximum(board.height, block)
        board.tin = np.where(solder | ((outline > 0) & ends), 1.0, board.tin)
        middle = (outline > 0) & ~ends
        board.laminate = np.where(middle, 0.75, board.laminate)


def _bridge(grid: Grid, board: _Board, random: Random) -> tuple[Region, dict[str, float]]:
    """Pull a strand of solder over the gap between two neighbouring leads; the thinnest place may be a hair."""
    column, row = int(random.integers(_LEADS - 1)), int(random.choice([-1, 1]))
    waist, thick = float(random.uniform(0.06, 0.4)), float(random.uniform(0.06, 0.25))
    middle = ((column - 1) * _PITCH, row * (_PAD_Y + random.uniform(-0.35, 0.55)))
    x, y = board.x - middle[0], board.y - middle[1] + 0.12 * random.standard_normal() * board.x
    at_middle = np.abs(board.x - middle[0]) < 0.02
    y = y - y[at_middle].mean() + (board.y - middle[1])[at_middle].mean()
    half = waist / 2 + 0.22 * np.clip(np.abs(x) / 0.45, 0, 1) ** 2
    half *= 1 + 0.12 * fields.band_noise(grid, random, 0.2, 0.8)
    profile = np.sqrt(np.clip(1 - (y / half) ** 2, 0, 1)) * (thick + 0.1 * np.clip(np.abs(x) / 0.4, 0, 1) ** 2)
    strand = np.where(np.abs(x) < 0.52, profile, 0)
    merged = np.where(strand > 0.004, fields.soft_union(board.height, strand, 0.03), board.height)
    region = merged > board.height + 0.008
    board.height = np.where(region, merged, board.height)
    board.tin = np.where(region, 1.0, board.tin)
    return region, {"waist_mm": waist, "thick_mm": thick}


def _flake(grid: Grid, board: _Board, random: Random) -> tuple[Region, tuple[Solid, ...], dict[str, float]]:
    """Take solder mask off an angular patch: laminate and trace copper lie open; half the time the flake lies near."""
    free = (board.mould < 0.1) & (board.tin < 0.1) & ~board.pads
    clear = ndimage.binary_erosion(free, iterations=9) & (np.abs(grid.x) < 5.0) & (np.abs(grid.y) < 3.7)
    row, column = np.argwhere(clear)[random.integers(int(clear.sum()))]
    at = float(grid.x[row, column]), float(grid.y[row, column])
    size = float(np.exp(random.uniform(np.log(0.2), np.log(0.75))))
    x, y = grid.x - at[0], grid.y - at[1]
    inside = np.full(grid.shape, size)
    for angle in np.sort(random.uniform(0, 2 * np.pi, 6)):
        inside = np.minimum(inside, size * random.uniform(0.5, 1.0) - (x * np.cos(angle) + y * np.sin(angle)))
    inside = np.minimum(inside + 0.03 * fields.band_noise(grid, random, 0.12, 0.8), size * 1.2 - np.hypot(x, y))
    region = (inside > 0) & free
    copper = region & (ndimage.gaussian_filter(board.height, 4) > 0.018)
    lifted = 0.02 * np.exp(-(((inside + 0.05) / 0.05) ** 2)) * free * (inside <= 0)
    weave = 0.003 * np.sin(grid.x * 2 * np.pi / 0.3) * np.sin(grid.y * 2 * np.pi / 0.3)
    board.height = np.where(region, board.height - _MASK_MM + weave * ~copper, board.height + lifted)
    board.laminate = np.where(region & ~copper, 1.0, board.laminate)
    board.copper = np.where(copper, 1.0, board.copper)
    board.paint = np.where(region, 0.0, board.paint)
    solids: tuple[Solid, ...] = ()
    if random.random() < 0.5:
        solids = (_loose_flake(grid, board, at, size, random),)
    return region, solids, {"size_mm": size}


def _loose_flake(grid: Grid, board: _Board, at: tuple[float, float], size: float, random: Random) -> Solid:
    """Return a thin curled sheet that lies beside the bare patch, on whatever is there."""
    across = np.linspace(-1, 1, 25)
    v, u = np.meshgrid(across, across, indexing="ij")
    outline = 1 + 0.25 * np.sin(3 * np.arctan2(v, u) + random.uniform(0, 6.28))
    square = np.maximum(np.abs(u), np.abs(v)) / np.maximum(np.hypot(u, v), 1e-9)
    u, v = u * square * outline, v * square * outline
    curl, turn, heading = random.uniform(0.3, 0.9), random.uniform(0, 6.28), random.uniform(0, 6.28)
    reach = size * random.uniform(0.5, 0.9)
    centre = at[0] + 1.2 * size * np.cos(heading), at[1] + 1.2 * size * np.sin(heading)
    base = fields.height_at(grid, board.height, *centre)
    x, y = u * np.cos(turn) - v * np.sin(turn), u * np.sin(turn) + v * np.cos(turn)
    z = base + 0.02 + 0.35 * reach * curl * u**2
    upper = np.stack([centre[0] + reach * x, centre[1] + reach * y, z], axis=-1).reshape(-1, 3)
    index = np.arange(25 * 25, dtype=np.uint32).reshape(25, 25)
    a, b, c, d = index[:-1, :-1].ravel(), index[:-1, 1:].ravel(), index[1:, 1:].ravel(), index[1:, :-1].ravel()
    faces = np.concatenate([np.stack([a, b, d], axis=1), np.stack([b, c, d], axis=1)])
    return Solid(
        upper,
        faces.astype(np.uint32),
        {"type": "twosided", "bsdf": {"type": "roughplastic", "alpha": 0.2, "diffuse_reflectance": 0.075}},
        is_defect=True,
    )


def _balls(grid: Grid, board: _Board, random: Random) -> tuple[tuple[Solid, ...], dict[str, float]]:
    """Drop one to four nearly round solder balls on the solder mask."""
    free = ndimage.binary_erosion((board.mould < 0.1) & (board.tin < 0.1), iterations=5)
    free &= (np.abs(grid.x) < 5.2) & (np.abs(grid.y) < 3.9)
    places = np.argwhere(free)
    balls = []
    for _ in range(int(random.integers(1, 5))):
        row, column = places[random.integers(len(places))]
        radius = float(np.exp(random.uniform(np.log(0.075), np.log(0.2))))
        vertices, faces = fields.rough_ball(random, 4, 0.015)
        at = [grid.x[row, column], grid.y[row, column], board.height[row, column] + radius * 0.9]
        ball = {"type": "roughconductor", "eta": 2.1, "k": 6.4, "alpha": float(random.uniform(0.08, 0.2))}
        balls.append(Solid(vertices * radius + at, faces, ball, is_defect=True))
    return tuple(balls), {"balls": float(len(balls))}


def _material(board: _Board, roughness: Field) -> Material:
    """Lay the materials over one another: lacquer, paint, laminate, package, copper, solder.

    One principled BSDF with textures: colour (for metals the normal reflectance), metallic share, roughness (the square
    root of the GGX width).
    """
    colour, metallic, width = np.full(board.tin.shape, 0.075), np.zeros(board.tin.shape), np.full(board.tin.shape, 0.16)
    marks = 0.028 + 0.35 * board.paint
    layers: tuple[tuple[Field, Field | float, float, Field | float], ...] = (
        (board.paint * (1 - board.mould), 0.62, 0.0, 0.35),
        (board.laminate, 0.42, 0.0, 0.35),
        (board.mould * (1 - board.tin), marks, 0.0, 0.35),
        (board.copper, _COPPER_REFLECTANCE, 1.0, 0.28),
        (board.tin, _TIN_REFLECTANCE, 1.0, roughness),
    )
    for weight, its_colour, its_metallic, its_width in layers:
        share = ndimage.uniform_filter(np.clip(weight, 0, 1), 3)
        colour = colour * (1 - share) + its_colour * share
        metallic = metallic * (1 - share) + its_metallic * share
        width = width * (1 - share) + its_width * share
    return {
        "type": "principled",
        "base_color": np.clip(colour, 0, 1),
        "metallic": np.clip(metallic, 0, 1),
        "roughness": np.sqrt(np.clip(width, 0.05, 1)),
        "specular": 0.5,
    }


KIND = ProductKind("solder", ("balls", "bridge", "flake", "starved"), build, exposures=(1.2e5, 4.5e4, 6e4, 1e5))
