"""Commands that take longer than the command loop may: each kind in a thread of its own, answered when done."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from cell.errors import InspectdError, StateError
from cell.wire.server import Request

_LOG = logging.getLogger(__name__)

Result = dict[str, Any]


class Errands:
    """One worker for each kind of errand, so that a long harvest does not keep a recipe waiting."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self._workers: dict[str, Executor] = {kind: ThreadPoolExecutor(1, thread_name_prefix=kind) for kind in kinds}

    def defer(self, kind: str, request: Request, work: Callable[[], Result]) -> None:
        """Run `work` after the errands of its kind that wait, and answer `request` with what it returns or raises."""
        self._workers[kind].submit(_carry_out, request, work)

    def run(self, kind: str, work: Callable[[], object]) -> None:
        """Run `work` in the same way when nobody waits for an answer; what it raises is logged."""
        self._workers[kind].submit(_log_failure, kind, work)

    def stop(self) -> None:
        """Start nothing more and wait for what runs."""
        for worker in self._workers.values():
            worker.shutdown(wait=True, cancel_futures=True)


def _carry_out(request: Request, work: Callable[[], Result]) -> None:
    try:
        result = work()
    except InspectdError as error:
        request.refuse(error)
    except Exception:  # noqa: BLE001 - the boundary of the thread: whoever asked must get an answer
        name = request.command.command
        _LOG.exception("the command %s failed", name)
        request.refuse(StateError(f"the command {name} failed inside the daemon; see its journal"))
    else:
        request.answer(result)


def _log_failure(kind: str, work: Callable[[], object]) -> None:
    try:
        work()
    except InspectdError as error:
        _LOG.error("%s: %s", kind, error)
