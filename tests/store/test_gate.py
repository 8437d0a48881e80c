"""The gate in daily use: what it takes, what it refuses, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cell.defects import ReviewDecision, ReviewVerb, Split
from cell.errors import ConfigurationError, GateError, InspectdError, NotFound
from cell.models import SampleKind, TrainingSet
from cell.store.learning import LearningStore
from cell.store.limits import warnings
from cell.store.training_sets import TrainingSets
from tests.store.helpers import RECIPE, Clock, draft_on, fill, mask_of, open_state, review, stack_of

SCRIPT = "demo-script (not a person)"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LearningStore]:
    with LearningStore(open_state(tmp_path), clock=Clock()) as opened:
        yield opened


def synthetic(manifest: TrainingSet) -> list[str]:
    return [item.item_id for item in manifest.items if item.kind is SampleKind.SYNTHETIC]


def test_a_training_set_holds_what_was_accepted_and_learning_parts_alone(store: LearningStore) -> None:
    candidates = fill(store, candidates=6)
    for candidate in candidates[:4]:
        review(store, candidate.candidate_id)
    review(store, candidates[4].candidate_id, ReviewVerb.REJECT)
    review(store, candidates[0].candidate_id, ReviewVerb.REJECT, reviewer="Bob")
    manifest = store.gate.issue_training_set(RECIPE)
    assert synthetic(manifest) == [one.candidate_id for one in candidates[1:4]]
    assert manifest.reviewers == ("Ada Moser",)
    assert manifest.reviewed_by_people
    assert not manifest.emulated
    assert manifest.classes == ("scratch", "pit")
    backgrounds = [item for item in manifest.items if item.kind is SampleKind.BACKGROUND]
    assert [item.item_id for item in backgrounds] == ["b000001", "b000002"]
    assert sum(item.kind is SampleKind.SEED for item in manifest.items) == 6
    by_id = {item.item_id: item for item in manifest.items}
    assert by_id[candidates[1].candidate_id].part_id == "good-1"  # grouped with its background's part
    decisions = store.gate.decisions(candidates[1].candidate_id)
    assert by_id[candidates[1].candidate_id].decision_sequence == decisions[0].sequence
    for item in manifest.items:
        stack, mask = store.gate.load_item(item)
        assert stack.channels == manifest.channels
        assert (mask is None) == (item.kind is SampleKind.BACKGROUND)
    store.gate.verify_training_set(manifest)
    assert store.gate.verify_training_set_digest(manifest.content_digest()) == manifest


def test_the_same_selection_is_the_same_set_and_json_keeps_it(store: LearningStore) -> None:
    candidates = fill(store)
    review(store, candidates[0].candidate_id)
    manifest = store.gate.issue_training_set(RECIPE)
    assert store.gate.issue_training_set(RECIPE, synthetic_ratio=7) == manifest
    again = TrainingSet.model_validate_json(manifest.model_dump_json())
    assert again == manifest
    assert again.content_digest() == manifest.content_digest()
    store.gate.verify_training_set(again)
    assert store.gate.training_set(manifest.manifest_id) == manifest
    assert store.gate.training_set(manifest.content_digest()) == manifest
    review(store, candidates[1].candidate_id)
    other = store.gate.issue_training_set(RECIPE)
    assert other.manifest_id != manifest.manifest_id
    store.gate.verify_training_set(manifest)  # still true of what it lists
    with pytest.raises(NotFound):
        store.gate.training_set("set-9999")


def test_synthetic_images_are_capped_per_class(store: LearningStore) -> None:
    candidates = fill(store, candidates=16)
    for candidate in candidates:
        review(store, candidate.candidate_id)
    of_class = {one.candidate_id: one.defect_class for one in candidates}

    def numbers(**wanted: object) -> tuple[int, int]:
        chosen = synthetic(store.gate.issue_training_set(RECIPE, **wanted))  # type: ignore[arg-type]
        return sum(of_class[one] == "scratch" for one in chosen), sum(of_class[one] == "pit" for one in chosen)

    assert numbers(synthetic_ratio=0) == (0, 0)
    assert numbers(synthetic_ratio=1) == (3, 3)
    assert numbers(synthetic_ratio=1.5) == (4, 4)
    assert numbers(synthetic_ratio=10) == (8, 8)
    assert numbers(synthetic_ratio=10, limit_per_class=5) == (5, 5)
    assert numbers(synthetic_ratio=1, classes=("pit",)) == (0, 3)
    assert numbers(job_ids=("t00001",)) == (8, 8)
    with pytest.raises(GateError, match="no candidate"):
        store.gate.issue_training_set(RECIPE, job_ids=("t00002",))


@pytest.mark.parametrize("ratio", [-1.0, float("nan"), float("inf")])
def test_a_senseless_request_is_refused(ratio: float, store: LearningStore) -> None:
    with pytest.raises(ConfigurationError, match="synthetic_ratio"):
        store.gate.issue_training_set(RECIPE, synthetic_ratio=ratio)
    for classes in ((), ("dent",), ("pit", "pit")):
        with pytest.raises(ConfigurationError, match="classes must be"):
            store.gate.issue_training_set(RECIPE, classes=classes)


def test_nothing_to_learn_from_is_said(store: LearningStore) -> None:
    with pytest.raises(GateError, match="no backgrounds"):
        store.gate.issue_training_set(RECIPE)
    store.add_background("plate", "held", stack_of(1), Split.HELD_OUT)
    with pytest.raises(GateError, match="no backgrounds"):
        store.gate.issue_training_set(RECIPE)
    store.add_background("plate", "good", stack_of(2), Split.LEARN)
    with pytest.raises(GateError, match="scratch has 0 confirmed seeds"):
        store.gate.issue_training_set(RECIPE)
    for number in range(3):
        seed = store.propose_seed("plate", "one", stack_of(10 + number), mask_of(), "pit", Split.LEARN)
        if number < 2:
            store.confirm_seed(seed.seed_id, "pit", mask_of(), "Ada")
    with pytest.raises(GateError, match="pit has 2 confirmed seeds"):
        store.gate.issue_training_set(RECIPE, classes=("pit",))
    store.confirm_seed(seed.seed_id, "pit", mask_of(), "Ada")
    with pytest.raises(GateError, match="all seeds of the class pit are of one part"):
        store.gate.issue_training_set(RECIPE, classes=("pit",))
    held = store.propose_seed("plate", "held", stack_of(20), mask_of(), "pit", Split.HELD_OUT)
    store.confirm_seed(held.seed_id, "pit", mask_of(), "Ada")
    with pytest.raises(GateError, match="of one part"):
        store.gate.issue_training_set(RECIPE, classes=("pit",))
    other = store.propose_seed("plate", "two", stack_of(21), mask_of(), "pit", Split.LEARN)
    store.confirm_seed(other.seed_id, "pit", mask_of(), "Ada")
    with pytest.raises(GateError, match="no candidate of plate is accepted yet"):
        store.gate.issue_training_set(RECIPE, classes=("pit",))
    manifest = store.gate.issue_training_set(RECIPE, classes=("pit",), synthetic_ratio=0)
    assert manifest.reviewed_by_people
    assert manifest.reviewers == ()


def test_a_reviewer_who_accepts_known_bad_ones_did_not_look(store: LearningStore) -> None:
    candidates = fill(store)
    seeds = tuple(seed.seed_id for seed in store.seeds("plate", defect_class="pit"))
    planted = store.candidates.add("t00001", "plate", draft_on(store, "b000001", seeds, "pit", planted=True))
    for candidate in (*candidates, planted):
        review(store, candidate.candidate_id)
    with pytest.raises(GateError, match="1 known-bad candidates stand accepted by Ada Moser") as caught:
        store.gate.issue_training_set(RECIPE)
    assert planted.candidate_id not in str(caught.value)
    with pytest.raises(GateError, match="known-bad"):
        store.gate.issue_training_set(RECIPE, synthetic_ratio=0)
    review(store, planted.candidate_id, ReviewVerb.REJECT)
    assert planted.candidate_id not in synthetic(store.gate.issue_training_set(RECIPE))


def test_a_script_may_decide_but_its_sets_say_so(store: LearningStore) -> None:
    candidates = fill(store, emulated=True, is_person=False)
    review(store, candidates[0].candidate_id, reviewer=SCRIPT, is_person=False)
    review(store, candidates[1].candidate_id)
    manifest = store.gate.issue_training_set(RECIPE)
    assert not manifest.reviewed_by_people
    assert manifest.emulated
    assert manifest.reviewers == ("Ada Moser", SCRIPT)
    only = store.gate.issue_training_set(RECIPE, people_only=True)
    assert synthetic(only) == [candidates[1].candidate_id]
    assert not only.reviewed_by_people  # the seeds were confirmed by the script
    with pytest.raises(GateError, match="not a person"):
        review(store, candidates[2].candidate_id, reviewer=SCRIPT, is_person=True)


def test_no_person_can_not_become_one_later(store: LearningStore) -> None:
    candidates = fill(store)
    review(store, candidates[0].candidate_id, reviewer="robot", is_person=False)
    with pytest.raises(GateError, match="as no person before"):
        review(store, candidates[1].candidate_id, reviewer="robot", is_person=True)


def test_frames_count_as_emulated_unless_they_say_otherwise(store: LearningStore) -> None:
    candidates = fill(store)
    store.add_background("plate", "unknown", stack_of(40, emulated=None), Split.LEARN)
    review(store, candidates[0].candidate_id)
    assert store.gate.issue_training_set(RECIPE).emulated


def test_pictures_of_another_set_up_are_left_out(store: LearningStore) -> None:
    candidates = fill(store)
    review(store, candidates[0].candidate_id)
    wider = RECIPE.model_copy(update={"width": 64, "version": 2})
    with pytest.raises(GateError, match="no backgrounds"):
        store.gate.issue_training_set(wider)
    deeper = RECIPE.model_copy(update={"bit_depth": 10, "version": 2})
    with pytest.raises(GateError, match="no backgrounds"):
        store.gate.issue_training_set(deeper)


def test_a_decision_needs_its_own_display(store: LearningStore) -> None:
    first, second, *_ = (one.candidate_id for one in fill(store))

    def accept(candidate: str, reviewer: str, token: str) -> ReviewDecision:
        return store.gate.decide(candidate, ReviewVerb.ACCEPT, reviewer=reviewer, is_person=True, token=token)

    token = store.gate.displayed(first, "Ada")
    with pytest.raises(GateError, match="of another candidate"):
        accept(second, "Ada", token)
    with pytest.raises(GateError, match="to somebody else"):
        accept(first, "Bob", token)
    store.gate.displayed(second, "Bob")  # what others look at does not matter
    decision = accept(first, "Ada", token)
    assert decision == store.gate.decisions(first)[0]
    assert decision.displayed_at < decision.decided_at
    with pytest.raises(GateError, match="was used for a decision already"):
        accept(first, "Ada", token)
    for forged in ("", "1", "1.", f"{decision.sequence}.{decision.seal}", "-1.a", "9" * 15 + ".a", "٣.a", "x.y"):
        with pytest.raises(GateError):
            accept(first, "Ada", forged)
    with pytest.raises(GateError):
        accept(first, "Ada", token[:-1] + "x")
    assert len(store.gate.decisions()) == 1


def test_one_looks_at_one_candidate_at_a_time(store: LearningStore) -> None:
    candidates = [one.candidate_id for one in fill(store)]
    tokens = [store.gate.displayed(one, "Ada") for one in candidates]
    for candidate, token in list(zip(candidates, tokens, strict=True))[:-1]:
        with pytest.raises(GateError, match="another candidate was displayed to Ada since"):
            store.gate.decide(candidate, ReviewVerb.ACCEPT, reviewer="Ada", is_person=True, token=token)
    store.gate.decide(candidates[-1], ReviewVerb.ACCEPT, reviewer="Ada", is_person=True, token=tokens[-1])


def test_there_is_no_way_to_decide_about_many_at_once(store: LearningStore) -> None:
    candidates = [one.candidate_id for one in fill(store)]
    token = store.gate.displayed(candidates[0], "Ada")
    for several in (candidates, tuple(candidates), ",".join(candidates), "*", "%"):
        with pytest.raises(InspectdError):
            store.gate.decide(several, ReviewVerb.ACCEPT, reviewer="Ada", is_person=True, token=token)  # type: ignore[arg-type]
    assert store.gate.decisions() == ()


def test_a_rejection_needs_a_reason_and_a_decision_a_name(store: LearningStore) -> None:
    first = fill(store)[0].candidate_id
    token = store.gate.displayed(first, "Ada")
    with pytest.raises(GateError, match="a rejection needs a reason"):
        store.gate.decide(first, ReviewVerb.REJECT, reviewer="Ada", is_person=True, token=token, reason="  ")
    for name in ("", "  "):
        with pytest.raises(GateError, match="say who you are"):
            store.gate.displayed(first, name)
        with pytest.raises(GateError, match="say who you are"):
            store.gate.decide(first, ReviewVerb.ACCEPT, reviewer=name, is_person=True, token=token)
    with pytest.raises(NotFound):
        store.gate.displayed("c999999", "Ada")


def test_a_clock_that_was_set_back_can_not_backdate_a_decision(tmp_path: Path) -> None:
    clock = Clock()
    with LearningStore(open_state(tmp_path), clock=clock) as store:
        first = fill(store)[0].candidate_id
        token = store.gate.displayed(first, "Ada")
        clock.now -= clock.step * 3600
        with pytest.raises(GateError, match="can't be older than the display"):
            store.gate.decide(first, ReviewVerb.ACCEPT, reviewer="Ada", is_person=True, token=token)
        assert store.gate.decisions() == ()


def test_later_decisions_supersede_and_undo_what_was_issued(store: LearningStore) -> None:
    first, second, *_ = (one.candidate_id for one in fill(store))
    review(store, first)
    review(store, second)
    manifest = store.gate.issue_training_set(RECIPE)
    review(store, first, ReviewVerb.REJECT, reviewer="Bob")
    for verify in (
        lambda: store.gate.verify_training_set(manifest),
        lambda: store.gate.verify_training_set_digest(manifest.content_digest()),
    ):
        with pytest.raises(GateError, match=f"{first} is not accepted"):
            verify()
    review(store, first)
    store.gate.verify_training_set(manifest)
    assert [one.verb.value for one in store.gate.decisions(first)] == ["accept", "reject", "accept"]


def test_a_decision_that_changes_while_a_set_is_made_stops_it(
    store: LearningStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *_ = (one.candidate_id for one in fill(store))
    review(store, first)
    review(store, second)
    check = TrainingSets._check_files

    def check_while_bob_rejects(self: TrainingSets, picked: Any) -> None:
        check(self, picked)
        review(store, first, ReviewVerb.REJECT, reviewer="Bob")

    with monkeypatch.context() as patched:
        patched.setattr(TrainingSets, "_check_files", check_while_bob_rejects)
        with pytest.raises(GateError, match="changed while the training set was made"):
            store.gate.issue_training_set(RECIPE)
    assert synthetic(store.gate.issue_training_set(RECIPE)) == [second]


def test_a_corrected_or_refused_seed_undoes_what_was_issued(store: LearningStore) -> None:
    candidates = fill(store)
    review(store, candidates[0].candidate_id)
    manifest = store.gate.issue_training_set(RECIPE)
    seed = store.seeds("plate", defect_class="pit")[0]
    store.confirm_seed(seed.seed_id, "pit", mask_of(x=1), "Ada")
    with pytest.raises(GateError, match=f"{seed.seed_id} is no longer what was learned"):
        store.gate.verify_training_set(manifest)
    store.refuse_seed(seed.seed_id, "Ada")
    with pytest.raises(GateError, match="no longer"):
        store.gate.verify_training_set(manifest)
    with pytest.raises(GateError, match="pit has 2 confirmed seeds"):
        store.gate.issue_training_set(RECIPE)


def test_of_a_subsurface_class_synthetic_ones_never_outnumber_real_ones_nor_stand_in_for_them(
    store: LearningStore,
) -> None:
    marked = tuple(one.model_copy(update={"subsurface": one.name == "pit"}) for one in RECIPE.defect_classes)
    recipe = RECIPE.model_copy(update={"defect_classes": marked})
    for candidate in fill(store, candidates=12):
        review(store, candidate.candidate_id)
    counts = [
        Counter(item.defect_class for item in store.gate.issue_training_set(one).items if item.item_id.startswith("c"))
        for one in (RECIPE, recipe)
    ]
    assert counts == [{"scratch": 6, "pit": 6}, {"scratch": 6, "pit": 3}]
    (seed, *_) = store.seeds("plate", defect_class="pit")
    store.refuse_seed(seed.seed_id, "Ada Moser", reason="not a defect")
    with pytest.raises(GateError, match="synthetic ones do not stand in for them, for it is marked subsurface"):
        store.gate.issue_training_set(recipe)
    assert [text.split()[0] for text in warnings(recipe, recipe.class_names)] == ["pit"]
    assert warnings(RECIPE, RECIPE.class_names) == []
