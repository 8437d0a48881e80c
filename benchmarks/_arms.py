"""The arms of the few-shot benchmark: where synthetic training images come from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks._classic import augmented
from benchmarks._layout import Product
from cell.calibration import Calibration, CalibrationKind, ChannelCalibration, Illumination
from cell.clock import utc_now
from cell.defects import PASTED_FROM, Draft, Sample
from cell.imaging.noise import estimate_from_singles
from cell.jobs import Progress
from cell.recipes import Channel, DefectClass, Recipe
from trainer.generate.base import BackgroundSample, GenerateRequest, SeedSample
from trainer.generate.candidates import ARMS as GENERATORS
from trainer.generate.candidates import allowed_places, make_candidates

REAL, BALANCED, AUGMENT = "real", "balanced", "augment"
ARMS = (REAL, BALANCED, AUGMENT, *sorted(GENERATORS))
#: Arms whose images carry nothing of a seed but what `PASTED_FROM` names: a fold can leave them out.
_SEPARABLE = frozenset({"copypaste", "procedural"})


@dataclass(frozen=True, slots=True, eq=False)
class Synthetic:
    """Synthetic samples, and whether a fold can leave out what came from the seeds it holds out."""

    samples: tuple[Sample, ...]
    seeds_can_be_held_out: bool


def synthesise(
    arm: str, product: Product, per_class: int, seed: int, progress: Callable[[Progress], None]
) -> Synthetic:
    """Return `per_class` synthetic images of each class, made from the learning parts alone.

    :raises InspectdError: what the generator raises.
    """
    if arm in {REAL, BALANCED}:
        return Synthetic((), seeds_can_be_held_out=True)
    if arm == AUGMENT:
        return Synthetic(augmented(product, per_class, seed), seeds_can_be_held_out=True)
    recipe = _recipe(product)
    seeds = [
        SeedSample(f"seed-{index}", one.group, product.classes[int(one.labels.max()) - 1], one.stack, one.labels > 0)
        for index, one in enumerate(product.seeds)
    ]
    backgrounds = [
        BackgroundSample(f"background-{index}", one.group, one.stack, allowed_places(recipe, one.stack))
        for index, one in enumerate(product.backgrounds)
    ]
    request = GenerateRequest(arm=arm, per_class=per_class, random_seed=seed)
    with tempfile.TemporaryDirectory(prefix="fewshot-") as folder:
        drafts = make_candidates(
            request, seeds, backgrounds, _calibration(product, recipe), recipe, workdir=Path(folder), progress=progress
        )
        parts = {one.seed_id: one.part_id for one in seeds} | {one.background_id: one.part_id for one in backgrounds}
        samples = tuple(_sample(draft, index, product, parts) for index, draft in enumerate(drafts))
    return Synthetic(samples, seeds_can_be_held_out=arm in _SEPARABLE)


def export_synthetic(samples: Sequence[Sample], classes: Sequence[str], root: Path) -> None:
    """Write ``root/<class>/NAME.png`` and ``NAME_mask.png`` (255 in the defect), of several lights ``NAME_e1`` etc."""
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
    for sample in samples:
        folder = root / classes[int(sample.labels.max()) - 1]
        mask = np.where(sample.labels > 0, 255, 0).astype(np.uint8)
        for number, plane in enumerate(sample.stack, start=1):
            name = sample.sample_id if len(sample.stack) == 1 else f"{sample.sample_id}_e{number}"
            Image.fromarray(plane).save(folder / f"{name}.png")
            Image.fromarray(mask).save(folder / f"{name}_mask.png")


def _sample(draft: Draft, index: int, product: Product, parts: dict[str, str]) -> Sample:
    labels = np.where(draft.mask, product.classes.index(draft.defect_class) + 1, 0).astype(np.uint8)
    sources = sorted({parts[seed] for seed in draft.provenance.seed_ids})
    return Sample(
        stack=draft.stack,
        labels=labels,
        group=parts[draft.provenance.background_id],
        synthetic=True,
        sample_id=f"synthetic-{index:05d}",
        tags={PASTED_FROM: ",".join(sources)},
    )


def _recipe(product: Product) -> Recipe:
    """Return the recipe of a cell that takes such pictures; their sizes differ, so the frame is the largest."""
    shapes = [sample.stack.shape for sample in (*product.seeds, *product.backgrounds)]
    return Recipe(
        recipe_id="fewshot",
        product="folder",
        height=max(shape[1] for shape in shapes),
        width=max(shape[2] for shape in shapes),
        bit_depth=product.bit_depth,
        channels=tuple(Channel(name=name, exposure_us=1.0, lights={name: 1.0}) for name in product.channels),
        defect_classes=tuple(DefectClass(name=name) for name in product.classes),
    )


def _calibration(product: Product, recipe: Recipe) -> Calibration:
    """Return the degraded calibration that a folder of single frames allows: a noise level, no photon transfer."""
    channels, findings = [], list[str]()
    for index, name in enumerate(product.channels):
        frames = [sample.stack[index] for sample in product.backgrounds]
        fitted = estimate_from_singles(frames, bit_depth=product.bit_depth)
        flat = Illumination(grid=((1.0,),), mean_dn=float(np.mean([frame.mean() for frame in frames])))
        channels.append(ChannelCalibration(channel=name, noise=fitted.model, illumination=flat, psf_sigma_px=0.0))
        findings += fitted.findings
    return Calibration(
        calibration_id="fewshot",
        recipe_id=recipe.recipe_id,
        kind=CalibrationKind.DEGRADED,
        channels=tuple(channels),
        frames_used=len(product.backgrounds),
        findings=tuple(dict.fromkeys(findings)),
        created_at=utc_now(),
    )
