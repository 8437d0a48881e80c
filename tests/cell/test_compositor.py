"""The compositor: bit identity outside, the camera's noise inside, labels of what was really changed."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import numpy as np
import pytest
from scipy.stats import spearmanr

from cell.calibration import Calibration, CalibrationKind, ChannelCalibration, Illumination, NoiseModel
from cell.errors import DataError
from cell.frames import Stack
from cell.imaging import contrast, noise
from cell.imaging.compositor import Composite, compose
from cell.imaging.noise_spectrum import octaves

SIDE = 96
NOISE = {
    8: NoiseModel(gain_dn_per_e=0.05, read_noise_dn=1.0, offset_dn=2.0, saturation_dn=255, lag1_correlation=0.0),
    12: NoiseModel(gain_dn_per_e=0.4, read_noise_dn=4.0, offset_dn=64.0, saturation_dn=4095, lag1_correlation=0.0),
}
LEVEL = {8: (140.0, 90.0, 60.0), 12: (2400.0, 1500.0, 900.0)}


def calibration(bit_depth: int, channels: int = 3) -> Calibration:
    flat = Illumination(grid=((1.0,),), mean_dn=100.0)
    return Calibration(
        calibration_id="c1",
        recipe_id="r1",
        kind=CalibrationKind.MEASURED,
        channels=tuple(
            ChannelCalibration(channel=f"light{i}", noise=NOISE[bit_depth], illumination=flat, psf_sigma_px=1.0)
            for i in range(channels)
        ),
        frames_used=16,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def background(bit_depth: int, seed: int = 0, side: int = SIDE) -> Stack:
    rng = np.random.default_rng(seed)
    means = np.stack([np.full((side, side), level) for level in LEVEL[bit_depth]])
    noisy = noise.sample(NOISE[bit_depth], means, rng)
    pixels = np.clip(np.rint(noisy), 0, (1 << bit_depth) - 1)
    return pixels.astype(np.uint8) if bit_depth == 8 else pixels.astype(np.uint16)


def disc(radius: float, side: int = SIDE) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] - side / 2
    return np.clip((radius - np.hypot(rows, columns)) / 2.5 + 0.5, 0, 1).astype(np.float32)


def made(bit_depth: int, depth: float, *, kept: float = 1.0, carried: float = 0.0, seed: int = 1) -> Composite:
    pixels = background(bit_depth)
    return compose(
        pixels,
        np.full(pixels.shape, depth, np.float32),
        disc(20),
        calibration(bit_depth),
        bit_depth,
        np.random.default_rng(seed),
        texture_kept=kept,
        noise_share=carried,
    )


@pytest.mark.parametrize("bit_depth", [8, 12])
@pytest.mark.parametrize("depth", [-1.2, 0.4])
def test_outside_the_support_every_bit_is_the_backgrounds(bit_depth: int, depth: float) -> None:
    before, result = background(bit_depth), made(bit_depth, depth, kept=0.3)
    assert result.pixels.dtype == before.dtype
    assert np.array_equal(result.pixels[:, ~result.support], before[:, ~result.support])
    assert not np.array_equal(result.pixels, before)
    assert not (result.mask & ~result.support).any()


@pytest.mark.parametrize("bit_depth", [8, 12])
@pytest.mark.parametrize("depth", [-1.0, -0.3, 0.0, 0.3])
@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_inside_the_noise_is_the_cameras(bit_depth: int, depth: float, kept: float) -> None:
    result = made(bit_depth, depth, kept=kept)
    for region in (disc(20) >= 1, (disc(20) > 0.3) & (disc(20) < 0.7)):
        for index, level in enumerate(LEVEL[bit_depth]):
            # What the feather weighs is the contrast, so the expected level is known everywhere.
            plain = contrast.apply(np.full((SIDE, SIDE), level, np.float32), np.float32(depth) * disc(20), bit_depth)
            expected = np.asarray(noise.sigma_dn(NOISE[bit_depth], plain))
            standard = ((result.pixels[index] - plain) / expected)[region]
            # A few hundred pixels: the standard error of a standard deviation is 1 / sqrt(2 n).
            assert standard.std() == pytest.approx(1.0, abs=0.06 + 3.5 / np.sqrt(2 * region.sum()))


@pytest.mark.parametrize("depth", [-1.0, -0.3, 0.2])
@pytest.mark.parametrize("kept", [0.0, 0.6, 1.0])
def test_no_octave_of_the_noise_is_stronger_or_weaker_than_the_cameras(depth: float, kept: float) -> None:
    side, made_noise, true_noise = 160, [], []
    model = calibration(12)
    middle = (slice(16, side - 16),) * 2
    for number in range(6):
        pixels = background(12, seed=number, side=side)
        asked, whole = np.full(pixels.shape, depth, np.float32), np.ones((side, side), np.float32)
        random = np.random.default_rng([number, 1])
        result = compose(pixels, asked, whole, model, 12, random, texture_kept=kept, noise_share=0.0)
        for index, level in enumerate(LEVEL[12]):
            plain = float(contrast.apply(np.array(level, np.float32), np.array(depth, np.float32), 12))
            true = noise.sample(NOISE[12], np.full((side, side), plain), random)
            made_noise.append((result.pixels[index] - plain)[middle] / noise.sigma_dn(NOISE[12], plain))
            true_noise.append((np.rint(true) - plain)[middle] / noise.sigma_dn(NOISE[12], plain))
    power = np.mean(np.square(made_noise)) / np.mean(np.square(true_noise))
    found, true_octaves = (np.array(octaves(np.stack(of))) for of in (made_noise, true_noise))
    # What is brighter carries its background's coarse noise amplified: it can't be told from shading.
    assert found[:4] / true_octaves[:4] * power == pytest.approx(1.0, abs=0.1 if depth < 0 else 0.2)


def test_a_null_edit_with_all_texture_kept_changes_nothing() -> None:
    result = made(8, 0.0)
    assert np.array_equal(result.pixels, background(8))
    assert not result.mask.any()
    assert result.d_prime == 0.0


def test_a_null_edit_with_new_noise_is_no_defect() -> None:
    result = made(8, 0.0, kept=0.0)
    assert not np.array_equal(result.pixels, background(8))
    assert not result.mask.any()


def test_the_mask_is_what_changed_not_what_was_asked_for() -> None:
    pixels = background(8)
    asked = np.zeros(pixels.shape, np.float32)
    asked[:, 40:56, 40:48] = -0.8  # half of the support stays as it was
    result = compose(
        pixels, asked, disc(20), calibration(8), 8, np.random.default_rng(0), texture_kept=1.0, noise_share=0.0
    )
    truth = np.zeros((SIDE, SIDE), np.bool_)
    truth[40:56, 40:48] = True
    union = (result.mask | truth).sum()
    assert (result.mask & truth).sum() / union > 0.7
    assert result.support.sum() > 4 * result.mask.sum()


def test_measured_severity_follows_the_contrast_asked_for() -> None:
    depths = np.linspace(0.15, 1.2, 24)
    measured = [made(8, -depth, seed=index).d_prime for index, depth in enumerate(depths)]
    assert spearmanr(depths, measured).statistic > 0.99


def test_the_same_random_seed_gives_the_same_pixels() -> None:
    one, two, other = made(8, -0.5, kept=0.2), made(8, -0.5, kept=0.2), made(8, -0.5, kept=0.2, seed=2)
    assert np.array_equal(one.pixels, two.pixels)
    assert not np.array_equal(one.pixels, other.pixels)


def test_clipping_is_told() -> None:
    assert made(8, 2.0).clipped_share > 0.3
    assert made(8, -0.5).clipped_share == 0.0


def test_what_does_not_belong_together_is_refused() -> None:
    pixels, random = background(8), np.random.default_rng(0)
    zeros = np.zeros(pixels.shape, np.float32)
    put = partial(compose, pixels, bit_depth=8, rng=random, texture_kept=1.0, noise_share=0.0)
    with pytest.raises(DataError, match="support is empty"):
        put(zeros, np.zeros((SIDE, SIDE), np.float32), calibration(8))
    with pytest.raises(DataError, match="calibrate again"):
        put(zeros, disc(9), calibration(8, channels=2))
    with pytest.raises(DataError, match="belong together"):
        put(zeros[:, :-1], disc(9), calibration(8))
