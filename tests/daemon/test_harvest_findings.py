"""Harvest when something is wrong: each fault is named, what was taken stays, and nothing bad gets in."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cell.defects import SeedState
from cell.verdicts import Outcome
from daemon.harvest.harvester import Harvester
from daemon.harvest.nursery import MOST
from tests.daemon.cells import eventually
from tests.daemon.harvest_cell import PIT, HarvestCell, frames_of, picture, pit, verdict_of

Levels = NDArray[np.float64]


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[HarvestCell]:
    made = HarvestCell(tmp_path)
    yield made
    made.close()


def dark(levels: Levels) -> None:
    levels[1] *= 0.05


def saturated(levels: Levels) -> None:
    levels[0] += 300


def swapped(levels: Levels) -> None:
    levels[:] = levels[::-1].copy()


def frozen(levels: Levels) -> None:
    levels[0] = picture(900)[0]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (dark, "channel right is dark"),
        (saturated, "channel left is saturated"),
        (swapped, "channels left and right are out of order"),
        (frozen, "channel left is frozen"),
    ],
)
def test_a_wrong_channel_is_named_and_what_was_taken_stays(cell: HarvestCell, spoil: Any, reason: str) -> None:
    cell.good(12)
    cell.archive("first", picture(900))
    cell.report("first", Outcome.OK)
    before = cell.run()["backgrounds"]
    for number in range(4):
        cell.archive(f"spoiled-{number}", picture(100 + number, spoil=spoil))
    summary = cell.run()
    assert summary["refused"] == {reason: 4}
    assert summary["backgrounds"] == before
    assert summary["seeds"] == {}
    (finding,) = summary["findings"]
    assert finding["finding"] == reason
    assert finding["since"] == "spoiled-0"
    assert finding["sentence"].startswith(f"{reason} since part spoiled-0 (4 parts); ")
    assert {"what": "refused", "why": reason, "parts": 4, "first": "spoiled-0", "last": "spoiled-3"} in summary[
        "reasons"
    ]


def test_a_channel_that_was_dark_from_the_first_part_on(cell: HarvestCell) -> None:
    for number in range(12):
        cell.archive(f"p-{number}", picture(number, spoil=dark))
    summary = cell.run()
    assert summary["refused"] == {"channel right is dark": 12}
    sentences = [finding["sentence"] for finding in summary["findings"]]
    assert any("channel right is dark since part p-0" in sentence for sentence in sentences)
    assert any(
        sentence.startswith("not one background among 12 parts (12 channel right is dark)") for sentence in sentences
    )


def test_another_product_half_way(cell: HarvestCell) -> None:
    cell.good(12)
    cell.run()
    for number in range(5):
        cell.archive(f"other-{number}", picture(number, product=1))
    summary = cell.run()
    assert summary["backgrounds"] == 12
    assert sum(summary["refused"].values()) == 5
    assert all("another product" in reason for reason in summary["refused"])
    assert any("look whether the recipe" in finding["sentence"] for finding in summary["findings"])
    assert summary["seeds"] == {}


def test_a_camera_that_moved_half_way(cell: HarvestCell) -> None:
    cell.good(16)
    cell.run()
    for number in range(5):
        cell.archive(f"moved-{number}", picture(200 + number, moved_px=7.0))
        cell.report(f"moved-{number}", Outcome.OK)
    summary = cell.run()
    assert summary["refused"] == {"the part lies elsewhere than all before": 5}
    assert summary["backgrounds"] == 16
    assert "look at camera and fixture" in summary["findings"][0]["sentence"]


def test_not_one_good_part(cell: HarvestCell) -> None:
    for number in range(12):
        cell.archive(f"bad-{number}", picture(number, spoil=pit))
        cell.report(f"bad-{number}", Outcome.NG, "pit")
    summary = cell.run()
    assert summary["backgrounds"] == 0
    (finding,) = summary["findings"]
    assert finding["sentence"].startswith("not one background among 12 parts")
    assert "report good parts" in finding["sentence"]


def test_nobody_spoke_and_the_defect_shows_on_one_light_only(cell: HarvestCell) -> None:
    for number in range(40):
        cell.archive(f"p-{number}", picture(number, spoil=pit if number % 13 == 5 else None))
    summary = cell.run()
    bad = {f"p-{number}" for number in range(40) if number % 13 == 5}
    assert not cell.taken() & bad
    assert len(cell.taken()) >= 0.5 * 37
    proposed = {seed.part_id: seed for seed in cell.learning.seeds("cover")}
    assert bad <= proposed.keys()
    for name in bad:
        seed = proposed[name]
        assert seed.state is SeedState.PROPOSED
        assert seed.proposed_by == "anomaly"
        assert seed.anomaly > 1.0
        assert seed.regions[0].channels == ("left",)
        mask, truth = cell.learning.read_mask(seed.mask), np.zeros((64, 80), np.bool_)
        truth[PIT] = True
        assert (mask & truth).sum() == truth.sum()
        assert mask.sum() < 4 * truth.sum()  # drawn a few pixels wide; the pit is six
    assert len({proposed[name].regions[0].group for name in bad}) == 1
    assert summary["groups"][0]["channels"] == ["left"]


def test_a_reported_class_is_suggested_for_regions_that_look_alike(cell: HarvestCell) -> None:
    cell.good(30)
    cell.archive("told", picture(301, spoil=pit))
    cell.report("told", Outcome.NG, "stain", source="gauge")
    cell.run()
    cell.archive("untold", picture(302, spoil=pit))
    cell.run()
    told, untold = cell.learning.seeds("cover")
    assert (told.proposed_by, told.defect_class) == ("gauge", "stain")
    assert (untold.proposed_by, untold.defect_class) == ("anomaly", "stain")
    assert untold.regions[0].suggested_class == "stain"


def test_what_was_found_is_told_after_a_restart(cell: HarvestCell) -> None:
    cell.good(12)
    cell.run()
    for number in range(4):
        cell.archive(f"spoiled-{number}", picture(100 + number, spoil=dark))
    before = cell.run()
    again = Harvester(cell.line, cell.learning, cell.state).summary("cover")
    for key in ("backgrounds", "refused", "reasons", "coverage", "sheet", "looked_at"):
        assert again[key] == before[key], key
    (cell.state.backgrounds / "cover.harvest.json").write_text("half a fi")
    anew = Harvester(cell.line, cell.learning, cell.state).summary("cover")
    assert anew["backgrounds"] == 12
    assert anew["refused"] == {}


def looked_at_more_than(cell: HarvestCell, parts: int) -> bool:
    return bool(cell.harvester.summary("cover")["looked_at"] > parts)


def test_the_thread_begins_without_any_report_and_stays_bounded(cell: HarvestCell) -> None:
    cell.harvester.start()
    for number in range(MOST):
        frames = frames_of(f"p-{number}", picture(number, spoil=pit if number == 9 else None))
        cell.harvester.offer(frames, verdict_of(frames))
        assert eventually(partial(looked_at_more_than, cell, number), within_s=60)
    assert eventually(lambda: len(cell.taken()) > MOST // 3, within_s=150)
    cell.harvester.stop()
    assert "p-9" not in cell.taken()
    assert not list(cell.state.backgrounds.glob(".nursery-*"))
    cost = cell.harvester.summary("cover")["cost"]
    assert cost["parts"] == MOST
    assert cost["mean_ms"] < 1.0


def test_nothing_is_offered_while_the_line_is_behind(cell: HarvestCell) -> None:
    cell.harvester.start()
    frames = frames_of("p-1", picture(1))
    cell.harvester.offer(frames, verdict_of(frames), behind=True)
    cell.harvester.stop()
    assert cell.harvester.passed_over == 1
    assert cell.harvester.cost.parts == 0
    assert cell.harvester.summary("cover")["looked_at"] == 0
