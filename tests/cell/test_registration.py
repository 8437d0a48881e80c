"""Registration: where a part lies and how far it moved, to a fraction of a pixel."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cell.imaging.registration import LEAST_AGREEMENT, Pose, align, locate, shift


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


def _relief(seed: int = 4) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    rng = np.random.default_rng(seed)
    relief = ndimage.gaussian_filter(rng.standard_normal((120, 160)), 4).astype(np.float32)
    return relief / relief.std()


@pytest.mark.parametrize(
    "pose",
    [
        Pose(3.2, -2.1, 0.7, 1.01),
        Pose(-6.0, 4.0, -170.0, 0.97),
        Pose(0.4, 0.3, 47.0, 1.0),
        Pose(12.0, -9.0, 2.0, 1.0),
    ],
)
def test_shift_turn_and_scale_together(pose: Pose) -> None:
    reference = _relief()
    rng = np.random.default_rng(5)
    image = pose.from_reference(reference, order=3) + rng.normal(0, 0.1, reference.shape).astype(np.float32)
    found = align(reference, image)
    assert (found.down, found.across) == pytest.approx((pose.down, pose.across), abs=0.15)
    assert found.turn_deg == pytest.approx(pose.turn_deg, abs=0.15)
    assert found.scale == pytest.approx(pose.scale, abs=0.003)
    assert found.agreement > 0.8


def test_a_defect_does_not_pull_the_part_out_of_place_and_another_product_does_not_agree() -> None:
    reference = _relief()
    image = Pose(1.0, 2.0).from_reference(reference, order=3).copy()
    image[40:60, 70:95] = -4
    found = align(reference, image)
    assert (found.down, found.across) == pytest.approx((1.0, 2.0), abs=0.1)
    assert align(reference, _relief(9)).agreement < LEAST_AGREEMENT


def test_there_and_back_again_and_what_came_into_view_is_told() -> None:
    pose, relief = Pose(4.0, -6.0, 3.0, 1.02), _relief()
    back = pose.to_reference(pose.from_reference(relief, order=3), order=3)
    inner = (slice(20, -20), slice(20, -20))
    assert float(np.abs(back - relief)[inner].max()) < 0.05
    covered = pose.covered((120, 160))
    assert not covered[0].all()
    assert covered[inner].all()
    assert Pose().covered((5, 6)).all()
