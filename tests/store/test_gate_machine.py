"""Whatever reviewers do in whatever order, a training set holds exactly what stands accepted."""

from __future__ import annotations

import itertools
import shutil
from functools import cache
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cell.defects import CandidateState, ReviewVerb
from cell.errors import GateError
from cell.models import SampleKind
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from tests.store.helpers import RECIPE, Clock, draft_on, fill, open_state

CANDIDATES = 5
PLANTED = 4  # the index of the known-bad one
REVIEWERS = ("Ada", "Bob")
_NUMBERS = itertools.count()
INDEX = st.integers(0, CANDIDATES - 1)


@cache
def filled() -> Path:
    """Return a folder with a filled store, to be copied."""
    root = open_state(Path("/filled")).root
    with LearningStore(StateDir.create(root), clock=Clock()) as store:
        fill(store, candidates=CANDIDATES - 1)
        seeds = tuple(seed.seed_id for seed in store.seeds("plate", defect_class="pit"))
        store.candidates.add("t00001", "plate", draft_on(store, "b000001", seeds, "pit", planted=True))
    return root


class Reviewing(RuleBasedStateMachine):
    """The model: the last verb of each candidate, and for each reviewer the one token that is good."""

    def __init__(self) -> None:
        super().__init__()
        self.root = open_state(Path(f"/machine-{next(_NUMBERS)}")).root
        shutil.copytree(filled(), self.root, dirs_exist_ok=True)
        self.clock = Clock()
        self.clock.now += self.clock.step * 1000
        self.store = LearningStore(StateDir.create(self.root), clock=self.clock)
        self.ids = [row.candidate.candidate_id for row in self.store.candidates.list("plate")]
        self.verbs: dict[int, ReviewVerb] = {}
        self.good: dict[str, tuple[int, str]] = {}
        self.tokens: list[str] = ["1.x"]
        self.decisions = 0

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.root)

    @rule(index=INDEX, reviewer=st.sampled_from(REVIEWERS))
    def show(self, index: int, reviewer: str) -> None:
        token = self.store.gate.displayed(self.ids[index], reviewer)
        self.good[reviewer] = (index, token)
        self.tokens.append(token)

    @rule(
        index=INDEX,
        reviewer=st.sampled_from(REVIEWERS),
        verb=st.sampled_from(list(ReviewVerb)),
        which=st.integers(0, 1000),
        follow=st.booleans(),
    )
    def decide(self, index: int, reviewer: str, verb: ReviewVerb, which: int, follow: bool) -> None:
        if follow and reviewer in self.good:
            index, token = self.good[reviewer]
        else:
            token = self.tokens[which % len(self.tokens)]
        allowed = self.good.get(reviewer) == (index, token)
        try:
            self.store.gate.decide(self.ids[index], verb, reviewer=reviewer, is_person=True, token=token, reason="seen")
        except GateError:
            assert not allowed
        else:
            assert allowed
            self.verbs[index] = verb
            self.decisions += 1
            del self.good[reviewer]

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = LearningStore(StateDir.create(self.root), clock=self.clock)

    @invariant()
    def the_set_holds_what_stands_accepted(self) -> None:
        accepted = {index for index, verb in self.verbs.items() if verb is ReviewVerb.ACCEPT}
        try:
            manifest = self.store.gate.issue_training_set(RECIPE)
        except GateError:
            manifest = None
        assert (manifest is None) == (PLANTED in accepted or not accepted)
        if manifest is None:
            return
        chosen = {item.item_id for item in manifest.items if item.kind is SampleKind.SYNTHETIC}
        assert chosen == {self.ids[index] for index in accepted}
        self.store.gate.verify_training_set(manifest)

    @invariant()
    def the_lists_agree(self) -> None:
        assert len(self.store.gate.decisions()) == self.decisions
        for state, verb in ((CandidateState.ACCEPTED, ReviewVerb.ACCEPT), (CandidateState.REJECTED, ReviewVerb.REJECT)):
            listed = {row.candidate.candidate_id for row in self.store.candidates.list("plate", state=state)}
            assert listed == {self.ids[index] for index, last in self.verbs.items() if last is verb}


Reviewing.TestCase.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestReviewing = Reviewing.TestCase
