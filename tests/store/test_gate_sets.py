"""Attacks on issued training sets by somebody who can write the database and the pictures, but has not the key."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from cell.errors import GateError
from cell.models import ManifestItem, SampleKind, TrainingSet
from cell.store.learning import LearningStore
from tests.store.attacks import Scene, forge
from tests.store.helpers import (
    RECIPE,
    Clock,
    disarm,
    fill,
    open_state,
    raw,
    review,
)


def extended(scene: Scene) -> TrainingSet:
    smuggled = ManifestItem(
        kind=SampleKind.SYNTHETIC,
        item_id=scene.waiting.candidate_id,
        part_id="good-1",
        defect_class=scene.waiting.defect_class,
        image_digest=scene.waiting.image.digest,
        mask_digest=scene.waiting.mask.digest,
        decision_sequence=1,
    )
    return scene.manifest.model_copy(update={"items": (*scene.manifest.items, smuggled)})


def test_a_manifest_that_was_altered_is_refused(scene: Scene) -> None:
    for forged in (
        extended(scene),
        scene.manifest.model_copy(update={"reviewed_by_people": False}),
        scene.manifest.model_copy(update={"seal": "0" * 64}),
        scene.manifest.model_copy(update={"seal": ""}),
        scene.manifest.model_copy(update={"manifest_id": "set-0002"}),
    ):
        with pytest.raises(GateError, match="only the store can issue one"):
            scene.store.gate.verify_training_set(forged)
        with pytest.raises(GateError):
            scene.store.gate.verify_training_set_digest("0" * 64)


def test_a_manifest_put_into_the_database_is_refused(scene: Scene) -> None:
    bare = extended(scene).model_copy(update={"manifest_id": "set-0777", "seal": ""})
    content = bare.content_digest()
    seal = hmac.new(b"guess", f"training-set\0{content}".encode(), hashlib.sha256).hexdigest()
    forged = bare.model_copy(update={"seal": seal})
    with raw(scene.state.learning_db) as connection:
        connection.execute(
            "INSERT INTO training_sets VALUES (?, ?, ?, ?)", ("set-0777", content, "x", forged.model_dump_json())
        )
    with pytest.raises(GateError, match="only the store can issue one"):
        scene.store.gate.verify_training_set_digest(content)
    with raw(scene.state.learning_db) as connection:
        forge(connection, "training-set", "set-0777", {"content": content})
    scene.refused_everywhere("does not fit")


def test_an_issued_set_whose_row_was_altered_or_removed_is_refused(scene: Scene) -> None:
    content = scene.manifest.content_digest()
    with raw(scene.state.learning_db) as connection:
        disarm(connection)
        connection.execute("UPDATE training_sets SET record = ?", (extended(scene).model_dump_json(),))
    with pytest.raises(GateError, match="was altered"):
        scene.store.gate.verify_training_set_digest(content)
    with pytest.raises(GateError, match="in the store is another"):
        scene.store.gate.verify_training_set(scene.manifest)
    with raw(scene.state.learning_db) as connection:
        connection.execute("UPDATE training_sets SET record = '{}'")
    with pytest.raises(GateError, match="not readable"):
        scene.store.gate.verify_training_set_digest(content)
    with raw(scene.state.learning_db) as connection:
        connection.execute("DELETE FROM training_sets")
    with pytest.raises(GateError, match="is not in the store"):
        scene.store.gate.verify_training_set(scene.manifest)
    with pytest.raises(GateError, match="unknown here"):
        scene.store.gate.verify_training_set_digest(content)


def test_a_set_of_another_store_is_refused(scene: Scene, tmp_path: Path) -> None:
    with LearningStore(open_state(tmp_path / "other"), clock=Clock()) as other:
        review(other, fill(other)[0].candidate_id)
        foreign = other.gate.issue_training_set(RECIPE)
    with pytest.raises(GateError, match="only the store can issue one"):
        scene.store.gate.verify_training_set(foreign)
