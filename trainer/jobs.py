"""The runner: one job at a time, first come first served, each in a child process.

::

    next queued -> start the child -> reports -> exit -> DONE | FAILED | CANCELLED | PAUSED
                                       |
               cancel or pause: SIGTERM, then SIGKILL after a grace
                       silence: told after a while, killed after a long one

The runner has no thread: the service's loop calls :meth:`Runner.step`. It alone moves a job's state; the child writes
what the job makes (candidates, calibrations, models) and reports through a pipe. When the service stops or dies, its
running job is INTERRUPTED: everything the child had stored stays, and the job can be resumed.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cell.clock import Monotonic, monotonic
from cell.errors import JobError, StateError
from cell.jobs import Job, JobState, Progress
from cell.store.learning import LearningStore
from trainer.process import JobProcess
from trainer.reports import Finished, Progressed, Stopped

_LOG = logging.getLogger(__name__)

#: Lines of a job's log that go with its error.
LOG_TAIL = 20


@dataclass(frozen=True, slots=True)
class Patience:
    """Time-outs of a job, in seconds."""

    grace_s: float = 10.0  # between SIGTERM and SIGKILL
    silent_s: float = 120.0  # without a report: people are told
    dead_s: float = 1800.0  # without a report: the job is ended
    #: At most one progress row this often; watchers hear `publish_s`.
    store_s: float = 1.0
    publish_s: float = 0.2


DEFAULT_PATIENCE = Patience()


@dataclass(slots=True)
class _Running:
    job: Job
    process: JobProcess
    cancelled: bool = False
    paused: bool = False
    silence_told: bool = False
    overdue: bool = False
    outcome: Finished | Stopped | None = None
    progress: Progress | None = None
    stored_at: float = field(default=float("-inf"))
    published_at: float = field(default=float("-inf"))


class Runner:
    """Runs the queue. All calls from one thread.

    :param command: makes the child's argument list for a job id.
    :param changed: is told of every job that moved or got on.
    """

    def __init__(
        self,
        store: LearningStore,
        folder: Path,
        command: Callable[[str], Sequence[str]],
        environment: Mapping[str, str],
        changed: Callable[[Job], None],
        *,
        patience: Patience = DEFAULT_PATIENCE,
        clock: Monotonic = monotonic,
    ) -> None:
        self._jobs = store.jobs
        self._folder = folder
        self._command = command
        self._environment = environment
        self._changed = changed
        self._patience = patience
        self._clock = clock
        self._running: _Running | None = None

    @property
    def running(self) -> Job | None:
        """The job that runs, as last stored."""
        return self._running.job if self._running else None

    def log_file(self, job_id: str) -> Path:
        """Return where a job's process writes its stdout and stderr."""
        return self._folder / job_id / "log.txt"

    def log_tail(self, job_id: str, lines: int = LOG_TAIL) -> str:
        """Return the last lines of a job's log, empty when there are none."""
        try:
            with self.log_file(job_id).open("rb") as stream:
                stream.seek(0, 2)
                stream.seek(max(0, stream.tell() - 65536))
                text = stream.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def recover(self) -> tuple[Job, ...]:
        """Mark what a former service left running as INTERRUPTED. Call once, before the first :meth:`step`."""
        jobs = self._jobs.mark_interrupted()
        for job in jobs:
            _LOG.warning("job %s was interrupted; resume it with inspectctl job resume %s", job.job_id, job.job_id)
            self._changed(job)
        return jobs

    def announce(self, job: Job) -> None:
        """Tell watchers of a job that was just queued."""
        self._changed(job)

    def step(self) -> None:
        """Do what is due and return at once: hear the child, reap it, start the next job."""
        if self._running is None:
            self._start_next()
        else:
            self._attend(self._running)

    def cancel(self, job_id: str) -> Job:
        """Cancel a queued or paused job, or ask the running one to stop: it is CANCELLED when its process is gone.

        Raises `NotFound` and, when the job is over, `StateError`.
        """
        job = self._jobs.get(job_id)
        if self._running is not None and self._running.job.job_id == job_id:
            self._running.cancelled = True
            self._running.process.stop()
            return self._running.job
        if job.state not in {JobState.QUEUED, JobState.PAUSED}:
            raise StateError(f"job {job_id} is {job.state.value} and can't be cancelled; it is over already")
        return self._tell(self._jobs.cancel(job_id))

    def pause(self, job_id: str) -> Job:
        """Let a job wait until it is resumed; the running one is PAUSED when its process is gone.

        Its processor and memory are free then, other jobs run meanwhile, and what it stored is where it goes on.
        Raises `NotFound` and, when the job neither waits nor runs, `StateError`.
        """
        job = self._jobs.get(job_id)
        if self._running is not None and self._running.job.job_id == job_id:
            self._running.paused = True
            self._running.process.stop()
            return self._running.job
        if job.state is not JobState.QUEUED:
            raise StateError(f"job {job_id} is {job.state.value} and can't be paused; only one that waits or runs can")
        return self._tell(self._jobs.pause(job_id))

    def resume(self, job_id: str) -> Job:
        """Queue a failed, cancelled, paused or interrupted job again. Raises `NotFound` and `StateError`."""
        return self._tell(self._jobs.resume(job_id))

    def close(self) -> None:
        """Stop the running job, which becomes INTERRUPTED or what was asked of it, in a grace and a little."""
        running = self._running
        if running is None:
            return
        running.process.stop()
        if not running.process.wait(self._patience.grace_s):
            running.process.kill()
        self._running = None
        self._hear(running)
        running.process.close()
        if isinstance(running.outcome, Finished):
            self._tell(self._jobs.done(running.job.job_id, running.outcome.result))
        elif running.cancelled:
            self._tell(self._jobs.cancel(running.job.job_id))
        elif running.paused:
            self._tell(self._jobs.pause(running.job.job_id))
        self.recover()

    def _start_next(self) -> None:
        job = self._jobs.next_queued()
        if job is None:
            return
        job = self._jobs.start(job.job_id)
        try:
            process = JobProcess(
                self._command(job.job_id),
                self._environment,
                self.log_file(job.job_id),
                self._clock,
                self._patience.grace_s,
            )
        except JobError as error:
            self._tell(self._jobs.fail(job.job_id, str(error)))
            return
        self._running = _Running(job, process)
        self._tell(job)

    def _attend(self, running: _Running) -> None:
        code = running.process.exit_code()
        # Read after the exit was seen: nothing the child said before it went can be missed.
        self._hear(running)
        if code is not None:
            self._finish(running, code)
            return
        self._watch_silence(running)
        self._pass_on(running)

    def _hear(self, running: _Running) -> None:
        try:
            reports = running.process.reports()
        except JobError as error:
            running.outcome = Stopped(error=str(error))
            running.process.stop()
            return
        for report in reports:
            if isinstance(report, Progressed):
                running.progress = report.progress
            elif running.outcome is None:
                running.outcome = report
        if reports:
            running.silence_told = False

    def _watch_silence(self, running: _Running) -> None:
        silent = self._clock() - running.process.heard_at
        if silent >= self._patience.dead_s and not running.overdue:
            running.overdue = True
            running.process.stop()
        elif silent >= self._patience.silent_s and not running.silence_told:
            running.silence_told = True
            last = running.progress or Progress(stage="starting", done=0, total=0)
            note = f"no progress for {silent:.0f} s"
            _LOG.warning("job %s: %s in stage %s", running.job.job_id, note, last.stage)
            running.job = self._tell(self._jobs.progress(running.job.job_id, last.model_copy(update={"note": note})))

    def _pass_on(self, running: _Running) -> None:
        progress, now = running.progress, self._clock()
        if progress is None or now - running.published_at < self._patience.publish_s:
            return
        running.progress, running.published_at = None, now
        if now - running.stored_at >= self._patience.store_s or progress.done >= progress.total > 0:
            running.stored_at = now
            running.job = self._jobs.progress(running.job.job_id, progress)
        else:
            running.job = running.job.model_copy(update={"progress": progress})
        self._changed(running.job)

    def _finish(self, running: _Running, code: int) -> None:
        # When the store can't take it (a full disk), the job stays here and the next step tries again.
        job_id, outcome = running.job.job_id, running.outcome
        if running.progress is not None:
            self._jobs.progress(job_id, running.progress)
            running.progress = None
        if isinstance(outcome, Finished):
            job = self._jobs.done(job_id, outcome.result)
        elif running.cancelled:
            job = self._jobs.cancel(job_id)
        elif running.paused and not _failed(running.outcome):
            job = self._jobs.pause(job_id)
        else:
            job = self._jobs.fail(job_id, self._why(running, code))
        self._running = None
        running.process.close()
        self._changed(job)

    def _why(self, running: _Running, code: int) -> str:
        if running.overdue:
            return (
                f"the job gave no sign of life for {self._patience.dead_s / 60:.0f} minutes and was ended; "
                f"see {self.log_file(running.job.job_id)} and resume it"
            )
        if isinstance(running.outcome, Stopped):
            return running.outcome.error
        if code == -signal.SIGKILL:
            return (
                "the job's process was killed, most likely for want of memory; free some or ask for less and resume it"
            )
        if code < 0:
            return f"the job's process died of {signal.Signals(-code).name}; see its log and resume it"
        return f"the job's process ended with status {code} and no result; see its log and resume it"

    def _tell(self, job: Job) -> Job:
        self._changed(job)
        return job


def _failed(outcome: Finished | Stopped | None) -> bool:
    """Tell whether a child that was asked to stop says that something else ended it."""
    return isinstance(outcome, Stopped) and not outcome.cancelled
