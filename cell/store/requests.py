"""The request ledger: a command has its effect exactly once, across restarts."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from cell.clock import WallClock
from cell.errors import ProtocolError, StoreError
from cell.store.database import Database, to_text
from cell.wire.messages import Command, Reply


@dataclass(frozen=True, slots=True)
class New:
    """The id was never seen: it is durable now, and the caller executes the command."""


@dataclass(frozen=True, slots=True)
class InProgress:
    """The same command was begun and has no reply yet: the caller waits for it or says so."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The command was answered before: the caller sends this reply again, without a second effect."""

    reply: Reply


#: What :meth:`RequestLedger.begin` finds.
Begun = New | InProgress | Seen


class RequestLedger:
    """The requests of one service; both databases have one.

    The caller's flow: ``begin`` (durable), effect, ``finish`` (durable), answer. What a process began and did not
    finish before it died is told by :meth:`interrupted` at the next start; each of those must be answered and finished.
    """

    def __init__(self, database: Database, clock: WallClock) -> None:
        self._database = database
        self._clock = clock

    def begin(self, command: Command, *, durable: bool = True) -> Begun:
        """Record the command durably, before its effect.

        Without `durable` a power cut (not the end of the process) may forget it until the next commit: for an effect
        that may be repeated as long as nobody was answered, such as taking a part's frames.

        Raises `ProtocolError` when the id was used for another command or other arguments.
        """
        digest = command.record_digest()
        values = (command.request_id, digest, command.model_dump_json(), to_text(self._clock()))
        with self._database.write_direct(durable=durable) as connection:
            inserted = connection.execute(
                "INSERT INTO requests (request_id, command_digest, command, begun_at) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (request_id) DO NOTHING",
                values,
            )
            if inserted.rowcount == 1:
                return New()
            known, reply = connection.execute(
                "SELECT command_digest, reply FROM requests WHERE request_id = ?", (command.request_id,)
            ).fetchone()
        if known != digest:
            raise ProtocolError(
                f"the request id {command.request_id!r} was used for another command; make a fresh id for each intent"
            )
        return InProgress() if reply is None else Seen(Reply.model_validate_json(reply))

    def finish(self, request_id: str, reply: Reply) -> None:
        """Record the reply durably, before it is sent.

        Raises `StoreError` when the request was never begun or has another reply already.
        """
        with self._database.write_direct() as connection:
            self.finish_within(connection, request_id, reply)

    def finish_within(self, connection: sqlite3.Connection, request_id: str, reply: Reply) -> None:
        """Do the same as part of the caller's transaction."""
        text = reply.model_dump_json()
        updated = connection.execute(
            "UPDATE requests SET reply = ?, finished_at = ? WHERE request_id = ? AND (reply IS NULL OR reply = ?)",
            (text, to_text(self._clock()), request_id, text),
        )
        if updated.rowcount != 1:
            raise StoreError(f"the request {request_id!r} was not begun or is answered already; begin it first")

    def interrupted(self) -> tuple[Command, ...]:
        """Return what was begun and never finished, oldest first. Call it at start, before new requests come in."""
        with self._database.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT command FROM requests WHERE reply IS NULL ORDER BY begun_at, rowid"
            )
            return tuple(Command.model_validate_json(row[0]) for row in rows)

    def prune(self, before: datetime) -> int:
        """Forget requests that were finished before that instant; return how many."""
        with self._database.write_direct() as connection:
            return connection.execute("DELETE FROM requests WHERE finished_at < ?", (to_text(before),)).rowcount
