"""What a part may be used for: decided once, for whole parts and lots, twins together; attempts to change it show."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cell.defects import Split
from cell.errors import DataError, GateError, SplitError
from cell.frames import StoredStack
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.store.taking_in import Incoming
from tests.store.helpers import Clock, disarm, mask_of, open_state, raw, stack_of


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return open_state(tmp_path)


@pytest.fixture
def store(state: StateDir) -> Iterator[LearningStore]:
    with LearningStore(state, clock=Clock()) as opened:
        yield opened


def test_every_change_of_the_split_changes_its_digest(store: LearningStore) -> None:
    digests = [store.split_book.state("plate").digest]
    for part, side in (("p1", Split.LEARN), ("p2", Split.HELD_OUT)):
        store.assign_split("plate", part, side)
        digests.append(store.split_book.state("plate").digest)
    assert len(set(digests)) == 3
    store.assign_split("plate", "p1", Split.LEARN)  # the same again
    store.assign_split("other", "p1", Split.HELD_OUT)
    state = store.split_book.state("plate")
    assert state.digest == digests[-1]
    assert state.parts_by_side == {Split.LEARN: 1, Split.HELD_OUT: 1}


def test_an_attempt_to_change_it_is_refused_sealed_and_logged(
    store: LearningStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.assign_split("plate", "p1", Split.HELD_OUT)
    before = store.split_book.state("plate")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with pytest.raises(SplitError, match="two sides"):
                store.assign_split("plate", "p1", Split.LEARN)
            with pytest.raises(SplitError, match="two sides"):
                store.add_background("plate", "p1", stack_of(1), Split.LEARN)
    after = store.split_book.state("plate")
    assert after.digest == before.digest
    assert [(one.part_id, one.wanted) for one in after.refused] == [("p1", "learn")], "the same again is not kept again"
    assert sum("refused to change the split" in record.message for record in caplog.records) == 6
    assert not list(store.state.backgrounds.rglob("*.tif"))


def test_who_edits_the_database_is_found(state: StateDir) -> None:
    with LearningStore(state) as store:
        store.assign_split("plate", "p1", Split.HELD_OUT)
        store.assign_split("plate", "p2", Split.LEARN)
    with raw(state.learning_db) as connection:
        disarm(connection)
        connection.execute("UPDATE ledger SET payload = replace(payload, 'held-out', 'learn') WHERE kind = 'split'")
    with LearningStore(state) as store, pytest.raises(GateError, match="seal of entry 1"):
        store.split_book.state("plate")


def test_a_plan_is_made_before_the_first_part_or_never(store: LearningStore) -> None:
    assert store.split_book.plan("plate").held_out_share == 0.2
    plan = store.split_book.set_plan("plate", "lot", 0.3, " Ada Moser ")
    assert (plan.by, plan.held_out_share, plan.set_by) == ("lot", 0.3, "Ada Moser")
    store.assign_split("plate", "p1", Split.LEARN, lot="l1")
    assert store.split_book.set_plan("plate", "lot", 0.3, "Bob").set_by == "Ada Moser"  # nothing would change
    with pytest.raises(SplitError, match="divided already"):
        store.split_book.set_plan("plate", "part", 0.0, "Bob")
    assert store.split_book.plan("plate") == plan
    refused = store.split_book.state("plate").refused
    assert [(one.part_id, one.wanted) for one in refused] == [("", "plan by part, 0 held out")]
    for by, share, who in (("part", 1.0, "Ada"), ("part", -0.1, "Ada"), ("part", 0.5, " ")):
        with pytest.raises(DataError, match="name of who sets it"):
            store.split_book.set_plan("fresh", by, share, who)  # type: ignore[arg-type]


def test_by_part_the_hash_of_the_id_decides(store: LearningStore) -> None:
    sides = [store.split_book.choose("plate", f"part-{index}") for index in range(2000)]
    assert 0.17 < sum(side is Split.HELD_OUT for side in sides) / 2000 < 0.23
    assert sides == [store.split_book.choose("plate", f"part-{index}", lot=f"l{index}") for index in range(2000)]


def test_by_lot_a_lot_stays_whole_and_the_share_is_kept_to(store: LearningStore) -> None:
    store.split_book.set_plan("plate", "lot", 0.25, "Ada")
    sides: dict[str, set[Split]] = {}
    for lot in range(12):
        for part in range(10):
            name, of = f"p{lot}-{part}", f"lot-{lot}"
            side = store.split_book.choose("plate", name, of)
            store.assign_split("plate", name, side, lot=of)
            sides.setdefault(of, set()).add(side)
    assert all(len(found) == 1 for found in sides.values())
    held = sum(found == {Split.HELD_OUT} for found in sides.values())
    assert held == 3
    with pytest.raises(SplitError, match="the lot lot-0 of part late"):
        store.assign_split("plate", "late", Split.HELD_OUT, lot="lot-0")


def test_lots_on_both_sides_are_told_where_parts_are_the_unit(store: LearningStore) -> None:
    store.assign_split("plate", "p1", Split.LEARN, lot="l1")
    store.assign_split("plate", "p2", Split.HELD_OUT, lot="l1")
    store.assign_split("plate", "p3", Split.LEARN, lot="l2")
    assert store.split_book.state("plate").lots_on_both_sides == ("l1",)


def again(seed: int, noise: int = 2) -> StoredStack:
    """The part of `stack_of(seed)` before the camera once more: the same pixels but for the sensor's noise."""
    stack = stack_of(seed)
    shift = np.random.default_rng(seed + 5000).integers(-noise, noise + 1, stack.pixels.shape)
    return replace(stack, pixels=(stack.pixels.astype(int) + shift).astype(np.uint8))


