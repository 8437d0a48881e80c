"""What a defect must fulfil to become a seed, and what the store says that a set of seeds lacks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cell.defects import Seed, SeedState, Split
from cell.errors import DataError, StateError
from cell.frames import StoredStack
from cell.imaging.seed_set import ClassSeeds
from cell.store.learning import LearningStore
from tests.store.helpers import RECIPE, Clock, mask_of, open_state, stack_of


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LearningStore]:
    with LearningStore(open_state(tmp_path), clock=Clock()) as opened:
        yield opened


def propose(store: LearningStore, part: str, stack: StoredStack | int, **mask: int) -> Seed:
    pictured = stack_of(stack) if isinstance(stack, int) else stack
    return store.propose_seed("plate", part, pictured, mask_of(**mask), "pit", Split.LEARN)


def confirm(store: LearningStore, seed: Seed, defect_class: str = "pit", **mask: int) -> Seed:
    return store.confirm_seed(seed.seed_id, defect_class, mask_of(**mask), "Ada", recipe=RECIPE)


OTHER: dict[str, tuple[dict[str, Any], str]] = {
    "exposure": ({"exposure_us": (1000.0, 3000.0)}, "right was exposed 3000 us, the recipe says 1500 us"),
    "gain": ({"gain_db": (6.0, 0.0)}, "left was taken with 6 dB gain, the recipe says 0 dB"),
    "channels": ({"channels": ("left", "top")}, "its channels are left, top, the recipe's left, right"),
    "depth": ({"bit_depth": 10}, "it has 10 bits, the recipe 8"),
    "light": ({"metadata": {"lights": {"left": {"a": 0.5}}}}, "left was lit by a=0.5, the recipe says a=1"),
}


@pytest.mark.parametrize("name", OTHER)
def test_frames_taken_otherwise_than_production_are_refused(store: LearningStore, name: str) -> None:
    changes, why = OTHER[name]
    seed = propose(store, "p1", replace(stack_of(1), **changes))
    with pytest.raises(DataError, match="was not taken as production takes it") as refused:
        confirm(store, seed)
    assert why in str(refused.value)
    assert store.seed(seed.seed_id).state is SeedState.PROPOSED


def test_another_resolution_is_refused(store: LearningStore) -> None:
    whole = stack_of(1)
    seed = propose(store, "p1", 2)
    binned = replace(whole, pixels=whole.pixels[:, ::2, ::2])
    assert store.checks.unlike_production(RECIPE, binned, None) == ("it has 16x12 pixels, the recipe 32x24",)
    assert confirm(store, seed).state is SeedState.CONFIRMED


def test_small_differences_as_cameras_make_them_are_borne(store: LearningStore) -> None:
    stack = replace(stack_of(1), exposure_us=(1020.0, 1480.0), gain_db=(0.3, 0.0))
    assert confirm(store, propose(store, "p1", stack)).state is SeedState.CONFIRMED


def dimmed(seed: int, share: float) -> StoredStack:
    stack = stack_of(seed)
    pixels = stack.pixels.copy()
    pixels[1] = (pixels[1] * share).astype(np.uint8)
    return replace(stack, pixels=pixels)


def test_a_light_that_was_weaker_is_seen_in_the_pixels(store: LearningStore) -> None:
    weak = propose(store, "weak", dimmed(50, 0.8))
    # Nothing to compare with yet: it can't be told.
    assert store.checks.unlike_production(RECIPE, dimmed(50, 0.8), mask_of()) == ()
    for index in range(8):
        store.add_background("plate", f"good-{index}", stack_of(index), Split.LEARN)
    with pytest.raises(DataError, match=r"right is 2\d% darker than on good parts"):
        confirm(store, weak)
    assert confirm(store, propose(store, "usual", dimmed(51, 0.95))).state is SeedState.CONFIRMED
    # A defect that darkens most of the part says nothing about the light.
    large = np.ones_like(mask_of())
    large[:4] = False
    assert store.checks.unlike_production(RECIPE, dimmed(52, 0.6), large) == ()


def test_a_part_is_taken_once(store: LearningStore) -> None:
    for index in range(6):
        store.add_background("plate", f"good-{index}", stack_of(index), Split.LEARN)
    first = confirm(store, propose(store, "p1", 100))
    with pytest.raises(DataError, match=f"another picture of part p1, of which {first.seed_id} is confirmed"):
        confirm(store, propose(store, "p1", 101))
    noisy = stack_of(100)
    shift = np.random.default_rng(1).integers(-2, 3, noisy.pixels.shape)
    noisy = replace(noisy, pixels=(noisy.pixels.astype(int) + shift).astype(np.uint8))
    with pytest.raises(DataError, match=f"shows the part of {first.seed_id} again"):
        confirm(store, propose(store, "renamed", noisy))
    assert confirm(store, propose(store, "p2", 102)).state is SeedState.CONFIRMED
    # Correcting a seed is not taking it twice.
    assert confirm(store, first, "scratch", size=5).defect_class == "scratch"


def test_several_defects_of_one_picture_are_seeds_of_their_own(store: LearningStore) -> None:
    first = propose(store, "p1", 1, x=4)
    second = store.add_region(first.seed_id, "scratch", mask_of(x=20), "Ada", recipe=RECIPE)
    assert (second.state, second.image, second.part_id) == (SeedState.CONFIRMED, first.image, "p1")
    assert confirm(store, first, x=4).state is SeedState.CONFIRMED
    third = store.add_region(second.seed_id, "scratch", mask_of(x=12, y=15), "Ada", recipe=RECIPE)
    assert {seed.seed_id for seed in store.seeds("plate", state=SeedState.CONFIRMED)} == {
        first.seed_id, second.seed_id, third.seed_id,
    }  # fmt: skip
    with pytest.raises(DataError, match=f"is that of {second.seed_id}, a confirmed scratch"):
        store.add_region(first.seed_id, "pit", mask_of(x=20, size=2), "Ada", recipe=RECIPE)
    with pytest.raises(DataError, match="has no defect class dent"):
        store.add_region(first.seed_id, "dent", mask_of(x=28, y=18), "Ada", recipe=RECIPE)
    refused = store.refuse_seed(propose(store, "p2", 2).seed_id, "Ada", "a fibre")
    with pytest.raises(StateError, match="was refused"):
        store.add_region(refused.seed_id, "pit", mask_of(), "Ada", recipe=RECIPE)
    # The seals hold: a set could be issued from them.
    assert len(store.split_book.state("plate").parts) == 2


def survey(store: LearningStore, defect_class: str) -> ClassSeeds:
    found = store.checks.survey(RECIPE, store.seeds("plate"))
    return next(one for one in found if one.defect_class == defect_class)


def test_one_seed_of_three_that_can_not_be_used_is_a_finding(store: LearningStore) -> None:
    seeds = [confirm(store, propose(store, f"p{index}", 10 + index)) for index in range(3)]
    assert survey(store, "pit").ready
    (store.state.root / seeds[1].image.path).write_bytes(b"torn")
    found = survey(store, "pit")
    assert (found.usable, found.unusable, found.ready) == (2, 1, False)
    messages = [lack.message for lack in found.lacks]
    assert messages[0].startswith(f"1 of 3 seeds of pit can't be used ({seeds[1].seed_id}: ")
    assert messages[0].endswith("refuse it and confirm another")
    assert "pit has 2 of at least 3 seeds; confirm 1 more of other parts" in messages
    assert all(lack.blocking is (lack.kind in ("too-few", "one-part")) for lack in found.lacks)


def test_a_recipe_that_changed_makes_its_seeds_unusable(store: LearningStore) -> None:
    for index in range(3):
        confirm(store, propose(store, f"p{index}", 10 + index))
    channels = tuple(channel.model_copy(update={"exposure_us": 4000.0}) for channel in RECIPE.channels)
    (_, pit) = store.checks.survey(RECIPE.model_copy(update={"channels": channels}), store.seeds("plate"))
    assert (pit.usable, pit.unusable) == (0, 3)
    assert "left was exposed 1000 us, the recipe says 4000 us" in pit.lacks[0].message


def test_seeds_from_before_there_were_checks_are_counted_once(store: LearningStore) -> None:
    for number in range(4):
        seed = propose(store, f"p{number % 2}", 20 + number)
        store.confirm_seed(seed.seed_id, "pit", mask_of(), "Ada")
    found = survey(store, "pit")
    assert (found.usable, found.unusable, found.parts) == (2, 2, 2)
    assert found.lacks[0].kind == "duplicate"
