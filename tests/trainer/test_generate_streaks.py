"""What a defect does to the lay of its surface is measured on seeds and done to backgrounds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cell.frames import Stack
from trainer.generate.procedural import mixable
from trainer.generate.streaks import streaks_of, under_defect

SIDE = 160


def ground(rng: np.random.Generator, lay: bool = True) -> np.ndarray:
    """Return the logarithm of a surface: streaks down the picture, or grain, and the sensor's noise."""
    grain = rng.standard_normal((SIDE, SIDE))
    texture = ndimage.gaussian_filter(grain, (40, 0.8) if lay else 1.2, mode="wrap")
    return np.log(120.0) + 0.12 * texture / texture.std()


def picture(log: np.ndarray, rng: np.random.Generator) -> Stack:
    return np.clip(np.exp(log) + rng.normal(0, 1.0, log.shape), 0, 255).astype(np.uint8)[None]


def disc(radius: int) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    return np.hypot(rows, columns) < radius


@pytest.mark.parametrize(("strength", "low", "high"), [(0.0, 0.0, 0.1), (1.0, 1.0, 1.0), (2.0, 1.4, 2.5)])
def test_a_seed_tells_whether_streaks_end_stay_or_are_lifted(strength: float, low: float, high: float) -> None:
    rng = np.random.default_rng(5)
    log, mask = ground(rng), disc(30)
    changed = np.where(mask, np.log(120.0) - 0.3 + strength * (log - np.log(120.0)), log)
    found = streaks_of(picture(changed, rng), mask, mask, np.ones_like(mask), 8)
    assert found is not None
    assert low <= found.kept <= high


def test_a_surface_without_a_lay_and_a_speck_tell_nothing() -> None:
    rng = np.random.default_rng(6)
    everywhere = np.ones((SIDE, SIDE), np.bool_)
    assert streaks_of(picture(ground(rng, lay=False), rng), disc(30), disc(30), everywhere, 8) is None
    assert streaks_of(picture(ground(rng), rng), disc(4), disc(4), everywhere, 8) is None


@pytest.mark.parametrize(("kept", "low", "high"), [(0.0, 0.0, 0.45), (2.0, 1.7, 2.3)])
def test_a_background_gets_under_a_defect_what_the_seed_had(kept: float, low: float, high: float) -> None:
    rng = np.random.default_rng(7)
    pixels, inside = picture(ground(rng), rng), disc(40)
    soft = np.clip(ndimage.gaussian_filter(inside.astype(np.float32), 1.0), 0, 1)
    soft[~disc(44)] = 0
    lit = under_defect(pixels, soft, np.ones_like(inside), kept, 8)

    def streaks(stack: np.ndarray) -> float:
        mean = ndimage.gaussian_filter(np.log(stack[0].astype(np.float64)), (12, 2.0))
        return float((mean - ndimage.gaussian_filter(mean, 8))[disc(25)].std())

    assert low <= streaks(lit) / streaks(pixels) <= high
    assert np.array_equal(lit[:, soft == 0], pixels[:, soft == 0].astype(np.float32))


def test_nothing_is_known_and_nothing_is_changed() -> None:
    pixels = picture(ground(np.random.default_rng(8)), np.random.default_rng(9))
    soft = disc(40).astype(np.float32)
    assert np.array_equal(under_defect(pixels, soft, soft > -1, None, 8), pixels.astype(np.float32))


def test_a_bright_course_and_a_dark_one_are_not_mixed() -> None:
    dark = np.array([[-0.3, -0.5, -0.5]], np.float32)
    assert mixable(dark, dark)
    assert mixable(dark, 0.5 * dark)
    assert not mixable(dark, -dark)
    assert not mixable(dark, np.array([[0.2, 0.4, 0.5]], np.float32))
