"""A served address in a thread of its own, for tests of the wire."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cell.store.requests import RequestLedger
from cell.wire.server import Handler, Request, Server


def echo(request: Request) -> dict[str, Any]:
    """Answer with what was asked."""
    return {"command": request.command.command, "arguments": request.command.arguments}


@contextmanager
def serving(
    commands: str,
    events: str,
    handler: Handler = echo,
    *,
    keys: Path | None = None,
    ledger: RequestLedger | None = None,
) -> Iterator[Server]:
    """Serve until the block ends."""
    server = Server(commands, events, handler, keys=keys, ledger=ledger)
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            server.turn(0.5)
        server.close()

    thread = threading.Thread(target=loop, name="test-server")
    thread.start()
    try:
        yield server
    finally:
        stop.set()
        server.wake()
        thread.join(5)
        assert not thread.is_alive()
