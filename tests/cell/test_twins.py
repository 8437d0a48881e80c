"""Two pictures of one part under two names are found; parts of one product are not taken for each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cell.imaging import twins

SIZE = (180, 240)


def product() -> np.ndarray:
    """What all parts share: a bore, an edge, the light's fall-off, under two lights."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    radius = np.hypot(rows - 90, columns - 130)
    shared = 110 + 0.2 * columns - 60 * (radius < 30) + 25 * (radius > 85) + 6 * np.sin(radius * 0.8)
    return np.stack([shared, shared[:, ::-1] * 0.8])


def part(number: int, noise: int, *, move: tuple[float, float] = (0, 0), level: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(number)
    grain = np.stack([ndimage.gaussian_filter(rng.normal(0, 1, SIZE), 1.5)] * 2) * 22
    clean = ndimage.shift(product() + grain, (0, *move), order=1, mode="nearest") * level
    return np.clip(clean + np.random.default_rng(noise).normal(0, 2, clean.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def known() -> list[twins.Texture]:
    return [twins.texture(twins.fingerprint(part(number, 1000 + number))) for number in range(12)]


NAMES = [f"p{number}" for number in range(12)]


@pytest.mark.parametrize(
    "again",
    [
        part(5, 2000),
        part(5, 2001, move=(3, -4)),
        part(5, 2002, move=(0.5, 0.5)),
        part(5, 2003, level=0.85),
    ],
    ids=["noise", "moved", "half a pixel", "darker"],
)
def test_the_same_part_is_found(known: list[twins.Texture], again: np.ndarray) -> None:
    fine = twins.texture(twins.fingerprint(again))
    found = twins.judged([twins.correlation(fine, other) for other in known], NAMES)
    assert found is not None
    assert found.index == 5
    sketches = [twins.sketch(other) for other in known]
    assert int(twins.rank(twins.sketch(fine), sketches).argmax()) == 5


def test_parts_of_one_product_are_kept_apart(known: list[twins.Texture]) -> None:
    for number in range(30, 60):
        fine = twins.texture(twins.fingerprint(part(number, number)))
        assert twins.judged([twins.correlation(fine, other) for other in known], NAMES) is None


def test_nothing_is_like_nothing() -> None:
    flat = twins.texture(twins.fingerprint(np.full((1, 64, 64), 90, np.uint8)))
    assert twins.correlation(flat, flat) == 0
    other = twins.texture(twins.fingerprint(part(1, 1)))
    assert twins.correlation(flat, other) == 0
    assert twins.judged([], []) is None
    assert twins.judged([0.9], ["a"]) is None
    assert twins.judged([0.99], ["a"]) is not None


def test_a_fingerprint_is_small() -> None:
    large = np.random.default_rng(1).integers(0, 4000, (8, 1000, 1300), dtype=np.uint16)
    print_ = twins.fingerprint(large)
    assert print_.dtype == np.uint8
    assert max(print_.shape[1:]) <= twins.SIDE
    assert len(print_) <= twins.CHANNELS
