"""The line's events: numbered, durable, and asked for again by number.

An event with a higher number is never durable before one with a lower number, so a watcher that asks for what came
after the last number it saw misses nothing. After a crash the numbers go on past a gap; what stood in the gap was never
stored.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence

from cell.events import EVENT, Event
from cell.store.counters import BLOCK, reserve
from cell.store.database import Database

_INSERT = "INSERT INTO events (sequence, record) VALUES (?, ?)"


class EventLog:
    """Numbers events and stores them; safe for threads of the one process that writes the line's database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Taken after the database's own lock where both are held.
        self._lock = threading.Lock()
        self._next = 0
        self._high = 0
        self._pending: list[Event] = []

    def stamp(self, event: Event) -> Event:
        """Return the event with its number, to be published at once; it is stored with the next commit, whoever's.

        This costs no commit, but an event that is stamped right before a power cut is never stored.
        """
        while True:
            with self._lock:
                if self._next < self._high:
                    stamped = self._numbered(event)
                    self._pending.append(stamped)
                    return stamped
            with self.commit(()):
                pass

    def append(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """Store events durably; return them with their numbers."""
        with self.commit(events) as (_, numbered):
            return numbered

    def flush(self) -> None:
        """Store what was stamped and waits, so that it can be asked for; costs no synchronisation of the disk."""
        if self._pending:
            with self.commit((), durable=False):
                pass

    @contextlib.contextmanager
    def commit(
        self, events: Sequence[Event], *, durable: bool = True
    ) -> Iterator[tuple[sqlite3.Connection, tuple[Event, ...]]]:
        """Open a transaction in which what is pending and `events` are stored; give it and the numbered events.

        Events that were stamped before are passed through: they are stored or pending already. When the block or the
        commit fails, what was pending stays pending.
        """
        pending: list[Event] = []
        try:
            with self._database.write_direct(durable=durable) as connection:
                with self._lock:
                    if self._next + max(1, len(events)) > self._high:
                        first = reserve(connection, "event", BLOCK) - BLOCK + 1
                        if first != self._high:  # otherwise the block goes on where the last one ended
                            self._next = max(self._next, first)
                        self._high = first + BLOCK
                    pending, self._pending = self._pending, []
                    numbered = tuple(event if event.sequence else self._numbered(event) for event in events)
                fresh = [event for event, given in zip(numbered, events, strict=True) if not given.sequence]
                rows = [(event.sequence, event.model_dump_json()) for event in (*pending, *fresh)]
                if rows:
                    connection.executemany(_INSERT, rows)
                yield connection, numbered
        except BaseException:
            with self._lock:
                self._pending = pending + self._pending
                self._high = 0  # a block reserved in a transaction that was undone is not ours
            raise

    def last(self) -> int:
        """Return the highest number stored, 0 when there is none."""
        with self._database.read() as connection:
            return int(connection.exec_driver_sql("SELECT coalesce(max(sequence), 0) FROM events").scalar_one())

    def since(self, sequence: int, limit: int) -> tuple[Event, ...]:
        """Return up to `limit` events with higher numbers than `sequence`, lowest first."""
        with self._database.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT record FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?", (sequence, limit)
            ).all()
        return tuple(EVENT.validate_json(row[0]) for row in rows)

    def prune(self, keep: int) -> int:
        """Forget all but the last `keep` events; return how many."""
        with self._database.write_direct() as connection:
            return connection.execute(
                "DELETE FROM events WHERE sequence <= (SELECT max(sequence) FROM events) - ?", (keep,)
            ).rowcount

    def _numbered(self, event: Event) -> Event:
        numbered = event.model_copy(update={"sequence": self._next})
        self._next += 1
        return numbered
