"""Metal parts: a turned disc, a brushed sheet and a casting."""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy import ndimage

from drivers.sim.defects.site import Material
from drivers.sim.products.blueprint import (
    Batch,
    Blueprint,
    Generator,
    Rim,
    box,
    disc,
    in_box,
    rounded,
    step_up,
)
from drivers.sim.render.textures import blobs, course, grooves, lines, rough
from drivers.sim.render.workpiece import Canvas, FloatMap, Workpiece, blank

_RADIUS, _BORE, _SHOULDER = 5.5, 1.35, 3.2
_SHEET, _PUNCHED = (9.5, 4.9), (4.6, -1.9, 1.15)
#: The casting: radius of its body, half width, half height and corners of its ears, bolt holes (place, radius), bore.
_BODY, _EARS, _BOLT, _BOSS, _CORE, _PARTING = 5.7, (7.5, 1.75, 1.5), (6.35, 0.6), 3.1, 1.1, 0.35


def _turned(canvas: Canvas, generator: Generator, batch: Batch) -> Workpiece:
    """Face-turned steel: a spiral of scallops, two tool passes, a bore, chamfers. The lay runs around the axis."""
    u, v = canvas.u, canvas.v
    r, angle = np.sqrt(u * u + v * v), np.arctan2(v, u)
    inside = np.minimum(_RADIUS - r, r - _BORE)
    work = blank(canvas, inside, albedo=0.07 * batch.tone, specular=0.58, roughness=0.1)
    # Feed marks: the nose of the tool leaves arcs, one pass with a coarser feed than the other.
    outer = r > _SHOULDER
    phase = r * np.where(outer, np.float32(1 / 0.21), np.float32(1 / 0.14))
    phase += angle * np.float32(1 / (2 * np.pi))
    phase += np.float32(generator.uniform(0, 1))
    revolution = phase.astype(np.int32)
    phase -= revolution
    phase -= np.float32(0.5)
    depth = 4 * batch.relief * (1.5 + 0.35 * course(generator, 128, 1.0))  # no two alike: vibration, built-up edge
    scallop = np.take(depth.astype(np.float32), revolution, mode="wrap") * np.where(outer, np.float32(1), 0.6)
    height = phase * phase * scallop
    # What the worn edge copies into every revolution, and what vibration writes along it.
    count = int(8 / canvas.step_mm)
    radial = 0.28 * course(generator, count, 0.7) + 0.5 * course(generator, count, 6.0)
    height += _by_radius(r, radial + _turned_profile(count, canvas.step_mm), canvas.step_mm)
    streaks = lines(generator, (256, 512), 1.0, along_mm=26.0, across_mm=1.2)
    where = [r * np.float32(0.5 / canvas.step_mm), angle * np.float32(512 / (2 * np.pi))]
    streak = ndimage.map_coordinates(streaks, where, order=1, mode="grid-wrap", output=np.float32)
    height += np.float32(0.12 * batch.relief) * streak
    height += 2.5 * _warp(canvas, generator)
    work.height_um = height
    work.lay_rad = angle + np.float32(np.pi / 2 + canvas.turn_rad)
    patches = canvas.grow(partial(blobs, size_mm=1.6), generator, 1.6)
    work.along *= np.float32(0.95 * batch.roughness) * (1 + 0.05 * streak)
    work.across *= np.float32(2.1 * batch.roughness) * (1 + 0.07 * streak + 0.04 * patches)
    work.albedo *= 1 + 0.06 * patches
    work.thickness_um = 2500.0
    return work


def _turned_profile(count: int, step_mm: float) -> FloatMap:
    """Return shoulder and chamfers, um, at radii so many steps from the axis."""
    r: FloatMap = np.arange(count, dtype=np.float32) * np.float32(step_mm)
    profile = step_up(np.asarray(r - np.float32(_SHOULDER), np.float32), 45.0, 0.12)
    profile -= 1000 * np.maximum(0.28 - np.abs(_RADIUS - r), 0) + 900 * np.maximum(0.2 - np.abs(r - _BORE), 0)
    return profile