def test_a_part_under_another_name_stays_on_its_side(store: LearningStore) -> None:
    for index in range(8):
        store.add_background("plate", f"good-{index}", stack_of(index), Split.HELD_OUT if index == 3 else Split.LEARN)
    assert store.side_for("plate", "renamed", again(3)) is Split.HELD_OUT
    assert store.side_for("plate", "renamed", again(3), otherwise=Split.LEARN) is Split.HELD_OUT
    assert store.side_for("plate", "another", stack_of(900), otherwise=Split.LEARN) is Split.LEARN
    assert store.side_for("plate", "another", stack_of(900), set_aside=True) is Split.HELD_OUT
    assert store.side_for("plate", "good-1", again(3)) is Split.LEARN, "a part's own side goes first"
    for attempt in (
        lambda: store.add_background("plate", "renamed", again(3), Split.LEARN),
        lambda: store.propose_seed("plate", "renamed", again(3), mask_of(), "pit", Split.LEARN),
    ):
        with pytest.raises(SplitError, match="shows the part good-3 again"):
            attempt()
    assert store.split_of("plate", "renamed") is None
    assert [one.part_id for one in store.split_book.state("plate").refused] == ["renamed"]
    kept = store.add_background("plate", "renamed", again(3), Split.HELD_OUT)
    assert kept.split is Split.HELD_OUT


def test_twins_that_stand_apart_already_are_found(store: LearningStore) -> None:
    for index in range(6):
        store.add_background("plate", f"good-{index}", stack_of(index), Split.LEARN)
    # Set aside by its number before it was seen.
    store.assign_split("plate", "ahead", Split.HELD_OUT)
    assert store.twins_across("plate") == ()
    with pytest.raises(SplitError):
        store.add_background("plate", "ahead", again(2), Split.HELD_OUT)
    store.folders.take_in("plate", [Incoming("ahead", again(2), Split.HELD_OUT)])  # an import compares before it writes
    (pair,) = store.twins_across("plate")
    assert set(pair[:2]) == {"good-2", "ahead"}
    assert pair[2] > 0.9


def test_many_pictures_enter_together_or_not_at_all(store: LearningStore) -> None:
    store.assign_split("plate", "known", Split.HELD_OUT)
    good = [Incoming(f"p{index}", stack_of(index), Split.LEARN) for index in range(3)]
    bad = Incoming("b1", stack_of(10), Split.LEARN, "l1", (("pit", mask_of()), ("scratch", mask_of(x=20))), "import")
    with pytest.raises(SplitError, match="known"):
        store.folders.take_in("plate", [*good, bad, Incoming("known", stack_of(11), Split.LEARN)])

    def broken() -> Iterator[Incoming]:
        yield from good
        raise DataError("the disk was pulled out")

    with pytest.raises(DataError, match="pulled out"):
        store.folders.take_in("plate", broken())
    assert store.backgrounds("plate") == ()
    assert store.seeds("plate") == ()
    assert set(store.splits("plate")) == {"known"}
    assert not list(store.state.backgrounds.rglob("*.tif")) + list(store.state.seeds.rglob("*.*"))
    taken = store.folders.take_in("plate", [*good, bad])
    assert [len(taken.backgrounds), len(taken.seeds)] == [3, 2]
    one, two = store.seeds("plate")
    assert (one.image, one.part_id, one.lot, one.proposed_by) == (two.image, "b1", "l1", "import")
    assert {one.defect_class, two.defect_class} == {"pit", "scratch"}
    assert store.split_book.state("plate").parts_by_side == {Split.LEARN: 4, Split.HELD_OUT: 1}
