"""A job's own process: ``python -m trainer.child JOB_ID --parent PID --report FD``, started by the service.

It reads the job's row, does the work and reports through the pipe `FD`. It is nice to the line, dies with its service,
stops on SIGTERM at the next safe point, and may be killed at any time: all it stores is whole.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cell import settings
from cell.errors import ConfigurationError, InspectdError, JobCancelled, SdkMissing, StateError
from cell.jobs import Job, JobKind, JobState, Progress
from cell.store.files import disk_errors
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from trainer.context import JobContext
from trainer.recipes import load_recipe
from trainer.reports import Finished, Progressed, ReportWriter, Stopped

_PR_SET_PDEATHSIG = 1

Body = Callable[[JobContext], dict[str, Any]]


def body_of(kind: JobKind) -> Body:
    """Return what does a kind of job. Raises `SdkMissing` where a library of the extra `trainer` is not installed."""
    try:
        return _imported(kind)
    except ModuleNotFoundError as error:
        raise SdkMissing(
            f"a job of kind {kind.value} needs {error.name}, which is not installed; run: pip install "
            "'inspectd[trainer]', then resume the job"
        ) from error


def _imported(kind: JobKind) -> Body:
    # Here and not above: only some kinds need torch, which takes seconds.
    if kind is JobKind.CALIBRATE:
        from trainer.job_calibrate import calibrate

        return calibrate
    if kind is JobKind.GENERATE:
        from trainer.job_generate import generate

        return generate
    if kind is JobKind.GAP:
        from trainer.job_gap import gap

        return gap
    if kind is JobKind.ODDITY:
        from trainer.job_oddity import learn_oddity

        return learn_oddity
    from trainer.job_train import train

    return train


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job; return 0 when it is done, 1 when it stopped before its end."""
    parser = argparse.ArgumentParser(
        prog="trainer.child", description="One job of the trainer, in a process of its own."
    )
    parser.add_argument("job_id")
    parser.add_argument("--parent", type=int, required=True, help="process that the job may not outlive")
    parser.add_argument("--report", type=int, required=True, help="descriptor of the pipe to report through")
    options = parser.parse_args(arguments)
    die_with(options.parent)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(levelname)s: %(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # Ctrl-C in a terminal reaches the service as well, which stops the job in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    writer = ReportWriter(options.report)
    outcome = _outcome(options.job_id, writer, stop.is_set)
    writer.send(outcome)
    return 0 if isinstance(outcome, Finished) else 1


def die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent` dies; end at once when it is dead already.

    :raises ConfigurationError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise ConfigurationError(f"this system can't tie a job to its service: {reason}; run the trainer on Linux")
    if os.getppid() != parent:
        os._exit(1)


def yield_to_the_line(niceness: int) -> None:
    """Lower this process's priority to `niceness`, and offer it first when memory runs out."""
    os.nice(max(0, niceness - os.nice(0)))
    # A sandbox without this file only loses the offer.
    score = Path("/proc/self/oom_score_adj")
    try:
        score.write_text("900", encoding="ascii")
    except OSError as error:
        logging.getLogger(__name__).warning("can't write %s: %s", score, error.strerror)


def _outcome(job_id: str, writer: ReportWriter, cancelled: Callable[[], bool]) -> Finished | Stopped:
    try:
        return Finished(result=_work(job_id, writer, cancelled))
    except JobCancelled as error:
        return Stopped(error=str(error), cancelled=True)
    except InspectdError as error:
        return Stopped(error=str(error))
    except Exception as error:  # noqa: BLE001 - the process's boundary: the row must say why, the log keeps the trace
        traceback.print_exc()
        if _is_want_of_memory(error):
            return Stopped(error="the job ran out of memory; free some or ask for less, then resume it")
        first = (str(error).splitlines() or [""])[0][:300]
        return Stopped(error=f"the job failed inside ({type(error).__name__}: {first}); see its log and resume it")


def _is_want_of_memory(error: Exception) -> bool:
    # torch says so in a plain RuntimeError, for the processor's memory and the graphics card's.
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in said or "can't allocate memory" in said)
    )


def _work(job_id: str, writer: ReportWriter, cancelled: Callable[[], bool]) -> dict[str, Any]:
    cell = settings.load()
    yield_to_the_line(cell.trainer.niceness)
    state = StateDir.create(cell.state_dir)
    store = LearningStore(state)
    try:
        job = store.jobs.get(job_id)
        _check(job)
        work = state.root / "jobs" / job_id / "work"
        with disk_errors(work):
            work.mkdir(parents=True, exist_ok=True)

        def report(progress: Progress) -> None:
            writer.send(Progressed(progress=progress))

        report(Progress(stage="starting", done=0, total=0))
        recipe = load_recipe(cell.recipes_dir, job.recipe_id)
        return body_of(job.kind)(JobContext(cell, store, job, recipe, work, report, cancelled))
    finally:
        store.close()


def _check(job: Job) -> None:
    # The row is moved by the service alone; a child started by hand on a job that nobody runs would race with it.
    if job.state is not JobState.RUNNING:
        raise StateError(f"job {job.job_id} is {job.state.value}, not running; ask the trainer service to run it")


if __name__ == "__main__":
    sys.exit(main())
