"""Likeness: regions are described by shape and lights, and like goes to like."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell.defects import SeedRegion
from cell.imaging.likeness import Groups, Region, regions_of

LIGHTS = 3


def drawn(kind: str, number: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    rng = np.random.default_rng([len(kind), number])
    maps = rng.normal(0, 0.1, (LIGHTS, 80, 100)).astype(np.float32)
    mask = np.zeros((80, 100), np.bool_)
    row, column = int(rng.integers(15, 55)), int(rng.integers(15, 60))
    if kind == "pit":
        mask[row : row + 6, column : column + 6] = True
        maps[:, mask] -= 2.0
    else:
        mask[row : row + 2, column : column + 30] = True
        maps[1, mask] += 1.5
    return maps, mask


def region(kind: str, number: int) -> Region:
    maps, mask = drawn(kind, number)
    (found,) = regions_of(mask, maps, np.ones(mask.shape, np.bool_))
    return found


def test_a_region_tells_its_lights() -> None:
    assert region("pit", 1).shown == (0, 1, 2)
    scratch = region("scratch", 1)
    assert scratch.shown == (1,)
    assert scratch.area_px == 60
    assert (scratch.box.width, scratch.box.height) == (30, 2)


def test_like_goes_to_like_and_a_confirmed_class_is_suggested() -> None:
    groups = Groups()
    names = [(kind, groups.place(region(kind, number).look)) for number in range(6) for kind in ("pit", "scratch")]
    assert {name for kind, name in names if kind == "pit"} == {"g1"}
    assert {name for kind, name in names if kind == "scratch"} == {"g2"}
    assert groups.suggested("g1") == ""
    groups.name("g1", "pore")
    assert groups.suggested("g1") == "pore"


def test_groups_are_recalled_from_seeds() -> None:
    one, two = region("pit", 1), region("scratch", 2)
    seeds = [
        ((SeedRegion(box=one.box, area_px=one.area_px, group="g4", look=one.look),), "pore"),
        ((SeedRegion(box=two.box, area_px=two.area_px, group="g7", look=two.look),), ""),
    ]
    groups = Groups.of(seeds)
    assert groups.place(region("pit", 3).look) == "g4"
    assert groups.suggested("g4") == "pore"
    assert groups.place(region("scratch", 3).look) == "g7"
    far = tuple(value + 5 for value in one.look)
    assert groups.place(far) == "g8"


def test_regions_come_largest_first_and_an_empty_mask_has_none() -> None:
    maps, mask = drawn("pit", 5)
    mask[70:72, 90:92] = True
    found = regions_of(mask, maps, np.ones(mask.shape, np.bool_))
    assert [one.area_px for one in found] == [36, 4]
    assert regions_of(np.zeros_like(mask), maps, np.ones(mask.shape, np.bool_)) == []
