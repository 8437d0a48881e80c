"""The sealed ledger: the chain of facts that decide what a model may learn from.

Each entry is sealed with HMAC-SHA-256 (RFC 2104) over the seal before it and its own content, under a key that lies in
``keys/gate.key``. Whoever edits the database without the key breaks the chain: an altered, inserted or removed entry is
found by :meth:`Ledger.verify`. That the newest entries were cut off is found by the *head*, a sealed note beside the
key of how long the chain was; it may lag behind by the last transaction (a crash), never be ahead.

::

    seal[n] = HMAC(key, seal[n-1] | n | kind | subject | payload | at)        seal[0] = 64 zeros
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from cell import digest
from cell.clock import WallClock
from cell.errors import GateError, StoreError
from cell.store.database import Database, to_text
from cell.store.files import create_exclusively, disk_errors, read_bytes, write_bytes
from cell.store.layout import StateDir
from cell.store.tables import ledger

_log = logging.getLogger(__name__)

#: What an entry states, about which subject:
#: split: `recipe/part`; background, seed, candidate: its id; display, decision: a candidate; training-set: a manifest.
#: split-plan: a recipe; split-refused: `recipe/part` that somebody wanted on the other side, `recipe/` for the plan;
#: background-withdrawn: a background.
Kind = Literal[
    "split",
    "split-plan",
    "split-refused",
    "background",
    "background-withdrawn",
    "seed",
    "candidate",
    "display",
    "decision",
    "training-set",
]
_GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class Entry:
    """One sealed fact."""

    sequence: int
    kind: str
    subject: str
    payload: dict[str, Any]
    at: datetime
    seal: str


class Ledger:
    """Appends to the chain and verifies it. Safe for threads and processes; the database's write lock orders them."""

    def __init__(self, database: Database, state: StateDir, clock: WallClock) -> None:
        self._database = database
        self._state = state
        self._clock = clock
        self._secret: bytes | None = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[LedgerWriter]:
        """Open a write transaction; its entries and rows stand together or not at all.

        Raises `GateError` when the key is missing or open to others, and what `Database.write` raises.
        """
        with self._database.write() as connection:
            last = connection.execute(
                sa.select(ledger.c.sequence, ledger.c.seal).order_by(ledger.c.sequence.desc()).limit(1)
            ).first()
            sequence, seal = (last.sequence, last.seal) if last else (0, _GENESIS)
            key = self._key(ledger_is_empty=last is None)
            self._check_not_set_back(connection, key, sequence)
            writer = LedgerWriter(connection, key, sequence, seal, self._clock())
            yield writer
        if writer.sequence > sequence:
            self._advance_head(writer.sequence, writer.seal)

    def verify(self) -> list[Entry]:
        """Return all entries, oldest first, after every seal and the head were found in order.

        Raises `GateError` that names the first entry which does not fit.
        """
        with self._database.read() as connection:
            rows = connection.execute(sa.select(ledger).order_by(ledger.c.sequence)).all()
        if not rows and not (self._state.keys / "gate.key").exists():
            return []
        key = self._key(ledger_is_empty=not rows)
        head_sequence, head_seal = self._head(key)
        seal = _GENESIS
        entries: list[Entry] = []
        for expected, row in enumerate(rows, start=1):
            if row.sequence != expected:
                raise GateError(f"entry {expected} of the gate's ledger is missing; {_WAY_OUT}")
            calculated = _seal(key, seal, row.sequence, row.kind, row.subject, row.payload, row.at)
            if not hmac.compare_digest(calculated, row.seal):
                raise GateError(f"the seal of entry {expected} of the gate's ledger does not fit; {_WAY_OUT}")
            seal = row.seal
            if expected == head_sequence and seal != head_seal:
                raise GateError(f"entry {expected} of the gate's ledger is not the one that was sealed; {_WAY_OUT}")
            entries.append(_entry(row))
        if len(entries) < head_sequence:
            raise GateError(f"the gate's ledger ends at {len(entries)}, but {head_sequence} were written; {_WAY_OUT}")
        return entries

    def genuine(self, connection: sa.Connection, sequence: int) -> Entry:
        """Return one entry after its own seal was verified. Raises `GateError` when it is missing or forged."""
        rows = connection.execute(
            sa.select(ledger).where(ledger.c.sequence.in_((sequence - 1, sequence))).order_by(ledger.c.sequence)
        ).all()
        if not rows or rows[-1].sequence != sequence or len(rows) != (1 if sequence == 1 else 2):
            raise GateError(f"the gate's ledger has no entry {sequence}; show the candidate again")
        row = rows[-1]
        before = rows[0].seal if len(rows) == 2 else _GENESIS
        key = self._key(ledger_is_empty=False)
        calculated = _seal(key, before, row.sequence, row.kind, row.subject, row.payload, row.at)
        if not hmac.compare_digest(calculated, row.seal):
            raise GateError(f"the seal of entry {sequence} of the gate's ledger does not fit; {_WAY_OUT}")
        return _entry(row)

    def sign(self, purpose: str, text: str) -> str:
        """Return the HMAC of a text under the gate's key; `purpose` keeps signatures of different kinds apart."""
        return _hmac(self._key(ledger_is_empty=False), purpose, text)

    def _key(self, *, ledger_is_empty: bool) -> bytes:
        if self._secret is not None:
            return self._secret
        path = self._state.keys / "gate.key"
        if not path.exists():
            if not ledger_is_empty:
                raise GateError(f"the gate's key {path} is missing; restore it from the backup, decisions rest on it")
            # Only inside `transaction`, whose lock lets one process at a time come here. The head goes first, so that
            # a key without a head is always a loss and never a crash in between.
            fresh = secrets.token_hex(32).encode()
            self._write_head(fresh, 0, _GENESIS)
            create_exclusively(path, fresh, mode=0o600)
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise GateError(f"the gate's key {path} is open to others (mode {mode:o}); run chmod 600 on it")
        key = read_bytes(path)
        if len(key) != 64:
            raise GateError(f"the gate's key {path} is damaged; restore it from the backup")
        self._secret = key
        return key

    def _check_not_set_back(self, connection: sa.Connection, key: bytes, last: int) -> None:
        # Otherwise decisions taken after an old database was put back would in time outgrow the head and replace it.
        head_sequence, head_seal = self._head(key)
        if head_sequence == 0:
            return
        there = connection.scalars(sa.select(ledger.c.seal).where(ledger.c.sequence == head_sequence)).first()
        if there != head_seal:
            raise GateError(f"the gate's ledger ends at {last} or was replaced before {head_sequence}; {_WAY_OUT}")

    def _head(self, key: bytes) -> tuple[int, str]:
        path = self._state.keys / "gate.head"
        if not path.exists():
            raise GateError(f"{path} is missing; restore it from the backup together with the database")
        try:
            note = json.loads(read_bytes(path))
            sequence, seal, signature = int(note["sequence"]), str(note["seal"]), str(note["signature"])
        except (ValueError, KeyError, TypeError) as error:
            raise GateError(f"{path} is damaged; restore it from the backup together with the database") from error
        if not hmac.compare_digest(signature, _hmac(key, "head", f"{sequence}:{seal}")):
            raise GateError(f"{path} was not written by this store; {_WAY_OUT}")
        return sequence, seal

    def _advance_head(self, sequence: int, seal: str) -> None:
        key = self._key(ledger_is_empty=False)
        path = self._state.keys / "gate.lock"
        try:
            with disk_errors(path):
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                    if sequence > self._head(key)[0]:
                        self._write_head(key, sequence, seal)
                finally:
                    os.close(descriptor)
        except StoreError as error:
            # The entry itself is durable. A head that lags is caught up by the next one.
            _log.warning("the gate's head stays behind at this entry: %s", error)

    def _write_head(self, key: bytes, sequence: int, seal: str) -> None:
        signature = _hmac(key, "head", f"{sequence}:{seal}")
        note = {"sequence": sequence, "seal": seal, "signature": signature}
        write_bytes(self._state.keys / "gate.head", digest.canonical_json(note), mode=0o600)