def _by_radius(r: FloatMap, profile: FloatMap, step_mm: float) -> FloatMap:
    """Return a profile of radius (N,) float32, its values `step_mm` apart, at each radius; straight between."""
    place = r * np.float32(1 / step_mm)
    np.minimum(place, len(profile) - 2, out=place)
    index = place.astype(np.int32)
    place -= index
    low = np.take(profile, index)
    place *= np.take(np.diff(profile), index)
    place += low
    return place


def _brushed(canvas: Canvas, generator: Generator, batch: Batch) -> Workpiece:
    """Brushed stainless sheet, sheared along two sides, one punched hole. The lay runs along u."""
    u, v = canvas.u, canvas.v
    hole = disc(u, v, _PUNCHED[:2], _PUNCHED[2])
    edge = _SHEET[1] - np.abs(v)
    inside = np.minimum(edge, -hole)
    work = blank(canvas, inside, albedo=0.13 * batch.tone, specular=0.60, roughness=0.09)
    shape, step = canvas.shape, canvas.step_mm
    fine = canvas.carry(
        grooves(generator, shape, step, along_mm=0.9, coarsest_mm=0.7 * batch.grain, hurst=0.8, spread=0.05)
    )
    across_mm = 0.14 * batch.grain
    coarse = canvas.grow(partial(lines, along_mm=6.0, across_mm=across_mm), generator, across_mm)
    # The belt's grains do not press alike: some strokes are deep, which is what makes single lines flash.
    fine *= np.exp(np.float32(0.45) * coarse)
    pores = canvas.carry(blobs(generator, shape, step, size_mm=0.08))
    work.height_um += np.float32(batch.relief) * (1.1 * fine + np.float32(0.6) * pores)
    work.height_um += 4.0 * _warp(canvas, generator)
    # Shearing and punching pull the edge down.
    for away, pull in ((edge, 40.0), (-hole, 35.0)):
        work.height_um -= np.float32(pull) * np.exp(np.maximum(away, 0) * np.float32(-1 / 0.16))
    band = canvas.grow(partial(lines, along_mm=14.0, across_mm=1.1), generator, 1.1)
    work.along *= np.float32(1.5 * batch.roughness)
    work.across *= np.float32(2.2 * batch.roughness) * (1 + 0.03 * band + 0.03 * coarse)
    work.albedo *= 1 + 0.05 * band
    work.lay_rad = canvas.full(canvas.turn_rad)
    work.thickness_um = 1200.0
    return work


def _cast(canvas: Canvas, generator: Generator, batch: Batch) -> Workpiece:
    """An as-cast aluminium flange: the grain of the mould, flow marks, a boss with draft, rounded edges. No lay."""
    inside = _flange(canvas.u, canvas.v)
    r = np.sqrt(canvas.u * canvas.u + canvas.v * canvas.v)
    work = blank(canvas, inside, albedo=0.30 * batch.tone, specular=0.52, roughness=0.36 * batch.roughness)
    shape, step = canvas.shape, canvas.step_mm
    grain = canvas.carry(rough(generator, shape, step, grain_mm=0.42 * batch.grain, hurst=0.55, finest_mm=0.03))
    skin = canvas.grow(partial(rough, grain_mm=2.4, hurst=0.9, finest_mm=0.15), generator, 0.15)
    work.height_um += np.float32(batch.relief) * (5.5 * grain + 0.9 * np.square(np.maximum(grain, 0)) + 9.0 * skin)
    work.height_um += step_up(np.asarray(_BOSS - r, np.float32), 420.0, 0.75) + rounded(inside, 0.7)
    # Where the two halves of the die met, a line of flash was ground off: a faint ridge across the whole part.
    work.height_um += 14.0 * np.exp(-np.square((canvas.v - np.float32(_PARTING)) / np.float32(0.09)))
    # Die lubricant and oxide dull the skin in patches; what is raised is rubbed bright.
    patches = canvas.grow(partial(rough, grain_mm=1.8, hurst=0.6, finest_mm=0.1), generator, 0.1)
    work.albedo *= np.clip(1 + 0.10 * patches - 0.05 * grain, 0.4, 1.5)
    work.along *= np.clip(1 + 0.07 * patches - 0.03 * grain, 0.6, 1.5)
    work.across = work.along
    work.thickness_um = 4000.0
    return work


