"""Non-metal parts: an injection-moulded cover, a printed label, and an electrode foil with its bare strip."""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np

from drivers.sim.defects.site import Material
from drivers.sim.products.blueprint import (
    Batch,
    Blueprint,
    Generator,
    Rim,
    box,
    disc,
    in_box,
    on_box,
    rounded,
    step_up,
)
from drivers.sim.products.print import artwork
from drivers.sim.render.textures import blobs, course, craters, grooves, lines, rough
from drivers.sim.render.workpiece import Canvas, Carrier, FloatMap, Placement, Workpiece, blank

_COVER, _BUTTON, _EJECTOR = (7.1, 5.5), (-2.9, -0.6), ((4.9, -3.6), (4.9, 3.6))
_LABEL = (7.0, 5.0)
_COATED, _FOIL = 2.6, 6.4
#: The tool's own grain: every part of one tool has it at the same place.
_TOOL_SEED = 4_711


def _moulded(canvas: Canvas, generator: Generator, batch: Batch) -> Workpiece:
    """A dark ABS cover: the spark-eroded grain of the tool, a polished button, a rib, two ejector marks."""
    u, v = canvas.u, canvas.v
    inside = box(u, v, *_COVER, 1.6)
    work = blank(canvas, inside, albedo=0.095 * batch.tone, specular=0.045, roughness=0.30 * batch.roughness)
    shape, step = canvas.shape, canvas.step_mm
    button = box(u - np.float32(_BUTTON[0]), v - np.float32(_BUTTON[1]), 2.2, 1.5, 0.7)
    polished = np.clip(button / np.float32(0.1) + 2.5, 0, 1)
    grain = canvas.carry(_tool(shape, step, batch.grain))
    work.height_um += np.float32(batch.relief) * grain * (1 - 0.96 * polished)
    work.height_um += step_up(button, 260.0, 0.5) + step_up(box(u - 1.9, v, 0.35, 4.0, 0.3), 300.0, 0.34)
    for center in _EJECTOR:
        pin = disc(u, v, center, 0.85)
        work.height_um += step_up(pin, -22.0, 0.06) + 9.0 * np.exp(-np.square(pin / np.float32(0.07)))
    # Sink opposite the rib's foot and the melt's flow: long, shallow, a little different on every shot.
    work.height_um += 3.0 * canvas.grow(partial(blobs, size_mm=4.5), generator, 4.5) + rounded(inside, 0.9)
    flow = canvas.grow(partial(blobs, size_mm=1.8), generator, 1.8)
    work.along *= (1 - 0.55 * polished) * (1 + 0.05 * flow)
    work.albedo *= 1 + 0.04 * flow + 0.03 * canvas.carry(blobs(generator, shape, step, size_mm=0.1))
    work.across = work.along
    work.thickness_um = 2500.0
    return work


@lru_cache(maxsize=2)
def _tool(shape: tuple[int, int], step_mm: float, grain: float) -> FloatMap:
    """Return what the tool's spark-eroded wall leaves on every part, um."""
    generator = np.random.Generator(np.random.SFC64(_TOOL_SEED))
    bowls = craters(generator, shape, step_mm, size_mm=0.20 * grain)
    fine = rough(generator, shape, step_mm, grain_mm=0.12, hurst=0.5, finest_mm=0.03)
    both = 3.2 * bowls + 1.1 * fine
    both.setflags(write=False)
    return both


def _label(canvas: Canvas, generator: Generator, batch: Batch) -> Workpiece:
    """A varnished paper label on a grey plastic bottle, printed in black; the print is registered to 0.1 mm."""
    u, v = canvas.u, canvas.v
    inside = box(u, v, *_LABEL, 0.7)
    work = blank(canvas, inside, albedo=0.80, specular=0.04, roughness=0.26 * batch.roughness)
    shape, step = canvas.shape, canvas.step_mm
    fibres = canvas.carry(rough(generator, shape, step, grain_mm=0.35 * batch.grain, hurst=0.45, finest_mm=0.04))
    work.height_um += np.float32(batch.relief) * 1.3 * fibres
    work.height_um += 9.0 * canvas.grow(partial(blobs, size_mm=4.0), generator, 4.0) + rounded(inside, 0.05)
    shift = generator.normal(0, 0.05, 2)
    ink = canvas.carry(_plate(shape, step), (float(shift[0]), float(shift[1])))
    mottle = canvas.grow(partial(blobs, size_mm=0.25), generator, 0.25)
    density = np.float32(generator.normal(1, 0.01) / batch.tone)
    work.albedo *= (1 + 0.012 * fibres) * (1 - ink * np.clip(0.93 * density * (1 + 0.012 * mottle), 0, 0.97))
    work.along *= 1 + 0.04 * fibres - 0.12 * ink
    work.across = work.along
    work.height_um += 1.5 * ink
    work.thickness_um = 90.0
    work.carrier = Carrier(albedo=0.30, roughness=0.2, specular=0.045)
    return work


