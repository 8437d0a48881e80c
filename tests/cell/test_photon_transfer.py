"""Photon transfer: measured against sensors whose truth is known, and silent where nothing can be known."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cell.errors import CalibrationError
from cell.imaging import noise, nonuniformity
from cell.imaging.photon_transfer import fit, fit_photon_transfer, still
from cell.imaging.quantised import Spread, expected, rounded_moments, unround
from drivers.sim.sensor import Sensor

HEIGHT, WIDTH = 200, 240
SENSOR = Sensor(gain_dn_per_e=0.12, read_noise_e=12.0, offset_dn=12.0, prnu=0.0, dsnu_e=0.0, bit_depth=10)


def scene(seed: int = 1, top: float = 7000.0) -> NDArray[np.float32]:
    """Expected electrons of a part with bright and dark areas."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((HEIGHT, WIDTH)), 12)
    levels: NDArray[np.float32] = ((field - field.min()) / np.ptp(field) * top + 30).astype(np.float32)
    return levels


def repeats(count: int, electrons: NDArray[np.float32], sensor: Sensor = SENSOR, seed: int = 7) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    response, leak = sensor.fixed_pattern(*electrons.shape)
    return np.stack([sensor.digitise(electrons * response + leak, 0.0, rng) for _ in range(count)])


def dark(count: int, sensor: Sensor = SENSOR, seed: int = 9) -> NDArray[Any]:
    return repeats(count, np.zeros((HEIGHT, WIDTH), np.float32), sensor, seed)


@pytest.mark.parametrize("bit_depth", [8, 10, 12])
def test_gain_within_three_and_read_noise_within_five_percent_at_every_depth(bit_depth: int) -> None:
    sensor = Sensor.of_depth(bit_depth)
    fitted = fit_photon_transfer(repeats(16, scene(top=9000), sensor), bit_depth=bit_depth, dark=dark(16, sensor))
    truth = sensor.noise_model()
    assert fitted.model.gain_dn_per_e == pytest.approx(truth.gain_dn_per_e, rel=0.03)
    assert fitted.model.read_noise_dn == pytest.approx(truth.read_noise_dn, rel=0.05)
    assert fitted.model.offset_dn == pytest.approx(truth.offset_dn, abs=0.05)
    assert fitted.transfer.dsnu_dn == pytest.approx(sensor.dsnu_e * sensor.gain_dn_per_e, rel=0.1)
    assert abs(fitted.model.lag1_correlation) < 0.02
    assert fitted.model.autocorrelation == ()
    # At 10 bit it lies below what EMVA 1288 lets anyone claim: told, though it is found.
    assert [finding.split(",")[0] for finding in fitted.findings] == [
        "the read noise is below 0.24 DN" for _ in range(bit_depth == 10)
    ]
    assert fitted.gain_error < 0.03


def test_narrow_noise_is_unrounded_and_not_corrected_by_a_twelfth() -> None:
    # 0.36 DN around a whole grey value: a twelfth would make the read noise a fifth too small.
    shown = expected(Spread(4.0, 0.357, 0.1))
    assert np.sqrt(shown[1] - 1 / 12) < 0.85 * 0.357
    found = unround(*shown)
    assert (found.level, found.temporal, found.spatial) == pytest.approx((4.0, 0.357, 0.1), rel=0.01)


def test_rounded_moments_are_those_of_drawn_values() -> None:
    rng = np.random.default_rng(1)
    for level, sigma in ((0.3, 0.4), (4.5, 0.2), (100.2, 1.5)):
        drawn = np.clip(np.rint(rng.normal(level, sigma, 400_000)), 0, 255)
        mean, variance = rounded_moments(level, sigma, 255)
        assert float(mean) == pytest.approx(drawn.mean(), abs=0.01)
        assert float(variance) == pytest.approx(drawn.var(), rel=0.02)


def test_a_flickering_lamp_and_a_hot_pixel_do_not_raise_the_noise() -> None:
    electrons, rng = scene(), np.random.default_rng(3)
    flicker = rng.uniform(0.97, 1.03, 24).astype(np.float32)
    frames = np.asarray([SENSOR.digitise(electrons * factor, 0.0, rng) for factor in flicker], np.uint16)
    frames[::2, 50:52, 60:62] += 200
    fitted = fit_photon_transfer(frames, bit_depth=10, dark=dark(16))
    assert fitted.model.gain_dn_per_e == pytest.approx(SENSOR.gain_dn_per_e, rel=0.05)
    assert any("light changed" in finding for finding in fitted.findings)


def test_what_the_repeats_cannot_tell_is_said() -> None:
    even = np.full((HEIGHT, WIDTH), 3000.0, np.float32)
    fitted = fit_photon_transfer(repeats(16, even), bit_depth=10)
    assert any("too little to tell gain from read noise" in finding for finding in fitted.findings)
    assert any("no dark frames" in finding for finding in fitted.findings)


