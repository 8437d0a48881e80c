"""Registration: where a part lies and how far it moved, to a fraction of a pixel."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cell.imaging.registration import locate, shift


def test_finds_the_part_on_its_carrier_and_drops_specks() -> None:
    frame = np.full((1, 80, 100), 5, np.uint8)
    frame[0, 20:60, 30:90] = 120
    frame[0, 30:40, 40:50] = 3  # a hole through the part belongs to it
    frame[0, 5, 5] = 200
    place = locate(frame, 10)
    assert place is not None
    assert (place.box.x, place.box.y, place.box.width, place.box.height) == (30, 20, 60, 40)
    assert place.mask[35, 45]
    assert not place.mask[5, 5]
    assert not place.touches_edge
    assert place.share == pytest.approx(2400 / 8000, abs=0.005)


def test_an_empty_carrier_holds_no_part_and_no_carrier_means_the_whole_frame() -> None:
    empty = np.full((2, 40, 50), 4, np.uint8)
    assert locate(empty, 10) is None
    whole = locate(empty, None)
    assert whole is not None
    assert whole.mask.all()


def test_a_part_that_is_lit_on_one_channel_only_is_found_and_an_edge_is_told() -> None:
    frame = np.full((2, 40, 50), 4, np.uint8)
    frame[1, :20, 10:40] = 90
    place = locate(frame, 10)
    assert place is not None
    assert place.touches_edge


@pytest.mark.parametrize("moved", [(0.0, 0.0), (3.0, -5.0), (1.5, 2.25), (-7.75, 0.5)])
def test_shift_to_a_quarter_pixel(moved: tuple[float, float]) -> None:
    rng = np.random.default_rng(4)
    reference = ndimage.gaussian_filter(rng.standard_normal((128, 160)), 2).astype(np.float32)
    image = ndimage.shift(reference, moved, order=3, mode="wrap").astype(np.float32)
    image += rng.normal(0, 0.005, image.shape).astype(np.float32)
    down, across, peak = shift(reference, image)
    assert (down, across) == pytest.approx(moved, abs=0.25)
    assert peak > 0.03


def test_pictures_that_do_not_belong_together_have_a_low_peak() -> None:
    rng = np.random.default_rng(4)
    one, two = (rng.standard_normal((128, 160)).astype(np.float32) for _ in range(2))
    assert shift(one, two)[2] < 0.05