@lru_cache(maxsize=2)
def _plate(shape: tuple[int, int], step_mm: float) -> FloatMap:
    """Return what the printing plate puts on every label: the share of ink."""
    straight = Canvas.make(*shape, step_mm, 1, Placement())
    ink = artwork(straight.u, straight.v, step_mm)
    ink.setflags(write=False)
    return ink


def _foil(canvas: Canvas, generator: Generator, batch: Batch) -> Workpiece:
    """Copper foil coated with graphite but for a strip; rolling lines along v, flat waves from the web's tension."""
    u, v = canvas.u, canvas.v
    inside = np.asarray(_FOIL - u, np.float32)
    work = blank(canvas, inside, albedo=0.06, specular=0.66, roughness=0.18 * batch.roughness)
    shape, step = canvas.shape, canvas.step_mm
    rolled = canvas.carry(
        grooves(generator, (shape[1], shape[0]), step, along_mm=2.5, coarsest_mm=0.7, hurst=0.7).T.copy()
    )
    granules = canvas.carry(rough(generator, shape, step, grain_mm=0.16 * batch.grain, hurst=0.4, finest_mm=0.02))
    cloud = canvas.grow(partial(blobs, size_mm=2.5), generator, 2.5)
    border = 0.035 * course(generator, 256, 5.0)
    wander = np.interp(v, np.linspace(-10, 10, 256), border).astype(np.float32)
    coat = np.clip((np.float32(_COATED) + wander + 0.02 * granules - u) / np.float32(2 * step) + 0.5, 0, 1)
    bare = 1 - coat
    # The slot die leaves a thicker bead at the coating's edge.
    bead = np.exp(-np.square((u - np.float32(_COATED - 0.22) - wander) / np.float32(0.16)))
    work.height_um += bare * 0.6 * rolled + coat * np.float32(batch.relief) * 2.6 * granules
    work.height_um += step_up(_COATED + wander - u, 55.0, 0.26) + 6.0 * bead
    # The bare strip is longer than the web beside it, which is stiff: it lies in waves that run off the edge.
    wave = canvas.grow(partial(lines, along_mm=9.0, across_mm=2.2), generator, 2.2)
    free = np.clip((u - np.float32(1.0)) * np.float32(1 / 5.4), 0, 1)
    work.height_um += 16.0 * free * free * wave
    work.albedo[:] = work.albedo * bare + coat * np.float32(0.075 * batch.tone) * (1 + 0.04 * cloud + 0.10 * granules)
    work.specular[:] = work.specular * bare + coat * np.float32(0.06)
    coating = np.float32(0.42 * batch.roughness) * coat
    work.along = np.asarray(work.along * bare + coating, np.float32)
    work.across = np.asarray(work.across * 1.7 * bare + coating, np.float32)
    work.lay_rad = canvas.full(canvas.turn_rad + np.pi / 2)
    work.thickness_um = 300.0
    return work


def _foil_rim(generator: Generator) -> Rim:
    return Rim(_FOIL, float(generator.uniform(-5, 5)), 0.0)


def _all_of_foil(generator: Generator) -> tuple[float, float]:
    u, v = in_box(generator, 6.6, 5.2)
    return (u - 0.9, v) if abs(u - 0.9 - _COATED) > 0.5 else (u - 2.2, v)


MOULDED = Blueprint(
    name="moulded",
    title="injection-moulded cover",
    field_mm=(16.0, 12.8),
    draw=_moulded,
    face=lambda generator: in_box(generator, 6.0, 4.4),
    rim=lambda generator: on_box(generator, *_COVER, 1.6),
    defects=("scratch", "dent", "blowhole", "crack", "chip", "inclusion", "stain", "burr", "fibre", "discolouration"),
    beneath=Material(0.22, 0.045, 0.42),
)
LABEL = Blueprint(
    name="label",
    title="printed label",
    field_mm=(17.6, 14.08),
    draw=_label,
    face=lambda generator: in_box(generator, 6.0, 4.2),
    rim=lambda generator: on_box(generator, *_LABEL, 0.7),
    defects=("scratch", "dent", "chip", "inclusion", "stain", "fibre", "discolouration", "bend"),
    beneath=Material(0.62, 0.035, 0.5),
    jitter_mm=0.10,
    exposure_level=0.42,
)
FOIL = Blueprint(
    name="foil",
    title="electrode foil",
    field_mm=(16.0, 12.8),
    draw=_foil,
    face=_all_of_foil,
    rim=_foil_rim,
    defects=("scratch", "dent", "pit", "crack", "inclusion", "stain", "burr", "fibre", "discolouration", "bend"),
    beneath=Material(0.06, 0.66, 0.14),
    exposure_level=0.30,
)
