"""Commands about what people look at: backgrounds, seeds, candidates and the decisions about them.

Nothing here decides. A decision needs the token that the store's gate gave when the candidate was displayed to that
reviewer, and there is no command for more than one candidate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from cell.defects import Candidate, CandidateState
from cell.store.candidates import CandidateRow
from cell.store.learning import LearningStore
from cell.wire.messages import Command
from trainer import arguments, doubt
from trainer.backgrounds import told

Result = dict[str, Any]

#: More candidates than any review of one recipe holds.
_ALL = 1_000_000


class ReviewCommands:
    """Answers the commands of the review page and of ``inspectctl review``."""

    def __init__(self, store: LearningStore) -> None:
        self._store = store

    def backgrounds(self, command: Command) -> Result:
        """List the good parts of a recipe, and which of them are withdrawn or stale."""
        asked = arguments.read(command, arguments.OfRecipe)
        return told(self._store, asked.recipe_id)

    def seeds(self, command: Command) -> Result:
        """List the real defects of a recipe, proposed ones too."""
        asked = arguments.read(command, arguments.Seeds)
        return {"seeds": [s.model_dump(mode="json") for s in self._store.seeds(asked.recipe_id, state=asked.state)]}

    def summary(self, command: Command) -> Result:
        """Count where the candidates of a recipe stand, and who decided."""
        asked = arguments.read(command, arguments.OfRecipe)
        by_class = {
            name: {state.value: counts.get(state, 0) for state in CandidateState}
            for name, counts in self._store.candidates.counts(asked.recipe_id).items()
        }
        totals = {state.value: sum(counts[state.value] for counts in by_class.values()) for state in CandidateState}
        decided = self._decided(asked.recipe_id)
        reviewers = Counter(row.decision.reviewer for row in decided if row.decision is not None)
        answer: Result = {**totals, "by_class": by_class, "reviewers": dict(reviewers)}
        if totals[CandidateState.WAITING.value] == 0:
            # Told at the end only: before that it would say which candidates were planted.
            planted = [row for row in decided if row.candidate.planted_bad]
            caught = sum(row.state is CandidateState.REJECTED for row in planted)
            answer["planted"] = {"shown": len(planted), "rejected": caught}
        return answer

    def next_candidate(self, command: Command) -> Result:
        """Return the candidate that waits next, behind `after` when that is given, and from the start at the end."""
        asked = arguments.read(command, arguments.ReviewNext)
        # Places and ranks are among all, so that a decision moves nobody.
        rows = self._store.candidates.list(asked.recipe_id, defect_class=asked.defect_class or "", limit=_ALL)
        everyone = [row.candidate for row in rows]
        by_id = {row.candidate.candidate_id: row for row in rows if row.state is CandidateState.WAITING}
        order = doubt.ordered(everyone) if asked.doubtful_first else everyone
        withdrawn = self._store.withdrawals.of(asked.recipe_id)
        waiting = [by_id[one.candidate_id] for one in order if one.candidate_id in by_id]
        # Nothing comes of a decision about those whose background was withdrawn: they keep nobody from the others.
        waiting.sort(key=lambda row: row.candidate.provenance.background_id in withdrawn)
        if not waiting:
            return {"candidate": None, "waiting": 0, "background": None, "withdrawn": None}
        row = _behind(waiting, asked.after)
        background = self._store.background(row.candidate.provenance.background_id)
        since = withdrawn.get(background.background_id)
        return {
            "candidate": _shown(row, everyone),
            "waiting": len(waiting),
            "background": background.model_dump(mode="json"),
            "withdrawn": since.reason if since is not None else None,
        }

    def displayed(self, command: Command) -> Result:
        """Note that a candidate is on a reviewer's screen; the token is good for one decision about it."""
        asked = arguments.read(command, arguments.ReviewDisplayed)
        return {"token": self._store.gate.displayed(asked.candidate_id, asked.reviewer)}

    def decide(self, command: Command) -> Result:
        """Record one decision about one candidate."""
        asked = arguments.read(command, arguments.ReviewDecide)
        decision = self._store.gate.decide(
            asked.candidate_id,
            asked.verb,
            reviewer=asked.reviewer,
            is_person=asked.is_person,
            token=asked.token,
            reason=asked.reason,
        )
        return {"decision": decision.model_dump(mode="json")}

    def history(self, command: Command) -> Result:
        """List the standing decisions of a recipe, newest first."""
        asked = arguments.read(command, arguments.ReviewHistory)
        decisions = [row.decision for row in self._decided(asked.recipe_id) if row.decision is not None]
        decisions.sort(key=lambda decision: decision.sequence, reverse=True)
        return {"decisions": [decision.model_dump(mode="json") for decision in decisions[: asked.limit]]}

    def _decided(self, recipe_id: str) -> list[CandidateRow]:
        states = (CandidateState.ACCEPTED, CandidateState.REJECTED)
        return [row for state in states for row in self._store.candidates.list(recipe_id, state=state, limit=_ALL)]


def _behind(waiting: Sequence[CandidateRow], after: str | None) -> CandidateRow:
    ids = [row.candidate.candidate_id for row in waiting]
    if after is None or after not in ids:
        return waiting[0]
    return waiting[(ids.index(after) + 1) % len(waiting)]


def _shown(row: CandidateRow, others: Sequence[Candidate]) -> dict[str, Any]:
    # Whether it was planted is what the review finds out: a reviewer is never told beforehand, nor by its scores.
    shown = row.candidate.model_dump(mode="json", exclude={"planted_bad"})
    return shown | ({"scores": doubt.ranks(row.candidate, others)} if doubt.DOUBT in row.candidate.scores else {})
