"""The generation job: candidates in the store, the same after an interruption, known-bad ones hidden among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from cell import settings
from cell.defects import Split
from cell.errors import CalibrationError, ConfigurationError, DataError, JobCancelled, ModelError
from cell.jobs import Job, JobKind, Progress
from cell.process import Cause
from tests.trainer.service_support import (
    RECIPE,
    add_backgrounds,
    add_calibration,
    add_seeds,
    open_store,
    picture,
    write_config,
)
from trainer.context import JobContext
from trainer.generate.candidates import ARMS
from trainer.job_generate import generate, plant
from trainer.parameters import ArmName, GenerateParameters


class Cell:
    """A store with all that a generation needs, and a way to run the job's body in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = settings.load(write_config(folder))
        self.store = open_store(folder)
        self.reported: list[Progress] = []

    def job(self, **parameters: Any) -> Job:
        return self.store.jobs.create(JobKind.GENERATE, "disc", {"arm": "procedural", **parameters})

    def run(self, job: Job, cancelled: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        work = self.folder / "work"
        context = JobContext(self.settings, self.store, job, RECIPE, work, self.reported.append, cancelled)
        return generate(context)

    def made(self, job: Job) -> list[tuple[str, str, bool]]:
        rows = self.store.candidates.list("disc", job_id=job.job_id)
        return [(r.candidate.defect_class, r.candidate.image.digest, r.candidate.planted_bad) for r in rows]


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    cell = Cell(tmp_path)
    add_backgrounds(cell.store, 3, 1)
    add_seeds(cell.store, 3, 1)
    add_calibration(cell.store)
    yield cell
    cell.store.close()


def test_candidates_of_each_class_wait_for_review(cell: Cell) -> None:
    job = cell.job(per_class=3)
    assert cell.run(job) == {"candidates": 6, "by_class": {"pit": 3, "scratch": 3}}
    held_out = {background.background_id for background in cell.store.backgrounds("disc")[3:]}
    for row in cell.store.candidates.list("disc"):
        candidate = row.candidate
        assert row.decision is None
        assert candidate.provenance.background_id not in held_out
        assert candidate.provenance.calibration_digest == cell.store.calibration("disc").record_digest()
    assert cell.reported[-1].done == cell.reported[-1].total == 6


def test_an_interrupted_generation_goes_on_to_the_same_candidates(cell: Cell) -> None:
    whole = cell.job(per_class=4, planted_bad=2, random_seed=7)
    cell.run(whole)
    cut = cell.job(per_class=4, planted_bad=2, random_seed=7)

    with pytest.raises(JobCancelled):
        cell.run(cut, lambda: len(cell.made(cut)) >= 3)
    assert len(cell.made(cut)) == 3
    cell.run(cut)
    assert cell.made(cut) == cell.made(whole)


def test_known_bad_ones_are_hidden_among_the_others(cell: Cell) -> None:
    job = cell.job(per_class=6, planted_bad=3)
    result = cell.run(job)
    # The answer counts them in: it does not say how many there are, let alone which.
    assert result["candidates"] == len(cell.made(job)) == 16
    assert "planted" not in str(result)
    planted = [index for index, (_, _, bad) in enumerate(cell.made(job)) if bad]
    assert len(planted) == 3
    assert min(planted) >= 4
    rows = cell.store.candidates.list("disc", job_id=job.job_id)
    genuine = Counter(row.candidate.defect_class for row in rows if not row.candidate.planted_bad)
    assert min(genuine.values()) >= 6
    for index in planted:
        pixels = cell.store.read_image(rows[index].candidate.image).pixels
        background = cell.store.background(rows[index].candidate.provenance.background_id)
        assert np.abs(pixels.astype(int) - cell.store.read_image(background.image).pixels).max() > 90


def test_a_picture_altered_as_a_whole_says_so_and_others_are_still_refused(cell: Cell) -> None:
    job = cell.job(per_class=1, randomise={"noise": 0.5, "focus_px": 2.0})
    assert cell.run(job)["candidates"] == 2
    for row in cell.store.candidates.list("disc", job_id=job.job_id):
        stack = cell.store.read_image(row.candidate.image)
        background = cell.store.read_image(cell.store.background(row.candidate.provenance.background_id).image)
        assert (stack.pixels != background.pixels).mean() > 0.03
        assert stack.metadata["background_altered"] is True
        assert set(row.candidate.provenance.randomised) >= {"noise", "focus_px", "light_left"}
    plain = cell.job(per_class=1)
    cell.run(plain)
    rows = cell.store.candidates.list("disc", job_id=plain.job_id)
    assert all(row.candidate.provenance.randomised == {} for row in rows)
    assert all("background_altered" not in cell.store.read_image(row.candidate.image).metadata for row in rows)


def test_one_class_alone_can_be_asked_for(cell: Cell) -> None:
    assert cell.run(cell.job(per_class=2, classes=["scratch"]))["by_class"] == {"scratch": 2}


def test_without_what_it_needs_nothing_is_made(tmp_path: Path) -> None:
    cell = Cell(tmp_path)
    try:
        job = cell.job(per_class=1)
        with pytest.raises(CalibrationError):
            cell.run(job)
        add_calibration(cell.store)
        with pytest.raises(DataError, match="no seed"):
            cell.run(job)
        add_seeds(cell.store, 1)
        with pytest.raises(DataError, match="backgrounds"):
            cell.run(job)
        assert cell.made(job) == []
    finally:
        cell.store.close()


def test_a_calibration_of_before_a_change_is_refused_with_fresh_backgrounds(cell: Cell) -> None:
    cell.store.process.declare("disc", Cause.LENS, "Ada")
    add_backgrounds(cell.store, 3)
    job = cell.job(per_class=1)
    with pytest.raises(CalibrationError, match="the lens changed on"):
        cell.run(job)
    assert cell.made(job) == []
    add_calibration(cell.store, "cal-2")
    assert cell.run(job)["candidates"] == 2


def test_backgrounds_of_before_a_change_are_left_out_unless_asked_for(cell: Cell) -> None:
    old = {one.background_id for one in cell.store.backgrounds("disc")}
    cell.store.process.declare("disc", Cause.MATERIAL, "Ada")
    with pytest.raises(DataError, match=r"from before the change of material on .* with --stale"):
        cell.run(cell.job(per_class=1))
    assert cell.run(cell.job(per_class=1, stale=True))["candidates"] == 2
    for index in range(3):
        cell.store.add_background("disc", f"new-{index}", picture(700 + index), Split.LEARN)
    job = cell.job(per_class=3)
    assert cell.run(job)["stale_backgrounds_left_out"] == 3
    rows = cell.store.candidates.list("disc", job_id=job.job_id)
    assert rows
    assert not old & {row.candidate.provenance.background_id for row in rows}


def test_a_wrong_base_folder_is_told(cell: Cell) -> None:
    trainer = cell.settings.trainer.model_copy(update={"base_folder": cell.folder / "nowhere"})
    cell.settings = cell.settings.model_copy(update={"trainer": trainer})
    with pytest.raises(ConfigurationError, match="base_folder"):
        cell.run(cell.job(per_class=1))


def test_the_arm_of_a_checkpoint_takes_its_folder_from_the_settings(cell: Cell) -> None:
    with pytest.raises(ConfigurationError, match=r"trainer\.checkpoint_folder"):
        cell.run(cell.job(arm="stable-diffusion", per_class=1))
    trainer = cell.settings.trainer.model_copy(update={"checkpoint_folder": cell.folder / "nowhere"})
    cell.settings = cell.settings.model_copy(update={"trainer": trainer})
    with pytest.raises(ModelError, match=r"nowhere can't be used: model_index\.json is missing"):
        cell.run(cell.job(arm="stable-diffusion", per_class=1))


def test_the_planted_are_dealt_fairly() -> None:
    per_class, spoilt = plant(3, GenerateParameters(per_class=10, planted_bad=7))
    assert per_class == 13
    assert Counter(index % 3 for index in spoilt) == {0: 3, 1: 2, 2: 2}
    assert plant(3, GenerateParameters(per_class=10)) == (10, frozenset())


def test_the_service_knows_the_arms_there_are() -> None:
    assert get_args(ArmName) == ARMS


def test_the_result_tells_how_various_the_candidates_are_also_after_an_interruption(cell: Cell) -> None:
    whole, cut = (cell.job(per_class=6, planted_bad=2, random_seed=4) for _ in range(2))
    told = cell.run(whole)
    assert [one["defect_class"] for one in told["diversity"]] == ["pit", "scratch"]
    for row in cell.store.candidates.list("disc", job_id=whole.job_id):
        assert 0.0 <= row.candidate.scores["doubt"] <= 1.0
    with pytest.raises(JobCancelled):
        cell.run(cut, cancelled=lambda: len(cell.made(cut)) == 5)
    # What was measured of the first ones is gone too: it is measured again on what the store has.
    for file in (cell.folder / "work" / "prints").glob("*.npz"):
        file.unlink()
    again = cell.run(cut)
    assert again["diversity"] == told["diversity"]
