"""A background whose part is reported bad later is taken back: kept and marked, but nothing is learned from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cell.defects import Split
from cell.imaging.background import BackgroundModel
from cell.verdicts import Outcome
from daemon.harvest.harvester import Harvester
from tests.daemon.cells import eventually
from tests.daemon.harvest_cell import HarvestCell, frames_of, picture, verdict_of


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[HarvestCell]:
    made = HarvestCell(tmp_path)
    yield made
    made.close()


def test_it_leaves_the_set_and_the_table_says_why(cell: HarvestCell) -> None:
    cell.good(12)
    assert cell.run()["withdrawn"] == 0
    cell.report("good-3", Outcome.NG, "pit", source="gauge")
    (waits,) = cell.harvester.summary("cover")["findings"]
    assert waits["goes_on"] is True
    assert "inspectctl harvest withdraws it" in waits["sentence"]
    summary = cell.run()
    assert (summary["backgrounds"], summary["withdrawn"]) == (11, 1)
    assert "good-3" not in cell.taken()
    row = {"what": "withdrawn", "why": "reported bad by gauge (pit)", "parts": 1, "first": "good-3", "last": "good-3"}
    assert row in summary["reasons"]
    (finding,) = summary["findings"]
    assert finding["goes_on"] is False
    assert "it is withdrawn" in finding["sentence"]
    (gone,) = cell.learning.backgrounds("cover", withdrawn=True)[3:4]
    assert gone.part_id == "good-3"
    assert cell.learning.read_image(gone.image).pixels.shape == (2, 64, 80)
    assert cell.learning.withdrawals.of("cover")[gone.background_id].by == "gauge"
    # A new process neither takes it again nor learns from it.
    again = Harvester(cell.line, cell.learning, cell.state).run_once("cover")
    assert (again["backgrounds"], again["withdrawn"]) == (11, 1)


def test_the_model_forgets_it(cell: HarvestCell) -> None:
    cell.good(12)
    cell.run()
    file = cell.state.backgrounds / "cover.model.npz"
    learned = cell.learning.backgrounds("cover", Split.LEARN)
    assert BackgroundModel.load(file).seen == len(learned)
    cell.report(learned[0].part_id, Outcome.NG)
    cell.run()
    assert BackgroundModel.load(file).seen == len(learned) - 1


def test_it_is_taken_back_while_parts_run(cell: HarvestCell) -> None:
    cell.good(12)
    cell.run()
    cell.harvester.start()
    cell.report("good-5", Outcome.NG)
    frames = frames_of("next", picture(99))
    cell.harvester.offer(frames, verdict_of(frames))
    assert eventually(lambda: "good-5" not in cell.taken())
    cell.harvester.stop()
