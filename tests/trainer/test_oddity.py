"""The learned anomaly score: from good parts alone to a network that harvest goes by."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cell import settings
from cell.errors import DataError, JobCancelled
from cell.imaging import oddity
from cell.imaging.preprocess import Preprocessing
from cell.jobs import Job, JobKind
from daemon.harvest.learned import LearnedOddity
from tests.trainer.parts import QUICK, SPEC, plate
from tests.trainer.service_support import RECIPE, add_backgrounds, defective, open_store, picture, write_config
from trainer.context import JobContext
from trainer.foreign import UNKNOWN_CLASS
from trainer.job_oddity import learn_oddity
from trainer.metrics import auroc
from trainer.oddity import LEAST_PARTS, divided, learn, maps_of
from trainer.samples import CropSampler, GoodOnly

ONE = Preprocessing(channels=(oddity.CHANNEL,))


class Cell:
    """A store with good parts, and jobs run in this process."""

    def __init__(self, folder: Path, parts: int) -> None:
        self.folder = folder
        self.settings = settings.load(write_config(folder))
        self.store = open_store(folder)
        add_backgrounds(self.store, parts)

    def job(self, *, cancelled: bool = False, updates: int = 8, random_seed: int = 0) -> dict[str, object]:
        job: Job = self.store.jobs.create(JobKind.ODDITY, "disc", {"updates": updates, "random_seed": random_seed})
        work = self.folder / "state" / "jobs" / job.job_id / "work"
        work.mkdir(parents=True)
        return learn_oddity(JobContext(self.settings, self.store, job, RECIPE, work, lambda _: None, lambda: cancelled))

    @property
    def backgrounds(self) -> Path:
        return self.store.state.backgrounds


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    cell = Cell(tmp_path, LEAST_PARTS)
    yield cell
    cell.store.close()


def test_good_parts_alone_give_crops_with_and_without_foreign_patches() -> None:
    good = [plate(part) for part in range(4)]
    batch = CropSampler(good, SPEC, GoodOnly(size=64), seed=1).draw(60)
    assert set(np.unique(batch.labels)) == {0, UNKNOWN_CLASS}
    shares = (batch.labels > 0).mean(axis=(1, 2))
    assert 15 < (shares > 0).sum() < 55
    # A side of a line is wider than any blob.
    blobs = CropSampler(good, SPEC, GoodOnly(size=64, foreign_steps=0.0), seed=1).draw(60)
    steps = CropSampler(good, SPEC, GoodOnly(size=64, foreign_steps=1.0), seed=1).draw(60)
    assert (steps.labels > 0).mean() > 2 * (blobs.labels > 0).mean()


def test_a_network_that_saw_no_defect_tells_parts_with_one() -> None:
    config = replace(QUICK, sampling=GoodOnly(size=64))
    model = learn([plate(part) for part in range(12)], ONE, config)
    good = [oddity.evidence(maps_of(model, plate(100 + part).stack)) for part in range(8)]
    bad = [oddity.evidence(maps_of(model, plate(200 + part, "pit").stack)) for part in range(8)]
    found = auroc(bad, good)
    assert found is not None
    assert found > 0.9


def test_a_marked_part_teaches_nothing_and_few_parts_are_too_few() -> None:
    with pytest.raises(DataError, match="marked defect"):
        learn([plate(1), plate(2, "pit")], ONE, QUICK)
    with pytest.raises(DataError, match="too few"):
        divided([plate(part) for part in range(LEAST_PARTS - 1)] * 2)
    learned, left_out = divided([plate(part, picture=n) for part in range(LEAST_PARTS) for n in range(2)])
    assert not {one.group for one in learned} & {one.group for one in left_out}
    assert len(left_out) == 2 * LEAST_PARTS // 4


def test_the_job_leaves_a_network_that_harvest_goes_by(cell: Cell) -> None:
    learned = LearnedOddity(cell.backgrounds, RECIPE)
    good, bad = picture(900).pixels, defective(901, "pit")[0].pixels
    assert learned.deviations(good) is None
    result = cell.job()
    assert (result["learned_parts"], result["left_out_parts"]) == (9, 3)
    first = learned.deviations(good)
    assert first is not None
    assert abs(first) < 8
    assert learned.deviations(bad) != first
    # What is learned anew is loaded without a restart.
    cell.job(random_seed=5)
    assert learned.deviations(good) not in {None, first}


def test_what_does_not_fit_is_left_alone(cell: Cell, caplog: pytest.LogCaptureFixture) -> None:
    cell.job(updates=2)
    network, described = oddity.files(cell.backgrounds, "disc")
    good = picture(900).pixels
    turned = RECIPE.model_copy(update={"channels": RECIPE.channels[::-1]})
    with caplog.at_level(logging.WARNING):
        assert LearnedOddity(cell.backgrounds, turned).deviations(good) is None
    assert "other channels" in caplog.text
    learned = LearnedOddity(cell.backgrounds, RECIPE)
    assert learned.deviations(good) is not None
    network.write_bytes(network.read_bytes()[:-1])
    os.utime(described, ns=(1, 1))
    assert learned.deviations(good) is None
    assert "not the one it describes" in caplog.text
    described.write_text("{}")
    assert LearnedOddity(cell.backgrounds, RECIPE).deviations(good) is None


def test_evidence_is_that_of_the_strongest_places_away_from_the_edge() -> None:
    maps = np.full((2, 60, 80), 0.1, np.float32)
    calm = oddity.evidence(maps)
    assert calm == pytest.approx(np.log(0.1 / 0.9), abs=1e-4)
    maps[:, :4] = 0.99
    assert oddity.evidence(maps) == pytest.approx(calm)
    maps[0, 30:42, 30:42] = 0.9
    assert oddity.evidence(maps) == pytest.approx((np.log(9) - np.log(9)) / 2, abs=1e-4)


def test_a_stopped_job_leaves_nothing(cell: Cell) -> None:
    with pytest.raises(JobCancelled):
        cell.job(cancelled=True)
    assert not any(file.exists() for file in oddity.files(cell.backgrounds, "disc"))
