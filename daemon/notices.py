"""What the cell tells: events in the order of their numbers, and conditions that a person must know.

Events are numbered by the store. Number and publication happen under one lock, so that watchers see them in order and a
gap means that something was lost.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from cell.clock import WallClock, utc_now
from cell.errors import StoreError
from cell.events import ErrorRaised, ErrorResolved, Event, ResultReady
from cell.store.line import LineStore
from cell.verdicts import Verdict
from cell.wire.messages import Reply

_LOG = logging.getLogger(__name__)

Publish = Callable[[Event], None]


class EventLog:
    """Numbers, keeps and publishes events; used from every thread."""

    def __init__(self, store: LineStore, publish: Publish, clock: WallClock = utc_now) -> None:
        self._store = store
        self._publish = publish
        self._lock = threading.Lock()
        self.now = clock

    def tell(self, event: Event) -> None:
        """Publish now; the store keeps it with the next commit. For what happens while a part is under way.

        An event that the store can't even number, because the disk is full, goes to the journal alone: whoever tells it
        has a part to judge or a verdict to give.
        """
        with self._lock:
            try:
                self._publish(self._store.stamp(event))
            except StoreError as error:
                _LOG.error("an event can't be told (%s): %s", error, event.model_dump_json())

    def keep(self, events: Iterable[Event]) -> None:
        """Store durably, then publish. Raises `StoreError`."""
        with self._lock:
            for event in self._store.append(tuple(events)):
                self._publish(event)

    def commit(
        self, verdict: Verdict, request_id: str = "", reply: Reply | None = None, send: Callable[[], None] | None = None
    ) -> ResultReady:
        """Store a verdict, the reply that carries it and its event in one commit; then `send` the reply, then publish.

        Raises `StoreError`; then nothing was stored, sent or published.
        """
        with self._lock:
            event = self._store.commit_part(verdict, request_id=request_id, reply=reply)
            if send is not None:
                send()
            self._publish(event)
        return event


class Conditions:
    """What is wrong with the cell at present. Raising an open condition again changes nothing.

    :param on_severe: told whether any severe condition is open, whenever that changes.
    """

    def __init__(self, store: LineStore, log: EventLog, on_severe: Callable[[bool, str], None]) -> None:
        self._store = store
        self.log = log
        self._on_severe = on_severe
        self._lock = threading.Lock()
        self._open: dict[str, tuple[str, bool]] = {}

    def raise_(self, name: str, message: str, *, severe: bool = False) -> None:
        """Open a condition; a severe one takes the machine to Error."""
        with self._lock:
            if name in self._open:
                return
            was_severe = self._any_severe()
            self._open[name] = (message, severe)
        _LOG.error("%s: %s", name, message)
        self._note(name, message)
        if severe and not was_severe:
            self._on_severe(True, message)

    def resolve(self, name: str) -> None:
        """Close a condition if it is open."""
        if name not in self._open:
            return
        with self._lock:
            entry = self._open.pop(name, None)
            still_severe = self._any_severe()
        if entry is None:
            return
        _LOG.info("%s: resolved", name)
        self._note(name, None)
        if entry[1] and not still_severe:
            self._on_severe(False, name)

    def is_open(self, name: str) -> bool:
        """Tell whether a condition is open."""
        return name in self._open

    @property
    def open(self) -> dict[str, str]:
        """The sentences of all open conditions by name."""
        with self._lock:
            return {name: message for name, (message, _) in self._open.items()}

    @property
    def severe(self) -> str:
        """The sentence of a severe condition that is open, or an empty string."""
        with self._lock:
            return next((message for message, severe in self._open.values() if severe), "")

    def adopt(self) -> None:
        """Resolve what an earlier process left open: it is found anew if it still holds. Raises `StoreError`."""
        for condition in self._store.conditions.open():
            if condition.resolved_at is None:
                self._store.conditions.resolve(condition.name)

    def _any_severe(self) -> bool:
        return any(severe for _, severe in self._open.values())

    def _note(self, name: str, message: str | None) -> None:
        event: Event
        try:
            if message is None:
                self._store.conditions.resolve(name)
                event = ErrorResolved(at=self.log.now(), condition=name)
            else:
                self._store.conditions.raise_condition(name, message)
                event = ErrorRaised(at=self.log.now(), condition=name, message=message)
            self.log.keep((event,))
        except StoreError as error:
            # A store that can't keep facts is itself among the conditions: it stays visible in status and journal.
            _LOG.error("the condition %s can't be stored: %s", name, error)
