"""The gate: no model learns from a synthetic image that a named reviewer has not looked at and accepted.

It is a lock, not a page. The trainer takes a sealed :class:`cell.models.TrainingSet` and nothing else; only
:meth:`Gate.issue_training_set` makes one, from decisions that stand in the sealed ledger; and it is verified again
before the fit and at deployment.

::

    displayed(candidate, reviewer) --token--> decide(candidate, verb, reviewer, token)      one decision a display
            |                                        |
            '-- the reviewer's later display         '-- verifies the files against what was displayed,
                voids the token: one at a time           supersedes an earlier decision by a new entry

There is no call that decides about more than one candidate.
"""

from __future__ import annotations

import hmac

import sqlalchemy as sa
from pydantic import ValidationError

from cell.clock import WallClock
from cell.defects import Candidate, Mask, ReviewDecision, ReviewVerb
from cell.errors import DataError, GateError
from cell.frames import StoredStack
from cell.models import ManifestItem, TrainingSet
from cell.recipes import Recipe
from cell.store.candidates import Candidates, decision_of
from cell.store.database import Database
from cell.store.ledger import Entry, Ledger
from cell.store.pictures import Pictures
from cell.store.real import check_reviewer
from cell.store.tables import ledger
from cell.store.training_sets import Selection, TrainingSets


class Gate:
    """Records displays and decisions; issues and verifies training sets. Safe for threads and processes."""

    def __init__(
        self, database: Database, chain: Ledger, pictures: Pictures, candidates: Candidates, clock: WallClock
    ) -> None:
        self._database = database
        self._ledger = chain
        self._pictures = pictures
        self._candidates = candidates
        self._sets = TrainingSets(database, chain, pictures, clock)

    def displayed(self, candidate_id: str, reviewer: str) -> str:
        """Record that the candidate is on the reviewer's screen now; return the token that one decision needs.

        Call it when the candidate is shown, not when it is loaded ahead: a later display to the same reviewer voids
        the token, because one looks at one candidate at a time. Raises `NotFound`, `GateError` for a nameless
        reviewer or for files that are not those that were added.
        """
        check_reviewer(reviewer, is_person=False)
        candidate = self._candidates.get(candidate_id).candidate
        self._check_files(candidate)
        with self._ledger.transaction() as writer:
            pictures = {"image": candidate.image.digest, "mask": candidate.mask.digest}
            entry = writer.append("display", candidate_id, {"reviewer": reviewer, **pictures})
        return f"{entry.sequence}.{entry.seal}"

    def decide(
        self,
        candidate_id: str,
        verb: ReviewVerb,
        *,
        reviewer: str,
        is_person: bool,
        token: str,
        reason: str = "",
    ) -> ReviewDecision:
        """Record one decision about the candidate that was displayed last to this reviewer.

        A later decision on the same candidate needs a display of its own and supersedes this one. Raises `NotFound`,
        and `GateError` when: the token is of another candidate or reviewer, was used, forged or voided; the files
        changed since; a rejection has no reason; or the reviewer is recorded as no person and claims to be one.
        """
        check_reviewer(reviewer, is_person=is_person)
        candidate = self._candidates.get(candidate_id).candidate
        self._check_files(candidate)
        with self._ledger.transaction() as writer:
            display = self._display_of(writer.connection, token)
            _check_display(display, candidate, reviewer)
            _check_unused(writer.connection, display, reviewer)
            if is_person:
                _check_always_person(writer.connection, reviewer)
            try:
                decision = ReviewDecision(
                    sequence=writer.sequence + 1,
                    candidate_id=candidate_id,
                    image_digest=candidate.image.digest,
                    verb=verb,
                    reviewer=reviewer,
                    is_person=is_person,
                    reason=reason.strip(),
                    displayed_at=display.at,
                    decided_at=writer.at,
                )
            except ValidationError as error:
                raise GateError(f"{error.errors()[0]['msg'].removeprefix('Value error, ')}; decide again") from error
            stated = decision.model_dump(mode="json", exclude={"sequence", "seal"})
            payload = {**stated, "mask_digest": candidate.mask.digest, "display": display.sequence}
            entry = writer.append("decision", candidate_id, payload)
        return decision.model_copy(update={"seal": entry.seal})

    def decisions(self, candidate_id: str = "") -> tuple[ReviewDecision, ...]:
        """Return all decisions, or those about one candidate, oldest first; the last one about a candidate counts."""
        statement = sa.select(ledger).where(ledger.c.kind == "decision").order_by(ledger.c.sequence)
        if candidate_id:
            statement = statement.where(ledger.c.subject == candidate_id)
        with self._database.read() as connection:
            return tuple(decision_of(row) for row in connection.execute(statement))

    def verify_chain(self) -> int:
        """Return how many entries the ledger has, all seals verified. Raises `GateError`."""
        return len(self._ledger.verify())

    def issue_training_set(
        self,
        recipe: Recipe,
        *,
        synthetic_ratio: float = 5.0,
        people_only: bool = False,
        classes: tuple[str, ...] | None = None,
        job_ids: tuple[str, ...] | None = None,
        limit_per_class: int | None = None,
    ) -> TrainingSet:
        """Issue the sealed list of all that a training may see; asking again for the same gives the same.

        It holds the LEARN backgrounds, the confirmed LEARN seeds, and accepted candidates: per class at most
        `synthetic_ratio` times its seeds and at most `limit_per_class`; of `job_ids` only, when given; accepted by
        persons only, with `people_only`. `classes` narrows the recipe's classes. Pictures of other channels, size or
        bit depth than the recipe's are left out.

        Raises `GateError` with a plain reason when the chain or a file is not in order, a class has fewer than 3 seeds
        or seeds of one part only, there are no backgrounds, no candidate is accepted although `synthetic_ratio` is
        above 0, or a known-bad candidate stands accepted: then the reviewer did not look.
        """
        selection = Selection(
            synthetic_ratio=synthetic_ratio,
            people_only=people_only,
            classes=recipe.class_names if classes is None else classes,
            job_ids=job_ids,
            limit_per_class=limit_per_class,
        )
        return self._sets.issue(recipe, selection)

    def training_set(self, name: str) -> TrainingSet:
        """Return an issued set by its manifest id or content digest, not verified. Raises `NotFound`."""
        return self._sets.get(name)

    def verify_training_set(self, manifest: TrainingSet) -> None:
        """Verify seal, row, chain, decisions, splits and the digest of every file. Raises `GateError`."""
        self._sets.verify(manifest)

    def verify_training_set_digest(self, content_digest: str) -> TrainingSet:
        """Do the same for the set with that :meth:`~cell.models.TrainingSet.content_digest`, and return it.

        The daemon calls it at deployment with ``ModelManifest.training_set_digest``. Raises `GateError`.
        """
        return self._sets.verify_digest(content_digest)

    def load_item(self, item: ManifestItem) -> tuple[StoredStack, Mask | None]:
        """Read an item's picture and mask (None for a background), verified against the digests that the item names.

        Raises `DataError` when a file is missing or another, `NotFound` when the item is unknown.
        """
        return self._sets.load_item(item)

    def _check_files(self, candidate: Candidate) -> None:
        try:
            self._pictures.read_image(candidate.image)
            self._pictures.read_mask(candidate.mask)
        except DataError as error:
            raise GateError(f"the candidate {candidate.candidate_id} can't be reviewed: {error}") from error

    def _display_of(self, connection: sa.Connection, token: str) -> Entry:
        number, _, seal = token.partition(".")
        if not (number.isascii() and number.isdecimal() and len(number) < 16):
            raise GateError("a decision needs the token of a display; show the candidate first")
        entry = self._ledger.genuine(connection, int(number))
        if entry.kind != "display" or not hmac.compare_digest(entry.seal, seal):
            raise GateError("the token is not one of a display; show the candidate first")
        return entry


