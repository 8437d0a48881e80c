"""An emulated cell for benchmarks that learn: parts of a product, or of a variant, as seeds, backgrounds and tests.

The camera sees the middle of the part, so that small frames show defects at the size that larger ones have. Every part
is another one; which, follows from its number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.calibration import Calibration, CalibrationKind, ChannelCalibration, Illumination
from cell.defects import Draft, Sample
from cell.frames import Stack
from cell.imaging.preprocess import Preprocessing
from cell.recipes import Recipe
from drivers.sim.products.blueprint import Batch, Blueprint, Generator
from drivers.sim.products.catalogue import PRODUCTS
from drivers.sim.render.lamps import rig
from drivers.sim.render.workpiece import Canvas, Workpiece
from drivers.sim.sensor import Sensor
from drivers.sim.studio import EXPOSURE_US, Order, StudioPart, StudioProduct, recipe_for
from drivers.sim.truth import DefectTruth
from trainer.fit import FitConfig, FittedModel, fit
from trainer.generate.base import BackgroundSample, SeedSample
from trainer.samples import Sampling

SIZE, _SMALL, _VIEW_MM = (192, 240), (24, 30), (9.6, 7.68)
_BIT_DEPTH, _CLEAR_MM, _CLEAR_PX, _LEAST_MASK = 12, 0.9, 5, 12
#: Crops of an update and their side: small frames need no more.
_BATCH, _CROP = 6, 64
Fits = Callable[[DefectTruth], bool]


@dataclass(frozen=True, slots=True)
class Variant:
    """What differs from the product as it is drawn: the material, and the part's size beside its grain's."""

    batch: Batch = field(default_factory=Batch)
    scale: float = 1.0


AS_IT_IS = Variant()


class RenderedCell:
    """A product in front of a camera with what the generator and the detector are given of it."""

    def __init__(self, name: str, lights: str, classes: Sequence[str], variant: Variant = AS_IT_IS) -> None:
        """Set the cell up: its lamps are adjusted to the variant, as anybody would."""
        sensor = Sensor.of_depth(_BIT_DEPTH)
        self.product = StudioProduct(_seen(PRODUCTS[name], variant), rig(lights), size=SIZE, sensor=sensor)
        # What a defect's parameters are is seen as well, and far faster, in a small picture.
        self._scout = StudioProduct(self.product.blueprint, rig("1"), size=_SMALL, sensor=sensor, oversampling=1)
        recipe = recipe_for(self.product, f"{name}-{'a' if variant == AS_IT_IS else 'b'}")
        kept = tuple(one for one in recipe.defect_classes if one.name in classes)
        self.recipe: Recipe = recipe.model_copy(update={"defect_classes": kept})
        self.classes = self.recipe.class_names
        self.calibration = self._calibration()

    def background(self, number: int) -> BackgroundSample:
        """Return a good part for the generator."""
        part_id = f"good-{number:06d}"
        part = self.product.make(part_id)
        size = part.canvas.oversampling
        cover = part.work.cover.reshape(SIZE[0], size, SIZE[1], size).min(axis=(1, 3)) > 0.99
        # As a ROI and exclusions would be drawn: the face, clear of hole and edges.
        allowed = ndimage.binary_erosion(cover, iterations=_CLEAR_PX)
        return BackgroundSample(f"b{number}", part_id, self._taken(part, number), allowed)

    def plain(self, background: BackgroundSample) -> Sample:
        """Return a good part for the detector."""
        return Sample(background.stack, np.zeros(SIZE, np.uint8), background.part_id, sample_id=background.part_id)

    def seeds(
        self,
        count: int,
        first: int,
        severity: tuple[float, float],
        fits: Fits = lambda _defect: True,
        classes: Sequence[str] = (),
    ) -> list[SeedSample]:
        """Return so many seeds of each class, all when empty, each on a part of its own, numbered from `first` on.

        :param fits: which of the defects that chance draws are taken.
        """
        found = []
        for place, defect_class in enumerate(classes or self.classes):
            number = first + 1000 * place
            for _ in range(count):
                number, stack, defect = self._next(defect_class, number, severity, fits)
                part_id = f"good-{number:06d}"
                found.append(SeedSample(f"{defect_class}{number}", part_id, defect_class, stack, defect.mask))
        return found

    def defective(self, seed: SeedSample) -> Sample:
        """Return a seed, or a defect that was rendered as one, for the detector."""
        labels = np.where(seed.mask, self.classes.index(seed.defect_class) + 1, 0).astype(np.uint8)
        return Sample(seed.stack, labels, seed.part_id, sample_id=seed.seed_id)

    def candidate(self, draft: Draft, number: int) -> Sample:
        """Return a candidate for the detector."""
        labels = np.where(draft.mask, self.classes.index(draft.defect_class) + 1, 0).astype(np.uint8)
        part_id = draft.provenance.background_id
        return Sample(draft.stack, labels, part_id, synthetic=True, sample_id=f"synthetic-{number}")

    def learn(self, samples: Sequence[Sample], updates: int, seed: int, *, synthetic_share: float = 0.5) -> FittedModel:
        """Return a small detector of the samples, from random weights: those that ship know the renderer's defects."""
        spec = Preprocessing(channels=self.recipe.channel_names, bit_depth=_BIT_DEPTH)
        sampling = Sampling(size=_CROP, synthetic_share=synthetic_share)
        return fit(samples, spec, self.classes, FitConfig(updates=updates, batch=_BATCH, seed=seed, sampling=sampling))

    def _next(
        self, defect_class: str, number: int, severity: tuple[float, float], fits: Fits
    ) -> tuple[int, Stack, DefectTruth]:
        low, high = severity
        while True:
            number += 1
            drawn = float(low * (high / low) ** np.random.default_rng([number, 5]).random())
            order, part_id = Order(defect_class, severity=drawn, seed=number), f"good-{number:06d}"
            if not fits(self._scout.make(part_id, (order,)).defects[0]):
                continue
            part = self.product.make(part_id, (order,))
            defect = part.defects[0]
            if defect.mask.sum() >= _LEAST_MASK and fits(defect):
                return number, self._taken(part, number), defect

    def _taken(self, part: StudioPart, number: int) -> Stack:
        generator = np.random.default_rng([number, 7])
        frames = [part.expose({line: 1.0}, EXPOSURE_US, 0.0, generator) for line in self.product.lines]
        return np.stack(frames).astype(np.uint16)

    def _calibration(self) -> Calibration:
        sensor, spread = self.product.sensor, self.product.lens.psf_sigma_px()
        flat = Illumination(grid=((1.0,),), mean_dn=0.3 * sensor.saturation_dn)
        return Calibration(
            calibration_id=self.recipe.recipe_id,
            recipe_id=self.recipe.recipe_id,
            kind=CalibrationKind.MEASURED,
            channels=tuple(
                ChannelCalibration(channel=name, noise=sensor.noise_model(), illumination=flat, psf_sigma_px=spread)
                for name in self.recipe.channel_names
            ),
            frames_used=16,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )


