"""The true values of the emulated cell, for a calibration or a generator to be held against. Only tests, benchmarks and
training scripts read them; nothing that inspects parts does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cell.defects import Mask
from drivers.sim.render.lamps import Lamp
from drivers.sim.render.lens import Lens
from drivers.sim.render.reflection import prepare, radiance
from drivers.sim.render.shadow import Relief
from drivers.sim.render.workpiece import Canvas, FloatMap, Placement, Workpiece, blank
from drivers.sim.sensor import Sensor


@dataclass(frozen=True, slots=True, eq=False)
class DefectTruth:
    """One defect of a part: class, where it is, and every parameter that made it (lengths as their names say)."""

    defect_class: str
    mask: Mask  # (H, W)
    severity: float  # 1 is typical of the class
    parameters: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class PartTruth:
    """A part's surface as the picture's pixels have it; maps (H, W) float32, NaN where the part is not."""

    height_um: FloatMap
    normals: FloatMap  # (H, W, 3), unit vectors: x right, y down, z to the camera
    albedo: FloatMap
    specular: FloatMap
    roughness: FloatMap  # across the lay
    placement: Placement
    defects: tuple[DefectTruth, ...]


@dataclass(frozen=True, slots=True, eq=False)
class CellTruth:
    """Camera, lens and lamps."""

    px_per_mm: float
    sensor: Sensor
    lens: Lens  # mtf() and psf_sigma_px() are those of lens and pixel together
    lamps: dict[str, Lamp]
    power: dict[str, float]  # electrons per microsecond of a white Lambertian face square to the light

    def direction(self, line: str) -> NDArray[np.float64]:
        """Unit vector from the field's centre to a lamp's middle: x right, y down, z to the camera."""
        return self.lamps[line].toward()

    def flat_field(self, line: str, height: int, width: int) -> FloatMap:
        """Return what an even, matt face shows under a line, (H, W) float32 of mean 1: cone, distance and fall-off."""
        profile = flat_radiance(self.lamps[line], self.lens, height, width, 1 / self.px_per_mm)
        return np.asarray(profile / profile.mean(), np.float32)


def flat_radiance(lamp: Lamp, lens: Lens, height: int, width: int, pitch_mm: float) -> FloatMap:
    """Return the picture (H, W) float32 of a white Lambertian plane under one lamp of unit power."""
    canvas = Canvas.make(height, width, pitch_mm, 1, Placement())
    white = blank(canvas, canvas.full(1e3), albedo=1.0, specular=0.0, roughness=1.0)
    # No lobe either: Fresnel's term would add one to a dielectric at grazing light.
    shown = radiance(prepare(white, Relief(white, 1)), lamp, lobe=False)
    return lens.form(shown, 1) * lamp.profile(canvas.u, canvas.v)


def part_truth(work: Workpiece, canvas: Canvas, defects: tuple[DefectTruth, ...]) -> PartTruth:
    """Return a part's surface in pixels."""
    slope_x, slope_y = (_pixels(slope, canvas) for slope in work.slopes())
    nz = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
    gone = _pixels(work.cover, canvas) < 0.5
    normals = np.stack([-slope_x * nz, -slope_y * nz, nz], axis=2)
    normals[gone] = np.nan
    maps = []
    for values in (work.height_um, work.albedo, work.specular, work.across):
        shown = _pixels(values, canvas)
        shown[gone] = np.nan
        maps.append(shown)
    return PartTruth(maps[0], normals, maps[1], maps[2], maps[3], canvas.placement, defects)


def _pixels(values: FloatMap, canvas: Canvas) -> FloatMap:
    size = canvas.oversampling
    return np.asarray(values.reshape(canvas.height, size, canvas.width, size).mean(axis=(1, 3)), np.float32)
