"""The serving side: one ROUTER socket for commands and one PUB socket for watchers, polled by one loop.

The process that serves calls :meth:`Server.turn` from one thread; that thread alone touches the sockets. Each command
goes to the handler in that thread. The handler answers at once by returning a result or raising an `InspectdError`, or
returns None and answers later, from any thread, through the :class:`Request`; answers and events from other threads
wait in an outbox and wake the loop through an eventfd.

A command with an effect is noted in the ledger before its handler runs and its reply before it is sent; an id that is
seen again gets the stored reply and has no second effect. A client that left gets nothing; it can ask again.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from cell.clock import Monotonic, monotonic
from cell.errors import InspectdError, ProtocolError, StateError
from cell.events import Event
from cell.store.requests import InProgress, RequestLedger, Seen
from cell.wire import security
from cell.wire.messages import MAX_MESSAGE, Command, Reply, parse_command, request_id_of

_LOG = logging.getLogger(__name__)

#: Room above the largest message, so that one a little too long is told so instead of being cut off.
_SLACK = 4096
_HEARTBEAT_MS = 2000
_HANDSHAKE_MS = 5000
_EVENT_QUEUE = 10_000
_ENVELOPE_FRAMES = 3

#: Where a reply goes: the frames before the payload.
Envelope = tuple[bytes, ...]
Result = dict[str, Any]


class Request:
    """One command that waits for its one answer. Answer it from any thread."""

    def __init__(
        self, command: Command, received: float, send: Callable[[Reply], None], ledger: RequestLedger | None
    ) -> None:
        self.command = command
        self.received = received  # seconds on the server's monotonic clock
        self._send = send
        self._ledger = ledger
        self._lock = threading.Lock()
        self._claimed = False

    @property
    def request_id(self) -> str:
        """The id that the client chose."""
        return self.command.request_id

    def claim(self) -> bool:
        """Take the right to answer; True for the first caller only."""
        with self._lock:
            first = not self._claimed
            self._claimed = True
            return first

    def answer(self, result: Result) -> bool:
        """Answer with a result, kept in the ledger first; False when somebody else answered."""
        return self.claim() and self._finish(Reply(request_id=self.request_id, result=result))

    def refuse(self, error: InspectdError) -> bool:
        """Answer with an error; False when somebody else answered."""
        return self.claim() and self._finish(refusal(self.request_id, error))

    def send(self, reply: Reply) -> None:
        """Send the reply of a claimed request whose ledger entry the caller has kept already."""
        self._send(reply)

    def _finish(self, reply: Reply) -> bool:
        if self._ledger is not None:
            try:
                self._ledger.finish(self.request_id, reply)
            except InspectdError as error:
                # The effect may stand while its reply can't be kept; a repeated id will be told the same.
                _LOG.error("the reply to %s can't be kept: %s", self.request_id, error)
        self._send(reply)
        return True


#: Answers a command: a result, or None when it will be answered later through the request.
Handler = Callable[[Request], Result | None]


def refusal(request_id: str, error: InspectdError) -> Reply:
    """Return the reply that carries an error's code and sentence."""
    return Reply(request_id=request_id, error=error.code, message=str(error))


