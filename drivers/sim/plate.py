"""The built-in product: a milled plate with two drilled holes, under K directional lights.

Every part is its id: ``good-000012`` or ``pit-000003`` under one random seed is the same part on every machine, with
the same texture, position and flaw; only the sensor's temporal noise is drawn anew for each exposure.
"""

from __future__ import annotations

import re
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cell.defects import Mask
from cell.errors import DataError
from cell.frames import Pixels
from cell.recipes import Channel, DefectClass, Recipe
from drivers.sim.flaws import FLAWS
from drivers.sim.sensor import Sensor
from drivers.sim.surface import DirectionalLight, FloatMap, Surface, brushed, cloudy, shade

HEIGHT, WIDTH = 256, 320
GOOD = "good"
_PART_ID = re.compile(r"([a-z]+)-(\d{6})")
_EXPOSURE_US = 1000.0
#: Mean electrons of a good surface at the recipe's exposure: about 31 % of full well, so that chamfers do not clip.
_ELECTRONS = 3110.0
_MEAN_RADIANCE = 0.235  # of the good surface under one light, by the constants below
_SHININESS = 24.0
_PSF_SIGMA_PX = 0.8
_KEPT = 32  # rendered parts of 4 lights: 42 MB


@dataclass(frozen=True, slots=True, eq=False)
class PlatePart:
    """A rendered part: expected electrons per microsecond under each line, and the true mask."""

    rate: FloatMap  # (L, H, W)
    lines: tuple[str, ...]
    sensor: Sensor
    mask: Mask
    dark: FloatMap  # (H, W) electrons

    def expose(
        self,
        lights: Mapping[str, float],
        exposure_us: float,
        gain_db: float,
        generator: np.random.Generator,
        sensor: Sensor | None = None,
    ) -> Pixels:
        """Return what the sensor gives for the sum of all lit lines."""
        electrons = self.dark.copy()
        for line, intensity in lights.items():
            if intensity > 0:
                electrons += np.float32(intensity * exposure_us) * self.rate[self.lines.index(line)]
        return (sensor or self.sensor).digitise(electrons, gain_db, generator)


class PlateProduct:
    """See the module. `K` lights stand evenly around the plate; :attr:`lines` names them by azimuth."""

    carrier_dn = 0

    def __init__(self, lights: int = 4, random_seed: int = 1, sensor: Sensor | None = None) -> None:
        """Set up the lights. Raises `DataError` unless 1 <= lights <= 32."""
        if not 1 <= lights <= 32:
            raise DataError(f"a plate has 1 to 32 lights, got {lights}")
        self.sensor = sensor or Sensor()
        self.lights = tuple(DirectionalLight(azimuth_deg=360 / lights * index) for index in range(lights))
        self.lines: tuple[str, ...] = tuple(f"az{round(light.azimuth_deg):03d}" for light in self.lights)
        self.psf_sigma_px = _PSF_SIGMA_PX
        self._random_seed = random_seed
        self._response, self._dark = self.sensor.fixed_pattern(HEIGHT, WIDTH)
        self._rendered: OrderedDict[str, PlatePart] = OrderedDict()

    def list_parts(self, good: int = 200, each: int = 20) -> tuple[str, ...]:
        """Ids of a representative set; any other number of six digits is a part too."""
        names = [f"{GOOD}-{index:06d}" for index in range(good)]
        return (*names, *(f"{flaw}-{index:06d}" for flaw in FLAWS for index in range(each)))

    def part(self, part_id: str) -> PlatePart:
        """Render a part, or return it from the last few. Raises `DataError` for an unknown id."""
        if part_id in self._rendered:
            self._rendered.move_to_end(part_id)
            return self._rendered[part_id]
        part = self._render(part_id)
        self._rendered[part_id] = part
        while len(self._rendered) > _KEPT:
            self._rendered.popitem(last=False)
        return part

    def defect_class(self, part_id: str) -> str | None:
        """Return the part's flaw; None for a good one. Raises `DataError` for an unknown id."""
        match = _PART_ID.fullmatch(part_id)
        if match is None or match[1] not in {GOOD, *FLAWS}:
            raise DataError(
                f"there is no part {part_id}; plates are called {GOOD}-000001 or {next(iter(FLAWS))}-000001"
            )
        return None if match[1] == GOOD else match[1]

    def place_mask(self, part_id: str) -> Mask:
        """Return the true mask (H, W) of the part's flaw."""
        return self.part(part_id).mask

    def _render(self, part_id: str) -> PlatePart:
        flaw = self.defect_class(part_id)
        entropy = [self._random_seed, zlib.crc32(part_id.encode())]
        generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence(entropy)))
        surface, shift = _blank(generator)
        mask = np.zeros((HEIGHT, WIDTH), np.bool_)
        if flaw is not None:
            mask = FLAWS[flaw](surface, generator, _somewhere(generator))
        _drill(surface, mask, shift)
        radiance = shade(surface, self.lights, _SHININESS, self.psf_sigma_px)
        radiance *= self._response * np.float32(_ELECTRONS / _MEAN_RADIANCE / _EXPOSURE_US)
        return PlatePart(rate=radiance, lines=self.lines, sensor=self.sensor, mask=mask, dark=self._dark)


