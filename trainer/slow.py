"""Commands that take seconds: one thread works them off while the service's loop goes on answering the others."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from cell.errors import InspectdError, StateError
from cell.wire.server import Request

_LOG = logging.getLogger(__name__)

#: Does the work of one command; is given what tells it to stop early.
Work = Callable[[Callable[[], bool]], dict[str, Any]]

#: Commands that may wait. More are refused: who asks so often has made a mistake.
_WAITING = 16


class SlowCommands:
    """A queue of commands and the thread that works them off, first come first served."""

    def __init__(self, name: str = "trainer-slow-commands") -> None:
        self._queue: queue.Queue[tuple[Request, Work] | None] = queue.Queue(_WAITING)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)
        self._thread.start()

    def submit(self, request: Request, work: Work) -> None:
        """Queue a command; its request is answered when it is done. Raises `StateError` when too many wait."""
        try:
            self._queue.put_nowait((request, work))
        except queue.Full as error:
            raise StateError(f"{_WAITING} commands of this kind wait already; ask again when they are done") from error

    def close(self) -> None:
        """Stop the command at work, refuse those that wait, and join the thread."""
        self._stopping.set()
        # Only when the queue is full does this wait: for the thread to refuse one of those that wait in it.
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            request, work = entry
            try:
                if self._stopping.is_set():
                    raise StateError("the trainer stops; ask again with a new request id when it is up")
                result = work(self._stopping.is_set)
            except InspectdError as error:
                request.refuse(error)
            except Exception:  # noqa: BLE001 - the thread's boundary: the client must hear, whatever went wrong
                _LOG.exception("the command %s failed", request.command.command)
                request.refuse(StateError(f"{request.command.command} failed inside the trainer; see its journal"))
            else:
                request.answer(result)
