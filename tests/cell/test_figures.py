"""Levels and sharpness of a frame, against what is put in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from cell.frames import Pixels
from cell.imaging.figures import FOCUS_PX, levels, middle, sharpness
from cell.recipes import Rect


def of_depth(values: NDArray[np.int64], bit_depth: int) -> Pixels:
    return values.astype(np.uint8) if bit_depth == 8 else values.astype(np.uint16)


@given(st.sampled_from((8, 10, 12, 16)), st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 9))
def test_every_pixel_is_counted_once(bit_depth: int, seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = of_depth(rng.integers(0, 1 << bit_depth, (height, width)), bit_depth)
    found = levels(pixels, bit_depth)
    assert (found.low, found.high) == (pixels.min(), pixels.max())
    assert found.mean == pytest.approx(pixels.mean())
    assert found.dark_share == pytest.approx((pixels == 0).mean())
    assert found.saturated_share == pytest.approx((pixels == (1 << bit_depth) - 1).mean())
    for bins in (1, 64, 256, 300):
        assert found.binned(bins).sum() == pixels.size


@pytest.mark.parametrize("bit_depth", [8, 10, 12, 16])
def test_bins_cover_equal_ranges(bit_depth: int) -> None:
    every = of_depth(np.arange(1 << bit_depth).reshape(16, -1), bit_depth)
    found = levels(every, bit_depth)
    assert set(found.binned(256).tolist()) == {(1 << bit_depth) // 256}
    assert found.ceiling is None


def test_values_above_the_format_count_as_saturated() -> None:
    pixels = np.array([[100, 4095, 4096, 65535]], np.uint16)
    found = levels(pixels, 12)
    assert found.saturated_share == 0.75
    assert found.high == 65535
    assert found.binned(256)[-1] == 3


def test_a_sensor_that_saturates_below_full_scale_is_found() -> None:
    rng = np.random.default_rng(1)
    signal = rng.normal(3500, 300, (400, 400))
    clipped = np.clip(signal, 0, 3967).round().astype(np.uint16)
    found = levels(clipped, 12)
    assert found.ceiling == 3967
    assert found.ceiling_share == pytest.approx((clipped == 3967).mean())
    assert found.clipped_share == found.ceiling_share
    assert levels(np.clip(signal, 0, 4095).round().astype(np.uint16), 12).ceiling is None
    assert levels(rng.normal(2000, 60, (400, 400)).round().astype(np.uint16), 12).ceiling is None
    assert levels(np.full((50, 50), 200, np.uint8), 8).ceiling == 200, "one value alone says as little"


def test_sharpness_falls_with_blur_and_follows_neither_lamp_nor_depth() -> None:
    rng = np.random.default_rng(2)
    scene = ndimage.gaussian_filter(rng.uniform(0, 1, (300, 300)), 1.0) * 2000 + 500
    values = [sharpness(ndimage.gaussian_filter(scene, sigma).round().astype(np.uint16)) for sigma in (0, 0.5, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 5
    dimmed = sharpness((scene * 0.5).round().astype(np.uint16))
    assert dimmed == pytest.approx(values[0], rel=0.02)


def test_a_ramp_has_the_slope_of_its_formula() -> None:
    ramp = np.tile(np.arange(100, 160, dtype=np.uint16) * 3, (40, 1))
    assert sharpness(ramp) == pytest.approx(9 / ramp.mean() ** 2)
    assert sharpness(ramp.T.copy()) == pytest.approx(9 / ramp.mean() ** 2)
    assert sharpness(np.zeros((20, 20), np.uint8)) == 0
    assert sharpness(np.zeros((2, 2), np.uint8)) == 0


def test_the_region_is_the_middle_unless_named() -> None:
    pixels = np.full((2000, 3000), 100, np.uint8)
    pixels[:400] = np.random.default_rng(3).integers(50, 150, (400, 3000))
    assert sharpness(pixels) == 0
    assert sharpness(pixels, Rect(x=0, y=0, width=300, height=300)) > 0
    assert middle(2000, 3000) == Rect(x=988, y=488, width=FOCUS_PX, height=FOCUS_PX)
    assert middle(10, 20) == Rect(x=0, y=0, width=20, height=10)
