"""What is measured on a seed: an even speck has an edge as its lens shows it, and no texture."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from cell.frames import Stack
from cell.imaging import noise
from tests.trainer.generate_support import CALIBRATION, NOISE, RECIPE
from trainer.generate.base import Scene, SeedSample
from trainer.generate.looks import Look, course_of, look_at, render
from trainer.generate.outlines import signed_distance

SIDE, LEVELS = 81, (1500.0, 1100.0)


def speck(number: int, *, texture: float = 0.0) -> Look:
    """Return the look of an even, ragged speck that takes 60 % of the light, behind the lens of the calibration."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    angle = np.arctan2(rows, columns)
    ragged = 8 + 0.8 * np.cos(3 * angle + rng.uniform(0, 6)) + 0.5 * np.cos(7 * angle + rng.uniform(0, 6))
    inside = np.hypot(rows, columns) < ragged
    grain = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), 0.8)
    share = ndimage.gaussian_filter(0.6 * inside.astype(np.float64), CALIBRATION.channels[0].psf_sigma_px)
    mean = np.stack([level * (1 - share) * np.exp(texture * grain / grain.std() * inside) for level in LEVELS])
    stack: Stack = np.clip(np.rint(noise.sample(NOISE, mean, rng)), 0, 4095).astype(np.uint16)
    marked: NDArray[np.bool_] = ndimage.binary_dilation(inside, iterations=3)
    return look_at(SeedSample(f"s{number}", f"p{number}", "pit", stack, marked), Scene(RECIPE, CALIBRATION, {}, ()))


def spread(look: Look) -> float:
    return float(np.sqrt((look.texton**2).sum(axis=(1, 2)).mean()))


def test_the_edge_of_an_even_speck_is_no_texture() -> None:
    looks = [speck(number) for number in range(6)]
    # The sensor's noise inside is 0.02 in log contrast.
    assert np.mean([spread(look) for look in looks]) < 0.004
    textured = [speck(number, texture=0.1) for number in range(3)]
    assert min(spread(look) for look in textured) > 0.04


def test_a_pore_of_few_pixels_is_not_clear_at_its_rim() -> None:
    rows, columns = np.mgrid[:21, :21] - 10
    distance = signed_distance(np.hypot(rows, columns) < 4.6)
    course = course_of(np.where(distance > 0, -0.6, 0.0)[None].astype(np.float32), distance)
    shown = render(course, distance)[0]
    assert shown[distance > 0].max() < -0.45
    assert course[0, 0] == pytest.approx(-0.3, abs=0.1)  # half of it on the outline itself
