"""Noise: its level from single frames, and drawing it. Photon transfer has a file of its own."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from cell.calibration import NoiseModel
from cell.errors import CalibrationError
from cell.imaging import codec, noise


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
