"""Noise: measured against a sensor whose truth is known, and silent where nothing can be known."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cell.calibration import NoiseModel
from cell.errors import CalibrationError
from cell.imaging import codec, noise
from drivers.sim.sensor import Sensor

SENSOR = Sensor(gain_dn_per_e=0.12, read_noise_e=12.0, offset_dn=12.0, prnu=0.0, dsnu_e=0.0, bit_depth=10)


def scene(seed: int = 1) -> NDArray[np.float32]:
    """Expected electrons of a part with bright and dark areas."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((200, 240)), 12)
    levels: NDArray[np.float32] = ((field - field.min()) / np.ptp(field) * 7000 + 30).astype(np.float32)
    return levels


def repeats(count: int, electrons: NDArray[np.float32], sensor: Sensor = SENSOR) -> NDArray[np.uint16]:
    rng = np.random.default_rng(7)
    return np.stack([sensor.digitise(electrons.copy(), 0.0, rng) for _ in range(count)]).astype(np.uint16)


@pytest.mark.parametrize("count", [16, 64])
def test_gain_within_three_and_read_noise_within_five_percent(count: int) -> None:
    dark = repeats(16, np.zeros((200, 240), np.float32))
    fit = noise.fit_photon_transfer(repeats(count, scene()), bit_depth=10, dark=dark)
    truth = SENSOR.noise_model()
    assert fit.model.gain_dn_per_e == pytest.approx(truth.gain_dn_per_e, rel=0.03)
    assert fit.model.read_noise_dn == pytest.approx(truth.read_noise_dn, rel=0.05)
    assert fit.model.offset_dn == pytest.approx(truth.offset_dn, abs=0.05)
    assert abs(fit.model.lag1_correlation) < 0.01
    assert fit.findings == ()
    assert fit.gain_error < 0.03


def test_a_flickering_lamp_and_a_hot_pixel_do_not_raise_the_noise() -> None:
    electrons, rng = scene(), np.random.default_rng(3)
    flicker = rng.uniform(0.97, 1.03, 24).astype(np.float32)
    frames = np.asarray([SENSOR.digitise(electrons * factor, 0.0, rng) for factor in flicker], np.uint16)
    frames[::2, 50:52, 60:62] += 200
    dark = repeats(16, np.zeros((200, 240), np.float32))
    fit = noise.fit_photon_transfer(frames, bit_depth=10, dark=dark)
    assert fit.model.gain_dn_per_e == pytest.approx(SENSOR.gain_dn_per_e, rel=0.05)
    assert any("light changed" in finding for finding in fit.findings)


def test_what_the_repeats_cannot_tell_is_said() -> None:
    even = np.full((200, 240), 3000.0, np.float32)
    fit = noise.fit_photon_transfer(repeats(16, even), bit_depth=10)
    assert any("too little to tell gain from read noise" in finding for finding in fit.findings)
    assert any("no dark frames" in finding for finding in fit.findings)


def test_computed_pixels_are_named() -> None:
    frames = repeats(16, scene()).astype(np.float32)
    smoothed = np.rint(ndimage.uniform_filter(frames, (0, 3, 3))).astype(np.uint16)
    fit = noise.fit_photon_transfer(smoothed, bit_depth=10)
    assert fit.model.lag1_correlation > 0.4
    assert any("neighbouring pixels" in finding for finding in fit.findings)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((4, 64, 64), np.uint8), "at least 8 repeats"),
        (np.full((16, 64, 64), 90, np.uint8), "identical"),
        (np.random.default_rng(0).choice([0, 255], (16, 64, 64)).astype(np.uint8), "clipped"),
    ],
)
def test_useless_repeats_are_refused(frames: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        noise.fit_photon_transfer(frames, bit_depth=8)


def test_single_frames_give_a_level_and_claim_nothing() -> None:
    rng = np.random.default_rng(5)
    smooth = [ndimage.gaussian_filter(rng.standard_normal((128, 128)), 20) * 200 + 120 for _ in range(6)]
    frames = [np.clip(np.rint(s + rng.normal(0, 2.0, s.shape)), 0, 255).astype(np.uint8) for s in smooth]
    fit = noise.estimate_from_singles(frames, bit_depth=8)
    assert fit.model.gain_dn_per_e == 0.0
    assert fit.model.curve_mean_dn == ()
    assert fit.model.read_noise_dn == pytest.approx(2.0, rel=0.15)
    assert np.isinf(fit.gain_error)
    assert "no photon transfer" in fit.findings[0]


def test_frames_without_a_usable_block_are_refused() -> None:
    with pytest.raises(CalibrationError, match="no flat, unclipped area"):
        noise.estimate_from_singles([np.zeros((64, 64), np.uint8)], bit_depth=8)


@pytest.mark.parametrize("quality", [95, 75])
def test_jpeg_is_found_and_named_even_when_cropped(quality: int) -> None:
    rng = np.random.default_rng(2)
    raw = np.clip(np.rint(ndimage.gaussian_filter(rng.standard_normal((256, 256)), 4) * 200 + 120), 0, 255)
    noisy = np.clip(np.rint(raw + rng.normal(0, 2, raw.shape)), 0, 255).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=quality)
    coded = np.asarray(Image.open(buffer))[3:, 5:]
    assert codec.findings(noisy) == ()
    assert "JPEG" in codec.findings(coded)[0]
    assert any("JPEG" in finding for finding in noise.estimate_from_singles([coded], bit_depth=8).findings)


def test_drawn_noise_has_the_model_s_spread_and_correlation() -> None:
    model = NoiseModel(gain_dn_per_e=0.1, read_noise_dn=1.0, offset_dn=4.0, saturation_dn=255.0, lag1_correlation=0.3)
    mean = np.full((400, 400), 100.0)
    drawn = np.rint(noise.sample(model, mean, np.random.default_rng(1))) - mean
    assert drawn.std() == pytest.approx(float(noise.sigma_dn(model, 100.0)), rel=0.02)
    assert noise.lag1(drawn) == pytest.approx((0.3, 0.3), abs=0.02)
    assert noise.sigma_dn(model, np.array([0.0, 4.0]))[0] == pytest.approx(np.sqrt(1 + 1 / 12))
