"""What is known of a seed's regions after a person drew its mask anew."""

from __future__ import annotations

import numpy as np

from cell.defects import Mask, SeedRegion
from cell.imaging.redrawn import regions_of_mask
from cell.recipes import Rect


def _mask(*boxes: tuple[int, int, int, int]) -> Mask:
    mask = np.zeros((40, 50), np.bool_)
    for x, y, width, height in boxes:
        mask[y : y + height, x : x + width] = True
    return mask


def _region(x: int, y: int, width: int, height: int, group: str) -> SeedRegion:
    box = Rect(x=x, y=y, width=width, height=height)
    return SeedRegion(box=box, area_px=width * height, group=group, channels=("left",), look=(1.0, 2.0, 3.0, 4.0, 0.5))


def test_regions_follow_the_mask_and_keep_what_is_known_of_them() -> None:
    before = _mask((5, 5, 6, 6), (30, 20, 4, 4))
    known = (_region(5, 5, 6, 6, "g1"), _region(30, 20, 4, 4, "g2"))
    assert regions_of_mask(before, before, known) == known
    drawn = _mask((8, 5, 10, 8), (5, 30, 3, 3))  # the first one grew and moved, the second was erased, a third is new
    grown, fresh = regions_of_mask(drawn, before, known)
    assert (grown.group, grown.area_px, grown.box) == ("g1", 80, Rect(x=8, y=5, width=10, height=8))
    assert grown.look == known[0].look
    assert (fresh.group, fresh.channels, fresh.box) == ("", (), Rect(x=5, y=30, width=3, height=3))
    assert regions_of_mask(drawn, before, ()) == ()
