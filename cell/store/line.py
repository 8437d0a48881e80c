"""The line's database: requests, verdicts, events and what else the daemon must not forget; it alone writes here."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from pydantic import Field

from cell.base import Record
from cell.clock import WallClock, utc_now
from cell.errors import NotFound, StoreError
from cell.events import Event, ResultReady
from cell.store.archive_index import ArchiveIndex
from cell.store.counters import Counter
from cell.store.database import Database, to_text
from cell.store.event_log import EventLog
from cell.store.layout import StateDir
from cell.store.line_records import ConditionBook, DeploymentLog, PartReports, RecipeBook
from cell.store.requests import RequestLedger
from cell.verdicts import Outcome, Verdict
from cell.wire.messages import Reply


class VerdictFilter(Record):
    """Which verdicts; an empty field asks nothing."""

    recipe_id: str = ""
    part_id: str = ""
    outcome: Outcome | None = None
    since: datetime | None = None
    limit: int = Field(default=100, ge=1, le=100_000)


class LineStore:
    """The line's facts. Safe for threads; take the daemon's lock of the state directory before opening it.

    `requests` makes commands take effect once; `archive` names the stored pictures, `reports` what others said of
    parts, `recipes` and `deployments` what was loaded, `conditions` what people must confirm.
    """

    def __init__(self, state: StateDir, *, clock: WallClock = utc_now) -> None:
        """Open or make ``line.db``. Raises `StoreError` when it is damaged, too new or can't be migrated."""
        self.state = state
        self._clock = clock
        self._database = Database(state.line_db, "line")
        self._events = EventLog(self._database)
        self._jobs = Counter(self._database, "job")
        self._triggers = Counter(self._database, "trigger")
        self.requests = RequestLedger(self._database, clock)
        self.archive = ArchiveIndex(self._database, state)
        self.reports = PartReports(self._database)
        self.recipes = RecipeBook(self._database)
        self.deployments = DeploymentLog(self._database, clock)
        self.conditions = ConditionBook(self._database, clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Store what was told and waits, and close the database; every later call raises `StoreError`."""
        with contextlib.suppress(StoreError):  # a full disk, or closed already: nothing else is lost by it
            self._events.flush()
        self._database.close()

    def checkpoint(self) -> None:
        """Store events that wait and fold the write-ahead log into ``line.db``.

        Call it every few seconds, from a thread that may wait. Raises `StoreError`.
        """
        self._events.flush()
        self._database.checkpoint()

    def next_job_id(self) -> str:
        """Return a job id that was never given before; costs a commit once in 1024 calls."""
        return f"j{self._jobs.next():08d}"

    def next_trigger_id(self) -> int:
        """Return a trigger id that was never given before; costs a commit once in 1024 calls."""
        return self._triggers.next()

    def stamp(self, event: Event) -> Event:
        """Give an event its sequence number now, to publish it at once; it is stored with the next commit."""
        return self._events.stamp(event)

    def append(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """Store events durably; return them with their sequence numbers."""
        return self._events.append(events)

    def commit_part(
        self, verdict: Verdict, *, request_id: str = "", reply: Reply | None = None, events: Sequence[Event] = ()
    ) -> ResultReady:
        """Make all that one part leaves behind durable in ONE commit and return its `ResultReady` event.

        That is: the verdict, stamped events that wait, `events`, the `ResultReady` event, and, with `reply`, the
        answer of `request_id`. Raises `StoreError` when the job has a verdict already (exactly one per trigger) or the
        request was not begun; then nothing is stored.
        """
        ready = ResultReady(at=verdict.created_at, request_id=request_id, verdict=verdict)
        with self._events.commit((*events, ready)) as (connection, numbered):
            result = numbered[-1]
            known = connection.execute("SELECT 1 FROM verdicts WHERE job_id = ?", (verdict.job_id,)).fetchone()
            if known is not None:
                raise StoreError(f"the job {verdict.job_id} has its verdict already; every trigger gets exactly one")
            connection.execute(
                "INSERT INTO verdicts (job_id, sequence, recipe_id, part_id, outcome, created_at, record) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    verdict.job_id,
                    result.sequence,
                    verdict.recipe_id,
                    verdict.part_id,
                    verdict.outcome.value,
                    to_text(verdict.created_at),
                    verdict.model_dump_json(),
                ),
            )
            if reply is not None:
                self.requests.finish_within(connection, request_id, reply)
        return ready.model_copy(update={"sequence": result.sequence})

    def flush_events(self) -> None:
        """Store events that were stamped and wait, so that they can be asked for. Raises `StoreError`."""
        self._events.flush()

    def last_sequence(self) -> int:
        """Return the highest stored event number, 0 when there is none."""
        return self._events.last()

    def events_since(self, sequence: int, limit: int = 1000) -> tuple[Event, ...]:
        """Return up to `limit` stored events with higher numbers than `sequence`, lowest first."""
        return self._events.since(sequence, limit)

    def prune_events(self, keep: int) -> int:
        """Forget all but the last `keep` events; return how many. Verdicts stay."""
        return self._events.prune(keep)

    def verdict(self, job_id: str) -> Verdict:
        """Return the verdict of a job. Raises `NotFound`."""
        with self._database.read() as connection:
            row = connection.exec_driver_sql("SELECT record FROM verdicts WHERE job_id = ?", (job_id,)).first()
        if row is None:
            raise NotFound(f"there is no verdict of a job {job_id!r}; `inspectctl results` lists them")
        return Verdict.model_validate_json(row[0])

    def verdicts(self, wanted: VerdictFilter | None = None) -> tuple[Verdict, ...]:
        """Return the verdicts that match, newest first."""
        wanted = wanted or VerdictFilter()
        conditions = {
            "recipe_id = ?": wanted.recipe_id,
            "part_id = ?": wanted.part_id,
            "outcome = ?": wanted.outcome.value if wanted.outcome else "",
            "created_at >= ?": to_text(wanted.since) if wanted.since else "",
        }
        asked = {clause: value for clause, value in conditions.items() if value}
        where = f"WHERE {' AND '.join(asked)} " if asked else ""
        statement = f"SELECT record FROM verdicts {where}ORDER BY sequence DESC LIMIT ?"  # noqa: S608 (fixed clauses)
        with self._database.read() as connection:
            rows = connection.exec_driver_sql(statement, (*asked.values(), wanted.limit)).all()
        return tuple(Verdict.model_validate_json(row[0]) for row in rows)
