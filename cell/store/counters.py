"""Numbers that are never given twice, without a commit for each.

A counter reserves a block with a row before it gives the first number of it; after a crash the rest of the block is
skipped. Gaps are harmless, a number given twice is not.
"""

from __future__ import annotations

import sqlite3
import threading

from cell.store.database import Database

#: How many numbers one commit reserves.
BLOCK = 1024


class Counter:
    """One series of numbers from 1 on, for one process at a time."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name
        self._lock = threading.Lock()
        self._next = 0
        self._high = 0

    def next(self) -> int:
        """Return a number never given before."""
        with self._lock:
            if self._next >= self._high:
                with self._database.write_direct() as connection:
                    high = reserve(connection, self._name, BLOCK)
                self._next, self._high = high - BLOCK + 1, high + 1
            number = self._next
            self._next += 1
            return number


def reserve(connection: sqlite3.Connection, name: str, count: int) -> int:
    """Reserve `count` numbers within the caller's transaction; return the highest. Safe between processes."""
    row = connection.execute(
        "INSERT INTO counters (name, high) VALUES (?, ?) "
        "ON CONFLICT (name) DO UPDATE SET high = high + excluded.high RETURNING high",
        (name, count),
    ).fetchone()
    return int(row[0])
