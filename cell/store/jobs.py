"""Jobs of the trainer: their state machine, kept so that a restart shows what was interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from cell.clock import WallClock
from cell.errors import NotFound, StateError
from cell.jobs import RESUMABLE, Job, JobKind, JobState, Progress
from cell.store.counters import reserve
from cell.store.database import Database
from cell.store.tables import jobs

#: The transitions of :class:`cell.jobs.JobState`, and cancelling before the start.
_FROM: dict[JobState, frozenset[JobState]] = {
    JobState.RUNNING: frozenset({JobState.QUEUED}),
    JobState.DONE: frozenset({JobState.RUNNING}),
    JobState.FAILED: frozenset({JobState.RUNNING}),
    JobState.CANCELLED: frozenset({JobState.RUNNING, JobState.QUEUED, JobState.PAUSED}),
    JobState.PAUSED: frozenset({JobState.RUNNING, JobState.QUEUED}),
    JobState.INTERRUPTED: frozenset({JobState.RUNNING}),
    JobState.QUEUED: RESUMABLE,
}


class Jobs:
    """The queue. Every change is durable when the call returns; a transition that is not allowed is a `StateError`."""

    def __init__(self, database: Database, clock: WallClock) -> None:
        self._database = database
        self._clock = clock

    def create(self, kind: JobKind, recipe_id: str, parameters: Mapping[str, Any]) -> Job:
        """Queue a new job."""
        now = self._clock()
        with self._database.write_direct() as direct:
            number = reserve(direct, "trainer-job", 1)
        job = Job(
            job_id=f"t{number:05d}",
            kind=kind,
            recipe_id=recipe_id,
            parameters=dict(parameters),
            created_at=now,
            updated_at=now,
        )
        with self._database.write() as connection:
            connection.execute(
                sa.insert(jobs).values(
                    job_id=job.job_id, recipe_id=recipe_id, state=job.state.value, record=job.model_dump_json()
                )
            )
        return job

    def get(self, job_id: str) -> Job:
        """Return a job. Raises `NotFound`."""
        with self._database.read() as connection:
            return _get(connection, job_id)

    def list(self, *, recipe_id: str = "", state: JobState | None = None, limit: int = 100) -> tuple[Job, ...]:
        """Return jobs, newest first."""
        statement = sa.select(jobs.c.record).order_by(jobs.c.job_id.desc()).limit(limit)
        if recipe_id:
            statement = statement.where(jobs.c.recipe_id == recipe_id)
        if state is not None:
            statement = statement.where(jobs.c.state == state.value)
        with self._database.read() as connection:
            return tuple(Job.model_validate_json(text) for text in connection.scalars(statement))

    def next_queued(self) -> Job | None:
        """Return the oldest job that waits, or None."""
        statement = sa.select(jobs.c.record).where(jobs.c.state == JobState.QUEUED.value).order_by(jobs.c.job_id)
        with self._database.read() as connection:
            text = connection.scalars(statement.limit(1)).first()
        return None if text is None else Job.model_validate_json(text)

    def start(self, job_id: str) -> Job:
        """QUEUED -> RUNNING. Raises `StateError` when another job runs: one at a time."""
        with self._database.write() as connection:
            running = connection.scalars(
                sa.select(jobs.c.job_id).where(jobs.c.state == JobState.RUNNING.value).limit(1)
            ).first()
            if running is not None:
                raise StateError(f"the job {running} runs; wait for it or cancel it before {job_id} can start")
            return self._move(connection, job_id, JobState.RUNNING, error="")

    def progress(self, job_id: str, progress: Progress) -> Job:
        """Record how far a running job is. Raises `StateError` when it does not run."""
        with self._database.write() as connection:
            job = _get(connection, job_id)
            if job.state is not JobState.RUNNING:
                raise StateError(f"the job {job_id} is {job.state.value}, so it makes no progress; resume it first")
            return self._put(connection, job, {"progress": progress})

    def done(self, job_id: str, result: Mapping[str, Any]) -> Job:
        """RUNNING -> DONE with its result (JSON types)."""
        with self._database.write() as connection:
            return self._move(connection, job_id, JobState.DONE, result=dict(result), error="")

    def fail(self, job_id: str, error: str) -> Job:
        """RUNNING -> FAILED with one sentence why."""
        with self._database.write() as connection:
            return self._move(connection, job_id, JobState.FAILED, error=error)

    def cancel(self, job_id: str) -> Job:
        """RUNNING, QUEUED or PAUSED -> CANCELLED."""
        with self._database.write() as connection:
            return self._move(connection, job_id, JobState.CANCELLED, error="cancelled by a person")

    def pause(self, job_id: str) -> Job:
        """RUNNING or QUEUED -> PAUSED: the queue passes it over, after a restart too, until it is resumed."""
        with self._database.write() as connection:
            return self._move(connection, job_id, JobState.PAUSED, error="")

    def resume(self, job_id: str) -> Job:
        """FAILED, CANCELLED, PAUSED or INTERRUPTED -> QUEUED, at the place that its number gives it."""
        with self._database.write() as connection:
            return self._move(connection, job_id, JobState.QUEUED, error="")

    def mark_interrupted(self) -> tuple[Job, ...]:
        """Move what a dead trainer left RUNNING to INTERRUPTED; return those jobs. Call it at the trainer's start."""
        with self._database.write() as connection:
            left = connection.scalars(sa.select(jobs.c.job_id).where(jobs.c.state == JobState.RUNNING.value)).all()
            reason = "the trainer ended before the job did; resume it"
            return tuple(self._move(connection, job_id, JobState.INTERRUPTED, error=reason) for job_id in left)

    def _move(self, connection: sa.Connection, job_id: str, to: JobState, **changes: Any) -> Job:
        job = _get(connection, job_id)
        if job.state not in _FROM[to]:
            allowed = " or ".join(sorted(state.value for state in _FROM[to]))
            raise StateError(f"the job {job_id} is {job.state.value}; only a {allowed} job can become {to.value}")
        return self._put(connection, job, {"state": to, **changes})

    def _put(self, connection: sa.Connection, job: Job, changes: Mapping[str, Any]) -> Job:
        changed = job.model_copy(update={**changes, "updated_at": self._clock()})
        connection.execute(
            sa.update(jobs)
            .where(jobs.c.job_id == job.job_id)
            .values(state=changed.state.value, record=changed.model_dump_json())
        )
        return changed


def _get(connection: sa.Connection, job_id: str) -> Job:
    text = connection.scalars(sa.select(jobs.c.record).where(jobs.c.job_id == job_id)).first()
    if text is None:
        raise NotFound(f"there is no job {job_id!r}; `inspectctl jobs` lists them")
    return Job.model_validate_json(text)