def _flange(u: FloatMap, v: FloatMap) -> FloatMap:
    """Return the signed distance (mm, positive inside) to a round flange with two ears, their bolt holes and a bore."""
    body = disc(u, v, (0.0, 0.0), _BODY)
    ears = box(u, v, *_EARS)
    # The fillet between body and ears: a smooth maximum over about half a mm.
    blend = np.maximum(np.float32(0.8) - np.abs(body - ears), 0)
    inside = np.maximum(body, ears) + blend * blend * np.float32(0.25 / 0.8)
    for u_bolt in (-_BOLT[0], _BOLT[0]):
        inside = np.minimum(inside, -disc(u, v, (u_bolt, 0.0), _BOLT[1]))
    return np.asarray(np.minimum(inside, -disc(u, v, (0.0, 0.0), _CORE)), np.float32)


def _warp(canvas: Canvas, generator: Generator) -> FloatMap:
    """Return the waviness that clamping and cutting forces leave: several mm long."""
    return canvas.grow(partial(blobs, size_mm=5.0), generator, 5.0)


def _flange_face(generator: Generator) -> tuple[float, float]:
    """Return a place on the flange's face or on its boss, clear of edges, of the boss's flank and of the holes."""
    while True:
        u, v = in_box(generator, 5.0, 4.6, ((-_BOLT[0], 0.0, _BOLT[1] + 0.8), (_BOLT[0], 0.0, _BOLT[1] + 0.8)))
        r = float(np.hypot(u, v))
        if _CORE + 0.7 < r < _BODY - 0.9 and abs(r - _BOSS) > 0.55:
            return u, v


def _flange_rim(generator: Generator) -> Rim:
    angle = float(generator.choice([-1, 1]) * generator.uniform(np.deg2rad(50), np.deg2rad(130)))
    return Rim(_BODY * float(np.cos(angle)), _BODY * float(np.sin(angle)), angle)


def _disc_face(generator: Generator) -> tuple[float, float]:
    radius, angle = (
        np.sqrt(generator.uniform((_BORE + 0.8) ** 2, (_RADIUS - 0.8) ** 2)),
        generator.uniform(0, 2 * np.pi),
    )
    return float(radius * np.cos(angle)), float(radius * np.sin(angle))


def _disc_rim(generator: Generator) -> Rim:
    angle = float(generator.uniform(-np.pi, np.pi))
    return Rim(_RADIUS * float(np.cos(angle)), _RADIUS * float(np.sin(angle)), angle)


def _sheet_rim(generator: Generator) -> Rim:
    side = 1 if generator.random() < 0.5 else -1
    return Rim(float(generator.uniform(-6.5, 6.5)), side * _SHEET[1], side * np.pi / 2)


DISC = Blueprint(
    name="disc",
    title="turned steel disc",
    field_mm=(16.0, 12.8),
    draw=_turned,
    face=_disc_face,
    rim=_disc_rim,
    defects=("scratch", "dent", "pit", "crack", "chip", "inclusion", "stain", "burr", "discolouration", "warp"),
    beneath=Material(0.05, 0.60, 0.12),
    any_turn=True,
    exposure_level=0.26,
)
BRUSHED = Blueprint(
    name="brushed",
    title="brushed stainless sheet",
    field_mm=(16.0, 12.8),
    draw=_brushed,
    face=lambda generator: in_box(generator, 6.8, 3.9, ((*_PUNCHED[:2], _PUNCHED[2] + 0.8),)),
    rim=_sheet_rim,
    defects=("scratch", "dent", "pit", "crack", "inclusion", "stain", "burr", "fibre", "discolouration", "bend"),
    beneath=Material(0.05, 0.62, 0.12),
    exposure_level=0.28,
)
CAST = Blueprint(
    name="cast",
    title="as-cast aluminium",
    field_mm=(16.0, 12.8),
    draw=_cast,
    face=_flange_face,
    rim=_flange_rim,
    defects=("blowhole", "crack", "scratch", "dent", "chip", "inclusion", "stain", "burr", "discolouration", "warp"),
    beneath=Material(0.12, 0.78, 0.24),
    exposure_level=0.32,
)