def recipe_for_plate(lights: int = 4, recipe_id: str = "plate") -> Recipe:
    """Return the recipe of a plate with one channel for each light."""
    lines = PlateProduct(lights).lines
    return Recipe(
        recipe_id=recipe_id,
        product=recipe_id,
        height=HEIGHT,
        width=WIDTH,
        channels=tuple(Channel(name=line, exposure_us=_EXPOSURE_US, lights={line: 1.0}) for line in lines),
        defect_classes=tuple(DefectClass(name=name) for name in FLAWS),
    )


def _blank(generator: np.random.Generator) -> tuple[Surface, tuple[float, float]]:
    """Return a good plate as it lies in the fixture, and how far (dy, dx in px) it lies beside its place."""
    shape = (HEIGHT, WIDTH)
    shift = (float(generator.normal(0, 0.8)), float(generator.normal(0, 0.8)))
    lay = 0.055 * brushed(generator, *shape, along_px=61, across_px=0.7)
    lay += 0.10 * brushed(generator, *shape, along_px=121, across_px=1.8)
    # The cutter's feed marks: shallow arcs at a regular pitch, a little different on every part.
    y = np.arange(HEIGHT, dtype=np.float32)[:, None] - np.float32(shift[0])
    x = np.arange(WIDTH, dtype=np.float32)[None, :] - np.float32(shift[1])
    pitch, phase = generator.normal(9.0, 0.15), generator.uniform(0, 2 * np.pi)
    arc = np.sqrt((x - 160) ** 2 + (y + 900) ** 2)
    feed = 0.05 * np.sin((2 * np.pi / pitch) * arc + phase)
    waviness = 0.8 * cloudy(generator, *shape, 90)
    tone = 1 + 0.02 * generator.standard_normal() + 0.015 * cloudy(generator, *shape, 40)
    albedo = 0.42 * tone * (1 + 0.05 * lay / 0.1)
    gloss = 0.16 * (1 + 0.05 * cloudy(generator, *shape, 60))
    height = np.asarray(lay + feed + waviness, np.float32)
    return Surface(height, np.asarray(albedo, np.float32), np.asarray(gloss, np.float32)), shift


def _somewhere(generator: np.random.Generator) -> tuple[float, float]:
    """Return a place (y, x) on the plate, clear of the border and of the holes' walls."""
    while True:
        place = (float(generator.uniform(24, HEIGHT - 24)), float(generator.uniform(24, WIDTH - 24)))
        if all(np.hypot(place[0] - row, place[1] - column) > radius + 14 for row, column, radius in _HOLES):
            return place


#: (y, x, radius) of the drilled holes in px.
_HOLES = ((70.0, 66.0, 22.0), (186.0, 254.0, 22.0))
_CHAMFER_PX = 4.0


def _drill(surface: Surface, mask: Mask, shift: tuple[float, float]) -> None:
    """Cut the holes with their chamfers; they swallow whatever flaw reached into them."""
    y = np.arange(HEIGHT, dtype=np.float32)[:, None]
    x = np.arange(WIDTH, dtype=np.float32)[None, :]
    for row, column, radius in _HOLES:
        distance = np.hypot(y - np.float32(row + shift[0]), x - np.float32(column + shift[1]))
        inside = np.clip(radius - distance + 0.5, 0, 1)
        chamfer = np.clip((radius + _CHAMFER_PX - distance) / _CHAMFER_PX, 0, 1)
        surface.height -= np.asarray(2.0 * chamfer, np.float32)
        surface.albedo *= np.asarray(1 - 0.95 * inside, np.float32)
        surface.gloss *= np.asarray(1 - inside, np.float32)
        mask[distance < radius] = False
