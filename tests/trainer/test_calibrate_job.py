"""The calibration job: from the store's good parts to a calibration in the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cell import settings
from cell.calibration import CalibrationKind
from cell.errors import CalibrationError, DataError, JobCancelled, JobError
from cell.jobs import Job, JobKind, Progress
from cell.store.images import write_stack
from tests.trainer.service_support import HEIGHT, RECIPE, WIDTH, add_backgrounds, open_store, picture, write_config
from trainer.context import JobContext
from trainer.job_calibrate import calibrate


class Cell:
    """A store, and a way to run the job's body in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = settings.load(write_config(folder))
        self.store = open_store(folder)
        self.reported: list[Progress] = []

    def job(self, **parameters: Any) -> Job:
        return self.store.jobs.create(JobKind.CALIBRATE, "disc", parameters)

    def run(self, job: Job, *, cancelled: bool = False) -> dict[str, Any]:
        context = JobContext(
            self.settings, self.store, job, RECIPE, self.folder, self.reported.append, lambda: cancelled
        )
        return calibrate(context)

    def add_repeats(self, count: int, gain: float = 0.05) -> None:
        """Store pictures of one still part by a camera of that gain (DN per electron), read noise 1 DN."""
        rng = np.random.default_rng(3)
        levels = np.linspace(20, 230, WIDTH)[None, None, :].repeat(2, axis=0).repeat(HEIGHT, axis=1)
        for index in range(count):
            drawn = levels + rng.normal(size=levels.shape) * np.sqrt(1.0 + gain * levels)
            pixels = np.clip(drawn.round(), 0, 255).astype(np.uint8)
            folder = self.store.state.calibrations / "disc" / "repeats"
            write_stack(folder / f"{index:03d}.tif", replace(picture(0), pixels=pixels))


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    cell = Cell(tmp_path)
    yield cell
    cell.store.close()


def test_good_parts_alone_give_a_degraded_calibration(cell: Cell) -> None:
    add_backgrounds(cell.store, 4, 2)
    result = cell.run(cell.job())
    kept = cell.store.calibration("disc")
    assert kept.record_digest() == result["digest"]
    # The two held-out parts were not looked at.
    assert (kept.kind, kept.frames_used) == (CalibrationKind.DEGRADED, 4)
    assert kept.findings
    assert [channel.channel for channel in kept.channels] == ["left", "right"]
    # The parts' noise has sigma 2.
    assert all(1.0 < channel.noise.read_noise_dn < 3.0 for channel in kept.channels)
    assert (cell.folder / "state" / result["curves"]).read_text().startswith("<svg")


def test_repeats_of_a_still_part_give_a_measured_one(cell: Cell) -> None:
    add_backgrounds(cell.store, 2)
    cell.add_repeats(16)
    result = cell.run(cell.job())
    kept = cell.store.calibration("disc")
    assert (result["kind"], kept.kind) == ("measured", CalibrationKind.MEASURED)
    for channel in kept.channels:
        assert channel.noise.gain_dn_per_e == pytest.approx(0.05, rel=0.2)


def test_a_job_done_twice_makes_one_calibration(cell: Cell) -> None:
    add_backgrounds(cell.store, 2)
    job = cell.job()
    assert cell.run(job)["digest"] == cell.run(job)["digest"]
    assert len(cell.store.calibrations("disc")) == 1
    cell.run(cell.job())
    assert len(cell.store.calibrations("disc")) == 2


def test_what_can_not_be_used_is_told_and_nothing_is_kept(cell: Cell) -> None:
    with pytest.raises(CalibrationError, match="harvest"):
        cell.run(cell.job())
    add_backgrounds(cell.store, 2)
    with pytest.raises(JobError, match="folder"):
        cell.run(cell.job(folder="/tmp"))
    with pytest.raises(JobCancelled):
        cell.run(cell.job(), cancelled=True)
    cell.add_repeats(3)
    with pytest.raises(CalibrationError, match="repeats"):
        cell.run(cell.job())
    (cell.folder / "state/calibrations/disc/repeats/000.tif").write_bytes(b"II*\0")
    with pytest.raises(DataError, match=r"000\.tif"):
        cell.run(cell.job())
    assert cell.store.calibrations("disc") == ()
