"""One invocation: its global options, the two servers, the recipe that is meant."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import typer

from cell import settings
from cell.errors import ConfigurationError, GateError, InspectdError, PeerTimeout
from cell.settings import Settings
from cell.wire.client import Client

Result = dict[str, Any]

#: Seconds that an ordinary command waits, and one behind which there is work (loading, harvesting, exporting).
QUICK_S, WORK_S = 5.0, 600.0
DAEMON, TRAINER = "inspectd", "inspectd-trainer"
_ALIVE = {DAEMON: "inspectd.ping", TRAINER: "inspectd.trainer.status"}


@dataclass
class Session:
    """What all commands share. `timeout_s` None: as long as the command should take."""

    config: Path | None = None
    timeout_s: float | None = None
    as_json: bool = False
    _clients: dict[str, Client] = field(default_factory=dict, repr=False)

    @cached_property
    def settings(self) -> Settings:
        """The cell's settings. Raises `ConfigurationError`."""
        return settings.load(self.config)

    def daemon(self, command: str, arguments: Result | None = None, patience_s: float = QUICK_S) -> Result:
        """Ask the daemon. Raises what it answers, `PeerTimeout` when it does not."""
        return self._call(DAEMON, command, arguments or {}, patience_s)

    def trainer(self, command: str, arguments: Result | None = None, patience_s: float = QUICK_S) -> Result:
        """Ask the trainer. Raises what it answers, `PeerTimeout` when it does not."""
        return self._call(TRAINER, command, arguments or {}, patience_s)

    def recipe(self, named: str | None) -> str:
        """Return the recipe that is meant: the named one, the only one, or the one that is prepared.

        Raises `ConfigurationError` when that does not settle it.
        """
        if named:
            return named
        known = sorted(file.stem for file in self.settings.recipes_dir.glob("*.json"))
        if len(known) == 1:
            return known[0]
        try:
            prepared = self.daemon("inspectd.status", patience_s=1.0).get("recipe")
        except InspectdError:
            prepared = None
        if prepared:
            return str(prepared["recipe_id"])
        listed = f"there are {', '.join(known)}" if known else f"there is none in {self.settings.recipes_dir}"
        raise ConfigurationError(f"name the recipe with --recipe; {listed}")

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()

    def _call(self, unit: str, command: str, arguments: Result, patience_s: float) -> Result:
        client = self._clients.get(unit)
        if client is None:
            client = self._clients[unit] = Client(self.address(unit), self.settings.wire.keys)
            if patience_s > QUICK_S:
                # Nobody waits minutes to hear that a service is down.
                self._exchange(client, unit, _ALIVE[unit], {}, self.timeout_s or QUICK_S)
        return self._exchange(client, unit, command, arguments, self.timeout_s or patience_s)

    def address(self, unit: str) -> str:
        """Return where a service takes commands."""
        wire = self.settings.wire
        return wire.commands if unit == DAEMON else wire.trainer_commands

    @staticmethod
    def _exchange(client: Client, unit: str, command: str, arguments: Result, timeout_s: float) -> Result:
        try:
            return client.call(command, arguments, timeout_s=timeout_s)
        except PeerTimeout as error:
            raise PeerTimeout(
                f"{unit} did not answer {command} within {timeout_s:g} s at {client.address}; is it running? "
                f"(systemctl status {unit})"
            ) from error


def session_of(context: typer.Context) -> Session:
    """Return the invocation's session."""
    session: Session = context.find_root().obj
    return session


def require_person(name: str, what: str) -> str:
    """Return the name of the person who decides. Raises `GateError` without a name or away from a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise GateError(f"{what} is a person's decision; run this in a terminal, or use the pages of inspectd-web")
    if not name.strip():
        raise GateError(f"{what} is recorded under a name; give yours with --as")
    return " ".join(name.split())
