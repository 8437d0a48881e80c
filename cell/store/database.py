"""SQLite as this project uses it: WAL, synchronous FULL, one writer at a time, schema by migration.

A commit that returned survives a power cut (measured with LazyFS: 0 of 8,787 acknowledged rows lost, against all of
them with synchronous NORMAL). Writers take their lock at the begin of the transaction (BEGIN IMMEDIATE), because a
transaction that starts as a reader and then wants to write is refused at once, whatever the busy time-out says.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import event, exc

from cell.errors import DiskFull, GateError, StoreError
from cell.store.files import disk_errors, sync_folder

#: How long a writer waits for another process's transaction, seconds. Ours take milliseconds.
BUSY_TIMEOUT_S = 15.0
#: The line's log may grow to this many pages (80 MB) before a commit folds it in by itself.
_LONGEST_LOG_PAGES = 20_000
#: SQLite's own default, for the learning database.
_LOG_PAGES = 1000
#: Databases up to this size are checked page by page when they are opened (about 0.1 s for 32 MiB).
_CHECKED_BYTES = 32 << 20
# At every opening it tells that it looked; in a journal that is what hides the one line that matters.
logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)
_MIGRATIONS = Path(__file__).with_name("migrations")


class Database:
    """One SQLite file, migrated and checked. Safe for threads; several processes may open the same one."""

    def __init__(self, path: Path, schema: Literal["line", "learning"]) -> None:
        """Open `path`, making or migrating it.

        Raises `StoreError` when it is damaged, of a newer schema, or can't be migrated, and `DiskFull`: a store that
        is not wholly in order is never served.
        """
        self.path = path
        self._lock = threading.RLock()
        self._closed = False
        # A commit that has to fold a line's log into the file makes a part wait; `checkpoint` does it beside.
        self._log_pages = _LONGEST_LOG_PAGES if schema == "line" else _LOG_PAGES
        self._direct: sqlite3.Connection | None = None
        self._relaxed: sqlite3.Connection | None = None
        self._writer = _engine(self._connect, writes=True)
        self._reader = _engine(self._connect, writes=False)
        try:
            with disk_errors(path), _migration_lock(path):
                self._prepare(schema)
                sync_folder(path.parent)
            with errors(path):
                self._direct = self._connect(writes=True)
                self._relaxed = self._connect(writes=True)
                self._relaxed.execute("PRAGMA synchronous=NORMAL")
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Give a connection inside a transaction that commits at the end and is undone when the block raises.

        Raises `DiskFull`, `GateError` (an append-only table was touched) or `StoreError`.
        """
        self._require_open()
        with self._lock, errors(self.path), self._writer.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def write_direct(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Do the same on the driver's own connection: what each part pays for, without SQLAlchemy's 0.1 ms a statement.

        Without `durable` the commit outlives the process but, until the next durable one, not a power cut; it costs no
        synchronisation. Raises as :meth:`write` does.
        """
        self._require_open()
        with self._lock, errors(self.path):
            # Two connections, so that no error path can leave the durable one at the weaker level.
            connection = self._direct if durable else self._relaxed
            if connection is None:
                raise StoreError(f"{self.path} is closed; the process is shutting down")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back by itself, e.g. on a full disk
                    connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Give a connection that sees one unchanging snapshot and can't write. Raises `StoreError`."""
        self._require_open()
        with errors(self.path), self._reader.begin() as connection:
            yield connection

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the file as far as nobody reads from it; writers don't wait meanwhile.

        Raises `StoreError`.
        """
        self._require_open()
        with errors(self.path), contextlib.closing(self._connect(writes=True)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close all connections; the last one folds the write-ahead log into the file."""
        self._closed = True
        with self._lock:
            for connection in (self._direct, self._relaxed):
                if connection is not None:
                    connection.close()
            self._writer.dispose()
        self._reader.dispose()

    def _connect(self, *, writes: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        pragmas = (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "recursive_triggers=ON",
            f"wal_autocheckpoint={self._log_pages}",
        )
        try:
            for pragma in (*pragmas, *(() if writes else ("query_only=ON",))):
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _require_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self.path} is closed; the process is shutting down")

    def _prepare(self, schema: str) -> None:
        with errors(self.path), self._writer.begin() as connection:
            if self.path.stat().st_size <= _CHECKED_BYTES:
                finding = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
                if finding != "ok":
                    first = " ".join(str(finding).split())
                    raise StoreError(f"the database {self.path} is damaged ({first}); restore it from the backup")
            _migrate(connection, self.path, schema)


@contextlib.contextmanager
def errors(path: Path) -> Iterator[None]:
    """Turn what SQLite and SQLAlchemy raise about `path` into the project's errors."""
    try:
        yield
    except exc.DBAPIError as error:
        raise _translated(path, error.orig) from error
    except sqlite3.Error as error:
        raise _translated(path, error) from error
    except exc.SQLAlchemyError as error:
        raise StoreError(f"the database {path} refused a statement: {' '.join(str(error).split())[:200]}") from error


def to_text(instant: datetime) -> str:
    """Return an instant as it is stored: ISO 8601 in UTC with microseconds, so that text order is time order."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


def from_text(text: str) -> datetime:
    """Return the instant that :func:`to_text` wrote."""
    return datetime.fromisoformat(text)


def _translated(path: Path, error: BaseException | None) -> StoreError | GateError:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name == "SQLITE_FULL":
        return DiskFull(f"no room to write {path.name} in {path.parent}; free space on that disk")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreError(f"{path} was locked for {BUSY_TIMEOUT_S:.0f} s; end the program that holds it open")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StoreError(f"the database {path} is damaged ({error}); restore it from the backup")
    if name == "SQLITE_CONSTRAINT_TRIGGER":
        return GateError(f"{error}; add a new record instead")
    if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")):
        return StoreError(f"can't write or read {path} ({error}); check the disk, its room and its permissions")
    return StoreError(f"the database {path} refused a statement: {' '.join(str(error).split())[:200]}")


class _Connect(Protocol):
    def __call__(self, *, writes: bool) -> sqlite3.Connection: ...


def _engine(connect: _Connect, *, writes: bool) -> sa.Engine:
    engine = sa.create_engine(
        "sqlite+pysqlite://",
        creator=lambda: connect(writes=writes),
        poolclass=sa.QueuePool,
        pool_size=1 if writes else 4,
        max_overflow=0 if writes else 12,
        pool_timeout=BUSY_TIMEOUT_S,
    )

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextlib.contextmanager
def _migration_lock(path: Path) -> Iterator[None]:
    # Two processes that open a new store at once must not both make its tables.
    descriptor = os.open(path.with_name(f"{path.name}.migrating"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _migrate(connection: sa.Connection, path: Path, schema: str) -> None:
    # Everything happens in the caller's one transaction: a migration that fails leaves the file as it was.
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(_MIGRATIONS / schema / "versions").replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if connection.dialect.has_table(connection, "alembic_version"):
        current = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
        if current is not None and current not in known:
            raise StoreError(
                f"the database {path} has schema {current}, which this inspectd does not know; "
                "install the version that wrote it or a newer one"
            )
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(f"can't migrate {path}: {' '.join(str(error).split())}; restore the backup") from error
