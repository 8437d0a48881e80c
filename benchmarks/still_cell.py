"""An emulated cell with something still before its camera: series for a calibration, and the truth beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cell.calibration import Calibration
from cell.imaging import illumination
from cell.recipes import Recipe
from cell.settings import EmulatedCellSettings
from drivers.sim.cell import EmulatedCell, open_product
from drivers.sim.studio import StudioProduct, recipe_for
from trainer.calibration_series import Conditions, Level, reduce

Series = NDArray[np.uint8] | NDArray[np.uint16]

DOT_PITCH_MM, BALL_RADIUS_MM = 1.0, 3.0
PARTS = {
    "repeats": "good-000001",
    "dark": "good-000001",
    "flat": "flat-000000",
    "target": "target-000000",
    "ball": "ball-000000",
}
FACTS: dict[str, dict[str, Any]] = {
    "target": {"dot_pitch_mm": DOT_PITCH_MM},
    "ball": {"ball_radius_mm": BALL_RADIUS_MM},
}


@dataclass(slots=True)
class StillCell:
    """A rendered product in an emulated cell."""

    product: StudioProduct
    recipe: Recipe

    @classmethod
    def open(cls, name: str, bit_depth: Literal[8, 10, 12], *, seed: int = 1, defocus_px: float = 0.0) -> StillCell:
        """Set up the cell of a product such as ``cast-4``."""
        product = open_product(EmulatedCellSettings(product=name, bit_depth=bit_depth, random_seed=seed))
        assert isinstance(product, StudioProduct)
        if defocus_px:
            product.lens = replace(product.lens, defocus_px=product.lens.defocus_px + defocus_px)
        return cls(product, recipe_for(product))

    def frames(self, part_id: str, count: int, exposure: float = 1.0, *, lit: bool = True) -> Series:
        """Return repeats (R, K, H, W) of one part under the recipe's light sequence."""
        cell = EmulatedCell(self.product)
        cell.present(part_id)
        return np.stack([self.frame_set(cell, exposure, lit=lit) for _ in range(count)])  # type: ignore[return-value]

    def parts(self, count: int, first: int = 10) -> list[Series]:
        """Return one frame set (K, H, W) of each of several good parts."""
        return [self.frames(f"good-{first + index:06d}", 1)[0] for index in range(count)]

    def level(self, kind: str, count: int = 16, exposure: float = 1.0, height_mm: float = 0.0) -> Level:
        """Take and reduce one level of a series."""
        pixels = self.frames(PARTS[kind], count, exposure, lit=kind != "dark")
        return reduce(
            pixels,
            self.recipe,
            kind,
            self.conditions(exposure, height_mm),
            facts=FACTS.get(kind, {}) | {"emulated": True},
        )

    def levels(self, count: int = 16, kinds: Sequence[str] = tuple(PARTS)) -> list[Level]:
        """Take the series that `inspectctl calibrate take` would, three exposures of the part."""
        exposures = {"repeats": (1.0, 0.5, 0.25), "dark": (1.0,), "flat": (1.0, 0.5)}
        return [self.level(kind, count, exposure) for kind in kinds for exposure in exposures.get(kind, (1.0,))]

    def conditions(self, exposure: float = 1.0, height_mm: float = 0.0) -> Conditions:
        """Return what frames at a factor on the recipe's exposures have in common."""
        return Conditions(
            tuple(channel.exposure_us * exposure for channel in self.recipe.channels),
            tuple(channel.gain_db for channel in self.recipe.channels),
            height_mm=height_mm,
        )

    def mtf50(self) -> float:
        """Return the true MTF50 of lens and pixel together on the target's face, cycles per pixel."""
        frequency = np.linspace(0, 0.5, 5001)
        below = np.flatnonzero(self.product.lens.mtf(frequency) < 0.5)
        return float(frequency[below[0]])

    def errors(self, calibration: Calibration) -> dict[str, dict[str, float]]:
        """Return for each channel how far each figure is off the truth: shares, but for angles (degrees)."""
        truth = self.product.truth()
        noise = truth.sensor.noise_model()
        table: dict[str, dict[str, float]] = {}
        tile = self.product.part("flat-000000")
        rates = {line: float(tile.rate(line).mean()) for line in self.product.lines}
        for channel in calibration.channels:
            known, row = channel.transfer, {}
            row["gain"] = channel.noise.gain_dn_per_e / noise.gain_dn_per_e - 1
            row["read_noise"] = channel.noise.read_noise_dn / noise.read_noise_dn - 1
            row["dark_level"] = channel.noise.offset_dn / noise.offset_dn - 1
            if known.prnu is not None:
                row["prnu"] = known.prnu / truth.sensor.prnu - 1
            if known.dsnu_dn is not None:
                row["dsnu"] = known.dsnu_dn / (truth.sensor.dsnu_e * noise.gain_dn_per_e) - 1
            if known.saturation_e is not None:
                true_e = (noise.saturation_dn - noise.offset_dn) / noise.gain_dn_per_e
                row["saturation"] = known.saturation_e / true_e - 1
            # The emulated sensor is straight and its noise white: what is told is the error.
            if known.linearity_error is not None:
                row["linearity"] = known.linearity_error
            row["lag1"] = channel.noise.lag1_correlation
            flat = truth.flat_field(channel.channel, self.recipe.height, self.recipe.width)
            field = illumination.field(channel.illumination, self.recipe.height, self.recipe.width)
            shown, _ = illumination.cells(flat.astype(np.float64), np.ones(flat.shape, np.bool_))
            if channel.illumination.falloff is not None:
                row["falloff"] = channel.illumination.falloff / (1 - float(shown.min() / shown.max())) - 1
            if channel.illumination.relative_intensity is not None:
                true = rates[channel.channel] / max(rates.values())
                row["relative_intensity"] = channel.illumination.relative_intensity / true - 1
            row["flat_field_rms"] = float(np.sqrt(np.mean((field / field.mean() / flat - 1) ** 2)))
            if channel.sharpness is not None:
                row["mtf50"] = channel.sharpness.mtf50 / self.mtf50() - 1
                row["psf_sigma"] = channel.psf_sigma_px / truth.lens.psf_sigma_px() - 1
            if channel.direction is not None:
                cosine = float(np.dot(channel.direction.vector, truth.direction(channel.channel)))
                row["direction_deg"] = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
            table[channel.channel] = row
        if calibration.px_per_mm is not None:
            table["all"] = {"px_per_mm": calibration.px_per_mm / truth.px_per_mm - 1}
        return table

    def frame_set(self, cell: EmulatedCell, exposure: float = 1.0, *, lit: bool = True) -> Series:
        """Return the frames (K, H, W) of one part under the recipe's light sequence."""
        frames = []
        for channel in self.recipe.channels:
            cell.illuminate(channel.lights if lit else {})
            frames.append(cell.picture(self.recipe.height, self.recipe.width, channel.exposure_us * exposure, 0.0))
        return np.stack(frames)  # type: ignore[return-value]
