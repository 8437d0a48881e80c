"""The crop sampler: balance, native pixels, labels that follow the image, and repeatability."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from tests.trainer.parts import SPEC, learning_parts, plate
from trainer.foreign import UNKNOWN_CLASS, add_foreign
from trainer.samples import Augmentation, CropSampler, Sampling

STILL = Augmentation(flips=False, warped_share=0, gain=0, offset=0, shading=0, noise=0, blur_share=0)
SAMPLING = Sampling(size=64, foreign_share=0.0, augmentation=STILL)


def test_half_of_a_batch_shows_defects_of_all_classes_alike() -> None:
    # Nine parts with pits against one with a scratch: drawn equally often all the same.
    samples = [plate(n) for n in range(3)] + [plate(10 + n, "pit") for n in range(9)] + [plate(30, "scratch")]
    sampler = CropSampler(samples, SPEC, replace(SAMPLING, same_part_share=0.0), seed=1)
    seen: Counter[int] = Counter()
    for _ in range(40):
        batch = sampler.draw(10)
        assert batch.inputs.shape == (10, 2, 64, 64)
        assert batch.inputs.dtype == np.float32
        assert (batch.good_part[:5] == -1).all()
        assert (batch.good_part[5:] >= 0).all()
        assert not batch.labels[5:].any()
        seen.update(int(label.max()) for label in batch.labels[:5])
    assert seen[0] < 12  # the defect may leave the crop by its margin, rarely
    assert 0.7 < seen[1] / seen[2] < 1.4


def test_without_variation_a_crop_is_a_piece_of_the_preprocessed_image() -> None:
    sample = plate(5, "scratch")
    sampler = CropSampler([sample, plate(6)], SPEC, SAMPLING, seed=2)
    whole, labels = SPEC.apply(sample.stack).astype(np.float16).astype(np.float32), SPEC.crop_labels(sample.labels)
    found = 0
    for crop, label in zip(*_defective(sampler.draw(8)), strict=True):
        for top in range(whole.shape[1] - 63):
            for left in range(whole.shape[2] - 63):
                if np.array_equal(whole[:, top : top + 64, left : left + 64], crop):
                    found += 1
                    assert np.array_equal(labels[top : top + 64, left : left + 64], label)
    assert found == 4


def _defective(batch) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def]
    return batch.inputs[:4], batch.labels[:4]


def test_labels_follow_every_variation() -> None:
    # A bright square is its own label: after any flip, turn, zoom and rotation the two must still agree.
    sample = plate(0)
    labels = np.zeros(sample.labels.shape, np.uint8)
    labels[30:60, 40:80] = 1
    stack = np.where(labels > 0, 200, 60).astype(np.uint8)[None].repeat(2, 0)
    augmentation = Augmentation(
        quarter_turns=True, rotation_deg=20, log_zoom=0.3, noise=0, offset=0, shading=0, blur_share=0
    )
    sampler = CropSampler(
        [replace(sample, stack=stack, labels=labels), plate(1)],
        SPEC,
        Sampling(size=64, augmentation=augmentation),
        seed=3,
    )
    for _ in range(5):
        for crop, label in zip(*_defective(sampler.draw(8)), strict=True):
            inside, outside = crop[0][label > 0], crop[0][label == 0]
            if inside.size > 20 and outside.size > 20:
                middle = (np.median(inside) + np.median(outside)) / 2
                assert np.mean(inside > middle) > 0.9
                assert np.mean(outside < middle) > 0.9


def test_synthetic_images_share_with_real_seeds_as_asked() -> None:
    samples = [*learning_parts(bad=2, pictures=1)]
    samples += [
        replace(plate(50 + n, "pit"), synthetic=True, stack=np.full((2, 90, 110), 9, np.uint8)) for n in range(20)
    ]
    sampler = CropSampler(samples, SPEC, replace(SAMPLING, synthetic_share=0.75, defect_share=1.0), seed=4)
    pits = flat = 0
    for _ in range(60):
        batch = sampler.draw(8)
        for crop, label in zip(batch.inputs, batch.labels, strict=True):
            if (label == 1).any():
                pits += 1
                flat += bool(np.ptp(crop) < 1e-3)
    assert 0.65 < flat / pits < 0.85


def test_same_seed_same_crops_and_a_saved_state_goes_on() -> None:
    parts = learning_parts()
    one, other = (CropSampler(parts, SPEC, Sampling(size=64), seed=5) for _ in range(2))
    assert np.array_equal(one.draw(6).inputs, other.draw(6).inputs)
    one.feed_back(np.array([0, -1, 2]), np.array([3.0, 9.0, 0.0], np.float32))
    third = CropSampler(parts, SPEC, Sampling(size=64), seed=99)
    third.restore(one.state())
    assert np.array_equal(one.draw(6).inputs, third.draw(6).inputs)


def test_parts_with_ghosts_are_drawn_more_often() -> None:
    sampler = CropSampler(learning_parts(), SPEC, SAMPLING, seed=6)
    for _ in range(20):
        sampler.feed_back(np.arange(8), np.array([5.0] + [0.0] * 7, np.float32))
    drawn = Counter(int(part) for _ in range(30) for part in sampler.draw(8).good_part if part >= 0)
    assert drawn[0] > 0.5 * sum(drawn.values())


@pytest.mark.parametrize("size", [(20, 30), (300, 40)])
def test_parts_smaller_than_a_crop_are_mirrored(size: tuple[int, int]) -> None:
    labels = np.zeros(size, np.uint8)
    labels[5:9, 5:9] = 1
    stack = np.random.default_rng(0).integers(50, 90, (2, *size)).astype(np.uint8)
    small = replace(plate(0), stack=stack, labels=labels)
    batch = CropSampler([small, plate(1)], SPEC, Sampling(size=64, foreign_share=0.0), seed=7).draw(12)
    assert batch.inputs.shape == (12, 2, 64, 64)
    assert np.isfinite(batch.inputs).all()
    assert batch.labels.max() == 1


def test_a_foreign_patch_changes_its_pixels_and_no_others() -> None:
    samples = [plate(n) for n in range(4)] + [plate(10, "pit")]
    only_good = replace(SAMPLING, defect_share=0.0, same_part_share=0.0, foreign_share=1.0, mining=False)
    patched = CropSampler(samples, SPEC, only_good, seed=5).draw(24)
    with_patch = patched.labels.any(axis=(1, 2))
    assert with_patch.mean() > 0.8  # a patch that can't be seen is not drawn
    assert set(np.unique(patched.labels)) == {0, UNKNOWN_CLASS}
    assert (patched.good_part >= 0).all()


def test_a_foreign_patch_is_as_large_as_its_label_and_visible() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(0, 0.3, (3, 96, 96)).astype(np.float32)
    donor = rng.normal(0, 0.3, (3, 96, 96)).astype(np.float32)
    areas = []
    for _ in range(60):
        changed, labels = add_foreign(image, np.zeros((96, 96), np.uint8), donor, rng)
        inside = labels == UNKNOWN_CLASS
        areas.append(int(inside.sum()))
        if not inside.any():
            assert np.array_equal(changed, image)
            continue
        difference = np.abs(changed - image).max(axis=0)
        assert np.sqrt(np.mean((changed - image)[:, inside] ** 2)) >= 0.3
        # Soft edges may reach a few pixels beyond the label, faintly; nothing else changes.
        far = ~ndimage.binary_dilation(inside, iterations=6)
        assert not difference[far].any()
    assert min(area for area in areas if area) < 60 < max(areas) / 5