class Server:
    """The sockets of one serving process. Raises `ConfigurationError` when an address can't be used.

    :param handler: answers the commands, in the thread that calls :meth:`turn`.
    :param ledger: keeps the commands with an effect; without it nothing is kept.
    :param has_effect: tells from its name whether a command goes through the ledger.
    :param begins_durably: tells whether its begin must outlive a power cut; see `RequestLedger.begin`.
    """

    def __init__(
        self,
        commands: str,
        events: str,
        handler: Handler,
        *,
        keys: Path | None = None,
        ledger: RequestLedger | None = None,
        has_effect: Callable[[str], bool] = lambda _: True,
        begins_durably: Callable[[str], bool] = lambda _: True,
        clock: Monotonic = monotonic,
    ) -> None:
        self._handler = handler
        self._ledger = ledger
        self._has_effect = has_effect
        self._begins_durably = begins_durably
        self._clock = clock
        self._outbox: deque[tuple[Envelope | None, bytes, bytes]] = deque()
        self._open: dict[str, tuple[Command, list[Envelope]]] = {}
        self._open_lock = threading.Lock()
        self.unroutable = 0  # replies to clients that had left or did not read
        self._closed = False
        # Reentrant, because a signal handler may interrupt a wake in its own thread.
        self._wake_lock = threading.RLock()
        self._awake = False  # a wake was asked for that no turn has seen yet
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._door: security.Doorkeeper | None = None
        try:
            secured = [security.needs_curve(address, keys) for address in (commands, events)]
            if keys is not None and any(secured):
                self._door = security.Doorkeeper(self._context, keys)
            self._router = self._bound(zmq.ROUTER, commands, keys if secured[0] else None)
            self._pub = self._bound(zmq.PUB, events, keys if secured[1] else None)
        except BaseException:
            self._release()
            raise
        self.commands = _endpoint(self._router)  # the address really bound, with its port
        self.events = _endpoint(self._pub)
        self._poller = zmq.Poller()
        self._poller.register(self._wake_fd, zmq.POLLIN)
        self._poller.register(self._router, zmq.POLLIN)
        if self._door is not None:
            self._poller.register(self._door.socket, zmq.POLLIN)

    @property
    def refused_handshakes(self) -> int:
        """How many connections were turned away for their key."""
        return self._door.refused if self._door is not None else 0

    def turn(self, timeout_s: float) -> None:
        """Wait at most `timeout_s` for something to do, do it, and send what other threads have left."""
        ready = dict(self._poller.poll(max(0, math.ceil(timeout_s * 1e3))))
        if self._wake_fd in ready:
            self._rouse()
        if self._door is not None and self._door.socket in ready:
            self._door.answer()
        if self._router in ready:
            self._receive()
        self._flush()

    def publish(self, event: Event) -> None:
        """Send an event to all watchers. May be called from any thread; the order of the calls is kept."""
        self._post(None, event.event.encode(), event.model_dump_json().encode())

    def wake(self) -> None:
        """Make :meth:`turn` return early. May be called from any thread and from a signal handler."""
        # Once is enough until it is seen: waking a sleeping processor costs the caller a tenth of a millisecond or so.
        with self._wake_lock:
            if not self._closed and not self._awake:
                self._awake = True
                os.eventfd_write(self._wake_fd, 1)

    def close(self) -> None:
        """Send what is in the outbox to those who listen, then close. Call it from the thread that calls `turn`."""
        if self._closed:
            return
        self._flush()
        self._release(linger_ms=1000)

    def _rouse(self) -> None:
        # Before the outbox is looked at, so that what is posted from here on wakes anew.
        with self._wake_lock:
            os.eventfd_read(self._wake_fd)
            self._awake = False

    def _bound(self, kind: int, address: str, keys: Path | None) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.linger = 0
        socket.maxmsgsize = MAX_MESSAGE + _SLACK
        socket.heartbeat_ivl = _HEARTBEAT_MS
        socket.heartbeat_timeout = 3 * _HEARTBEAT_MS
        socket.handshake_ivl = _HANDSHAKE_MS
        if address.startswith("tcp://["):
            socket.ipv6 = True
        if kind == zmq.ROUTER:
            socket.router_mandatory = True
        else:
            socket.sndhwm = _EVENT_QUEUE
        if keys is not None:
            security.secure_server(socket, keys)
        security.refuse_taken_ipc(address)
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            raise security.unusable(address, error) from error
        if address.startswith("ipc://"):
            Path(address.removeprefix("ipc://")).chmod(0o660)
        return socket

    def _receive(self) -> None:
        # A bounded number at a time, so that a flood of commands can't keep answers and deadlines waiting.
        for _ in range(32):
            try:
                frames = _receive_frames(self._router)
            except zmq.Again:
                return
            self._take(frames)

    def _take(self, frames: list[bytes]) -> None:
        received = self._clock()
        with_delimiter = len(frames) == _ENVELOPE_FRAMES and frames[1] == b""
        envelope = (frames[0], b"") if with_delimiter else (frames[0],)
        if len(frames) != len(envelope) + 1:
            problem = ProtocolError(f"a command is one frame, got {len(frames) - 1}; send one JSON object in one frame")
            self._send(envelope, refusal("", problem))
            return
        payload = frames[-1]
        try:
            command = parse_command(payload)
        except ProtocolError as error:
            self._send(envelope, refusal(request_id_of(payload[:MAX_MESSAGE]), error))
            return
        self._dispatch(command, envelope, received)

    def _dispatch(self, command: Command, envelope: Envelope, received: float) -> None:
        ledger = self._ledger if self._has_effect(command.command) else None
        if self._joined(command, envelope):
            return
        durably = self._begins_durably(command.command)
        known = _known(ledger, command, durable=durably) if ledger is not None else None
        if known is not None:
            self._send(envelope, known)
            return
        with self._open_lock:
            self._open[command.request_id] = (command, [envelope])
        request = Request(command, received, self._reply, ledger)
        try:
            result = self._handler(request)
        except InspectdError as error:
            request.refuse(error)
        except Exception:  # noqa: BLE001 - the process boundary: one broken command must not stop the line
            _LOG.exception("the command %s failed", command.command)
            request.refuse(StateError(f"the command {command.command} failed inside the daemon; see its journal"))
        else:
            if result is not None:
                request.answer(result)

    def _joined(self, command: Command, envelope: Envelope) -> bool:
        """Let a command that is asked again while it is worked on share the one answer; False for a new one."""
        with self._open_lock:
            entry = self._open.get(command.request_id)
            if entry is None:
                return False
            if entry[0] == command:
                entry[1].append(envelope)
                return True
        problem = ProtocolError(f"the request id {command.request_id} is in use for another command; take a new one")
        self._send(envelope, refusal(command.request_id, problem))
        return True

    def _reply(self, reply: Reply) -> None:
        with self._open_lock:
            entry = self._open.pop(reply.request_id, None)
        data = reply.model_dump_json().encode()
        for envelope in entry[1] if entry is not None else ():
            self._post(envelope, b"", data)

    def _send(self, envelope: Envelope, reply: Reply) -> None:
        self._post(envelope, b"", reply.model_dump_json().encode())

    def _post(self, envelope: Envelope | None, topic: bytes, data: bytes) -> None:
        self._outbox.append((envelope, topic, data))
        self.wake()

    def _flush(self) -> None:
        while self._outbox:
            envelope, topic, data = self._outbox.popleft()
            if envelope is None:
                self._pub.send_multipart([topic, data], zmq.NOBLOCK)
                continue
            try:
                self._router.send_multipart([*envelope, data], zmq.NOBLOCK)
            except zmq.ZMQError as error:
                if error.errno not in {errno.EHOSTUNREACH, errno.EAGAIN}:
                    raise
                self.unroutable += 1
                _LOG.warning("a reply found its client gone; it can be asked for again by its request id")

    def _release(self, linger_ms: int = 0) -> None:
        if self._door is not None:
            self._door.close()
        self._context.destroy(linger=linger_ms)
        with self._wake_lock:
            self._closed = True
            os.close(self._wake_fd)


def _known(ledger: RequestLedger, command: Command, *, durable: bool) -> Reply | None:
    """Note a new command and return None, or return what to answer without a second effect."""
    try:
        begun = ledger.begin(command, durable=durable)
    except InspectdError as error:
        return refusal(command.request_id, error)
    if isinstance(begun, Seen):
        return begun.reply
    if isinstance(begun, InProgress):
        # Another process began it: this one answers all that it opened itself.
        problem = StateError(f"the request {command.request_id} was begun and has no reply yet; ask again later")
        return refusal(command.request_id, problem)
    return None


def _receive_frames(socket: zmq.Socket[bytes]) -> list[bytes]:
    # At most four frames are kept however many come: enough to see that there are too many.
    frames = [socket.recv(zmq.NOBLOCK)]
    while socket.getsockopt(zmq.RCVMORE):
        frame = socket.recv(zmq.NOBLOCK)
        if len(frames) <= _ENVELOPE_FRAMES:
            frames.append(frame)
    return frames


def _endpoint(socket: zmq.Socket[bytes]) -> str:
    raw = socket.getsockopt(zmq.LAST_ENDPOINT)
    return raw.rstrip(b"\0").decode() if isinstance(raw, bytes) else str(raw)
