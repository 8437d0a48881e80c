"""What each physical part may be used for: to learn from, or held out to measure against. Decided once, sealed.

::

    plan(recipe)          sealed before the first part; afterwards a change is refused
      side_of(part)       known part -> its side; near-duplicate -> its twin's; set aside -> held out; else by the plan
        assign(part)      sealed in the gate's ledger; another side later is refused, and the attempt is sealed too

The unit is the physical part, or the lot where the plan says so and lots are told; never the picture.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import Field

from cell import digest
from cell.base import Record
from cell.defects import Split
from cell.errors import DataError, SplitError
from cell.recipes import Fraction, Name
from cell.store.database import Database
from cell.store.ledger import Ledger, LedgerWriter
from cell.store.tables import ledger

_LOG = logging.getLogger(__name__)

#: Share of parts (or lots) that are held out where nobody said otherwise.
HELD_OUT_SHARE = 0.2
Unit = Literal["part", "lot"]


class SplitPlan(Record):
    """How parts are divided that nobody set aside."""

    by: Unit = "part"
    held_out_share: Fraction = HELD_OUT_SHARE
    set_by: str = ""  # empty: nobody did, it is the default
    at: datetime | None = None


class PartSide(Record):
    """One part's side, as the ledger sealed it."""

    part_id: str
    split: Split
    lot: str = ""


class RefusedChange(Record):
    """An attempt to bring a part to the other side, or to change the plan afterwards."""

    part_id: str  # empty for the plan
    wanted: str
    why: str
    at: datetime


class SplitState(Record):
    """All that stands about the split of a recipe; `digest` changes whenever any of it does."""

    recipe_id: Name
    plan: SplitPlan
    parts: tuple[PartSide, ...]
    digest: str = ""
    refused: tuple[RefusedChange, ...] = ()
    lots_on_both_sides: tuple[str, ...] = ()
    parts_by_side: dict[Split, int] = Field(default_factory=dict)


class SplitBook:
    """Reads and writes the splits of all recipes in the gate's ledger. Safe for threads and processes."""

    def __init__(self, database: Database, chain: Ledger) -> None:
        self._database = database
        self._ledger = chain

    def plan(self, recipe_id: str) -> SplitPlan:
        """Return the plan of a recipe: the sealed one, or the default."""
        with self._database.read() as connection:
            return _plan(connection, recipe_id)

    def set_plan(self, recipe_id: str, by: Unit, held_out_share: float, person: str) -> SplitPlan:
        """Seal how parts are divided, before the first part is.

        Raises `SplitError` when a part of the recipe stands on a side already and the plan would change; the attempt
        is sealed. Raises `DataError` for a share outside [0, 1) or without a name.
        """
        if not 0 <= held_out_share < 1 or not person.strip():
            raise DataError("a plan needs a share of held-out parts from 0 to below 1, and the name of who sets it")
        wanted = {"by": by, "held_out_share": held_out_share, "set_by": person.strip()}
        attempt = f"plan by {by}, {held_out_share:g} held out"
        with self._told(recipe_id, "", attempt), self._ledger.transaction() as writer:
            known = _plan(writer.connection, recipe_id)
            if (known.by, known.held_out_share) == (by, held_out_share):
                return known
            if next(_sides(writer.connection, recipe_id), None) is not None:
                raise SplitError(
                    f"parts of {recipe_id} are divided already, by {known.by} with {known.held_out_share:g} held out; "
                    "a split is never changed afterwards, begin a new recipe for another one"
                )
            writer.append("split-plan", recipe_id, wanted)
            return _plan(writer.connection, recipe_id)

    def sides(self, recipe_id: str) -> dict[str, PartSide]:
        """Return where each part of a recipe stands."""
        with self._database.read() as connection:
            return {side.part_id: side for side in _sides(connection, recipe_id)}

    def choose(self, recipe_id: str, part_id: str, lot: str = "") -> Split:
        """Return the side that the plan gives a part which stands on none yet; nothing is recorded.

        By part: by the hash of its id, so that nothing about its pictures decides. By lot: the side of its lot's other
        parts; a new lot is held out when fewer parts are held out so far than the plan's share.
        """
        with self._database.read() as connection:
            plan = _plan(connection, recipe_id)
            if plan.by == "part" or not lot:
                share = int.from_bytes(hashlib.sha256(part_id.encode()).digest()[:4]) / 2**32
                return Split.HELD_OUT if share < plan.held_out_share else Split.LEARN
            sides = list(_sides(connection, recipe_id))
        same = _of_lot(sides, lot)
        if same is not None:
            return same
        held = sum(side.split is Split.HELD_OUT for side in sides)
        return Split.HELD_OUT if sides and held < plan.held_out_share * (len(sides) + 1) else Split.LEARN

    def of_lot(self, recipe_id: str, lot: str) -> Split | None:
        """Return the side on which a lot stands; None for a new lot, or where the plan does not go by lot."""
        with self._database.read() as connection:
            if not lot or _plan(connection, recipe_id).by != "lot":
                return None
            return _of_lot(_sides(connection, recipe_id), lot)

    def assign(self, writer: LedgerWriter, recipe_id: str, part_id: str, split: Split, lot: str) -> None:
        """Seal a part's side inside a transaction; the same again changes nothing.

        Raises `SplitError` when the part, or its lot where the plan divides by lots, stands on the other side;
        `DataError` for a part without an id. Call it inside :meth:`told`, which seals the refusal.
        """
        if not part_id:
            raise DataError("a part without an id can't be kept apart from itself in a split; give it a part id")
        subject = f"{recipe_id}/{part_id}"
        known = writer.latest("split", subject)
        if known is not None:
            if known.payload.get("split") != split.value:
                raise SplitError(other_side(part_id, Split(known.payload["split"])))
            return
        if lot and _plan(writer.connection, recipe_id).by == "lot":
            others = {side.split for side in _sides(writer.connection, recipe_id) if side.lot == lot}
            if others - {split}:
                raise SplitError(
                    f"the lot {lot} of part {part_id} was set aside as {others.pop().value!r} before; a lot never "
                    "stands on two sides of this recipe's split"
                )
        writer.append("split", subject, {"split": split.value, "lot": lot})

    @contextmanager
    def told(self, recipe_id: str, part_id: str, split: Split) -> Iterator[None]:
        """Seal and log an attempt that the block refuses with `SplitError`, then let the error go on."""
        with self._told(recipe_id, part_id, split.value):
            yield

    @contextmanager
    def _told(self, recipe_id: str, part_id: str, wanted: str) -> Iterator[None]:
        try:
            yield
        except SplitError as error:
            self.note_refusal(recipe_id, part_id, wanted, str(error))
            raise

    def note_refusal(self, recipe_id: str, part_id: str, wanted: str, why: str) -> None:
        """Seal and log that a change was refused; the same as the last one about a part is only logged."""
        _LOG.warning("refused to change the split of %s: %s", recipe_id, why)
        payload = {"wanted": wanted, "why": why}
        subject = f"{recipe_id}/{part_id}"
        with self._ledger.transaction() as writer:
            known = writer.latest("split-refused", subject)
            # A program that tries the same again and again must not fill the ledger.
            if known is None or known.payload != payload:
                writer.append("split-refused", subject, payload)

    def state(self, recipe_id: str) -> SplitState:
        """Return all that stands about the split of a recipe, after every seal of the ledger was verified.

        Raises `GateError` when the ledger was edited.
        """
        self._ledger.verify()
        with self._database.read() as connection:
            plan = _plan(connection, recipe_id)
            parts = tuple(sorted(_sides(connection, recipe_id), key=lambda side: side.part_id))
            refused = tuple(_refused(connection, recipe_id))
        lots: dict[str, set[Split]] = {}
        for part in parts:
            if part.lot:
                lots.setdefault(part.lot, set()).add(part.split)
        content = [plan.model_dump(mode="json"), [part.model_dump(mode="json") for part in parts]]
        return SplitState(
            recipe_id=recipe_id,
            plan=plan,
            parts=parts,
            digest=digest.of_record([recipe_id, *content]),
            refused=refused,
            lots_on_both_sides=tuple(sorted(lot for lot, sides in lots.items() if len(sides) > 1)),
            parts_by_side=dict(Counter(part.split for part in parts)),
        )


