"""The gap job: what the store holds, compared, with its picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cell import settings
from cell.errors import CalibrationError, DataError, JobCancelled
from cell.jobs import Job, JobKind, Progress
from tests.trainer.service_support import RECIPE, add_backgrounds, add_calibration, add_seeds, open_store, write_config
from trainer.context import JobContext
from trainer.job_gap import gap
from trainer.job_generate import generate


class Cell:
    """A store with real and synthetic defects, and a way to run jobs in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = settings.load(write_config(folder))
        self.store = open_store(folder)
        self.reported: list[Progress] = []

    def context(self, job: Job, cancelled: Callable[[], bool] = lambda: False) -> JobContext:
        work = self.folder / "state" / "jobs" / job.job_id / "work"
        return JobContext(self.settings, self.store, job, RECIPE, work, self.reported.append, cancelled)

    def generated(self) -> str:
        job = self.store.jobs.create(JobKind.GENERATE, "disc", {"arm": "procedural", "per_class": 4})
        generate(self.context(job))
        return job.job_id

    def gap(self, cancelled: Callable[[], bool] = lambda: False, **parameters: Any) -> dict[str, Any]:
        return gap(self.context(self.store.jobs.create(JobKind.GAP, "disc", parameters), cancelled))


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    cell = Cell(tmp_path)
    add_backgrounds(cell.store, 6, 1)
    add_seeds(cell.store, 3, 2)
    add_calibration(cell.store)
    yield cell
    cell.store.close()


def test_seeds_and_candidates_are_compared_and_shown(cell: Cell) -> None:
    job_id = cell.generated()
    result = cell.gap(job_id=job_id)
    assert result["real"] == "6 crops of 6 parts"
    names = [measure["name"] for measure in result["measures"]]
    assert {"defects", "surroundings", "real against real", "crude paste", "kernel distance", "null edit"} <= set(names)
    assert result["conclusion"] in {"different", "can't tell"}
    with Image.open(cell.store.state.resolve(result["picture"])) as picture:
        assert picture.width > 500
    assert cell.gap(job_id=job_id, held_out=True)["real"] == "10 crops of 10 parts"
    assert cell.gap(classes=["pit"])["real"] == "3 crops of 3 parts"


def test_without_what_it_needs_it_says_what(tmp_path: Path, cell: Cell) -> None:
    with pytest.raises(DataError, match="candidates"):
        cell.gap()
    cell.generated()
    with pytest.raises(JobCancelled):
        cell.gap(cancelled=lambda: True)
    bare = Cell(tmp_path / "bare")
    try:
        with pytest.raises(CalibrationError):
            bare.gap()
    finally:
        bare.store.close()
