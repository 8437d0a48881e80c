"""Attacks on the gate by somebody who can write the database and the pictures, but has not the key."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from cell.defects import ReviewVerb, Split
from cell.errors import GateError, InspectdError
from cell.store.images import mask_to_label, write_label, write_stack
from cell.store.learning import LearningStore
from tests.store.attacks import Scene, forge, last_entry
from tests.store.helpers import (
    RECIPE,
    changed_pixels,
    disarm,
    draft_on,
    fill,
    mask_of,
    open_state,
    raw,
    review,
)


def test_a_forged_decision_locks_the_gate(scene: Scene) -> None:
    with raw(scene.state.learning_db) as connection:
        genuine = json.loads(last_entry(connection, "decision")["payload"])
        stolen = {
            **genuine,
            "candidate_id": scene.waiting.candidate_id,
            "image_digest": scene.waiting.image.digest,
            "mask_digest": scene.waiting.mask.digest,
            "verb": "accept",
            "reason": "",
        }
        forge(connection, "decision", scene.waiting.candidate_id, stolen)
    scene.refused_everywhere("does not fit")


def test_a_decision_whose_seal_was_copied_locks_the_gate(scene: Scene) -> None:
    with raw(scene.state.learning_db) as connection:
        genuine = last_entry(connection, "decision")
        forge(connection, "decision", scene.waiting.candidate_id, json.loads(genuine["payload"]), genuine["seal"])
    scene.refused_everywhere("does not fit")


def test_the_tables_refuse_and_without_their_triggers_the_chain_does(scene: Scene) -> None:
    statements = (
        "UPDATE ledger SET payload = replace(payload, 'reject', 'accept') WHERE kind = 'decision'",
        f"UPDATE ledger SET subject = '{scene.waiting.candidate_id}' WHERE kind = 'decision'",
        "DELETE FROM ledger WHERE kind = 'decision' AND payload LIKE '%reject%'",
        "UPDATE ledger SET payload = '{}' WHERE kind = 'split'",
        "UPDATE ledger SET payload = 'no json' WHERE sequence = 1",
        "UPDATE ledger SET at = '2027-01-01T00:00:00+00:00' WHERE kind = 'display'",
        "UPDATE ledger SET kind = 'decision' WHERE kind = 'display'",
    )
    copy = scene.state.learning_db.with_name("copy.db")
    with raw(scene.state.learning_db) as connection:
        connection.execute(f"VACUUM INTO '{copy}'")
        for statement in statements:
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
    scene.store.close()
    for statement in statements:
        shutil.copy(copy, scene.state.learning_db)
        with raw(scene.state.learning_db) as connection:
            disarm(connection)
            assert connection.execute(statement).rowcount > 0
        with LearningStore(scene.state) as scene.store:
            scene.refused_everywhere("gate's ledger")


def test_cutting_off_the_newest_entries_is_found(scene: Scene) -> None:
    with raw(scene.state.learning_db) as connection:
        disarm(connection)
        cut = connection.execute(
            "SELECT sequence FROM ledger WHERE kind = 'decision' AND payload LIKE '%reject%'"
        ).fetchone()[0]
        connection.execute("DELETE FROM ledger WHERE sequence >= ?", (cut,))  # the rejection is undone, seals all fit
    scene.refused_everywhere("ends at")


def test_setting_the_whole_database_back_is_found(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    with LearningStore(state) as store:
        candidates = fill(store)
        review(store, candidates[0].candidate_id)
        store.gate.issue_training_set(RECIPE)
    backup = tmp_path / "backup.db"
    shutil.copy(state.learning_db, backup)
    with LearningStore(state) as store:
        review(store, candidates[0].candidate_id, ReviewVerb.REJECT)
    shutil.copy(backup, state.learning_db)
    with LearningStore(state) as store:
        with pytest.raises(GateError, match="the store was edited or set back"):
            store.gate.issue_training_set(RECIPE)
        for attempt in (  # nothing may be added either, or the new history would outgrow the old one
            lambda: store.gate.displayed(candidates[0].candidate_id, "Ada"),
            lambda: store.assign_split("plate", "new", Split.LEARN),
        ):
            with pytest.raises(GateError, match="the store was edited or set back"):
                attempt()


def test_another_history_of_the_same_length_is_found(tmp_path: Path) -> None:
    stores = []
    for name in ("ours", "theirs"):
        state = open_state(tmp_path / name)
        with LearningStore(state) as store:
            review(store, fill(store)[0].candidate_id)
        stores.append(state)
    ours, theirs = stores
    shutil.copy(theirs.learning_db, ours.learning_db)
    with LearningStore(ours) as store, pytest.raises(GateError, match="seal of entry 1"):
        store.gate.issue_training_set(RECIPE)


def _swap_image(scene: Scene) -> None:
    path = scene.state.resolve(scene.accepted.image.path)
    write_stack(path, changed_pixels(scene.store.read_image(scene.accepted.image)))


def _exchange_for_the_waiting_one(scene: Scene) -> None:
    shutil.copy(scene.state.resolve(scene.waiting.image.path), scene.state.resolve(scene.accepted.image.path))


def _edit_mask(scene: Scene) -> None:
    write_label(scene.state.resolve(scene.accepted.mask.path), mask_to_label(mask_of(size=9)))


def _truncate_image(scene: Scene) -> None:
    path = scene.state.resolve(scene.accepted.image.path)
    path.write_bytes(path.read_bytes()[:200])


def _remove_mask(scene: Scene) -> None:
    scene.state.resolve(scene.accepted.mask.path).unlink()


def _swap_background(scene: Scene) -> None:
    background = scene.store.backgrounds("plate")[0]
    path = scene.state.resolve(background.image.path)
    write_stack(path, changed_pixels(scene.store.read_image(background.image)))


def _edit_seed_mask(scene: Scene) -> None:
    write_label(scene.state.resolve(scene.store.seeds("plate")[0].mask.path), mask_to_label(mask_of(size=9)))


@pytest.mark.parametrize(
    "attack",
    [
        _swap_image,
        _exchange_for_the_waiting_one,
        _edit_mask,
        _truncate_image,
        _remove_mask,
        _swap_background,
        _edit_seed_mask,
    ],
)
def test_files_that_were_touched_are_refused(attack: Callable[[Scene], None], scene: Scene) -> None:
    attack(scene)
    scene.refused_everywhere("can't be learned from")
    with pytest.raises(GateError, match="can't be learned from"):  # a set that was never issued before
        scene.store.gate.issue_training_set(RECIPE.model_copy(update={"version": 2}))


def test_a_picture_exchanged_after_its_display_is_not_accepted(scene: Scene) -> None:
    store, candidate = scene.store, scene.waiting
    token = store.gate.displayed(candidate.candidate_id, "Ada")
    path = scene.state.resolve(candidate.image.path)
    original = path.read_bytes()
    write_stack(path, changed_pixels(store.read_image(candidate.image)))
    with pytest.raises(GateError, match="can't be reviewed"):
        store.gate.decide(candidate.candidate_id, ReviewVerb.ACCEPT, reviewer="Ada", is_person=True, token=token)
    with pytest.raises(GateError, match="can't be reviewed"):
        store.gate.displayed(candidate.candidate_id, "Ada")
    path.write_bytes(original)
    store.gate.decide(candidate.candidate_id, ReviewVerb.ACCEPT, reviewer="Ada", is_person=True, token=token)


def test_a_record_pointed_at_another_picture_is_refused(scene: Scene) -> None:
    for table, key, row, change in (
        ("candidates", "candidate_id", scene.accepted, {"image": scene.waiting.image.model_dump()}),
        ("candidates", "candidate_id", scene.accepted, {"defect_class": "pit"}),
        ("candidates", "candidate_id", scene.accepted, {"image": {"path": "../../etc/passwd", "digest": "0" * 64}}),
        ("seeds", "seed_id", scene.store.seeds("plate")[0], {"state": "confirmed", "defect_class": "pit"}),
        ("backgrounds", "background_id", scene.store.backgrounds("plate")[0], {"part_id": "other"}),
    ):
        name = getattr(row, key)
        with raw(scene.state.learning_db) as connection:
            disarm(connection)
            text = connection.execute(f"SELECT record FROM {table} WHERE {key} = ?", (name,)).fetchone()[0]
            changed = json.dumps({**json.loads(text), **change})
            connection.execute(f"UPDATE {table} SET record = ? WHERE {key} = ?", (changed, name))
        scene.refused_everywhere("is not what was recorded")
        with raw(scene.state.learning_db) as connection:
            connection.execute(f"UPDATE {table} SET record = ? WHERE {key} = ?", (text, name))
    scene.store.gate.verify_training_set(scene.manifest)


def test_a_seed_or_background_that_nobody_recorded_is_refused(scene: Scene) -> None:
    for table, key, row in (
        ("seeds", "seed_id", scene.store.seeds("plate")[0]),
        ("backgrounds", "background_id", scene.store.backgrounds("plate")[0]),
    ):
        forged = row.model_copy(update={key: "x000001"})
        with raw(scene.state.learning_db) as connection:
            values = ("x000001", "plate", row.part_id, forged.model_dump_json())
            connection.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", values)
        scene.refused_everywhere("is not what was recorded")
        with raw(scene.state.learning_db) as connection:
            disarm(connection)
            connection.execute(f"DELETE FROM {table} WHERE {key} = 'x000001'")


def test_a_planted_candidate_can_not_be_unplanted(scene: Scene) -> None:
    seeds = tuple(seed.seed_id for seed in scene.store.seeds("plate", defect_class="pit"))
    draft = draft_on(scene.store, "b000001", seeds, "pit", planted=True)
    planted = scene.store.candidates.add("t00001", "plate", draft)
    review(scene.store, planted.candidate_id)
    with raw(scene.state.learning_db) as connection:
        disarm(connection)
        innocent = planted.model_copy(update={"planted_bad": False}).model_dump_json()
        connection.execute("UPDATE candidates SET record = ? WHERE candidate_id = ?", (innocent, planted.candidate_id))
    with pytest.raises(GateError, match="is not what was recorded"):
        scene.store.gate.issue_training_set(RECIPE)


def test_a_forged_display_gives_no_token(scene: Scene) -> None:
    candidate = scene.waiting
    shown = {"reviewer": "Ada", "image": candidate.image.digest, "mask": candidate.mask.digest}
    with raw(scene.state.learning_db) as connection:
        number = forge(connection, "display", candidate.candidate_id, shown, "f" * 64)
    with pytest.raises(GateError, match="does not fit"):
        scene.store.gate.decide(
            candidate.candidate_id, ReviewVerb.ACCEPT, reviewer="Ada", is_person=True, token=f"{number}.{'f' * 64}"
        )
    assert scene.store.gate.decisions(candidate.candidate_id) == ()


def test_an_item_is_loaded_by_its_digest_and_never_by_the_row_alone(scene: Scene) -> None:
    item = next(one for one in scene.manifest.items if one.item_id == scene.accepted.candidate_id)
    with raw(scene.state.learning_db) as connection:
        disarm(connection)
        other = scene.accepted.model_copy(update={"image": scene.waiting.image, "mask": scene.waiting.mask})
        connection.execute(
            "UPDATE candidates SET record = ? WHERE candidate_id = ?", (other.model_dump_json(), item.item_id)
        )
    with pytest.raises(InspectdError, match="other pixels than the store recorded"):
        scene.store.gate.load_item(item)


def test_the_key_is_private_and_its_loss_is_no_way_in(scene: Scene) -> None:
    key, head = scene.state.keys / "gate.key", scene.state.keys / "gate.head"
    assert key.stat().st_mode & 0o777 == 0o600
    assert head.stat().st_mode & 0o777 == 0o600
    scene.store.close()
    kept = key.read_bytes(), head.read_bytes()
    key.unlink()
    with LearningStore(scene.state) as scene.store:
        scene.refused_everywhere("is missing")
        with pytest.raises(GateError, match="is missing"):
            scene.store.gate.displayed(scene.waiting.candidate_id, "Ada")
    key.write_bytes(b"0" * 64)
    key.chmod(0o600)
    with LearningStore(scene.state) as scene.store:
        scene.refused_everywhere("gate.head was not written by this store")
    key.write_bytes(b"short")
    with LearningStore(scene.state) as scene.store:
        scene.refused_everywhere("is damaged")
    key.write_bytes(kept[0])
    key.chmod(0o644)
    with LearningStore(scene.state) as scene.store:
        scene.refused_everywhere("open to others")
    key.chmod(0o600)
    head.unlink()
    with LearningStore(scene.state) as scene.store:
        scene.refused_everywhere("gate.head is missing")
    head.write_text("{}")
    with LearningStore(scene.state) as scene.store:
        scene.refused_everywhere("is damaged")
    head.write_bytes(kept[1])
    with LearningStore(scene.state) as scene.store:
        scene.store.gate.verify_training_set(scene.manifest)
