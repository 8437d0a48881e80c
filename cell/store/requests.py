"""The request ledger: a command has its effect exactly once, across restarts."""

# mypy: ignore-errors
from __future__ import annotations
from datetime import datetime

from dataclasses import dataclass

from cell.wire.messages import Command, Reply


@dataclass(frozen=True, slots=True)
class New:
    """The id was never seen: it is durable now, and the caller executes the command."""


@dataclass(frozen=True, slots=True)
class InProgress:
    """The same command is being executed: the caller waits for its reply or says so."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The command was answered before: the caller sends this reply again."""

    reply: Reply


Begun = New | InProgress | Seen


class RequestLedger:
    """In both stores. One owner (a service) a database."""

    def begin(self, command: Command) -> Begun:
        """Record the command durably before its effect. Raises `ProtocolError` for a known id with another command."""
    def finish(self, request_id: str, reply: Reply) -> None:
        """Record the reply. Raises `StoreError` when the request was not begun or already has another reply."""
    def interrupted(self) -> tuple[Command, ...]:
        """Return what an earlier process began and never finished, oldest first; answer each and `finish` it."""
    def prune(self, before: datetime) -> int:
        """Forget finished requests older than that; return how many."""
