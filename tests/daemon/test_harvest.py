"""Harvest on the built-in plate and real stores: no bad part among the backgrounds, and no part on two sides."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cell import digest
from cell.defects import SeedState, Split
from cell.frames import Frame, FrameSet, StoredStack
from cell.imaging.folders import physical_part
from cell.recipes import Recipe
from cell.store.images import write_stack
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.store.line import LineStore
from cell.store.line_records import ArchivedPart, PartReport
from cell.verdicts import Outcome, Verdict
from daemon.harvest.harvester import ACCEPTANCE, Harvester
from daemon.physical import PhysicalParts
from drivers.sim.plate import recipe_for_plate
from tests.cell.plates import flaw, plate

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RECIPE: Recipe = recipe_for_plate(2)


class Cell:
    """A state directory with both stores, into which parts are archived."""

    def __init__(self, root: Path) -> None:
        self.state = StateDir.create(root)
        self.line, self.learning = LineStore(self.state), LearningStore(self.state)
        self.line.recipes.add(RECIPE)
        self.parts = PhysicalParts(self.line.reports)
        self.harvester = Harvester(self.line, self.learning, self.state, self.parts)
        self._parts = 0

    def archive(
        self,
        part_id: str,
        *,
        pixels: StoredStack | None = None,
        outcome: Outcome = Outcome.OK,
        physical_part: str = "",
    ) -> None:
        picture = pixels or stack_of(part_id)
        self._parts += 1
        job_id = f"j{self._parts:08d}"
        path = self.state.archive_path("plate", job_id, NOON)
        written = write_stack(path, picture)
        row = ArchivedPart(
            job_id=job_id,
            part_id=part_id,
            recipe_id="plate",
            path=self.state.relative(path),
            digest=written,
            outcome=outcome,
            size_bytes=path.stat().st_size,
            emulated=True,
            at=NOON,
            physical_part=physical_part,
        )
        self.line.archive.add(row)

    def report(
        self, part_id: str, outcome: Outcome, defect_class: str = "", source: str = "plc", physical_part: str = ""
    ) -> None:
        report = PartReport(
            part_id=part_id,
            outcome=outcome,
            defect_class=defect_class,
            source=source,
            at=NOON,
            physical_part=physical_part,
        )
        self.harvester.report(report)

    def close(self) -> None:
        self.harvester.stop()
        self.learning.close()
        self.line.close()


def stack_of(part_id: str) -> StoredStack:
    return StoredStack(
        plate(part_id), RECIPE.channel_names, 8, (1000.0, 1000.0), (0.0, 0.0), {"part_id": part_id, "emulated": True}
    )


def frames_of(part_id: str) -> FrameSet:
    frames = tuple(
        Frame(name, pixels, 8, 1000.0, 0.0, "sim", 1, 0)
        for name, pixels in zip(RECIPE.channel_names, plate(part_id), strict=True)
    )
    return FrameSet(1, part_id, "plate", NOON, frames, emulated=True)


def verdict_of(part_id: str) -> Verdict:
    return Verdict(
        job_id="j1",
        part_id=part_id,
        recipe_id="plate",
        recipe_version=1,
        outcome=Outcome.OK,
        score=0.1,
        frames_digest=digest.of_array(plate(part_id)),
        emulated=True,
        created_at=NOON,
    )


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    made = Cell(tmp_path)
    yield made
    made.close()


def eventually(condition: Callable[[], bool]) -> None:
    deadline, pause = time.monotonic() + 30, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in 30 s"
        pause.wait(0.02)


def test_reported_parts_become_backgrounds_and_proposals_even_when_bad_ones_came_first(cell: Cell) -> None:
    for part_id in ("pit-000001", "pit-000002", "crack-000001"):
        cell.archive(part_id, outcome=Outcome.NG)
        cell.report(part_id, Outcome.NG, part_id.split("-")[0])
    for index in range(12):
        cell.archive(f"good-{index:06d}")
        cell.report(f"good-{index:06d}", Outcome.OK)
    summary = cell.harvester.run_once("plate")
    assert summary["backgrounds"] == 12
    assert summary["seeds"] == {"proposed": 3}
    assert summary["refused"] == {}
    for seed in cell.learning.seeds("plate"):
        assert seed.state is SeedState.PROPOSED
        assert seed.defect_class == seed.part_id.split("-")[0]
        assert (cell.learning.read_mask(seed.mask) & flaw(seed.part_id)).any()
    with Image.open(cell.state.backgrounds / "plate.sheet.png") as sheet:
        assert sheet.width > 1000


def test_with_no_report_at_all_no_bad_part_enters(cell: Cell) -> None:
    bad = [f"{kind}-{index:06d}" for kind in ("pit", "stain") for index in (0, 2)]
    names = [f"good-{index:06d}" for index in range(30)]
    for index, part_id in enumerate(bad):
        names.insert(5 * index + 2, part_id)
    for part_id in names:
        cell.archive(part_id)
    summary = cell.harvester.run_once("plate")
    taken = {background.part_id for background in cell.learning.backgrounds("plate")}
    assert not taken & set(bad)
    assert len(taken) >= 15  # at least half of the good parts
    proposed = {seed.part_id for seed in cell.learning.seeds("plate")}
    assert len(proposed & set(bad)) >= 3
    assert len(proposed - set(bad)) <= 2  # a person looks at each
    assert summary["backgrounds"] == len(taken)


def test_a_part_reported_good_that_is_not_is_refused(cell: Cell) -> None:
    for index in range(16):
        cell.archive(f"good-{index:06d}")
        cell.report(f"good-{index:06d}", Outcome.OK)
    stained = plate("good-000100").copy()
    stained[:, 60:110, 60:110] //= 3
    cell.archive("good-000100", pixels=replace(stack_of("good-000100"), pixels=stained))
    cell.report("good-000100", Outcome.OK)
    summary = cell.harvester.run_once("plate")
    assert summary["backgrounds"] == 16
    assert summary["refused"] == {"unlike the other good parts": 1}


def test_unfit_and_foreign_pictures_are_refused_by_name(cell: Cell) -> None:
    good = stack_of("good-000001")
    white = np.full_like(good.pixels, 255)
    unfit = {
        "other exposure than the recipe's": replace(
            good, pixels=good.pixels + np.uint8(1), exposure_us=(1000.0, 2000.0)
        ),
        "other channels than the recipe's": replace(good, pixels=good.pixels + np.uint8(2), channels=("a", "b")),
        "other size or bit depth than the recipe's": replace(good, pixels=good.pixels[:, :200]),
        f"channel {RECIPE.channel_names[0]} is saturated": replace(good, pixels=white),
    }
    for index, picture in enumerate(unfit.values()):
        cell.archive(f"odd-{index}", pixels=picture)
        cell.report(f"odd-{index}", Outcome.OK)
    cell.archive("first", pixels=good)
    cell.archive("frozen", pixels=good)
    cell.report("first", Outcome.OK)
    cell.report("frozen", Outcome.OK)
    cell.archive("good-000009")
    cell.state.resolve(cell.line.archive.list(part_id="good-000009")[0].path).write_bytes(b"II*\x00half")
    summary = cell.harvester.run_once("plate")
    expected = {*unfit, "the picture of another part came again", "unreadable"}
    assert set(summary["refused"]) == expected
    assert summary["backgrounds"] == 1


@pytest.mark.parametrize("said_by", ["trigger", "report", "folder"])
def test_exposures_of_one_part_stay_on_one_side_and_acceptance_parts_are_held_out(cell: Cell, said_by: str) -> None:
    harvester = cell.harvester
    if said_by == "folder":
        harvester = Harvester(cell.line, cell.learning, cell.state, PhysicalParts(cell.line.reports, physical_part))
    for index in range(8):
        for exposure in (1, 2):
            part_id = f"t{index:03d}_e{exposure}" if said_by == "folder" else f"{said_by}-{index}-{exposure}"
            physical = f"t{index:03d}"
            picture = stack_of(f"good-{2 * index + exposure:06d}")
            cell.archive(part_id, pixels=picture, physical_part=physical if said_by == "trigger" else "")
            source = ACCEPTANCE if index >= 6 else "plc"
            cell.report(part_id, Outcome.OK, source=source, physical_part=physical if said_by == "report" else "")
    harvester.run_once("plate")
    kept = cell.learning.backgrounds("plate")
    assert len(kept) == 16
    sides = {part: {b.split for b in kept if b.part_id == part} for part in {b.part_id for b in kept}}
    assert sides.keys() == {f"t{index:03d}" for index in range(8)}
    for part, side in sides.items():
        assert side == {Split.HELD_OUT if part >= "t006" else Split.LEARN}


def test_a_second_run_takes_nothing_twice_and_a_new_process_goes_on(cell: Cell) -> None:
    for index in range(10):
        cell.archive(f"good-{index:06d}")
        cell.report(f"good-{index:06d}", Outcome.OK)
    first = cell.harvester.run_once("plate")
    assert cell.harvester.run_once("plate") == first
    (cell.state.backgrounds / "plate.model.npz").unlink()  # made again from the backgrounds
    cell.archive("pit-000003")
    cell.report("pit-000003", Outcome.NG, "pit")
    again = Harvester(cell.line, cell.learning, cell.state).run_once("plate")
    assert again["backgrounds"] == first["backgrounds"]
    assert again["seeds"] == {"proposed": 1}


def test_offering_costs_the_line_nothing_and_is_counted_when_behind(cell: Cell) -> None:
    frames, verdict = frames_of("good-000000"), verdict_of("good-000000")
    cell.harvester.offer(frames, verdict)
    assert cell.harvester.passed_over == 0  # not harvesting
    cell.harvester.start()
    spent = []
    for _ in range(200):
        before = time.thread_time()
        cell.harvester.offer(frames, verdict)
        spent.append(time.thread_time() - before)
    assert float(np.median(spent)) < 1e-3
    assert cell.harvester.passed_over > 0
    cell.harvester.stop()


def test_the_thread_takes_reported_parts_while_the_line_runs(cell: Cell) -> None:
    cell.report("good-000003", Outcome.OK)
    cell.harvester.start()
    cell.harvester.offer(frames_of("good-000003"), verdict_of("good-000003"))
    eventually(lambda: len(cell.learning.backgrounds("plate")) == 1)
    cell.harvester.stop()
