"""The trainer service: commands in, jobs out, one loop.

::

    ROUTER settings.wire.trainer_commands -> Commands -> LearningStore, Runner -> child process (trainer.child)
    PUB    settings.wire.trainer_events   <- JobChanged

One thread does it all: it answers commands, moves the queue and feeds systemd's watchdog; every step is short. Work
that takes time happens in the job's child process; commands that read many pictures go to the thread of
:mod:`trainer.slow`. torch is never loaded here.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from cell.clock import utc_now
from cell.errors import InspectdError, StateError
from cell.events import JobChanged
from cell.jobs import Job
from cell.settings import Settings
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from cell.store.requests import RequestLedger
from cell.wire.messages import Reply
from cell.wire.server import Server
from trainer.commands import Commands, has_effect
from trainer.jobs import DEFAULT_PATIENCE, Patience, Runner
from trainer.process import child_command, child_environment
from trainer.slow import SlowCommands

_LOG = logging.getLogger(__name__)

#: Longest wait of one turn in seconds: how late a job's report or a stop can be seen.
_TURN_S = 0.1


def jobs_folder(state: StateDir) -> Path:
    """Return the folder with each job's log and checkpoints."""
    return state.root / "jobs"


def answer_interrupted(requests: RequestLedger) -> None:
    """Answer what a former service began and never answered. Whether it took effect is not known, so it says so."""
    for command in requests.interrupted():
        error = StateError(
            f"the trainer stopped while it worked on {command.command}; "
            "look whether it took effect before asking again with a new request id"
        )
        reply = Reply(request_id=command.request_id, error=error.code, message=str(error))
        requests.finish(command.request_id, reply)


class TrainerService:
    """The service of one cell. Making it takes the trainer's lock, opens the store and binds the sockets.

    :param config: the settings file, which the child reads again; None for the default one.
    :param command: makes the child's argument list; tests put other children in.
    :raises StoreInUse: another trainer serves this cell.
    :raises StoreError: the store can't be opened.
    :raises ConfigurationError: an address can't be used.
    """

    def __init__(
        self,
        settings: Settings,
        config: Path | None = None,
        *,
        command: Callable[[str], Sequence[str]] = child_command,
        patience: Patience = DEFAULT_PATIENCE,
    ) -> None:
        self._stopping = threading.Event()
        state = StateDir.create(settings.state_dir)
        self._lock = state.lock("trainer")
        try:
            self._store = LearningStore(state)
        except BaseException:
            self._lock.release()
            raise
        try:
            self._runner = Runner(
                self._store,
                jobs_folder(state),
                command,
                child_environment(config, os.environ),
                self._publish,
                patience=patience,
            )
            self._slow = SlowCommands()
            self._beside = SlowCommands("trainer-seed-commands")
            commands = Commands(settings, self._store, self._runner, self._slow, self._beside)
            self.server = Server(
                settings.wire.trainer_commands,
                settings.wire.trainer_events,
                commands.answer,
                keys=settings.wire.keys,
                ledger=self._store.requests,
                has_effect=has_effect,
            )
            answer_interrupted(self._store.requests)
            self._runner.recover()
        except BaseException:
            self._release()
            raise
        self._store_trouble = ""

    def run(self, alive: Callable[[], None] = lambda: None) -> None:
        """Serve until :meth:`stop`, then stop the running job and close. `alive` is called at every turn."""
        try:
            while not self._stopping.is_set():
                self.server.turn(_TURN_S)
                self._step()
                alive()
        finally:
            self._release()

    def stop(self) -> None:
        """Make :meth:`run` return. May be called from any thread and from a signal handler."""
        self._stopping.set()
        self.server.wake()

    def _step(self) -> None:
        try:
            self._runner.step()
        except InspectdError as error:
            # A store that can't be written (a full disk) is tried again at the next turn; it is told once.
            if str(error) != self._store_trouble:
                _LOG.error("the queue can't go on: %s", error)
            self._store_trouble = str(error)
        else:
            self._store_trouble = ""

    def _publish(self, job: Job) -> None:
        self.server.publish(JobChanged(at=utc_now(), job=job))

    def _release(self) -> None:
        # Every step is taken even when one before it fails; the first failure is what the caller hears.
        steps: list[Callable[[], object]] = [self._lock.release, self._store.close]
        if hasattr(self, "server"):
            steps.append(self.server.close)
        if hasattr(self, "_beside"):
            steps.append(self._beside.close)
        if hasattr(self, "_slow"):
            steps += [self._slow.close, self._close_runner]
        _run_all(list(reversed(steps)))

    def _close_runner(self) -> None:
        try:
            self._runner.close()
        except InspectdError as error:
            _LOG.error("the running job's end can't be noted: %s; the next start will mark it interrupted", error)


def _run_all(steps: list[Callable[[], object]]) -> None:
    if not steps:
        return
    try:
        steps[0]()
    finally:
        _run_all(steps[1:])