def image_scores(model: FittedModel, samples: Sequence[Sample]) -> NDArray[np.float64]:
    """Return the highest class score of each picture, (N,)."""
    return np.array([float(model.predict(one.stack)[1].max()) for one in samples])


def _seen(blueprint: Blueprint, variant: Variant) -> Blueprint:
    """Return the middle of a product, of another material and size; its defects stay as large as they are."""
    scale, half = np.float32(variant.scale), (_VIEW_MM[0] / 2 - _CLEAR_MM, _VIEW_MM[1] / 2 - _CLEAR_MM)
    own = variant.batch

    def draw(canvas: Canvas, generator: Generator, batch: Batch) -> Workpiece:
        scaled = replace(canvas, u=canvas.u / scale, v=canvas.v / scale) if variant.scale != 1 else canvas
        both = Batch(
            tone=batch.tone * own.tone,
            roughness=batch.roughness * own.roughness,
            relief=batch.relief * own.relief,
            grain=batch.grain * own.grain,
        )
        return blueprint.draw(scaled, generator, both)

    def face(generator: Generator) -> tuple[float, float]:
        while True:
            u, v = (float(scale) * value for value in blueprint.face(generator))
            if abs(u) < half[0] and abs(v) < half[1]:
                return u, v

    return replace(blueprint, field_mm=_VIEW_MM, draw=draw, face=face)
