"""The scene of the attacks on the gate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cell.defects import ReviewVerb
from cell.store.learning import LearningStore
from tests.store.attacks import Scene
from tests.store.helpers import (
    RECIPE,
    Clock,
    fill,
    open_state,
    review,
)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    state = open_state(tmp_path)
    with LearningStore(state, clock=Clock()) as store:
        accepted, waiting, rejected, _ = fill(store)
        review(store, accepted.candidate_id)
        review(store, rejected.candidate_id)
        review(store, rejected.candidate_id, ReviewVerb.REJECT)
        manifest = store.gate.issue_training_set(RECIPE)
        store.gate.verify_training_set(manifest)
        yield Scene(store, state, accepted, waiting, rejected, manifest)
