"""A plan through the whole trainer: several classes on a part in store, training and export, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cell.defects import ReviewVerb
from cell.errors import JobError
from tests.trainer.service_support import RECIPE, add_backgrounds, add_calibration, add_seeds
from tests.trainer.test_generate_job import Cell
from trainer.datasets import training_samples
from trainer.exporting import export

SEVERAL = {"count": [2, 2], "together": {"scratch": 1.0}}


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    cell = Cell(tmp_path)
    add_backgrounds(cell.store, 3, 1)
    add_seeds(cell.store, 3, 1)
    add_calibration(cell.store)
    yield cell
    cell.store.close()


def accept_all(cell: Cell) -> None:
    gate = cell.store.gate
    for row in cell.store.candidates.list("disc"):
        name = row.candidate.candidate_id
        token = gate.displayed(name, "Ada")
        gate.decide(name, ReviewVerb.ACCEPT, reviewer="Ada", is_person=True, token=token)


def test_each_defect_keeps_its_class_up_to_training_and_export(cell: Cell, tmp_path: Path) -> None:
    cell.run(cell.job(per_class=2, classes=["pit"], control=SEVERAL))
    rows = [row.candidate for row in cell.store.candidates.list("disc")]
    for candidate in rows:
        assert candidate.classes == ("pit", "scratch")
        defects = cell.store.candidates.defects(candidate)
        assert [name for name, _ in defects] == ["pit", "pit", "scratch"]
        assert np.array_equal(np.logical_or.reduce([own for _, own in defects]), cell.store.read_mask(candidate.mask))
        for region, (_, own) in zip(candidate.regions, defects, strict=True):
            rows_of, columns_of = np.nonzero(own)
            assert (region.box.x, region.box.y) == (columns_of.min(), rows_of.min())
    accept_all(cell)
    # Both classes are labelled, each with its own number.
    manifest = cell.store.gate.issue_training_set(RECIPE, synthetic_ratio=5.0)
    loaded = training_samples(cell.store, manifest, RECIPE, lambda done, total: None)
    synthetic = {one.sample.sample_id: one.sample for one in loaded if one.sample.synthetic}
    assert len(synthetic) == 2
    for candidate in rows:
        labels = synthetic[candidate.candidate_id].labels
        for name, own in cell.store.candidates.defects(candidate):
            assert set(np.unique(labels[own])) == {manifest.classes.index(name) + 1}
    # A training of pits alone must not take the scratch for a good surface.
    pits = cell.store.gate.issue_training_set(RECIPE, synthetic_ratio=0.0, classes=("pit",))
    assert not any(item.kind == "synthetic" for item in pits.items)
    export(cell.store, RECIPE, "coco", tmp_path / "coco")
    document = json.loads((tmp_path / "coco" / "annotations.json").read_text())
    names = {one["id"]: one["name"] for one in document["categories"]}
    first = [one for one in document["annotations"] if one["image_id"] == document["annotations"][0]["image_id"]]
    assert sorted(names[one["category_id"]] for one in first) == ["pit", "pit", "scratch"]
    export(cell.store, RECIPE, "mvtec", tmp_path / "mvtec")
    assert any((tmp_path / "mvtec" / "test" / "combined").iterdir())
    assert not any((tmp_path / "mvtec" / "test" / "pit").iterdir())


def test_a_plan_s_result_tells_asked_and_made(cell: Cell) -> None:
    rare = {"edges": [0.5, 0.8, 1.5], "weights": [1, 3]}
    job = cell.job(per_class=4, classes=["pit"], class_control={"pit": {"severity": rare}})
    [told] = cell.run(job)["control"]
    assert (told["defect_class"], told["target"], told["unit"]) == ("pit", "severity", "seeds")
    assert told["asked"] == told["made"] == [1, 3]
    row = cell.store.candidates.list("disc", job_id=job.job_id)[0].candidate
    kept = row.provenance.parameters
    assert kept.made["severity"] == pytest.approx(kept.asked["severity"], rel=1e-6)


def test_what_was_made_before_a_refusal_stays(cell: Cell) -> None:
    whole = cell.job(per_class=2, classes=["scratch"])
    cell.run(whole)
    cell.run(cell.job(per_class=1, classes=["pit"]))
    # Pits are made first; of the scratches none can be had.
    job = cell.job(per_class=1, class_control={"scratch": {"severity": [1e-3, 1e-3]}})
    with pytest.raises(JobError, match=r"class scratch gave no usable candidate .*severity 0.001"):
        cell.run(job)
    assert [name for name, _, _ in cell.made(job)] == ["pit"]
    [pit] = cell.store.candidates.list("disc", job_id=job.job_id)
    assert cell.store.read_image(pit.candidate.image).pixels.any()
