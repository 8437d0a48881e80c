"""The asking side: a client for commands and a subscriber for events."""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq
from pydantic import ValidationError

from cell.clock import Monotonic, monotonic
from cell.errors import InspectdError, PeerTimeout, ProtocolError
from cell.events import EVENT, Event
from cell.wire import security
from cell.wire.messages import MAX_MESSAGE, Command, Reply, parse_reply

#: Largest reply taken, bytes: lists of results are longer than any command.
_MAX_REPLY = 64 << 20
_HEARTBEAT_MS = 2000


class Client:
    """Sends commands to one address and waits for each reply. Calls from several threads take turns.

    A call that is not answered in time gives up its connection and what is queued on it, so that no command of the past
    reaches a daemon that starts later. After a `PeerTimeout` it is not known whether the command had its effect: call
    again with the same `request_id` and it has it once. Raises `ConfigurationError` when the address or the keys are
    wrong.

    :param keys: folder with ``server.key``, ``client.key`` and ``client.secret``; see :mod:`cell.wire.security`.
    :param timeout_s: how long a call waits unless it says otherwise.
    """

    def __init__(
        self, address: str, keys: Path | None = None, timeout_s: float = 5.0, clock: Monotonic = monotonic
    ) -> None:
        self.address = address
        self._keys = keys
        self._timeout_s = timeout_s
        self._clock = clock
        self._lock = threading.Lock()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._socket = _connected(self._context, zmq.DEALER, address, keys)
        except BaseException:
            self._context.destroy(linger=0)
            raise

    def call(
        self,
        command: str,
        arguments: dict[str, Any] | None = None,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """Send a command and return the result of its reply.

        :raises InspectdError: the class of the tree that has the reply's code, with the server's sentence.
        :raises PeerTimeout: no reply in time.
        :raises ProtocolError: the command is malformed or too long, or the answer is not a reply.
        """
        request_id = request_id or uuid.uuid4().hex
        try:
            message = Command(request_id=request_id, command=command, arguments=arguments or {})
            payload = message.model_dump_json().encode()
        except (ValidationError, ValueError) as error:
            raise ProtocolError(f"the command {command!r} can't be sent: its arguments are not JSON values") from error
        if len(payload) > MAX_MESSAGE:
            raise ProtocolError(f"the command {command} has {len(payload)} bytes; at most {MAX_MESSAGE} are accepted")
        wait_s = self._timeout_s if timeout_s is None else timeout_s
        with self._lock:
            reply = self._exchange(payload, request_id, self._clock() + wait_s)
            if reply is None:
                self._connect_anew()
        if reply is None:
            raise PeerTimeout(
                f"no answer from {self.address} within {wait_s:g} s to {command} (request {request_id}); "
                "is inspectd running?"
            )
        if reply.error:
            raise error_of(reply)
        return reply.result

    def close(self) -> None:
        """Close the connection. May be called again."""
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _exchange(self, payload: bytes, request_id: str, deadline: float) -> Reply | None:
        if not self._socket.poll(self._left_ms(deadline), zmq.POLLOUT):
            return None
        try:
            self._socket.send(payload, zmq.NOBLOCK)
        except zmq.Again:
            return None
        while self._socket.poll(self._left_ms(deadline), zmq.POLLIN):
            reply = parse_reply(self._socket.recv(zmq.NOBLOCK))
            # A late reply to an earlier call that timed out is not ours.
            if reply.request_id == request_id:
                return reply
        return None

    def _connect_anew(self) -> None:
        fresh = _connected(self._context, zmq.DEALER, self.address, self._keys)
        self._socket.close(linger=0)
        self._socket = fresh

    def _left_ms(self, deadline: float) -> int:
        return max(0, int((deadline - self._clock()) * 1e3 + 0.999))


class Subscriber:
    """Watches the events of one address, in order, and notices when some are missing.

    PUB drops without a word for a reader that is slow or late. Events of the line are numbered by the store, so a gap
    shows; with `refill` (which returns the stored events after a sequence number, as ``inspectd.events`` does) the
    missing ones are fetched and delivered in their place, without it they are counted in `missed`.

    :param since: deliver stored events after this number first; needs `refill`. None: only what comes from now on.
    """

    def __init__(
        self,
        address: str,
        keys: Path | None = None,
        refill: Callable[[int], Sequence[Event]] | None = None,
        since: int | None = None,
        clock: Monotonic = monotonic,
    ) -> None:
        self.address = address
        self.missed = 0
        self._refill = refill
        self._last = since
        self._clock = clock
        self._ready: deque[Event] = deque()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._socket = _connected(self._context, zmq.SUB, address, keys)
            self._socket.subscribe(b"")
            if refill is not None and since is not None:
                self._catch_up(refill, since)
        except BaseException:
            self._context.destroy(linger=0)
            raise

    def next(self, timeout_s: float) -> Event | None:
        """Return the next event, or None when none came in time. Raises `ProtocolError`, and what `refill` raises."""
        deadline = self._clock() + timeout_s
        while not self._ready:
            if not self._socket.poll(max(0, int((deadline - self._clock()) * 1e3 + 0.999))):
                return None
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
            self._admit(_parse_event(frames[-1]))
        return self._ready.popleft()

    def stream(self, timeout_s: float) -> Iterator[Event]:
        """Yield events until none came for `timeout_s`."""
        while (event := self.next(timeout_s)) is not None:
            yield event

    def close(self) -> None:
        """Close the connection. May be called again."""
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _admit(self, event: Event) -> None:
        if event.sequence == 0:  # not kept by the store: a trainer's progress, for instance
            self._ready.append(event)
            return
        if self._last is not None:
            if event.sequence <= self._last:
                return  # came by refill already
            if event.sequence > self._last + 1:
                if self._refill is not None:
                    self._catch_up(self._refill, self._last)
                    if event.sequence <= self._last:
                        return
                self.missed += event.sequence - self._last - 1
        self._last = event.sequence
        self._ready.append(event)

    def _catch_up(self, refill: Callable[[int], Sequence[Event]], since: int) -> None:
        while events := [event for event in refill(since) if event.sequence > since]:
            self._ready.extend(events)
            since = events[-1].sequence
        self._last = since


def parse_events(result: dict[str, Any]) -> list[Event]:
    """Return the events in the result of ``inspectd.events``. Raises `ProtocolError`."""
    try:
        return [EVENT.validate_python(value) for value in result["events"]]
    except (KeyError, TypeError, ValidationError) as error:
        raise ProtocolError("the answer holds no events; do both sides have the same version?") from error


def error_of(reply: Reply) -> InspectdError:
    """Return the error of the tree that a refused command's reply stands for."""
    error = _CLASSES.get(reply.error, InspectdError)(reply.message)
    error.code = reply.error
    return error


def _connected(
    context: zmq.Context[zmq.Socket[bytes]], kind: int, address: str, keys: Path | None
) -> zmq.Socket[bytes]:
    curve = security.needs_curve(address, keys)
    # Without ZMQ_IMMEDIATE: with it, what came in but was not read yet is thrown away as soon as the peer hangs up, and
    # a daemon that ends by an error would take the FAULT of its last part along.
    socket = context.socket(kind)
    socket.linger = 0
    socket.maxmsgsize = _MAX_REPLY
    socket.heartbeat_ivl = _HEARTBEAT_MS
    socket.heartbeat_timeout = 3 * _HEARTBEAT_MS
    socket.reconnect_ivl = 50
    socket.reconnect_ivl_max = 1000
    if address.startswith("tcp://["):
        socket.ipv6 = True
    if kind == zmq.SUB:
        socket.rcvhwm = 0  # the reader's memory holds what it has not read; the sender's queue is bounded
    if curve and keys is not None:
        security.secure_client(socket, keys)
    try:
        socket.connect(address)
    except zmq.ZMQError as error:
        raise security.unusable(address, error) from error
    return socket


def _parse_event(data: bytes) -> Event:
    try:
        return EVENT.validate_json(data)
    except ValidationError as error:
        raise ProtocolError(f"the event is not one of inspectd: {error.errors()[0]['msg']}") from error


def _classes(root: type[InspectdError]) -> dict[int, type[InspectdError]]:
    found = {root.code: root} if "code" in vars(root) else {}
    for child in root.__subclasses__():
        # The first class of the tree keeps a code that a subclass has inherited.
        found = _classes(child) | found
    return found


_CLASSES = _classes(InspectdError)
