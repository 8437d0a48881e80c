"""Repeats that are not what they should be: every fault gets one clear sentence, and what serves is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from cell.imaging.stillness import against_parts, check

NAMES = ("left", "right", "ring")
HEIGHT, WIDTH = 96, 128


def scene(seed: int, level: float = 120.0) -> NDArray[np.float64]:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((HEIGHT, WIDTH)), 5)
    return np.asarray(level + 400 * field, np.float64)


def series(count: int = 12, seed: int = 3) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    lit = np.stack([scene(1), scene(2), scene(3, 60)])
    return np.clip(np.rint(lit[None] + rng.normal(0, 1.5, (count, *lit.shape))), 0, 255).astype(np.uint8)


def sentences(pixels: NDArray[Any], **more: Any) -> list[str]:
    return [one.sentence for one in check(pixels, NAMES, 8, **more).findings]


def test_still_repeats_are_all_kept_and_nothing_is_said() -> None:
    found = check(series(), NAMES, 8)
    assert found.findings == ()
    assert found.repeats == tuple(range(12))


@pytest.mark.parametrize("ramp", [0.02, -0.05])
def test_a_lamp_that_drifts_is_no_movement(ramp: float) -> None:
    pixels = series().astype(np.float64) * (1 + ramp * np.linspace(0, 1, 12))[:, None, None, None]
    assert check(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), NAMES, 8).findings == ()


def test_a_frozen_channel_is_named_and_left_out() -> None:
    pixels = series()
    pixels[:, 1] = pixels[0, 1]
    found = check(pixels, NAMES, 8)
    assert found.unusable == {"right"}
    assert "channel right is frozen" in found.findings[0].sentence
    assert len(found.repeats) == 12


def test_one_frame_that_came_twice_is_told_and_the_channel_stays() -> None:
    pixels = series()
    pixels[5, 0] = pixels[4, 0]
    found = check(pixels, NAMES, 8)
    assert found.unusable == frozenset()
    assert "1 frames came twice" in found.findings[0].sentence


def test_a_dark_and_a_saturated_channel_are_named() -> None:
    pixels = series()
    pixels[:, 0] = np.random.default_rng(0).integers(0, 3, pixels[:, 0].shape)
    pixels[:, 2] = 255
    found = check(pixels, NAMES, 8)
    assert found.unusable == {"left", "ring"}
    assert any("left is dark" in sentence for sentence in sentences(pixels))
    assert any("ring is saturated over 100 %" in sentence for sentence in sentences(pixels))


def test_darkness_is_expected_when_the_lights_are_off_and_light_is_told() -> None:
    pixels = np.random.default_rng(0).integers(3, 6, (6, 3, HEIGHT, WIDTH)).astype(np.uint8)
    assert check(pixels, NAMES, 8, expect_light=False).findings == ()
    pixels[:, 1] += 60
    assert "right is not dark" in check(pixels, NAMES, 8, expect_light=False).findings[0].sentence


def test_repeats_with_channels_in_each_others_place_are_left_out() -> None:
    pixels = series()
    pixels[4, [0, 1]] = pixels[4, [1, 0]]
    found = check(pixels, NAMES, 8)
    assert 4 not in found.repeats
    assert len(found.repeats) == 11
    assert any("left is out of order: in some repeats it shows the frame of right" in s for s in sentences(pixels))


def test_a_camera_that_moved_half_way_leaves_the_longer_run() -> None:
    pixels = series()
    pixels[4:] = np.roll(pixels[4:], (1, -2), axis=(2, 3))
    found = check(pixels, NAMES, 8)
    assert found.repeats == tuple(range(4, 12))
    told = found.findings[0].sentence
    assert "moved between repeat 4 and 5" in told
    assert "-2.0 px across" in told
    assert "+1.0 px down" in told


def test_lights_that_are_plugged_in_otherwise_than_in_production_show() -> None:
    parts = list(series(3, seed=9))
    assert against_parts(series(), parts, NAMES) == ()
    found = against_parts(series()[:, [1, 0, 2]], parts, NAMES)
    assert found[0].unusable
    assert "left looks like right" in found[0].sentence
