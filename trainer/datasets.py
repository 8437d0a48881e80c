"""From papers to pixels: the samples of a verified manifest, and the held-out real parts.

Training reads what a manifest names and nothing else, each image checked against the digest that the gate signed.
Evaluation reads held-out real parts only; nothing synthetic can come in here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell.defects import PASTED_FROM, Candidate, LabelMap, Mask, Sample, SeedState, Split
from cell.errors import DataError, GateError
from cell.frames import StoredStack
from cell.models import ManifestItem, SampleKind, TrainingSet
from cell.recipes import Recipe
from cell.store.learning import LearningStore

#: Is called before each image; raises to stop.
GoOn = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A sample and the picture it was read from; they share their pixels."""

    sample: Sample
    stored: StoredStack


def verified(store: LearningStore, manifest_id: str, recipe: Recipe) -> TrainingSet:
    """Return the manifest with this id after the gate has vouched for it.

    :raises NotFound: the store never issued it.
    :raises GateError: it was edited, a decision behind it does not stand, or it belongs to another recipe.
    """
    manifest = store.gate.training_set(manifest_id)
    store.gate.verify_training_set(manifest)
    if (manifest.recipe_id, manifest.recipe_version) != (recipe.recipe_id, recipe.version):
        raise GateError(
            f"manifest {manifest_id} was issued for {manifest.recipe_id} version {manifest.recipe_version}, "
            f"not for {recipe.recipe_id} version {recipe.version}; ask for a new training"
        )
    if manifest.channels != recipe.channel_names or not set(manifest.classes) <= set(recipe.class_names):
        raise GateError(
            f"the channels or classes of {recipe.recipe_id} changed since manifest {manifest_id} was issued; "
            "ask for a new training"
        )
    return manifest


def training_samples(store: LearningStore, manifest: TrainingSet, recipe: Recipe, go_on: GoOn) -> list[Loaded]:
    """Read every image of a verified manifest.

    Real images have weight 1. A synthetic one belongs to the physical part of its background, and a tag names the
    parts of the seeds that it was made from, so that no fold of a cross-validation sees a part on both sides (see
    :mod:`trainer.crossval`).

    :raises GateError, StoreError, DataError: an image is not the one that was signed, or does not fit the recipe.
    """
    loaded = []
    for index, item in enumerate(manifest.items):
        go_on(index, len(manifest.items))
        stored, mask = store.gate.load_item(item)
        sample = _sample(item, stored, mask, manifest.classes, recipe)
        if sample.synthetic:
            candidate = store.candidates.get(item.item_id).candidate
            sample.tags.update(_origin(store, candidate))
            for defect_class, own in store.candidates.defects(candidate) if candidate.regions else ():
                sample.labels[own] = manifest.classes.index(defect_class) + 1
        loaded.append(Loaded(sample, stored))
    _mark_neighbours([(item.image_digest, one.sample) for item, one in zip(manifest.items, loaded, strict=True)])
    return loaded


def held_out_samples(store: LearningStore, recipe: Recipe, classes: tuple[str, ...], go_on: GoOn) -> list[Loaded]:
    """Read the real parts that nothing was learned from: held-out backgrounds and confirmed held-out seeds.

    Seeds of classes that the model does not know are left out. Raises `DataError` for a picture that does not fit.
    """
    good = store.backgrounds(recipe.recipe_id, Split.HELD_OUT)
    bad = [
        seed
        for seed in store.seeds(recipe.recipe_id, state=SeedState.CONFIRMED, split=Split.HELD_OUT)
        if seed.defect_class in classes
    ]
    total, loaded = len(good) + len(bad), []
    for index, background in enumerate(good):
        go_on(index, total)
        stored = store.read_image(background.image)
        stack = check_fits(stored, recipe, background.background_id)
        labels = np.zeros(stack.shape[1:], np.uint8)
        loaded.append(Loaded(Sample(stack, labels, background.part_id, sample_id=background.background_id), stored))
    for index, seed in enumerate(bad, start=len(good)):
        go_on(index, total)
        stored = store.read_image(seed.image)
        stack = check_fits(stored, recipe, seed.seed_id)
        labels = label_map(store.read_mask(seed.mask), classes.index(seed.defect_class))
        tags = {"defect_class": seed.defect_class}
        loaded.append(Loaded(Sample(stack, labels, seed.part_id, sample_id=seed.seed_id, tags=tags), stored))
    digests = [background.image.digest for background in good] + [seed.image.digest for seed in bad]
    _mark_neighbours([(image, one.sample) for image, one in zip(digests, loaded, strict=True)])
    return loaded


def _mark_neighbours(samples: list[tuple[str, Sample]]) -> None:
    """Label on each sample what other samples say of the same picture: a part with two defects is nowhere good.

    :param samples: digest of each sample's picture, and the sample.
    """
    pictures: dict[str, list[Sample]] = {}
    for image_digest, sample in samples:
        pictures.setdefault(image_digest, []).append(sample)
    for together in pictures.values():
        everything = np.maximum.reduce([sample.labels for sample in together])
        for sample in together:
            sample.labels[sample.labels == 0] = everything[sample.labels == 0]


def label_map(mask: Mask, class_index: int) -> LabelMap:
    """Return the label map (H, W) uint8 of one defect of class `class_index`."""
    return mask.astype(np.uint8) * np.uint8(class_index + 1)


def check_fits(stored: StoredStack, recipe: Recipe, name: str) -> NDArray[Any]:
    """Return the pixels (K, H, W) of a picture. Raises `DataError` when it is not one of this recipe."""
    expected = (len(recipe.channels), recipe.height, recipe.width)
    if stored.pixels.shape != expected or stored.channels != recipe.channel_names:
        _, height, width = stored.pixels.shape
        raise DataError(
            f"{name} has {width}x{height} pixels of {', '.join(stored.channels)}, the recipe {recipe.recipe_id} has "
            f"{recipe.width}x{recipe.height} of {', '.join(recipe.channel_names)}; harvest again with this recipe"
        )
    return stored.pixels


def _origin(store: LearningStore, candidate: Candidate) -> dict[str, str]:
    provenance = candidate.provenance
    parts = {store.seed(seed_id).part_id for seed_id in provenance.seed_ids}
    return {"arm": provenance.parameters.arm, PASTED_FROM: ",".join(sorted(parts))}


def _sample(
    item: ManifestItem, stored: StoredStack, mask: Mask | None, classes: tuple[str, ...], recipe: Recipe
) -> Sample:
    stack = check_fits(stored, recipe, item.item_id)
    synthetic = item.kind is SampleKind.SYNTHETIC
    tags = {"kind": item.kind.value}
    if item.kind is SampleKind.BACKGROUND:
        labels = np.zeros(stack.shape[1:], np.uint8)
    else:
        if mask is None or item.defect_class is None:
            raise GateError(f"{item.item_id} stands in the manifest without a mask or a class; ask for a new training")
        labels = label_map(mask, classes.index(item.defect_class))
        tags["defect_class"] = item.defect_class
    return Sample(stack, labels, item.part_id, synthetic=synthetic, sample_id=item.item_id, tags=tags)
