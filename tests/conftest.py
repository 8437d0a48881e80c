"""What every test obeys: no thread outlives its test, and one processor is enough for it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

# Before any of these libraries is loaded, and inherited by every process that a test starts. Test workers whose pools
# have a thread for each core spend most of their time spinning for each other: a cross-validation test that takes 3 s
# of processor time on one thread took 17 s on four beside other work.
for _pool in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):
    os.environ.setdefault(f"{_pool}_NUM_THREADS", "1")

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
