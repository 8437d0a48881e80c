"""A rendered product with a lay, and measures of a defect that do not come from the generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, spatial

from cell.calibration import Calibration, CalibrationKind, ChannelCalibration, Illumination
from cell.defects import Draft, Mask
from cell.frames import Stack
from cell.recipes import Recipe, Rect
from drivers.sim.products.catalogue import PRODUCTS
from drivers.sim.render.lamps import rig
from drivers.sim.render.workpiece import Canvas
from drivers.sim.sensor import Sensor
from drivers.sim.studio import EXPOSURE_US, Order, StudioPart, StudioProduct, recipe_for
from trainer.generate.base import BackgroundSample, SeedSample
from trainer.generate.candidates import allowed_places

CLASSES = ("pit", "scratch", "crack", "stain")
SIZE = (384, 480)
_BIT_DEPTH, _SEEDS, _BACKGROUNDS = 12, 5, 3
_ROI = Rect(x=24, y=24, width=432, height=336)
_EXCLUSION = Rect(x=150, y=60, width=70, height=50)
_ZONE = Rect(x=270, y=70, width=130, height=120)
#: Share of full scale that is added before a logarithm, as documented of the product's log contrast.
_BLACK = 0.03
#: Pixels about a label whose light its contrast is relative to.
_RING = 8


@dataclass(frozen=True, slots=True, eq=False)
class ControlCell:
    """A product in front of a camera: what the generator gets, and the truth about the parts."""

    recipe: Recipe
    calibration: Calibration
    sensor: Sensor
    seeds: list[SeedSample]
    backgrounds: list[BackgroundSample]
    lays: dict[str, NDArray[np.float64]]  # degrees (H, W), of each background
    on_part: dict[str, Mask]  # (H, W)

    @classmethod
    def render(cls, name: str, classes: Sequence[str] = CLASSES) -> ControlCell:
        """Render parts of a product under four lights, seeds of some classes."""
        product = StudioProduct(PRODUCTS[name], rig("4"), size=SIZE, sensor=Sensor.of_depth(_BIT_DEPTH))
        recipe = recipe_for(product, "control")
        kept = tuple(one for one in recipe.defect_classes if one.name in classes)
        recipe = recipe.model_copy(
            update={
                "defect_classes": kept,
                "roi": _ROI,
                "exclusions": (_EXCLUSION,),
                "carrier_max_dn": round(product.sensor.offset_dn + 20),
            }
        )
        seeds: list[SeedSample] = []
        backgrounds, lays, on_part = [], {}, {}
        for index in range(_BACKGROUNDS):
            part_id = f"good-{index:06d}"
            part = product.make(part_id)
            stack = _taken(product, part)
            backgrounds.append(BackgroundSample(f"b{index}", part_id, stack, allowed_places(recipe, stack)))
            on_part[f"b{index}"] = np.isfinite(product.part_truth(part_id).albedo)
            lays[f"b{index}"] = _lay(part, round_about=name == "disc")
        for defect_class in (one.name for one in kept):
            for _ in range(_SEEDS):
                part_id = f"good-{100 + len(seeds):06d}"
                part = product.make(part_id, (Order(defect_class, severity=1.5),))
                stack, mask = _taken(product, part), part.defects[0].mask
                seeds.append(SeedSample(f"{defect_class}{len(seeds)}", part_id, defect_class, stack, mask))
        return cls(recipe, _calibration(recipe, product.sensor), product.sensor, seeds, backgrounds, lays, on_part)

    @property
    def zone(self) -> Rect:
        """A zone inside the ROI."""
        return _ZONE

    def within(self, box: Rect) -> Mask:
        """Return the pixels (H, W) bool of a rectangle."""
        inside = np.zeros(SIZE, np.bool_)
        inside[box.y : box.y + box.height, box.x : box.x + box.width] = True
        return inside

    def misplaced(self, support: Mask) -> bool:
        """Whether anything lies outside the ROI or in the exclusion."""
        return bool(support[~self.within(_ROI)].any() or support[self.within(_EXCLUSION)].any())

    def background(self, draft: Draft) -> Stack:
        """Return the part without the defect."""
        name = draft.provenance.background_id
        return next(one.stack for one in self.backgrounds if one.background_id == name)

    def contrast(self, draft: Draft) -> float:
        """Return the root mean square change inside the label, three by three pixels' mean, over the light about it."""
        mask = draft.mask
        ring = ndimage.binary_dilation(mask, iterations=_RING) & ~ndimage.binary_dilation(mask, iterations=2)
        ring &= self.on_part[draft.provenance.background_id]
        squares = []
        for made, good in zip(draft.stack.astype(np.float64), self.background(draft).astype(np.float64), strict=True):
            light = float(np.median(good[ring])) - self.sensor.offset_dn
            squares.append(float((ndimage.uniform_filter(made - good, 3)[mask] ** 2).mean()) / light**2)
        return float(np.sqrt(np.mean(squares)))

    def density(self, draft: Draft) -> float:
        """Return the root mean square logarithm of lit over unlit inside the label, of three by three pixels' means."""
        black = _BLACK * ((1 << _BIT_DEPTH) - 1)
        squares = []
        for made, good in zip(draft.stack.astype(np.float64), self.background(draft).astype(np.float64), strict=True):
            light, unlit = (ndimage.uniform_filter(one, 3)[draft.mask] + black for one in (made, good))
            squares.append(float((np.log(light / unlit) ** 2).mean()))
        return float(np.sqrt(np.mean(squares)))

    def detectability(self, draft: Draft) -> float:
        """Return d': the root of the summed squared change inside the label over the sensor's own noise."""
        change = draft.stack.astype(np.float64) - self.background(draft)
        total = (change / self._sigma(self.background(draft).astype(np.float64)))[:, draft.mask]
        return float(np.sqrt((total**2).sum()))

    def direction(self, draft: Draft) -> float:
        """Return the direction of the label's longest axis, degrees from the true lay."""
        rows, columns = np.nonzero(draft.mask)
        x, y = columns - columns.mean(), rows - rows.mean()
        axis = 0.5 * np.degrees(np.arctan2(2 * (x * y).mean(), (x * x).mean() - (y * y).mean()))
        lay = self.lays[draft.provenance.background_id][round(rows.mean()), round(columns.mean())]
        return float((axis - lay + 90) % 180 - 90)

    def extent(self, draft: Draft) -> float:
        """Return the greatest distance between two corners of the label's pixels."""
        return float(spatial.distance.pdist(_hull(draft.mask)).max())

    def thickness(self, draft: Draft) -> float:
        """Return the label's area over its longest extent."""
        return float(draft.mask.sum()) / self.extent(draft)

    def spread(self, draft: Draft) -> float:
        """Return the area of the label's convex hull over its longest extent squared: small for a line."""
        return float(spatial.ConvexHull(_hull(draft.mask)).volume) / self.extent(draft) ** 2

    def elongation(self, draft: Draft) -> float:
        """Return length over width of the label by its moments."""
        values = np.linalg.eigvalsh(np.cov(np.stack(np.nonzero(draft.mask)).astype(np.float64)))
        return float(np.sqrt(values[1] / values[0]))

    def _sigma(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        model = self.sensor.noise_model()
        signal = np.maximum(pixels - model.offset_dn, 0.0)
        return np.sqrt(model.read_noise_dn**2 + 1 / 12 + model.gain_dn_per_e * signal)


def _hull(mask: Mask) -> NDArray[np.float64]:
    rows, columns = np.nonzero(mask & ~ndimage.binary_erosion(mask))
    corners = np.concatenate([np.column_stack([rows + a, columns + b]) for a in (-0.5, 0.5) for b in (-0.5, 0.5)])
    return np.asarray(corners[spatial.ConvexHull(corners).vertices], np.float64)


def _taken(product: StudioProduct, part: StudioPart) -> Stack:
    generator = np.random.default_rng(7)
    return np.stack([part.expose({line: 1.0}, EXPOSURE_US, 0.0, generator) for line in product.lines]).astype(np.uint16)


def _lay(part: StudioPart, *, round_about: bool) -> NDArray[np.float64]:
    """Return the true direction of the lay at each pixel: along u, or around the axis."""
    canvas = part.canvas
    pixels = Canvas.make(canvas.height, canvas.width, canvas.pitch_mm, 1, canvas.placement)
    level = np.hypot(pixels.u, pixels.v) if round_about else pixels.v
    down, across = np.gradient(np.asarray(level, np.float64))
    lay: NDArray[np.float64] = np.degrees(np.arctan2(across, -down))
    return lay


def _calibration(recipe: Recipe, sensor: Sensor) -> Calibration:
    flat = Illumination(grid=((1.0,),), mean_dn=0.4 * sensor.saturation_dn)
    return Calibration(
        calibration_id="control",
        recipe_id=recipe.recipe_id,
        kind=CalibrationKind.MEASURED,
        channels=tuple(
            ChannelCalibration(channel=name, noise=sensor.noise_model(), illumination=flat, psf_sigma_px=0.8)
            for name in recipe.channel_names
        ),
        frames_used=16,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
