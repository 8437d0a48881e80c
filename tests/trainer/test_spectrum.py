"""What was painted gets the roughness of the seed, at every scale, and keeps where things lie."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from trainer.generate.looks import random_phase
from trainer.generate.spectrum import equalised

INSIDE = np.zeros((96, 96), np.bool_)
INSIDE[12:84, 12:84] = True


def texture(sigma: float, spread: float, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return a texture (1, 96, 96) of one scale."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((1, 96, 96)), (0, sigma, sigma))
    scaled: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = (field / field.std() * spread).astype(np.float32)
    return scaled


def scale_of(maps: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    """Return the correlation with the next pixel: the coarser the texture, the nearer to one."""
    inner = maps[0, 20:76, 20:76]
    return float(np.corrcoef(inner[:, :-1].ravel(), inner[:, 1:].ravel())[0, 1])


def seeds_texton() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return the texton of a fine texture of spread 0.2."""
    cut = texture(0.8, 1.0, 3)[:, 24:72, 24:72]
    return (cut / np.sqrt((cut**2).sum()) * 0.2).astype(np.float32)


@pytest.mark.parametrize("painted", [texture(4.0, 0.6, 1), texture(4.0, 0.05, 1)], ids=["strong blobs", "faint blobs"])
def test_blobs_become_as_fine_as_the_seed(painted: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    rng = np.random.default_rng(7)
    seed = random_phase(seeds_texton(), (96, 96), rng)
    made = equalised(painted, INSIDE, seeds_texton(), rng)
    assert abs(scale_of(painted) - scale_of(seed)) > 0.2
    assert abs(scale_of(made) - scale_of(seed)) < 0.1
    assert made[:, INSIDE].std() == pytest.approx(0.2, rel=0.15)
    assert not made[:, ~INSIDE].any()


def test_what_is_right_already_stays_where_it_is() -> None:
    rng = np.random.default_rng(7)
    painted = random_phase(seeds_texton(), (96, 96), rng)
    made = equalised(painted, INSIDE, seeds_texton(), rng)
    assert np.corrcoef(painted[:, INSIDE].ravel(), made[:, INSIDE].ravel())[0, 1] > 0.85


def test_channels_stay_of_one_defect() -> None:
    one = texture(1.0, 0.3, 5)
    both = np.concatenate([one, -0.5 * one])
    texton = np.concatenate([seeds_texton(), seeds_texton()])
    made = equalised(both, INSIDE, texton, np.random.default_rng(1))
    assert np.corrcoef(made[0][INSIDE], made[1][INSIDE])[0, 1] < -0.6