def _check_display(display: Entry, candidate: Candidate, reviewer: str) -> None:
    if display.subject != candidate.candidate_id:
        raise GateError(f"the token is of another candidate than {candidate.candidate_id}; show that one first")
    if display.payload.get("reviewer") != reviewer:
        raise GateError(f"the candidate was displayed to somebody else than {reviewer!r}; show it to {reviewer} first")
    shown = display.payload.get("image"), display.payload.get("mask")
    if shown != (candidate.image.digest, candidate.mask.digest):
        raise GateError(f"the candidate {candidate.candidate_id} is not the picture that was displayed; show it again")


def _check_unused(connection: sa.Connection, display: Entry, reviewer: str) -> None:
    by_reviewer = sa.func.json_extract(ledger.c.payload, "$.reviewer") == reviewer
    later = (
        sa.select(ledger.c.kind, sa.func.json_extract(ledger.c.payload, "$.display"))
        .where(ledger.c.sequence > display.sequence, ledger.c.kind.in_(("display", "decision")), by_reviewer)
        .order_by(ledger.c.sequence)
    )
    for kind, used in connection.execute(later):
        if kind == "decision" and used == display.sequence:
            raise GateError("the token was used for a decision already; show the candidate again to decide anew")
        if kind == "display":
            raise GateError(f"another candidate was displayed to {reviewer} since; show this one again to decide")


def _check_always_person(connection: sa.Connection, reviewer: str) -> None:
    as_script = (
        sa.select(ledger.c.sequence)
        .where(
            ledger.c.kind == "decision",
            sa.func.json_extract(ledger.c.payload, "$.reviewer") == reviewer,
            sa.func.json_extract(ledger.c.payload, "$.is_person") == 0,
        )
        .limit(1)
    )
    if connection.execute(as_script).first() is not None:
        raise GateError(f"{reviewer!r} has decided as no person before; use the name of the person who looks")
