"""Metal parts: a turned disc, a brushed sheet and a casting."""

from __future__ import annotations

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
from drivers.sim.products.blueprint import on_box as _on_box
from drivers.sim.render.textures import blobs, course, lines, rough
from drivers.sim.render.workpiece import Canvas, Workpiece, blank

_RADIUS, _BORE, _SHOULDER = 5.5, 1.35, 3.2
_SHEET, _PUNCHED = (9.5, 4.9), (4.6, -1.9, 1.15)
_CASTING, _BOSS = (7.3, 5.75), (-2.6, 0.8, 2.5)


def _turned(canvas: Canvas, generator: Generator, batch: Batch) -> Workpiece:
    """Face-turned steel: a spiral of scallops, two tool passes, a bore, chamfers. The lay runs around the axis."""
    u, v = canvas.u, canvas.v
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    inside = np.minimum(_RADIUS - r, r - _BORE)
    work = blank(canvas, inside, albedo=0.07 * batch.tone, specular=0.58, roughness=0.1)
    # Feed marks: the nose of the tool leaves arcs, one pass with a coarser feed than the other.
    groove = np.where(r > _SHOULDER, 1 / 0.21, 1 / 0.14).astype(np.float32)
    phase = r * groove + angle * np.float32(1 / (2 * np.pi)) + np.float32(generator.uniform(0, 1))
    revolution = np.floor(phase)
    arc = phase - revolution - 0.5
    depth = 1.5 + 0.35 * course(generator, 128, 1.0)  # no two revolutions alike: vibration, built-up edge
    scallop = depth[revolution.astype(np.intp) % 128] * np.where(r > _SHOULDER, 1.0, 0.6)
    height = np.asarray(batch.relief * 4 * arc * arc * scallop, np.float32)
    # What the worn edge copies into every revolution, and what vibration writes along it.
    count = int(8 / canvas.step_mm)
    radial = 0.28 * course(generator, count, 0.7) + 0.5 * course(generator, count, 6.0)
    across = r * np.float32(1 / canvas.step_mm)
    height += np.interp(across, np.arange(count), radial).astype(np.float32)
    streaks = lines(generator, (256, 512), 1.0, along_mm=26.0, across_mm=1.2)
    where = [across * 0.5 % streaks.shape[0], (angle / (2 * np.pi) * streaks.shape[1]) % streaks.shape[1]]
    streak = ndimage.map_coordinates(streaks, where, order=1, mode="grid-wrap", output=np.float32)
    height += 0.12 * batch.relief * streak
    height += step_up(np.asarray(r - _SHOULDER, np.float32), 45.0, 0.12)
    height -= 1000 * np.maximum(0.28 - np.abs(_RADIUS - r), 0) + 900 * np.maximum(0.2 - np.abs(r - _BORE), 0)
    work.height_um += height + 2.5 * _warp(canvas, generator)
    work.lay_rad = angle + np.float32(np.pi / 2 + canvas.turn_rad)
    patches = canvas.carry(blobs(generator, canvas.shape, canvas.step_mm, size_mm=1.6))
    work.along *= np.float32(0.95 * batch.roughness) * (1 + 0.05 * streak)
    work.across *= np.float32(2.1 * batch.roughness) * (1 + 0.07 * streak + 0.04 * patches)
    work.albedo *= 1 + 0.06 * patches
    work.thickness_um = 2500.0
    return work


def _brushed(canvas: Canvas, generator: Generator, batch: Batch) -> Workpiece:
    """Brushed stainless sheet, sheared along two sides, one punched hole. The lay runs along u."""
    u, v = canvas.u, canvas.v
    hole = disc(u, v, _PUNCHED[:2], _PUNCHED[2])
    edge = _SHEET[1] - np.abs(v)
    inside = np.minimum(edge, -hole)
    work = blank(canvas, inside, albedo=0.13 * batch.tone, specular=0.60, roughness=0.09)
    shape, step = canvas.shape, canvas.step_mm
    fine = canvas.carry(lines(generator, shape, step, along_mm=3.2, across_mm=0.045 * batch.grain))
    coarse = canvas.carry(lines(generator, shape, step, along_mm=6.0, across_mm=0.14 * batch.grain))
    # A few grains of the belt cut deeper than the others.
    deep = np.minimum(fine + 0.5 * coarse + 1.6, 0)
    work.height_um += np.float32(batch.relief) * (0.30 * fine + 0.5 * coarse + 0.7 * deep)
    work.height_um += 4.0 * _warp(canvas, generator)
    # Shearing and punching pull the edge down.
    for away, pull in ((edge, 40.0), (-hole, 35.0)):
        work.height_um -= pull * np.exp(-np.maximum(away, 0) * np.float32(1 / 0.16))
    band = canvas.carry(lines(generator, shape, step, along_mm=14.0, across_mm=1.1))
    work.along *= np.float32(1.5 * batch.roughness)
    work.across *= np.float32(3.2 * batch.roughness) * (1 + 0.05 * band + 0.05 * coarse)
    work.albedo *= 1 + 0.05 * band
    work.lay_rad = canvas.full(canvas.turn_rad)
    work.thickness_um = 1200.0
    return work


def _cast(canvas: Canvas, generator: Generator, batch: Batch) -> Workpiece:
    """As-cast aluminium: the grain of the mould, flow marks, a boss with draft, rounded edges. No lay."""
    u, v = canvas.u, canvas.v
    inside = box(u, v, *_CASTING, 1.4)
    work = blank(canvas, inside, albedo=0.30 * batch.tone, specular=0.52, roughness=0.36 * batch.roughness)
    shape, step = canvas.shape, canvas.step_mm
    grain = canvas.carry(rough(generator, shape, step, grain_mm=0.42 * batch.grain, hurst=0.55, finest_mm=0.03))
    skin = canvas.carry(rough(generator, shape, step, grain_mm=2.4, hurst=0.9, finest_mm=0.15))
    work.height_um += np.float32(batch.relief) * (5.5 * grain + 0.9 * np.square(np.maximum(grain, 0)) + 9.0 * skin)
    boss = disc(u, v, _BOSS[:2], _BOSS[2])
    work.height_um += step_up(boss, 420.0, 0.75) + rounded(inside, 0.7)
    # Die lubricant and oxide dull the skin in patches; what is raised is rubbed bright.
    patches = canvas.carry(rough(generator, shape, step, grain_mm=1.8, hurst=0.6, finest_mm=0.1))
    work.albedo *= np.clip(1 + 0.10 * patches - 0.05 * grain, 0.4, 1.5)
    work.along *= np.clip(1 + 0.07 * patches - 0.03 * grain, 0.6, 1.5)
    work.across = work.along
    work.thickness_um = 4000.0
    return work


def _warp(canvas: Canvas, generator: Generator) -> np.ndarray:
    """Return the waviness that clamping and cutting forces leave: several mm long."""
    return canvas.carry(blobs(generator, canvas.shape, canvas.step_mm, size_mm=5.0))


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
    face=lambda generator: in_box(generator, 6.2, 4.6),
    rim=lambda generator: _on_box(generator, *_CASTING, 1.4),
    defects=("blowhole", "crack", "scratch", "dent", "chip", "inclusion", "stain", "burr", "discolouration", "warp"),
    beneath=Material(0.12, 0.78, 0.24),
    exposure_level=0.32,
)
