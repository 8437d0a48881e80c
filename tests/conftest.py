"""What every test obeys: no thread outlives its test."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

#: Vendor SDKs and libraries keep threads of their own that no call of theirs ends.
_FOREIGN = ("pymonitor", "ThreadPoolExecutor", "QueueFeederThread", "Dummy-", "asyncio_", "tqdm", "AnyIO")


def _ours() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t is not threading.main_thread() and not t.name.startswith(_FOREIGN)}


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    """Fail a test that leaves a thread running: a daemon that leaks threads stops a line some weeks later."""
    before = _ours()
    yield
    deadline = time.monotonic() + 5.0
    for thread in _ours() - before:
        thread.join(max(0.0, deadline - time.monotonic()))
    leaked = [thread.name for thread in _ours() - before if thread.is_alive()]
    assert not leaked, f"threads left running: {leaked}"
