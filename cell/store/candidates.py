"""Candidates: synthetic defects that wait for review or are past it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import sqlalchemy as sa

from cell.base import Record
from cell.clock import WallClock
from cell.defects import (
    Candidate,
    CandidateRegion,
    CandidateState,
    Draft,
    Mask,
    ReviewDecision,
    ReviewVerb,
    SeedState,
    Split,
)
from cell.errors import DataError, NotFound
from cell.frames import StoredStack
from cell.recipes import Rect
from cell.store.counters import reserve
from cell.store.database import Database
from cell.store.ledger import Ledger
from cell.store.pictures import Pictures, check_mask
from cell.store.real import get_background, get_seed
from cell.store.real_facts import facts_of
from cell.store.tables import candidates, ledger

_STATE = {ReviewVerb.ACCEPT: CandidateState.ACCEPTED, ReviewVerb.REJECT: CandidateState.REJECTED}


class CandidateRow(Record):
    """A candidate and where it stands: derived from its latest decision, which is None while it waits."""

    candidate: Candidate
    state: CandidateState
    decision: ReviewDecision | None = None


class Candidates:
    """Adds candidates (files durable, then rows) and lists them with their state."""

    def __init__(self, database: Database, chain: Ledger, pictures: Pictures, clock: WallClock) -> None:
        self._database = database
        self._clock = clock
        self._ledger = chain
        self._pictures = pictures
        self._background_pixels = lru_cache(maxsize=2)(pictures.read_image)

    def add(self, job_id: str, recipe_id: str, draft: Draft) -> Candidate:
        """Add one candidate; see :meth:`add_many`."""
        return self.add_many(job_id, recipe_id, (draft,))[0]

    def add_many(self, job_id: str, recipe_id: str, drafts: Sequence[Draft]) -> tuple[Candidate, ...]:
        """Write the drafts' files durably and record them in one transaction.

        Raises `DataError` for a draft that breaks its promises: pixels outside its support that differ from the
        background's (unless its provenance says that the whole picture was randomised), a mask outside the support,
        another size or dtype, a background or seed that is held out, refused or of another recipe. Then none of the
        drafts is recorded. `NotFound` names an unknown background or seed.
        """
        if not drafts:
            return ()
        sources = [self._source(recipe_id, draft) for draft in drafts]
        with self._database.write_direct() as direct:
            first = reserve(direct, "candidate", len(drafts)) - len(drafts) + 1
        written = [
            self._write(f"c{number:06d}", job_id, recipe_id, draft, source)
            for number, (draft, source) in enumerate(zip(drafts, sources, strict=True), start=first)
        ]
        with self._ledger.transaction() as writer:
            for candidate, source in zip(written, sources, strict=True):
                payload = {"record": candidate.record_digest(), **source.facts}
                writer.append("candidate", candidate.candidate_id, payload)
                writer.connection.execute(
                    sa.insert(candidates).values(
                        candidate_id=candidate.candidate_id,
                        recipe_id=recipe_id,
                        job_id=job_id,
                        defect_class=candidate.defect_class,
                        record=candidate.model_dump_json(),
                    )
                )
        return tuple(written)

    def get(self, candidate_id: str) -> CandidateRow:
        """Return a candidate and its state. Raises `NotFound`."""
        with self._database.read() as connection:
            row = connection.execute(_SELECT.where(candidates.c.candidate_id == candidate_id)).first()
        if row is None:
            raise NotFound(f"there is no candidate {candidate_id!r}; `inspectctl review` lists them")
        return _row(row)

    def list(
        self,
        recipe_id: str,
        *,
        state: CandidateState | None = None,
        job_id: str = "",
        defect_class: str = "",
        limit: int = 1000,
    ) -> tuple[CandidateRow, ...]:
        """Return candidates with their states, in the order they were added.

        A reviewer must not be told which are `planted_bad`; leave that field out of whatever is shown to one.
        """
        statement = _SELECT.where(candidates.c.recipe_id == recipe_id).order_by(candidates.c.candidate_id)
        if job_id:
            statement = statement.where(candidates.c.job_id == job_id)
        if defect_class:
            statement = statement.where(candidates.c.defect_class == defect_class)
        if state is CandidateState.WAITING:
            statement = statement.where(_VERB.is_(None))
        elif state is not None:
            verb = ReviewVerb.ACCEPT if state is CandidateState.ACCEPTED else ReviewVerb.REJECT
            statement = statement.where(_VERB.in_((verb.value,)))
        with self._database.read() as connection:
            return tuple(_row(row) for row in connection.execute(statement.limit(limit)))

    def defects(self, candidate: Candidate) -> tuple[tuple[str, Mask], ...]:
        """Return class and mask (H, W) bool of each of a candidate's defects, from pixels of the digest it names."""
        labels = self._pictures.read_labels(candidate.mask)
        if not candidate.regions:
            return ((candidate.defect_class, labels > 0),)
        return tuple((region.defect_class, labels == i) for i, region in enumerate(candidate.regions, start=1))

    def counts(self, recipe_id: str) -> dict[str, dict[CandidateState, int]]:
        """Return how many candidates of each class wait, are accepted and are rejected."""
        statement = (
            sa.select(candidates.c.defect_class, _VERB.label("verb"), sa.func.count().label("number"))
            .select_from(_JOINED)
            .where(candidates.c.recipe_id == recipe_id)
            .group_by(candidates.c.defect_class, _VERB)
            .order_by(candidates.c.defect_class)
        )
        found: dict[str, dict[CandidateState, int]] = {}
        with self._database.read() as connection:
            for row in connection.execute(statement):
                of_class = found.setdefault(row.defect_class, dict.fromkeys(CandidateState, 0))
                of_class[_STATE[ReviewVerb(row.verb)] if row.verb else CandidateState.WAITING] += row.number
        return found

    def _source(self, recipe_id: str, draft: Draft) -> _Source:
        made_from = draft.provenance
        with self._database.read() as connection:
            background = get_background(connection, made_from.background_id)
            real_seeds = [get_seed(connection, seed_id) for seed_id in made_from.seed_ids]
        if background.recipe_id != recipe_id or background.split is not Split.LEARN:
            raise DataError(f"the background {background.background_id} is held out or of another recipe; use another")
        for seed in real_seeds:
            confirmed = seed.state is SeedState.CONFIRMED and seed.split is Split.LEARN
            if seed.recipe_id != (made_from.adapters_from or recipe_id) or not confirmed:
                raise DataError(f"the seed {seed.seed_id} is not a confirmed one to learn from; use another")
        picture = self._background_pixels(background.image)
        if draft.stack.shape != picture.pixels.shape or draft.stack.dtype != picture.pixels.dtype:
            raise DataError(
                f"a candidate is {draft.stack.shape} {draft.stack.dtype}, its background {background.background_id} "
                f"{picture.pixels.shape} {picture.pixels.dtype}; make it in the background's own size"
            )
        box = check_mask(draft.mask, picture)
        check_mask(draft.support, picture)
        if np.any(draft.mask & ~draft.support):
            raise DataError("a candidate's mask reaches outside its support; label only what was changed")
        if not made_from.randomised and np.any((draft.stack != picture.pixels) & ~draft.support):
            raise DataError(
                "a candidate differs from its background outside its support; keep those pixels as they are"
            )
        return _Source(picture, facts_of(picture), box, _regions(draft, picture))

    def _write(self, candidate_id: str, job_id: str, recipe_id: str, draft: Draft, source: _Source) -> Candidate:
        background = source.picture
        stack = replace(
            background,
            pixels=draft.stack,
            metadata={
                "synthetic": True,
                "candidate_id": candidate_id,
                "defect_class": draft.defect_class,
                "emulated": source.facts["emulated"],
                **({"background_altered": True} if draft.provenance.randomised else {}),
            },
        )
        folder = f"candidates/{recipe_id}"
        return Candidate(
            candidate_id=candidate_id,
            job_id=job_id,
            recipe_id=recipe_id,
            defect_class=draft.defect_class,
            image=self._pictures.write_image(f"{folder}/{candidate_id}.tif", stack),
            mask=self._pictures.write_label(f"{folder}/{candidate_id}-mask.png", draft.label_image()),
            box=source.box,
            severity=draft.severity,
            scores=draft.scores,
            provenance=draft.provenance,
            planted_bad=draft.planted_bad,
            created_at=self._clock(),
            regions=source.regions,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    picture: StoredStack  # the background
    facts: dict[str, Any]
    box: Rect  # around the draft's mask
    regions: tuple[CandidateRegion, ...]


def _regions(draft: Draft, picture: StoredStack) -> tuple[CandidateRegion, ...]:
    """Describe the several defects of a draft. Raises `DataError` when they and its mask do not say the same."""
    if not draft.regions:
        return ()
    numbers = draft.label_image()
    if np.any((numbers > 0) != draft.mask) or draft.regions[0].defect_class != draft.defect_class:
        raise DataError("the defects of a candidate are not those of its mask and class; label each one")
    return tuple(
        CandidateRegion(
            defect_class=region.defect_class,
            box=check_mask(numbers == number, picture),
            severity=region.severity,
            provenance=region.provenance,
        )
        for number, region in enumerate(draft.regions, start=1)
    )


def _row(row: sa.Row[*tuple[Any, ...]]) -> CandidateRow:
    decision = decision_of(row) if row.sequence is not None else None
    return CandidateRow(
        candidate=Candidate.model_validate_json(row.record),
        state=_STATE[decision.verb] if decision else CandidateState.WAITING,
        decision=decision,
    )


def decision_of(row: sa.Row[*tuple[Any, ...]]) -> ReviewDecision:
    """Return the decision that a ledger row (sequence, payload, seal) states."""
    payload = json.loads(row.payload)
    stated = {name: payload[name] for name in ReviewDecision.model_fields if name in payload}
    return ReviewDecision.model_validate({**stated, "sequence": row.sequence, "seal": row.seal})


_DECIDED = sa.alias(ledger)
_LATEST = (
    sa.select(sa.func.max(ledger.c.sequence))
    .where(ledger.c.kind == "decision", ledger.c.subject == candidates.c.candidate_id)
    .correlate(candidates)
    .scalar_subquery()
)
_JOINED = candidates.outerjoin(_DECIDED, _DECIDED.c.sequence == _LATEST)
_VERB: sa.ColumnElement[Any] = sa.func.json_extract(_DECIDED.c.payload, "$.verb")
_SELECT = sa.select(candidates.c.record, _DECIDED.c.sequence, _DECIDED.c.payload, _DECIDED.c.seal).select_from(_JOINED)
