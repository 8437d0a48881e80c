"""A job's process: started apart, watched through its pipe, ended without mercy when it must be.

The child is a session of its own, so that ending it ends whatever it started; it asks the kernel to be killed when the
service's thread that started it dies (PR_SET_PDEATHSIG), so no job outlives its service, even one that was killed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cell.clock import Monotonic
from cell.errors import JobError
from trainer.reports import Report, ReportReader

#: Libraries that start as many threads as there are cores unless told otherwise. A job takes its cores as processes
#: (:mod:`trainer.crew`): four threads that sleep while they wait, as beside a line they must, made an update take twice
#: as long as one does, spinning ones took the line's cores, and NumPy's spun whatever torch was told.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def child_command(job_id: str) -> tuple[str, ...]:
    """Return the command that runs a job; the pipe's number is appended to it.

    ``-P`` keeps the working folder out of the module path.
    """
    return (sys.executable, "-P", "-m", "trainer.child", job_id, "--parent", str(os.getpid()), "--report")


def child_environment(config: Path | None, base: Mapping[str, str]) -> dict[str, str]:
    """Return the child's environment: the service's, without its line to systemd and with one thread a process."""
    environment = {key: value for key, value in base.items() if key not in {"NOTIFY_SOCKET", "WATCHDOG_USEC"}}
    environment |= dict.fromkeys(_THREAD_VARIABLES, "1")
    environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    if config is not None:
        environment["INSPECTD_CONFIG"] = str(config)
    return environment


class JobProcess:
    """One running child. Make, poll and close it from one thread, which must live as long as the child.

    :param command: the argument list; the number of the pipe to report through is appended.
    :param log: where stdout and stderr go, appended.
    :param grace_s: how long after :meth:`stop` the child may take before it is killed.
    :raises JobError: when it can't be started.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, clock: Monotonic, grace_s: float
    ) -> None:
        self._clock = clock
        self._grace_s = grace_s
        self._kill_at: float | None = None
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as stream:
                self._process = subprocess.Popen(
                    [*command, str(writing)],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    env=dict(environment),
                    cwd=log.parent,
                    pass_fds=(writing,),
                    start_new_session=True,
                )
        except OSError as error:
            os.close(reading)
            raise JobError(
                f"the job's process can't be started: {error.strerror}; see the trainer's journal"
            ) from error
        finally:
            os.close(writing)
        self._reader = ReportReader(reading)
        self.heard_at = clock()
        self.killed = False

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def reports(self) -> list[Report]:
        """Return what the child has said since the last call. Raises `JobError` when that is not understood."""
        reports = self._reader.read()
        if reports:
            self.heard_at = self._clock()
        return reports

    def stop(self) -> None:
        """Ask the child to stop; :meth:`exit_code` kills it once its grace is over. May be called again."""
        if self._kill_at is None:
            self._kill_at = self._clock() + self._grace_s
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the child and all it started."""
        self.killed = True
        self._signal(signal.SIGKILL)

    def exit_code(self) -> int | None:
        """Return the exit status, negative for a signal, or None while the child runs."""
        # Seen but not reaped (WNOWAIT): until `close` the number can't become another process's.
        status = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if status is not None:
            return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
        if self._kill_at is not None and self._clock() >= self._kill_at and not self.killed:
            self.kill()
        return None

    def wait(self, timeout_s: float) -> bool:
        """Wait at most that long for the child's end; tell whether it came."""
        descriptor = os.pidfd_open(self._process.pid)
        try:
            return bool(select.select([descriptor], [], [], timeout_s)[0])
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Kill what is left of the child's session, reap the child and close the pipe."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._reader.close()

    def _signal(self, number: signal.Signals) -> None:
        # The session's id is the child's pid.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)
