"""Backgrounds that were taken back: the part turned out bad after it was kept as good.

Row and picture stay, and what was learned before stays what it was; nothing new is learned from or made on them.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from cell.base import Record
from cell.errors import DataError
from cell.store.database import Database
from cell.store.ledger import Kind, Ledger
from cell.store.tables import backgrounds, ledger

_KIND: Kind = "background-withdrawn"


class Withdrawal(Record):
    """Why a background is not used any more, who said so, and since when."""

    background_id: str
    reason: str
    by: str
    at: datetime


class Withdrawals:
    """Sealed in the gate's ledger. Safe for threads and processes."""

    def __init__(self, database: Database, chain: Ledger) -> None:
        self._database = database
        self._ledger = chain

    def add(self, background_id: str, reason: str, by: str) -> bool:
        """Withdraw a background; False when it was withdrawn before. Raises `DataError` without a reason or a name."""
        if not (reason.strip() and by.strip()):
            raise DataError(f"say why the background {background_id} is withdrawn, and who does it")
        with self._ledger.transaction() as writer:
            if writer.latest(_KIND, background_id) is not None:
                return False
            writer.append(_KIND, background_id, {"reason": " ".join(reason.split()), "by": by.strip()})
        return True

    def of(self, recipe_id: str) -> dict[str, Withdrawal]:
        """Return the withdrawn backgrounds of a recipe, by id."""
        payload = ledger.c.payload
        statement = (
            sa.select(
                ledger.c.subject,
                sa.func.json_extract(payload, "$.reason").label("reason"),
                sa.func.json_extract(payload, "$.by").label("by"),
                ledger.c.at,
            )
            .join(backgrounds, backgrounds.c.background_id == ledger.c.subject)
            .where(ledger.c.kind == _KIND, backgrounds.c.recipe_id == recipe_id)
            .order_by(ledger.c.sequence)
        )
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return {
            row.subject: Withdrawal(
                background_id=row.subject, reason=row.reason, by=row.by, at=datetime.fromisoformat(row.at)
            )
            for row in rows
        }
