"""Noise from many different parts: near the truth on raw pixels, and silent on computed ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from cell.calibration import NoiseSource
from cell.imaging.noise_of_parts import fit_parts
from drivers.sim.sensor import Sensor

SENSOR = Sensor(gain_dn_per_e=0.1, read_noise_e=10.0, offset_dn=12.0, prnu=0.01, dsnu_e=5.0, bit_depth=10)
HEIGHT, WIDTH = 160, 200


def parts(count: int, fineness: float = 1.0) -> list[NDArray[Any]]:
    """Textured parts on a dark carrier, each another; `fineness` px is the lens's blur."""
    rng = np.random.default_rng(5)
    response, leak = SENSOR.fixed_pattern(HEIGHT, WIDTH)
    found = []
    for _ in range(count):
        slow = ndimage.gaussian_filter(rng.standard_normal((HEIGHT, WIDTH)), 15)
        light = 1000 + 6000 * (slow - slow.min()) / np.ptp(slow)
        light[:, :50] = 40.0
        grain = ndimage.gaussian_filter(rng.standard_normal((HEIGHT, WIDTH)), fineness)
        seen = np.maximum(light * (1 + 0.15 * grain), 20.0).astype(np.float32)
        found.append(SENSOR.digitise(seen * response + leak, 0.0, rng))
    return found


def test_gain_and_noise_come_within_a_tenth_despite_texture_and_fixed_pattern() -> None:
    fitted = fit_parts(parts(24), bit_depth=10)
    assert fitted is not None
    assert fitted.transfer.source is NoiseSource.PRODUCTION
    assert fitted.model.gain_dn_per_e == pytest.approx(0.1, rel=0.1)
    truth = 1.0 + 0.1 * (400 - 12)
    model = fitted.model
    assert model.read_noise_dn**2 + model.gain_dn_per_e * (400 - model.offset_dn) == pytest.approx(truth, rel=0.1)
    assert "take repeats and dark frames" in fitted.findings[0]


def _sharpen(frame: NDArray[Any]) -> NDArray[Any]:
    values = frame.astype(np.float64)
    return np.clip(np.rint(values + 0.8 * (values - ndimage.gaussian_filter(values, 1))), 0, 1023).astype(np.uint16)


def _smooth(frame: NDArray[Any]) -> NDArray[Any]:
    return np.rint(ndimage.gaussian_filter(frame.astype(np.float64), 0.6)).astype(np.uint16)


@pytest.mark.parametrize("camera", [_sharpen, _smooth])
def test_what_a_camera_computed_gives_no_gain(camera: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    assert fit_parts([camera(frame) for frame in parts(16)], bit_depth=10) is None


def test_texture_as_fine_as_a_pixel_too_few_parts_and_mixed_sizes_give_none() -> None:
    assert fit_parts(parts(16, fineness=0.35), bit_depth=10) is None
    assert fit_parts(parts(4), bit_depth=10) is None
    assert fit_parts([*parts(9), parts(1)[0][:-8]], bit_depth=10) is None