def other_side(part_id: str, known: Split) -> str:
    """Return the sentence that refuses a part on another side than it stands on."""
    return f"the part {part_id} was set aside as {known.value!r} before; a part never stands on two sides of a split"


def _plan(connection: sa.Connection, recipe_id: str) -> SplitPlan:
    statement = (
        sa.select(ledger.c.payload, ledger.c.at)
        .where(ledger.c.kind == "split-plan", ledger.c.subject == recipe_id)
        .order_by(ledger.c.sequence.desc())
        .limit(1)
    )
    row = connection.execute(statement).first()
    return (
        SplitPlan()
        if row is None
        else SplitPlan.model_validate_json(row.payload).model_copy(update={"at": datetime.fromisoformat(row.at)})
    )


def _sides(connection: sa.Connection, recipe_id: str) -> Iterator[PartSide]:
    for subject, split, lot in connection.execute(_of_recipe("split", recipe_id, "$.split", "$.lot")):
        yield PartSide(part_id=subject.removeprefix(f"{recipe_id}/"), split=Split(split), lot=lot or "")


def _of_lot(sides: Iterable[PartSide], lot: str) -> Split | None:
    return next((side.split for side in sides if side.lot == lot), None)


def _refused(connection: sa.Connection, recipe_id: str) -> Iterator[RefusedChange]:
    statement = _of_recipe("split-refused", recipe_id, "$.wanted", "$.why").add_columns(ledger.c.at)
    for subject, wanted, why, at in connection.execute(statement):
        part = subject.removeprefix(f"{recipe_id}/")
        yield RefusedChange(part_id=part, wanted=wanted, why=why, at=datetime.fromisoformat(at))


def _of_recipe(kind: str, recipe_id: str, *paths: str) -> sa.Select[Any]:
    wanted = (sa.func.json_extract(ledger.c.payload, path) for path in paths)
    return (
        sa.select(ledger.c.subject, *wanted)
        .where(ledger.c.kind == kind, ledger.c.subject.startswith(f"{recipe_id}/", autoescape=True))
        .order_by(ledger.c.sequence)
    )
