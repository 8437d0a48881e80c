"""What a set of seeds lacks: by number, part, place, size, direction and lot."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from cell.defects import ImageRef, Mask, Seed, SeedState, Split
from cell.imaging.seed_set import LackKind, SeedLook, look_at, summarise
from cell.recipes import Channel, DefectClass, Recipe, Rect

RECIPE = Recipe(
    recipe_id="plate",
    product="plate",
    height=200,
    width=300,
    channels=(Channel(name="ring", exposure_us=100, lights={"ring": 1.0}),),
    defect_classes=(DefectClass(name="pit"), DefectClass(name="scratch")),
)


def line(x: float, y: float, length: float, angle_deg: float, width: float = 4) -> Mask:
    rows, columns = np.mgrid[:200, :300]
    angle = np.deg2rad(angle_deg)
    along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    across = -(columns - x) * np.sin(angle) + (rows - y) * np.cos(angle)
    mask: Mask = (np.abs(along) <= length / 2) & (np.abs(across) <= width / 2)
    return mask


def seed(number: int, mask: Mask, **changes: Any) -> SeedLook:
    values: dict[str, Any] = {
        "seed_id": f"s{number}",
        "recipe_id": "plate",
        "part_id": f"p{number}",
        "defect_class": "scratch",
        "image": ImageRef(path="a.tif", digest=str(number)),
        "mask": ImageRef(path="a.png", digest=str(number)),
        "box": Rect(x=0, y=0, width=1, height=1),
        "state": SeedState.CONFIRMED,
        "split": Split.LEARN,
        "taken_at": datetime(2026, 3, 1, tzinfo=UTC),
        **changes,
    }
    return look_at(Seed.model_validate(values), mask)


VARIED = [(40, 40, 30, 10), (250, 50, 60, 80), (80, 160, 45, 130), (200, 150, 25, 45)]


def kinds(*looks: SeedLook) -> set[LackKind]:
    (_, found) = summarise(RECIPE, looks, {}, {})
    return {lack.kind for lack in found.lacks}


@pytest.mark.parametrize("angle", range(0, 180, 15))
def test_moments_tell_place_size_and_direction(angle: int) -> None:
    look = seed(1, line(120, 90, 60, angle))
    assert look.center == pytest.approx((90, 120), abs=1)
    assert abs((look.direction_deg - angle + 90) % 180 - 90) < 3
    assert look.elongation > 8
    assert look.size_px == pytest.approx(np.sqrt(60 * 4), rel=0.15)


def test_a_varied_set_lacks_only_what_measures_it() -> None:
    looks = [seed(index, line(*place)) for index, place in enumerate(VARIED)]
    held = seed(9, line(100, 100, 20, 0), split=Split.HELD_OUT)
    assert kinds(*looks) == {LackKind.NOTHING_HELD_OUT}
    assert kinds(*looks, held) == set()
    (pit, scratch) = summarise(RECIPE, [*looks, held], {}, {})
    assert (scratch.usable, scratch.parts, scratch.held_out, scratch.ready) == (4, 4, 1, True)
    assert (pit.usable, pit.ready, pit.lacks[0].message) == (
        0, False, "pit has 0 of at least 3 seeds; confirm 3 more of other parts",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "places"),
    [
        (LackKind.ONE_PLACE, [(100, 100, 20, 0), (105, 96, 50, 60), (98, 104, 30, 120)]),
        (LackKind.ONE_SIZE, [(40, 40, 30, 0), (250, 50, 32, 60), (80, 160, 31, 120)]),
        (LackKind.ONE_DIRECTION, [(40, 40, 20, 175), (250, 50, 60, 4), (80, 160, 40, 10)]),
    ],
)
def test_sameness_is_said(kind: LackKind, places: list[tuple[float, float, float, float]]) -> None:
    held = seed(9, line(100, 100, 20, 0), split=Split.HELD_OUT)
    assert kinds(held, *(seed(index, line(*place)) for index, place in enumerate(places))) == {kind}


def test_number_parts_lots_and_proposals() -> None:
    held = seed(99, line(100, 100, 20, 0), split=Split.HELD_OUT)
    one_part = [seed(index, line(*place), part_id="p") for index, place in enumerate(VARIED)]
    assert kinds(held, *one_part) == {LackKind.ONE_PART}
    one_lot = [seed(index, line(*place), lot="l1") for index, place in enumerate(VARIED)]
    assert kinds(held, *one_lot) == {LackKind.ONE_LOT}
    many = [seed(index, line(*VARIED[index % 4])) for index in range(11)]
    assert kinds(held, *many) == {LackKind.MORE_THAN_ENOUGH}
    waiting = seed(50, line(*VARIED[0]), state=SeedState.PROPOSED)
    assert kinds(held, waiting, *many[:4]) == {LackKind.WAITING}
    assert kinds(held, *many[:2]) == {LackKind.TOO_FEW}
