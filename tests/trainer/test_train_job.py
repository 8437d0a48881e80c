"""The training job: from decisions to a package that the line's own engine agrees with; and no way around the gate."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cell import digest, settings
from cell.defects import ReviewVerb
from cell.errors import GateError, InspectdError, JobCancelled, JobError, ModelError, NotFound
from cell.jobs import Job, JobKind, JobState, Progress
from cell.models import ModelManifest, TrainingSet
from cell.settings import EngineSettings
from cell.store.images import read_stack
from cell.store.learning import LearningStore
from drivers.engines.registry import load_engine
from tests.trainer.service_support import (
    RECIPE,
    add_backgrounds,
    add_candidates,
    add_seeds,
    open_store,
    until,
    write_config,
)
from trainer.context import JobContext
from trainer.job_train import train
from trainer.jobs import DEFAULT_PATIENCE, Runner
from trainer.package import read_manifest
from trainer.process import child_command, child_environment


def accept(store: LearningStore, candidate_id: str, *, is_person: bool = True, reviewer: str = "Ada") -> None:
    token = store.gate.displayed(candidate_id, reviewer)
    store.gate.decide(candidate_id, ReviewVerb.ACCEPT, reviewer=reviewer, is_person=is_person, token=token)


class Cell:
    """A store with all that a training needs, and a way to run the job's body in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = write_config(folder)
        self.settings = settings.load(self.config)
        self.store = open_store(folder)
        self.reported: list[Progress] = []

    def fill(self) -> TrainingSet:
        add_backgrounds(self.store, 5, 3)
        add_seeds(self.store, 3, 1)
        for candidate_id in add_candidates(self.store, 3, RECIPE.class_names):
            accept(self.store, candidate_id)
        return self.store.gate.issue_training_set(RECIPE, synthetic_ratio=1.0)

    def job(self, **parameters: Any) -> Job:
        return self.store.jobs.create(JobKind.TRAIN, "disc", parameters)

    def train(self, job: Job, cancelled: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        work = self.folder / "state" / "jobs" / job.job_id / "work"
        work.mkdir(parents=True, exist_ok=True)
        return train(JobContext(self.settings, self.store, job, RECIPE, work, self.reported.append, cancelled))

    def models(self) -> list[str]:
        """Everything that a training could have left: rows and folders."""
        rows = [model.model_id for model in self.store.models()]
        return rows + [path.name for path in (self.folder / "state" / "models").iterdir()]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Train as a job's process does, whose environment bounds the threads; more of them only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with an issued training set, made once: the tests work on copies."""
    cell = Cell(tmp_path_factory.mktemp("filled"))
    cell.fill()
    cell.store.close()
    return cell.folder / "state"


@pytest.fixture
def cell(tmp_path: Path, filled: Path) -> Iterator[Cell]:
    shutil.copytree(filled, tmp_path / "state")
    cell = Cell(tmp_path)
    yield cell
    cell.store.close()


def manifest_of(cell: Cell) -> TrainingSet:
    return cell.store.gate.issue_training_set(RECIPE, synthetic_ratio=1.0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, filled: Path) -> Iterator[tuple[Cell, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(filled, folder / "state")
    cell = Cell(folder)
    result = cell.train(cell.job(manifest_id=manifest_of(cell).manifest_id, updates=3))
    yield cell, result
    cell.store.close()


def test_a_training_ends_in_a_package_that_proves_itself(trained: tuple[Cell, dict[str, Any]]) -> None:
    cell, result = trained
    folder = cell.folder / "state" / "models" / result["onnx_digest"]
    manifest = read_manifest(folder)
    assert cell.store.model(manifest.model_id) == manifest
    assert manifest.classes == ("pit", "scratch")
    assert (manifest.preprocessing.channels, manifest.recipe_version) == (("left", "right"), 1)
    assert manifest.parity is not None
    assert manifest.parity.passed
    # Frames came from an emulated cell, so no real one may take this model, although a person reviewed it.
    assert (manifest.reviewed_by_people, manifest.emulated) == (True, True)
    assert cell.store.gate.verify_training_set_digest(manifest.training_set_digest).recipe_id == "disc"
    sealed = TrainingSet.model_validate_json((folder / "training-set.json").read_bytes())
    cell.store.gate.verify_training_set(sealed)
    report = json.loads((folder / "report.json").read_text())
    assert report["evaluation"] == manifest.evaluation.model_dump(mode="json")


def test_held_out_parts_and_they_alone_were_evaluated(trained: tuple[Cell, dict[str, Any]]) -> None:
    evaluation = trained[0].store.models()[0].evaluation
    assert (evaluation.false_acceptance.parts, evaluation.false_rejection.parts) == (2, 3)
    assert not evaluation.validated
    assert any("held-out" in finding for finding in evaluation.findings)
    assert "cross-validation" in evaluation.threshold_source


def test_golden_images_are_real_frames_with_the_scores_of_the_exported_model(
    trained: tuple[Cell, dict[str, Any]],
) -> None:
    cell, result = trained
    folder = cell.folder / "state" / "models" / result["onnx_digest"]
    manifest = read_manifest(folder)
    assert len(manifest.golden) >= 4
    real = {background.image.digest for background in cell.store.backgrounds("disc")}
    real |= {seed.image.digest for seed in cell.store.seeds("disc")}
    engine = None
    try:
        for golden in manifest.golden:
            stack = read_stack(folder / golden.image_path)
            assert digest.of_array(stack.pixels) == golden.image_digest
            assert golden.image_digest in real
            tensor = manifest.preprocessing.apply(stack.pixels)
            engine = engine or load_engine(EngineSettings(), folder / manifest.onnx_file, tensor.shape)
            assert np.allclose(engine.infer(tensor).score, golden.scores, atol=1e-6)
    finally:
        if engine is not None:
            engine.close()


def test_every_stage_was_reported(trained: tuple[Cell, dict[str, Any]]) -> None:
    stages = [progress.stage for progress in trained[0].reported]
    order = ["reading the training set", "fit", "cross-validation 1/3", "evaluating on held-out parts", "parity"]
    assert [stages.index(stage) for stage in order] == sorted(stages.index(stage) for stage in order)


def test_a_changed_package_is_found(trained: tuple[Cell, dict[str, Any]], tmp_path: Path) -> None:
    cell, result = trained
    folder = tmp_path / result["onnx_digest"]
    shutil.copytree(cell.folder / "state" / "models" / result["onnx_digest"], folder)
    read_manifest(folder)
    network = folder / "model.onnx"
    data = bytearray(network.read_bytes())
    data[len(data) // 2] ^= 1
    network.write_bytes(data)
    with pytest.raises(ModelError, match="not the one its manifest names"):
        read_manifest(folder)


def test_a_job_killed_after_its_package_was_written_is_resumed_to_one_model(cell: Cell) -> None:
    job = cell.job(manifest_id=manifest_of(cell).manifest_id, updates=2)
    first = cell.train(job)
    again = cell.train(job)
    assert again["known_already"]
    assert again["onnx_digest"] == first["onnx_digest"]
    assert len(cell.store.models()) == 1


def test_a_cancelled_training_leaves_no_model_and_goes_on_where_it_stopped(cell: Cell) -> None:
    job = cell.job(manifest_id=manifest_of(cell).manifest_id, updates=3)

    def cancelled() -> bool:
        return (cell.folder / "state" / "jobs" / job.job_id / "work" / "whole.json").exists()

    with pytest.raises(JobCancelled):
        cell.train(job, cancelled)
    assert cell.models() == []
    cell.reported.clear()
    cell.train(job)
    # The model was fitted before the interruption: it is not fitted again.
    assert {progress.note for progress in cell.reported if progress.stage == "fit"} == {"done before the interruption"}
    assert [progress for progress in cell.reported if progress.stage.startswith("cross-validation")]
    assert len(cell.store.models()) == 1


ATTACKS: dict[str, tuple[dict[str, Any], type[InspectdError]]] = {
    "no manifest": ({}, JobError),
    "an invented manifest": ({"manifest_id": "set-0099"}, NotFound),
    "a path": ({"manifest_id": "../../etc/passwd"}, JobError),
    "a folder of images beside": ({"folder": "/tmp/images"}, JobError),
    "a list of images beside": ({"items": [{"image": "x.tif"}]}, JobError),
    "a manifest of one's own": ({"manifest": {"items": []}}, JobError),
    "the check switched off": ({"verify": False}, JobError),
    "text instead of an id": ({"manifest_id": {"manifest_id": "set-0001"}}, JobError),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_job_takes_a_manifest_of_the_store_and_nothing_else(cell: Cell, name: str) -> None:
    parameters, expected = ATTACKS[name]
    if name.endswith(("beside", "off")):
        parameters = {"manifest_id": manifest_of(cell).manifest_id, **parameters}
    with pytest.raises(expected) as caught:
        cell.train(cell.job(**parameters))
    assert "\n" not in str(caught.value)
    assert cell.models() == []


def edit(cell: Cell, *statements: str) -> None:
    """Edit the database as somebody with write access to the file would, append-only triggers taken away first."""
    with sqlite3.connect(cell.folder / "state" / "learning.db") as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            assert connection.execute(statement).rowcount != 0, statement
    connection.close()


def with_manifest(cell: Cell, change: Callable[[TrainingSet], TrainingSet]) -> str:
    """Put an edited manifest in the place of the issued one; its seal stays as it was."""
    manifest = manifest_of(cell)
    edited = change(manifest)
    with sqlite3.connect(cell.folder / "state" / "learning.db") as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(
            "UPDATE training_sets SET record = ?, content_digest = ? WHERE manifest_id = ?",
            (edited.model_dump_json(), edited.content_digest(), manifest.manifest_id),
        )
    connection.close()
    return edited.manifest_id


def doubled(manifest: TrainingSet) -> TrainingSet:
    return manifest.model_copy(update={"items": (*manifest.items, manifest.items[-1])})


def relabelled(manifest: TrainingSet) -> TrainingSet:
    items = [item.model_copy(update={"defect_class": "pit"}) if item.defect_class else item for item in manifest.items]
    return manifest.model_copy(update={"items": tuple(items)})


def persons(manifest: TrainingSet) -> TrainingSet:
    return manifest.model_copy(update={"emulated": False, "reviewers": ("Grace",)})


@pytest.mark.parametrize("change", [doubled, relabelled, persons])
def test_an_edited_manifest_is_refused(cell: Cell, change: Callable[[TrainingSet], TrainingSet]) -> None:
    job = cell.job(manifest_id=with_manifest(cell, change), updates=1)
    with pytest.raises(GateError):
        cell.train(job)
    assert cell.models() == []


def test_decisions_inserted_with_sql_open_nothing(cell: Cell) -> None:
    manifest_id = manifest_of(cell).manifest_id
    edit(
        cell,
        "INSERT INTO ledger (sequence, kind, subject, payload, at, seal) "
        "SELECT (SELECT max(sequence) + 1 FROM ledger), kind, subject, payload, at, seal FROM ledger "
        "WHERE kind = 'decision' LIMIT 1",
    )
    with pytest.raises(GateError):
        cell.train(cell.job(manifest_id=manifest_id, updates=1))
    assert cell.models() == []


def test_a_manifest_row_inserted_with_sql_opens_nothing(cell: Cell) -> None:
    manifest_of(cell)
    edit(
        cell,
        "INSERT INTO training_sets SELECT 'set-0500', 'f' || content_digest, selection_digest, "
        "replace(record, '\"set-0001\"', '\"set-0500\"') FROM training_sets",
    )
    with pytest.raises(GateError):
        cell.train(cell.job(manifest_id="set-0500", updates=1))
    assert cell.models() == []


def test_an_exchanged_picture_is_refused(cell: Cell) -> None:
    manifest = manifest_of(cell)
    pictures = sorted((cell.folder / "state" / "candidates" / "disc").glob("*.tif"))
    shutil.copy(pictures[0], pictures[1])
    with pytest.raises(InspectdError):
        cell.train(cell.job(manifest_id=manifest.manifest_id, updates=1))
    assert cell.models() == []


def test_a_decision_taken_back_during_the_training_stops_it(cell: Cell) -> None:
    manifest = manifest_of(cell)
    candidate = next(item.item_id for item in manifest.items if item.decision_sequence is not None)
    done = [False]

    def reject_meanwhile() -> bool:
        if not done[0] and any(progress.stage.startswith("cross-validation") for progress in cell.reported):
            done[0] = True
            token = cell.store.gate.displayed(candidate, "Ada")
            cell.store.gate.decide(
                candidate, ReviewVerb.REJECT, reviewer="Ada", is_person=True, token=token, reason="not a pit"
            )
        return False

    with pytest.raises(GateError):
        cell.train(cell.job(manifest_id=manifest.manifest_id, updates=1), reject_meanwhile)
    assert done[0]
    assert cell.models() == []


def test_a_recipe_that_changed_since_the_manifest_is_refused(cell: Cell) -> None:
    job = cell.job(manifest_id=manifest_of(cell).manifest_id, updates=1)
    recipe = RECIPE.model_copy(update={"version": 2})
    context = JobContext(cell.settings, cell.store, job, recipe, cell.folder, cell.reported.append, lambda: False)
    with pytest.raises(GateError, match="version"):
        train(context)


def test_a_scripted_reviewer_s_model_is_marked(tmp_path: Path) -> None:
    cell = Cell(tmp_path)
    try:
        add_backgrounds(cell.store, 4, 2)
        add_seeds(cell.store, 3, 1)
        for candidate_id in add_candidates(cell.store, 1, RECIPE.class_names):
            accept(cell.store, candidate_id, is_person=False, reviewer="demo-script (not a person)")
        manifest = cell.store.gate.issue_training_set(RECIPE, synthetic_ratio=1.0)
        cell.train(cell.job(manifest_id=manifest.manifest_id, updates=1))
        model: ModelManifest = cell.store.models()[0]
        assert (model.reviewed_by_people, model.emulated) == (False, True)
    finally:
        cell.store.close()


def test_the_real_child_refuses_a_forged_manifest(cell: Cell) -> None:
    runner = Runner(
        cell.store,
        cell.folder / "state" / "jobs",
        child_command,
        child_environment(cell.config, os.environ),
        lambda _: None,
        patience=DEFAULT_PATIENCE,
    )
    forged = cell.job(manifest_id="set-0099").job_id
    try:
        until(lambda: cell.store.jobs.get(forged).state not in {JobState.QUEUED, JobState.RUNNING}, runner.step, 120)
    finally:
        runner.close()
    assert cell.store.jobs.get(forged).state is JobState.FAILED
    assert "set-0099" in cell.store.jobs.get(forged).error
    assert cell.models() == []