class LedgerWriter:
    """One open transaction of the ledger."""

    def __init__(self, connection: sa.Connection, key: bytes, sequence: int, seal: str, at: datetime) -> None:
        #: For the rows that belong to the entries.
        self.connection = connection
        #: Number and seal of the last entry.
        self.sequence = sequence
        self.seal = seal
        #: The time of every entry of this transaction.
        self.at = at
        self._key = key

    def append(self, kind: Kind, subject: str, payload: dict[str, Any]) -> Entry:
        """Seal and add one fact; `payload` holds JSON types only."""
        text = digest.canonical_json(payload).decode()
        at = to_text(self.at)
        sequence = self.sequence + 1
        seal = _seal(self._key, self.seal, sequence, kind, subject, text, at)
        self.connection.execute(
            sa.insert(ledger).values(sequence=sequence, kind=kind, subject=subject, payload=text, at=at, seal=seal)
        )
        self.sequence, self.seal = sequence, seal
        return Entry(sequence, kind, subject, payload, self.at, seal)

    def latest(self, kind: Kind, subject: str) -> Entry | None:
        """Return the newest entry of that kind about a subject. Its seal is not verified here."""
        return latest(self.connection, kind, subject)


def latest(connection: sa.Connection, kind: Kind, subject: str) -> Entry | None:
    """Return the newest entry of that kind about a subject. Its seal is not verified here."""
    row = connection.execute(
        sa.select(ledger)
        .where(ledger.c.kind == kind, ledger.c.subject == subject)
        .order_by(ledger.c.sequence.desc())
        .limit(1)
    ).first()
    return _entry(row) if row else None


_WAY_OUT = "the store was edited or set back: restore database and keys from one backup"


def _entry(row: sa.Row[Any]) -> Entry:
    try:
        payload = json.loads(row.payload)
        at = datetime.fromisoformat(row.at)
    except ValueError as error:
        raise GateError(f"entry {row.sequence} of the gate's ledger is not readable; {_WAY_OUT}") from error
    if not isinstance(payload, dict):
        raise GateError(f"entry {row.sequence} of the gate's ledger is not readable; {_WAY_OUT}")
    return Entry(row.sequence, row.kind, row.subject, payload, at, row.seal)


def _seal(key: bytes, before: str, sequence: int, kind: str, subject: str, payload: str, at: str) -> str:
    content = digest.canonical_json([before, sequence, kind, subject, payload, at]).decode()
    return _hmac(key, "entry", content)


def _hmac(key: bytes, purpose: str, text: str) -> str:
    return hmac.new(key, f"{purpose}\0{text}".encode(), hashlib.sha256).hexdigest()
