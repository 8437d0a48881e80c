"""Candidates are made on good parts of the process as it is: not on stale backgrounds unless told so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cell.defects import Split
from cell.errors import DataError
from cell.process import Cause
from cell.store.learning import LearningStore
from tests.store.helpers import RECIPE, fill, open_state, review, stack_of
from trainer.backgrounds import for_candidates, told
from trainer.exporting import export


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LearningStore]:
    with LearningStore(open_state(tmp_path)) as opened:
        yield opened


def test_what_is_from_before_a_change_is_refused_in_one_sentence(store: LearningStore) -> None:
    with pytest.raises(DataError, match="no backgrounds of plate"):
        for_candidates(store, "plate")
    hour = timedelta(hours=1)
    old = store.add_background("plate", "p1", stack_of(1), Split.LEARN, taken_at=datetime.now(UTC) - hour)
    assert for_candidates(store, "plate") == (old,)
    assert told(store, "plate")["stale"] == {}
    store.process.declare("plate", Cause.MATERIAL, "Ada")
    with pytest.raises(DataError, match=r"all 1 backgrounds of plate are from before the change of material .*--stale"):
        for_candidates(store, "plate")
    assert for_candidates(store, "plate", stale=True) == (old,)
    fresh = store.add_background("plate", "p2", stack_of(2), Split.LEARN, taken_at=datetime.now(UTC) + hour)
    assert for_candidates(store, "plate") == (fresh,)
    assert "declared by Ada" in told(store, "plate")["stale"][old.background_id]


def test_a_withdrawn_background_is_kept_but_nothing_new_is_made_with_it(store: LearningStore) -> None:
    candidates = fill(store, candidates=4)
    for candidate in candidates:
        review(store, candidate.candidate_id)
    before = store.gate.issue_training_set(RECIPE)
    assert store.withdrawals.add("b000001", "reported bad by plc", "plc")
    assert not store.withdrawals.add("b000001", "again", "plc")
    with pytest.raises(DataError, match="say why"):
        store.withdrawals.add("b000002", " ", "plc")
    assert [one.background_id for one in for_candidates(store, "plate")] == ["b000002"]
    answer = told(store, "plate")
    assert answer["withdrawn"] == {"b000001": "reported bad by plc"}
    assert len(answer["backgrounds"]) == 4
    after = store.gate.issue_training_set(RECIPE)
    assert {"b000001", candidates[0].candidate_id} <= {item.item_id for item in before.items}
    left = {item.item_id for item in after.items}
    assert "b000001" not in left
    assert candidates[0].candidate_id not in left
    assert "b000002" in left
    # A model that was trained before can still be deployed: a line does not stop for it.
    store.gate.verify_training_set(before)


def test_what_stands_on_a_withdrawn_background_is_not_exported(store: LearningStore, tmp_path: Path) -> None:
    candidates = fill(store, candidates=4)
    for candidate in candidates:
        review(store, candidate.candidate_id)
    on_it = {one.candidate_id for one in candidates if one.provenance.background_id == "b000001"}
    assert 0 < len(on_it) < len(candidates)
    export(store, RECIPE, "coco", tmp_path / "before")
    assert store.withdrawals.add("b000001", "reported bad by plc", "plc")
    export(store, RECIPE, "coco", tmp_path / "after")
    before, after = ({file.name for file in (tmp_path / name / "images").iterdir()} for name in ("before", "after"))
    gone = {name for name in before - after if name.startswith(("b000001", *on_it))}
    assert gone == before - after
    assert {one.candidate_id for one in candidates} - on_it <= {name.split("_")[0].split(".")[0] for name in after}
    assert not any(name.startswith(("b000001", *on_it)) for name in after)