def test_several_exposures_of_one_even_face_tell_gain_linearity_and_dark_current() -> None:
    sensor = Sensor(**{**_values(SENSOR), "dark_current_e_per_s": 4000.0, "read_noise_e": 6.0})
    levels, darks = [], []
    for seed, exposure in enumerate((1.0, 0.5, 0.25, 0.1)):
        leak = 4000.0 * 0.02 * exposure
        even = np.full((HEIGHT, WIDTH), 6000.0 * exposure + leak, np.float32)
        levels.append(still(repeats(16, even, sensor, seed), 10, 20_000 * exposure))
        no_light = np.full((HEIGHT, WIDTH), leak, np.float32)
        darks.append(still(repeats(16, no_light, sensor, 50 + seed), 10, 20_000 * exposure))
    fitted = fit(levels, darks, bit_depth=10)
    assert fitted.model.gain_dn_per_e == pytest.approx(0.12, rel=0.03)
    assert fitted.transfer.dark_current_dn_per_s == pytest.approx(4000 * 0.12, rel=0.1)
    straight = nonuniformity.linearity_error(levels, [float(one.mean.mean()) for one in darks], 1023)
    assert straight is not None
    assert straight < 0.01
    bent = [still(_gamma(repeats(16, np.full((HEIGHT, WIDTH), 6000.0 * t, np.float32))), 10, t) for t in (1, 0.5, 0.25)]
    error = nonuniformity.linearity_error(bent, [0.0] * 3, 1023)
    assert error is not None
    assert error > 0.05


def test_an_even_target_tells_how_the_pixels_differ() -> None:
    sensor = Sensor.of_depth(12)
    flat = still(repeats(16, np.full((HEIGHT, WIDTH), 7000.0, np.float32), sensor), 12)
    without_light = still(dark(16, sensor), 12)
    found = nonuniformity.prnu(flat, sensor.noise_model(), without_light)
    assert found == pytest.approx(sensor.prnu, rel=0.05)
    assert nonuniformity.prnu(without_light, sensor.noise_model()) is None


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
        fit_photon_transfer(frames, bit_depth=8)


def _debayer(frames: NDArray[Any]) -> NDArray[Any]:
    kernel = np.array([[0.25, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 0.25]])
    sparse = np.zeros(frames.shape)
    sparse[:, ::2, ::2] = frames[:, ::2, ::2]
    return np.stack([np.rint(ndimage.convolve(one, kernel)) for one in sparse]).astype(np.uint16)


def _sharpen(frames: NDArray[Any]) -> NDArray[Any]:
    values = frames.astype(np.float64)
    return np.clip(np.rint(values + 0.8 * (values - ndimage.gaussian_filter(values, (0, 1, 1)))), 0, 1023).astype(
        np.uint16
    )


def _smooth(frames: NDArray[Any]) -> NDArray[Any]:
    return np.rint(ndimage.uniform_filter(frames.astype(np.float64), (0, 3, 3))).astype(np.uint16)


def _rows(frames: NDArray[Any]) -> NDArray[Any]:
    rng = np.random.default_rng(4)
    return np.rint(frames + rng.normal(0, 6, (len(frames), HEIGHT, 1))).clip(0, 1023).astype(np.uint16)


@pytest.mark.parametrize(
    ("camera", "named"),
    [(_debayer, "was debayered"), (_sharpen, "was sharpened"), (_smooth, "was filtered"), (_rows, "whole rows")],
    ids=["debayer", "sharpen", "smooth", "rows"],
)
def test_what_the_camera_computed_is_named(camera: Callable[[NDArray[Any]], NDArray[Any]], named: str) -> None:
    fitted = fit_photon_transfer(camera(repeats(16, scene())), bit_depth=10, dark=camera(dark(16)))
    assert any(named in finding for finding in fitted.findings), fitted.findings
    assert fitted.model.autocorrelation


def test_coloured_noise_is_drawn_again_as_it_was_measured() -> None:
    even = np.full((HEIGHT, WIDTH), 4000.0, np.float32)
    fitted = fit_photon_transfer(_sharpen(repeats(16, even)), bit_depth=10, dark=_sharpen(dark(16)))
    mean = np.full((300, 300), fitted.model.curve_mean_dn[-1])
    drawn = noise.sample(fitted.model, mean, np.random.default_rng(2)) - mean
    middle = len(fitted.model.autocorrelation) // 2
    wanted = fitted.model.autocorrelation[middle][middle + 1]
    assert wanted < -0.05
    assert noise.lag1(drawn)[0] == pytest.approx(wanted, abs=0.03)
    variance = float(noise.sigma_dn(fitted.model, mean[0, 0]) ** 2 - noise.QUANTISATION_DN2)
    assert float(drawn.var()) == pytest.approx(variance, rel=0.03)


def test_jpeg_is_named() -> None:
    coded = []
    for frame in repeats(12, scene()):
        buffer = BytesIO()
        Image.fromarray((frame >> 2).astype(np.uint8)).save(buffer, "JPEG", quality=85)
        coded.append(np.asarray(Image.open(buffer)))
    fitted = fit_photon_transfer(np.stack(coded), bit_depth=8)
    assert any("JPEG" in finding for finding in fitted.findings)


def test_a_sensor_that_saturates_below_full_scale_is_seen() -> None:
    frames = np.minimum(repeats(16, scene(top=9000)), 900)
    fitted = fit_photon_transfer(frames, bit_depth=10, dark=dark(16))
    assert fitted.model.saturation_dn == 900
    assert fitted.model.gain_dn_per_e == pytest.approx(0.12, rel=0.03)


def _gamma(frames: NDArray[Any]) -> NDArray[Any]:
    return np.rint(1023 * (frames / 1023.0) ** 0.6).astype(np.uint16)


def _values(sensor: Sensor) -> dict[str, Any]:
    return {name: getattr(sensor, name) for name in Sensor.__dataclass_fields__}
