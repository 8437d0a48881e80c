"""The model package: whole or not there, and never about other contents than its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cell import digest
from cell.clock import utc_now
from cell.errors import ModelError, StoreError
from cell.imaging.preprocess import Preprocessing
from cell.models import EvaluationReport, ModelManifest, RateBound, TrainingSet
from cell.store.images import read_stack
from cell.store.layout import StateDir
from tests.trainer.service_support import RECIPE, picture
from trainer.package import Contents, Golden, golden_images, read_manifest, write_package

TRAINING_SET = TrainingSet(
    manifest_id="set-0001",
    recipe_id="disc",
    recipe_version=1,
    classes=RECIPE.class_names,
    channels=RECIPE.channel_names,
    items=(),
    reviewers=("Ada",),
    reviewed_by_people=True,
    emulated=True,
    issued_at=utc_now(),
)


def contents() -> Contents:
    golden = [Golden(picture(seed), (0.1 * seed, 0.25)) for seed in range(3)]
    return Contents(onnx=b"a network", training_set=TRAINING_SET, golden=golden, report={"fit": [1.0, 0.5]})


def manifest(of: Contents, **changes: Any) -> ModelManifest:
    none = RateBound(count=0, parts=0, rate=None, lower_95=None, upper_95=None)
    evaluation = EvaluationReport(
        threshold=0.5,
        threshold_source="a test",
        false_acceptance=none,
        false_rejection=none,
        recall_by_class={},
        auroc=None,
        auroc_macro=None,
        pixel_ap=None,
        pixel_ap_macro=None,
        validated=False,
    )
    made = ModelManifest(
        model_id="disc-1",
        recipe_id="disc",
        recipe_version=1,
        onnx_file="model.onnx",
        onnx_digest=digest.of_bytes(of.onnx),
        classes=RECIPE.class_names,
        channels=RECIPE.channel_names,
        preprocessing=Preprocessing.for_recipe(RECIPE),
        threshold=0.5,
        golden=golden_images(of.golden),
        training_set_digest=of.training_set.content_digest(),
        reviewed_by_people=True,
        emulated=True,
        evaluation=evaluation,
        parity=None,
        created_at=utc_now(),
    )
    return made.model_copy(update=changes)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir.create(tmp_path)


def left(state: StateDir) -> list[str]:
    return sorted(path.name for path in state.models.iterdir())


def test_a_package_is_read_back_as_it_was_written(state: StateDir) -> None:
    packed = contents()
    described = manifest(packed)
    folder = write_package(state, packed, described)
    assert folder == state.model_folder(described.onnx_digest)
    assert read_manifest(folder) == described
    for golden, image in zip(packed.golden, described.golden, strict=True):
        assert (read_stack(folder / image.image_path).pixels == golden.stack.pixels).all()
    assert left(state) == [described.onnx_digest]


def test_the_same_package_again_is_left_as_it_is(state: StateDir) -> None:
    packed = contents()
    folder = write_package(state, packed, manifest(packed))
    before = (folder / "manifest.json").stat().st_mtime_ns
    write_package(state, packed, manifest(packed))
    assert (folder / "manifest.json").stat().st_mtime_ns == before


def test_what_a_killed_training_left_is_replaced(state: StateDir) -> None:
    packed = contents()
    described = manifest(packed)
    for name in (described.onnx_digest, f".{described.onnx_digest}.part"):
        (state.models / name / "golden").mkdir(parents=True)
        (state.models / name / "model.onnx").write_bytes(b"half")
    assert read_manifest(write_package(state, packed, described)) == described
    assert left(state) == [described.onnx_digest]


@pytest.mark.parametrize(
    "changes",
    [
        {"onnx_digest": "0" * 64},
        {"onnx_file": "../model.onnx"},
        {"training_set_digest": "0" * 64},
        {"golden": ()},
        {"golden": golden_images([Golden(picture(9), (0.0, 0.0))])},
    ],
    ids=["another network", "a path", "another training set", "no golden images", "other golden images"],
)
def test_a_manifest_of_other_contents_is_refused(state: StateDir, changes: dict[str, Any]) -> None:
    packed = contents()
    with pytest.raises(ModelError):
        write_package(state, packed, manifest(packed, **changes))
    assert left(state) == []


def test_a_package_that_can_not_be_written_leaves_nothing(state: StateDir) -> None:
    packed = contents()
    described = manifest(packed)
    state.models.rmdir()
    state.models.write_text("not a folder")
    with pytest.raises(StoreError):
        write_package(state, packed, described)
    assert state.models.read_text() == "not a folder"


def no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def broken_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


def no_network(folder: Path) -> None:
    (folder / "model.onnx").unlink()


def other_network(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"another network")


def other_name(folder: Path) -> None:
    folder.rename(folder.with_name("0" * 64))


@pytest.mark.parametrize("damage", [no_manifest, broken_manifest, no_network, other_network, other_name])
def test_a_damaged_package_is_found(state: StateDir, damage: Callable[[Path], None]) -> None:
    packed = contents()
    damage(write_package(state, packed, manifest(packed)))
    folder = next(state.models.iterdir())
    with pytest.raises(ModelError, match="train again"):
        read_manifest(folder)
