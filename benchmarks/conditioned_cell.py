"""Emulated cells that differ in one thing each: noise, lens, light or depth of field; and specks of paint in them.

The part is a matt, tilted face that fills the frame. A speck takes the same share of the light everywhere and its
outline is far sharper than the lens, so that every edge, contrast and noise in a picture is the cell's doing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.calibration import Calibration, CalibrationKind, ChannelCalibration, Depth, Illumination
from cell.defects import Draft, Mask
from cell.imaging import noise
from cell.imaging.illumination import GRID, cells
from cell.recipes import Face, Recipe, Rect
from drivers.sim.defects.site import Generator, Material, Ragged, Site
from drivers.sim.products.blueprint import Batch, Blueprint, Rim
from drivers.sim.render.lamps import Lamp, rig
from drivers.sim.render.lens import Lens
from drivers.sim.render.reflection import prepare
from drivers.sim.render.shadow import Relief
from drivers.sim.render.textures import rough
from drivers.sim.render.workpiece import Canvas, Workpiece, blank
from drivers.sim.sensor import Sensor
from drivers.sim.studio import EXPOSURE_US, StudioPart, StudioProduct, recipe_for
from trainer.generate.base import BackgroundSample, GenerateRequest, SeedSample
from trainer.generate.candidates import make_candidates

Floats = NDArray[np.float64]

HEIGHT, WIDTH = 256, 320
FIELD_MM = (12.8, 10.24)
#: The face's right edge lies so far above its left one, mm.
RISE_MM = 1.6
SPECK = "speck"
_ALBEDO, _LEFT = 0.45, 0.3  # of the face, and the share that a speck leaves of it
_RADIUS_MM = (0.32, 0.42)
_GENEROUS_PX = 3
_CLEAR_MM = 1.2
#: Different parts that there are; each is rendered once.
_PARTS = 6


def _draw(canvas: Canvas, generator: Generator, batch: Batch) -> Workpiece:
    work = blank(canvas, canvas.full(1e3), albedo=_ALBEDO * batch.tone, specular=0.0, roughness=0.9)
    work.height_um += np.float32(1000 * RISE_MM / FIELD_MM[0]) * canvas.u
    work.height_um += 0.25 * canvas.carry(rough(generator, canvas.shape, canvas.step_mm, grain_mm=0.4, hurst=0.8))
    return work


def _anywhere(generator: Generator) -> tuple[float, float]:
    reach = [side / 2 - _CLEAR_MM for side in FIELD_MM]
    return float(generator.uniform(-reach[0], reach[0])), float(generator.uniform(-reach[1], reach[1]))


FACE = Blueprint(
    name="tilted",
    title="a matt, tilted face",
    field_mm=FIELD_MM,
    draw=_draw,
    face=_anywhere,
    rim=lambda _: Rim(0.0, 0.0, 0.0),
    defects=("stain",),
    beneath=Material(0.1, 0.0, 0.9),
    jitter_mm=0.0,
    jitter_deg=0.0,
)


_DEEP, _SENSOR = Lens(blur_px_per_mm=0.0), Sensor()


@dataclass(frozen=True, slots=True)
class Setup:
    """What a cell is made of."""

    lens: Lens = _DEEP
    sensor: Sensor = _SENSOR
    beam_mm: float | None = None  # half width of the lamps' cones; None: as the lamps come


#: As usual; twice the electrons' noise at the same grey value; a soft lens; narrow cones, each aimed elsewhere; and a
#: lens whose focus does not reach across the tilted face.
SETUPS = {
    "base": Setup(),
    "noise": Setup(sensor=Sensor(gain_dn_per_e=2 * _SENSOR.gain_dn_per_e, read_noise_e=10.0)),
    "lens": Setup(lens=Lens(sigma_px=1.5, blur_px_per_mm=0.0)),
    "light": Setup(beam_mm=5.5),
    "depth": Setup(lens=Lens(blur_px_per_mm=5.0)),
}


@dataclass(frozen=True, slots=True, eq=False)
class Speck:
    """A real speck as the camera sees it: pixels, the good twin without noise (both (K, H, W) DN), and its mask."""

    part_id: str
    stack: NDArray[np.uint8]
    twin: Floats
    mask: Mask
    place: tuple[float, float]  # row and column


class Cell:
    """One emulated cell with its true calibration."""

    def __init__(self, name: str, seed: int = 1) -> None:
        self.name, setup = name, SETUPS[name]
        lamps = tuple(_aimed(lamp, setup.beam_mm) for lamp in rig("4"))
        self.product = StudioProduct(
            FACE, lamps, seed, size=(HEIGHT, WIDTH), sensor=setup.sensor, lens=setup.lens, oversampling=3
        )
        self.sensor = setup.sensor
        face = Face(area=Rect(x=0, y=0, width=WIDTH, height=HEIGHT), height_mm=0.0, rise_x_mm=RISE_MM)
        recipe = recipe_for(self.product)
        classes = (recipe.defect_classes[0].model_copy(update={"name": SPECK}),)
        self.recipe: Recipe = recipe.model_copy(update={"faces": (face,), "defect_classes": classes})
        self.calibration = self._calibration(setup)
        self._twins: dict[str, Floats] = {}

    def twin(self, part_id: str) -> Floats:
        """Return a good part without noise, (K, H, W) DN."""
        if part_id not in self._twins:
            self._twins[part_id] = self._expected(self.product.make(part_id))
        return self._twins[part_id]

    def backgrounds(self) -> list[BackgroundSample]:
        """Return good parts; the same ones in every cell."""
        allowed = np.ones((HEIGHT, WIDTH), np.bool_)
        made = []
        for index in range(_PARTS):
            part_id = f"good-{index:06d}"
            made.append(BackgroundSample(f"b{index}", part_id, self._seen(self.twin(part_id), index), allowed))
        return made

    def speck(self, number: int) -> Speck:
        """Return a part with a speck."""
        part_id = f"good-{number % _PARTS:06d}"
        part = self.product.make(part_id)
        drawn = np.random.Generator(np.random.SFC64([number, 77]))
        u, v = _anywhere(drawn)
        site = Site(part.work, part.canvas, u, v, 0.0, FACE.beneath)
        outline, radius = Ragged(drawn, float(drawn.uniform(*_RADIUS_MM)), 0.05, float(drawn.uniform(1, 1.5))), 0.5
        window = site.window(2.5 * radius)
        inside = (1 - outline.ratio(*site.local(window))) * np.float32(outline.radius_mm / part.canvas.step_mm)
        share = np.clip(inside + 0.5, 0, 1)
        site.scale(window, albedo=1 - np.float32(1 - _LEFT) * share)
        mask = np.zeros(part.canvas.shape, np.bool_)
        mask[window] = share > 0.5
        size = part.canvas.oversampling
        whole = mask.reshape(HEIGHT, size, WIDTH, size).mean(axis=(1, 3)) > 0.5
        bad = replace(part, optics=prepare(part.work, Relief(part.work, size)), _rates={}, _heights=None)
        rows, columns = np.nonzero(whole)
        place = float(rows.mean()), float(columns.mean())
        return Speck(part_id, self._seen(self._expected(bad), 5000 + number), self.twin(part_id), whole, place)

    def seeds(self, count: int) -> list[SeedSample]:
        """Return specks as people mark them, with the point spread that they were taken with."""
        found = []
        for number in range(count):
            one = self.speck(number)
            marked = ndimage.binary_dilation(one.mask, iterations=_GENEROUS_PX)
            spread = tuple(channel.psf_sigma_px for channel in self.calibration.channels)
            found.append(SeedSample(f"s{number}", one.part_id, SPECK, one.stack, marked, spread))
        return found

    def spread(self, column: float) -> float:
        """Return the true point spread at a column of the picture, sigma in pixels."""
        height = RISE_MM * ((column + 0.5) / WIDTH - 0.5)
        return self.product.lens.psf_sigma_px(1000 * height)

    def light(self) -> Floats:
        """Return each lamp's true profile, (K, H, W), mean 1."""
        truth = self.product.truth()
        fields = [truth.flat_field(line, HEIGHT, WIDTH) for line in self.product.lines]
        return np.stack(fields).astype(np.float64)

    def _expected(self, part: StudioPart) -> Floats:
        rates = [part.rate(line) * np.float32(EXPOSURE_US) for line in self.product.lines]
        return np.asarray(self.sensor.offset_dn + self.sensor.gain_dn_per_e * np.stack(rates), np.float64)

    def _seen(self, expected: Floats, number: int) -> NDArray[np.uint8]:
        drawn = noise.sample(self.sensor.noise_model(), expected, np.random.default_rng([number, 9]))
        return np.clip(np.rint(drawn), 0, self.sensor.saturation_dn).astype(np.uint8)

    def _calibration(self, setup: Setup) -> Calibration:
        lens, channels = setup.lens, []
        for line, profile in zip(self.product.lines, self.light(), strict=True):
            grid = cells(profile, np.ones(profile.shape, np.bool_))[0]
            assert grid.shape == GRID
            channels.append(
                ChannelCalibration(
                    channel=line,
                    noise=self.sensor.noise_model(),
                    illumination=Illumination(grid=tuple(tuple(row) for row in grid.tolist()), mean_dn=90.0),
                    psf_sigma_px=lens.psf_sigma_px(),
                )
            )
        return Calibration(
            calibration_id=self.name,
            recipe_id=self.recipe.recipe_id,
            kind=CalibrationKind.MEASURED,
            channels=tuple(channels),
            depth=Depth(focus_mm=0.0, blur_px_per_mm=lens.blur_px_per_mm, range_mm=1.0),
            frames_used=1,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )


def _aimed(lamp: Lamp, beam_mm: float | None) -> Lamp:
    if beam_mm is None:
        return lamp
    return replace(lamp, beam_mm=beam_mm, aim_mm=(1.2 * lamp.aim_mm[0], 1.2 * lamp.aim_mm[1]))


def generate(
    cell: Cell,
    calibration: Calibration,
    seeds: list[SeedSample],
    backgrounds: list[BackgroundSample],
    count: int,
    arm: str,
    folder: Path,
) -> list[Draft]:
    """Return candidates; the same outlines at the same places in every cell."""
    request = GenerateRequest(
        arm=arm, per_class=count, random_seed=11, uniform_share=1.0, severity=(0.4, 1.0), size=(0.9, 1.1)
    )
    return list(make_candidates(request, seeds, backgrounds, calibration, cell.recipe, workdir=folder))
