"""The two servers behind the pages: the daemon and the trainer service."""

from __future__ import annotations

import queue
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cell.errors import PeerTimeout
from cell.settings import Settings
from cell.wire.client import Client

#: Calls that may wait on one server at a time; more take turns.
_CONNECTIONS = 4


@dataclass(frozen=True)
class Peer:
    """One server, asked from any thread. Connections are opened when first needed and kept.

    :param unit: name of the program, for the sentence that a person reads when it does not answer.
    """

    unit: str
    address: str
    keys: Path | None
    timeout_s: float
    _idle: queue.LifoQueue[Client | None] = field(default_factory=lambda: queue.LifoQueue(_CONNECTIONS), repr=False)

    def __post_init__(self) -> None:
        for _ in range(_CONNECTIONS):
            self._idle.put(None)

    def call(self, command: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send one command and return its result.

        Raises what the server answered, and `PeerTimeout` with the way out when it did not answer at all.
        """
        try:
            client = self._idle.get(timeout=self.timeout_s)
        except queue.Empty:
            raise self._silent() from None
        try:
            if client is None:
                client = Client(self.address, self.keys, self.timeout_s)
            return client.call(command, arguments or {})
        except PeerTimeout as error:
            raise self._silent() from error
        finally:
            self._idle.put(client)

    def close(self) -> None:
        """Close the connections that are idle."""
        for _ in range(_CONNECTIONS):
            try:
                client = self._idle.get_nowait()
            except queue.Empty:
                return
            if client is not None:
                client.close()

    def _silent(self) -> PeerTimeout:
        return PeerTimeout(
            f"{self.unit} does not answer at {self.address}; is it running? (systemctl status {self.unit})"
        )


def daemon(settings: Settings, timeout_s: float) -> Peer:
    """Return the daemon's peer."""
    return Peer("inspectd", settings.wire.commands, settings.wire.keys, timeout_s)


def trainer(settings: Settings, timeout_s: float) -> Peer:
    """Return the trainer service's peer."""
    return Peer("inspectd-trainer", settings.wire.trainer_commands, settings.wire.keys, timeout_s)
