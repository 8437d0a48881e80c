"""The watch beside the line: real stores, real conditions, frames of a small textured part."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from cell.defects import Split
from cell.errors import StateError
from cell.events import ErrorRaised, ErrorResolved, Event, ProcessChanged
from cell.frames import Frame, FrameSet, StoredStack
from cell.process import Cause, ChangeState, Rests
from cell.recipes import Recipe
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.store.line import LineStore
from cell.verdicts import Outcome, Verdict
from daemon.notices import Conditions, EventLog
from daemon.process.charts import DELAY, LEAST
from daemon.process.monitor import Monitor
from daemon.process.watch import ProcessWatch
from tests.daemon.cells import eventually
from tests.daemon.rigs import CHANNELS, recipe

RECIPE: Recipe = recipe(height=96, width=128)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
#: Reference, delay and least learning, and some more.
SETTLED = 32 + DELAY + LEAST + 20


class Cell:
    """A line with its stores, told by parts that are made up."""

    def __init__(self, root: Path) -> None:
        self.state = StateDir.create(root)
        self.line, self.learning = LineStore(self.state), LearningStore(self.state)
        self.line.recipes.add(RECIPE)
        self.events: list[Event] = []
        self.conditions = Conditions(self.line, EventLog(self.line, self.events.append), lambda _, __: None)
        self.watch = ProcessWatch(self.line, self.learning, self.conditions, share=1.0)
        self.part = 0
        self.path = self.state.root / "process" / "plate.npz"
        self._texture = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal((96, 128)), 1.2)

    def show(self, parts: int, *, right: float = 1.0) -> None:
        """Let parts go by, one looked at before the next; `right` is the strength of the second light."""
        for _ in range(parts):
            self.part += 1
            before = self.watch.looked_at
            self.watch.offer(self.frames(right), self.verdict())
            assert eventually(partial(self._beyond, before))

    def _beyond(self, before: int) -> bool:
        return self.watch.looked_at > before

    def settled(self) -> None:
        """Let the monitor learn what the line is like, as a process before this one did."""
        monitor = Monitor(RECIPE)
        for _ in range(SETTLED):
            self.part += 1
            assert monitor.take(self.frames(1.0).stack(), self.now, 0.1, "m") is None
        monitor.save(self.path)

    def frames(self, right: float) -> FrameSet:
        rng = np.random.default_rng(self.part)
        tone = 1 + 0.01 * rng.standard_normal()
        level = 90 * tone * (1 + 0.3 * self._texture)
        frames = tuple(
            Frame(
                name,
                np.clip(np.rint(level * light + 2 * rng.standard_normal(level.shape)), 0, 255).astype(np.uint8),
                8,
                100.0,
                0.0,
                "string",
                self.part,
                0,
            )
            for name, light in zip(CHANNELS, (1.0, right), strict=True)
        )
        return FrameSet(self.part, f"p{self.part}", "plate", self.now, frames, emulated=True)

    @property
    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.part)

    def verdict(self) -> Verdict:
        return Verdict(
            job_id=f"j{self.part:08d}",
            part_id=f"p{self.part}",
            recipe_id="plate",
            recipe_version=RECIPE.version,
            outcome=Outcome.OK,
            score=0.1,
            model_digest="m",
            emulated=True,
            created_at=self.now,
        )

    def background(self, at: datetime) -> str:
        pixels = self.frames(1.0).stack()
        stack = StoredStack(pixels, CHANNELS, 8, (100.0,) * 2, (0.0,) * 2, {"emulated": True})
        made = self.learning.add_background("plate", f"b{at:%H%M%S}", stack, Split.LEARN, taken_at=at)
        return made.background_id

    def restarted(self) -> None:
        """Stop the watch and go on with another, as a new process would."""
        self.watch.stop()
        self.conditions = Conditions(self.line, EventLog(self.line, self.events.append), lambda _, __: None)
        self.watch = ProcessWatch(self.line, self.learning, self.conditions, share=1.0)
        self.watch.start()

    def close(self) -> None:
        self.watch.stop()
        self.learning.close()
        self.line.close()


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    cell = Cell(tmp_path)
    cell.watch.start()
    yield cell
    cell.close()


def test_a_light_that_fails_is_found_named_marked_and_settled(cell: Cell) -> None:
    old = cell.background(NOON)
    cell.settled()
    cell.show(3)
    assert cell.watch.brief("plate")["state"] == "watching"
    assert not cell.conditions.open
    changed_at = cell.now
    cell.show(40, right=0.8)
    assert cell.conditions.is_open("process-change-plate")
    assert "inspectctl process changed" in cell.conditions.open["process-change-plate"]
    (change,) = cell.learning.process.list("plate")
    assert (change.state, change.what, change.by) == (ChangeState.SUSPECTED, Cause.LAMP, "monitor")
    assert abs((change.since - changed_at).total_seconds()) <= 20
    assert any(isinstance(event, ErrorRaised) for event in cell.events)
    assert [event.change for event in cell.events if isinstance(event, ProcessChanged)] == [change]

    report = cell.watch.report("plate")
    assert report["stale"] == {"backgrounds": [old]}
    assert any("harvest" in ask for ask in report["asks"])
    cell.restarted()
    assert cell.conditions.is_open("process-change-plate"), "a restart does not settle it"
    cell.show(3, right=0.8)
    assert len(cell.learning.process.list("plate")) == 1

    settled = cell.watch.changed("plate", Cause.LAMP, "anna", "lamp 2 replaced")
    assert (settled.change_id, settled.state, settled.by) == (change.change_id, ChangeState.DECLARED, "anna")
    assert not cell.conditions.open
    assert isinstance(cell.events[-1], ProcessChanged)
    assert any(isinstance(event, ErrorResolved) for event in cell.events)
    fresh = cell.background(change.since + timedelta(seconds=30))
    standing = cell.learning.process.standing("plate")
    assert standing.stale[Rests.BACKGROUNDS] == (old,)
    assert standing.fresh[Rests.BACKGROUNDS] == 1, fresh
    assert not standing.asks
    assert cell.watch.brief("plate")["state"] == "making its reference"


def test_ordinary_variation_can_be_called_so(cell: Cell) -> None:
    with pytest.raises(StateError, match="suspected"):
        cell.watch.ordinary("plate", "anna")
    old = cell.background(NOON)
    cell.learning.process.suspect("plate", Cause.MATERIAL, NOON + timedelta(hours=1), "it looks different", {})
    cell.restarted()
    assert cell.watch.report("plate")["stale"] == {"backgrounds": [old]}
    withdrawn = cell.watch.ordinary("plate", "anna", "monday")
    assert withdrawn.state is ChangeState.WITHDRAWN
    assert cell.watch.report("plate")["stale"] == {}
    assert not cell.conditions.open


def test_a_person_can_declare_what_nobody_measured(cell: Cell) -> None:
    cell.background(datetime.now(UTC) - timedelta(hours=1))
    change = cell.watch.changed("plate", Cause.TOOLING, "anna")
    assert change.state is ChangeState.DECLARED
    report = cell.watch.report("plate")
    assert set(report["stale"]) == {"backgrounds"}
    assert report["changes"][0]["what"] == "tooling"


def test_the_line_never_waits_and_hears_what_was_passed_over(cell: Cell) -> None:
    cell.show(1)
    with cell.watch._lock:  # the thread waits for the monitor, as behind a long report
        for _ in range(10):
            cell.watch.offer(cell.frames(1.0), cell.verdict())
    assert cell.watch.passed_over >= 6
    assert eventually(lambda: cell.watch.looked_at >= 2)


def test_a_monitor_of_another_set_up_or_a_broken_file_begins_anew(cell: Cell) -> None:
    cell.show(40)
    cell.watch.stop()
    assert cell.path.exists()
    cell.path.write_bytes(cell.path.read_bytes()[:100])
    cell.restarted()
    assert cell.watch.report("plate")["monitor"]["parts"] == 0
    cell.show(1)
    assert cell.watch.brief("plate")["parts"] == 1
