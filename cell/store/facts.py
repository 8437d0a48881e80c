"""What the sealed ledger says, gathered: the only source from which a training set is made or verified."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

from cell.defects import Background, Candidate, ReviewVerb, Seed, SeedState, Split
from cell.errors import GateError
from cell.store.ledger import Entry
from cell.store.tables import backgrounds, candidates, seeds

_R = TypeVar("_R", Background, Seed, Candidate)


@dataclass(slots=True)
class Facts:
    """The newest entry about each subject, from a verified chain, and the rows that were checked against them."""

    last_sequence: int = 0
    splits: dict[str, str] = field(default_factory=dict)
    entries: dict[str, dict[str, Entry]] = field(default_factory=dict)

    @classmethod
    def of(cls, chain: Iterable[Entry]) -> Facts:
        """Gather the facts of a verified chain. Raises `GateError` when a part stands on two sides."""
        facts = cls()
        for entry in chain:
            facts.last_sequence = entry.sequence
            if entry.kind == "split":
                side = str(entry.payload.get("split"))
                if facts.splits.setdefault(entry.subject, side) != side:
                    raise GateError(f"the part {entry.subject} stands on two sides of the split; remove it from both")
            facts.entries.setdefault(entry.kind, {})[entry.subject] = entry
        return facts

    def entry(self, kind: str, subject: str) -> Entry | None:
        """Return the newest entry of a kind about a subject."""
        return self.entries.get(kind, {}).get(subject)

    def learns_from(self, recipe_id: str, part_id: str) -> bool:
        """Tell whether a part is on the learning side."""
        return self.splits.get(f"{recipe_id}/{part_id}") == Split.LEARN.value

    def withdrawn(self, background_id: str) -> bool:
        """Tell whether a background was taken back: sets issued before keep it, none is issued with it."""
        return self.entry("background-withdrawn", background_id) is not None

    def accepted(self, candidate_id: str, *, people_only: bool = False) -> Entry | None:
        """Return the newest decision about a candidate when it accepts (and a person took it), else None."""
        entry = self.entry("decision", candidate_id)
        if entry is None or entry.payload.get("verb") != ReviewVerb.ACCEPT.value:
            return None
        return entry if entry.payload.get("is_person") is True or not people_only else None


@dataclass(frozen=True, slots=True)
class Rows:
    """Backgrounds, seeds and candidates of a recipe, each equal to what the ledger sealed."""

    backgrounds: dict[str, Background]
    seeds: dict[str, Seed]
    candidates: dict[str, Candidate]
    #: Seeds of other recipes that candidates of this one were made from.
    borrowed: dict[str, Seed]

    @classmethod
    def load(cls, connection: sa.Connection, recipe_id: str, facts: Facts) -> Rows:
        """Read the rows of a recipe. Raises `GateError` for a row that nothing sealed or that differs from its seal."""
        made = _sealed(connection, candidates, Candidate, recipe_id, facts)
        borrowed: dict[str, Seed] = {}
        for other in sorted({one.provenance.adapters_from for one in made.values()} - {""}):
            borrowed |= _sealed(connection, seeds, Seed, other, facts)
        return cls(
            _sealed(connection, backgrounds, Background, recipe_id, facts),
            _sealed(connection, seeds, Seed, recipe_id, facts),
            made,
            borrowed,
        )


def _sealed(
    connection: sa.Connection, table: sa.Table, record: type[_R], recipe_id: str, facts: Facts
) -> dict[str, _R]:
    kind = table.name.removesuffix("s")
    key = f"{kind}_id"
    statement = sa.select(table.c.record).where(table.c.recipe_id == recipe_id).order_by(table.c[key])
    found: dict[str, _R] = {}
    for text in connection.scalars(statement):
        try:
            row = record.model_validate_json(text)
        except ValueError as error:
            raise GateError(f"a row of {table.name} is not readable; restore the database from the backup") from error
        name = str(getattr(row, key))
        entry = facts.entry(kind, name)
        if entry is None or entry.payload.get("record") != row.record_digest():
            raise GateError(f"the {kind} {name} is not what was recorded; the store was edited, restore the backup")
        found[name] = row
    return found


def suits(entry: Entry | None, channels: tuple[str, ...], size: tuple[int, int], bit_depth: int) -> bool:
    """Tell whether a sealed picture has the channels, (height, width) and bit depth of a recipe."""
    if entry is None:
        return False
    payload: dict[str, Any] = entry.payload
    found = (payload.get("channels"), payload.get("size"), payload.get("bit_depth"))
    return found == (list(channels), list(size), bit_depth)


def confirmed(seed: Seed) -> bool:
    """Tell whether a seed may be learned from as far as its own record says."""
    return seed.state is SeedState.CONFIRMED and seed.split is Split.LEARN
