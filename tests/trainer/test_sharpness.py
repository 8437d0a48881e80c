"""Candidates follow the cell: as sharp as its lens shows edges there, and the same share of the light everywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from cell.calibration import Calibration, Depth
from cell.defects import Draft
from cell.imaging import noise
from cell.recipes import Face, Recipe, Rect
from tests.trainer.generate_support import CALIBRATION, HEIGHT, NOISE, RECIPE, WIDTH, backgrounds, plate, seeds
from trainer.generate.base import BackgroundSample, GenerateRequest, SeedSample
from trainer.generate.candidates import make_candidates

SHARP = 0.8
SEEDS = [replace(one, psf_px=(SHARP, SHARP)) for one in seeds() if one.defect_class == "pit"]
BACKGROUNDS = backgrounds()


def cell(psf_px: float, depth: Depth | None = None) -> Calibration:
    channels = tuple(one.model_copy(update={"psf_sigma_px": psf_px}) for one in CALIBRATION.channels)
    return CALIBRATION.model_copy(update={"channels": channels, "depth": depth})


def make(
    folder: Path,
    calibration: Calibration,
    recipe: Recipe = RECIPE,
    on: list[BackgroundSample] = BACKGROUNDS,
    with_seeds: list[SeedSample] = SEEDS,
    arm: str = "procedural",
    size: tuple[float, float] = (0.7, 1.4),
) -> list[Draft]:
    request = GenerateRequest(arm=arm, per_class=6, classes=("pit",), random_seed=5, uniform_share=1.0, size=size)
    return list(make_candidates(request, with_seeds, on, calibration, recipe, workdir=folder))


def share(draft: Draft, on: list[BackgroundSample] = BACKGROUNDS) -> NDArray[np.float64]:
    """The share of the light that the defect takes, (H, W), mean of both lights."""
    stack = next(one.stack for one in on if one.background_id == draft.provenance.background_id)
    before, after = (one.astype(np.float64) - NOISE.offset_dn for one in (stack, draft.stack))
    return np.asarray(1 - (after / np.maximum(ndimage.gaussian_filter(before, (0, 2, 2)), 1)).mean(axis=0))


def added_blur(sharp: list[Draft], soft: list[Draft]) -> float:
    """The blur that makes the one defect out of the other, pixels; the same random seed gave both their outlines."""
    tried = np.arange(0.9, 2.2, 0.2)
    left = np.zeros(len(tried))
    for one, other in zip(sharp, soft, strict=True):
        inside = ndimage.binary_dilation(other.support, iterations=2)
        for index, sigma in enumerate(tried):
            made = ndimage.gaussian_filter(share(one) * one.support, sigma) if sigma else share(one) * one.support
            left[index] += ((made - share(other) * other.support)[inside] ** 2).sum()
    return float(tried[left.argmin()])


@pytest.mark.parametrize("arm", ["procedural", "copypaste"])
def test_a_softer_lens_gives_softer_candidates(arm: str, tmp_path: Path) -> None:
    sharp, soft = make(tmp_path, cell(SHARP), arm=arm), make(tmp_path, cell(1.7), arm=arm)
    assert added_blur(sharp, soft) == pytest.approx(np.sqrt(1.7**2 - SHARP**2), abs=0.3)
    for draft in soft:
        told = draft.provenance.conditions
        assert told["psf_seed_px"] == SHARP
        assert told["blur_px"] == pytest.approx(1.5)
        assert told["psf_short_px"] == 0
        before = next(one for one in BACKGROUNDS if one.background_id == draft.provenance.background_id)
        assert np.array_equal(draft.stack[:, ~draft.support], before.stack[:, ~draft.support])
        assert not (draft.support & ~before.allowed).any()


def test_what_a_seed_does_not_show_is_not_made_up(tmp_path: Path) -> None:
    blurred = [replace(one, psf_px=(2.0, 2.0)) for one in SEEDS]
    same, sharper = (make(tmp_path, cell(psf), with_seeds=blurred) for psf in (2.0, 1.2))
    assert all(np.array_equal(one.stack, other.stack) for one, other in zip(same, sharper, strict=True))
    told = sharper[0].provenance.conditions
    assert told["blur_px"] == 0
    assert told["psf_short_px"] == pytest.approx(1.6)


def test_where_nobody_measured_a_lens_nothing_is_told_of_it(tmp_path: Path) -> None:
    assert make(tmp_path, cell(0.0))[0].provenance.conditions == {}


def test_a_face_out_of_focus_is_softer_than_one_in_focus(tmp_path: Path) -> None:
    depth = Depth(focus_mm=0.0, blur_px_per_mm=2.0, range_mm=1.0)
    right = Face(area=Rect(x=WIDTH // 2, y=0, width=WIDTH - WIDTH // 2, height=HEIGHT), height_mm=2.0)
    recipe = RECIPE.model_copy(update={"faces": (right,)})
    # Seeds are taken to lie in focus.
    flat, stepped = make(tmp_path, cell(SHARP)), make(tmp_path, cell(SHARP, depth), recipe)
    left = [draft.provenance.parameters.center_x < WIDTH / 2 for draft in stepped]
    assert 0 < sum(left) < len(left)
    for low, one, other in zip(left, flat, stepped, strict=True):
        # A disc of radius 4 px has a standard deviation of 2 px along one axis.
        assert other.provenance.conditions["blur_px"] == pytest.approx(0 if low else 2.0, abs=0.01)
        assert np.array_equal(one.stack, other.stack) == low


def test_less_light_dims_the_defect_by_the_same_share(tmp_path: Path) -> None:
    falloff = np.linspace(1.0, 0.4, WIDTH)[None, :]
    dim = [replace(one, stack=plate(100 + index, falloff)) for index, one in enumerate(BACKGROUNDS)]
    asked = make(tmp_path, cell(SHARP), on=dim)
    taken, light = [], []
    for draft in asked:
        deep = ndimage.binary_erosion(draft.mask, iterations=2)
        taken.append(float(np.median(share(draft, dim)[deep])))
        light.append(float(falloff[0, round(draft.provenance.parameters.center_x)]))
    even = [
        float(np.median(share(d)[ndimage.binary_erosion(d.mask, iterations=2)])) for d in make(tmp_path, cell(SHARP))
    ]
    # Where it is too dark to be a surface like the seeds' nothing is placed.
    assert max(light) > 1.3 * min(light)
    assert np.asarray(taken) == pytest.approx(np.asarray(even), abs=0.03)


@pytest.mark.parametrize("gain", [0.3, 1.2])
def test_the_noise_inside_is_the_cameras_whatever_the_seeds_had(gain: float, tmp_path: Path) -> None:
    model = NOISE.model_copy(update={"gain_dn_per_e": gain})
    channels = tuple(one.model_copy(update={"noise": model}) for one in cell(SHARP).channels)
    level = np.full((2, HEIGHT, WIDTH), 1500.0)
    drawn = [noise.sample(model, level, np.random.default_rng(number)) for number in range(3)]
    stacks = [np.clip(np.rint(one), 0, 4095).astype(np.uint16) for one in drawn]
    even = [replace(BACKGROUNDS[i], stack=one) for i, one in enumerate(stacks)]
    kernel = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]]) / 6
    found, law = [], []
    for draft in make(tmp_path, CALIBRATION.model_copy(update={"channels": channels}), on=even, size=(2.2, 2.3)):
        deep = ndimage.binary_erosion(draft.mask, iterations=6)
        for pixels in draft.stack.astype(np.float64):
            found.append(ndimage.convolve(pixels, kernel)[deep] ** 2)
            law.append(noise.sigma_dn(model, ndimage.uniform_filter(pixels, 3)[deep]) ** 2)
    ratio = np.concatenate(found).mean() / np.concatenate(law).mean()
    assert len(np.concatenate(found)) > 300
    # The seeds have a texture of 1 % of their own beside the noise.
    assert ratio == pytest.approx(1.0, abs=0.35)
