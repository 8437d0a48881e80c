"""A Gardasoft RT controller on a real socket, without lamps: it takes bytes as strictly as the manual writes them.

It parses every command line (CR, ``;``, two letters, comma-separated numbers with units), answers as the RT and TR
manuals show (echo, LF CR, ``>``), knows the error codes, the limits of its modes, its saved settings (``AW``) and the
idle close, and misbehaves on request. ``VR`` tells hardware ``SIMULATED``, by which the driver knows it. See
`drivers.lights.gardasoft_protocol` for the sources. To try the driver by hand::

    python -m drivers.sim.fake_gardasoft --port 30313
"""

from __future__ import annotations

import argparse
import contextlib
import queue
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from cell.clock import monotonic
from drivers.sim.fake_gardasoft_outputs import Outputs, Pulse

IDENTITY = "RT820F-20 (SIMULATED) V031"
_LONGEST_LINE = 4096


class Trouble(Enum):
    """What goes wrong with the next command line."""

    SILENCE = auto()  # done, but no answer
    DEAF = auto()  # neither done nor answered
    DISCONNECT = auto()  # done, then closed without an answer
    HALF = auto()  # half of the answer, and nothing more
    GARBAGE = auto()  # bytes that are no answer
    SLOW = auto()  # the answer after `slow_s`
    DRIPPING = auto()  # a good answer, byte by byte
    CLIPPED = auto()  # brightness limited to half, with Err 5
    CLIPPED_SILENTLY = auto()  # the same without a word
    WARNED = auto()  # Err 5, and nothing that shows why
    REFUSED = auto()  # Err 1
    NOISE = auto()  # some bytes before a good answer
    EVENT_FIRST = auto()  # an event with a prompt of its own before the answer
    STALE = auto()  # the answer of the line before


@dataclass(frozen=True, slots=True)
class Line:
    """One command line as it came."""

    connection: int
    text: str


class FakeGardasoft:
    """The controller. Starts on construction, on a free port unless told; :meth:`close` ends its threads.

    `on_change` is told after each command line what :meth:`armed` returns: an emulated cell can be lit by it.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        outputs: int = 8,
        identity: str = IDENTITY,
        echo: bool = True,
        idle_s: float = 10.0,
        slow_s: float = 0.2,
        on_change: Callable[[dict[int, float]], None] | None = None,
    ) -> None:
        self.outputs = Outputs(outputs)
        self.identity = identity
        self.trouble: deque[Trouble | None] = deque()  # one a command line; None: nothing wrong
        self.always: Trouble | None = None  # trouble with every line
        self.lines: list[Line] = []
        self.connections = 0
        self.idle_closes = 0
        self._echo = echo
        self._idle_s = idle_s
        self._slow_s = slow_s
        self._on_change = on_change
        self._lock = threading.RLock()
        self._events = False
        self._last_reply = b""
        self._stop = threading.Event()
        self._open: dict[int, socket.socket] = {}
        self._threads: list[threading.Thread] = []
        self._server: socket.socket | None = None
        self.host = host
        self.port = port
        self.plug_in()

    def shining(self) -> dict[int, float]:
        """Return the percentage of each output that shines now, without any trigger."""
        with self._lock:
            return self.outputs.shining()

    def armed(self) -> dict[int, float]:
        """Return the percentage of each output that shines, or would when triggered."""
        with self._lock:
            return self.outputs.armed()

    def trigger(self, number: int) -> list[Pulse]:
        """Put an edge on a trigger input, as a camera's output does, and return what flashed."""
        with self._lock:
            return self.outputs.trigger(number)

    def tell(self, channel: int, code: int) -> None:
        """Send an event to whoever is connected, if ``GT1`` asked for them."""
        with self._lock:
            if not self._events:
                return
            for connection in self._open.values():
                with contextlib.suppress(OSError):
                    connection.sendall(f"Evt{channel},{code};\n\r>".encode("ascii"))

    def unplug(self) -> None:
        """Take the network away: connections end, new ones are refused. The outputs stay as they are."""
        self._stop.set()
        with self._lock:
            server, self._server = self._server, None
            connections = list(self._open.values())
        for item in ([server] if server else []) + connections:
            with contextlib.suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)
            item.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        self._threads.clear()
        self._open.clear()

    def plug_in(self) -> None:
        """Listen again, on the same port."""
        self._stop.clear()
        self._server = socket.create_server((self.host, self.port))
        self.port = self._server.getsockname()[1]
        self._spawn("fake-gardasoft", self._accept, self._server)

    def reboot(self) -> None:
        """Cycle the power: everything as it was saved last, which by default is half brightness."""
        self.unplug()
        with self._lock:
            self._events = False
            self.outputs.power_up()
            self._tell()
        self.plug_in()

    def close(self) -> None:
        """End everything; may be called again."""
        self.unplug()

    def _spawn(self, name: str, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, server: socket.socket) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with self._lock:
                if self._stop.is_set():
                    connection.close()
                    return
                self.connections += 1
                number = self.connections
                self._open[number] = connection
            self._spawn(f"fake-gardasoft-{number}", self._serve, connection, number)

    def _serve(self, connection: socket.socket, number: int) -> None:
        received = b""
        heard_at = monotonic()
        connection.settimeout(min(0.05, self._idle_s))
        with contextlib.suppress(OSError):
            while not self._stop.is_set():
                try:
                    data = connection.recv(4096)
                except TimeoutError:
                    if monotonic() - heard_at >= self._idle_s:
                        self.idle_closes += 1
                        break
                    continue
                if not data:
                    break
                heard_at = monotonic()
                received += data
                while b"\r" in received:
                    line, _, received = received.partition(b"\r")
                    if not self._answer(connection, number, line):
                        connection.close()
                if len(received) > _LONGEST_LINE:
                    break
        with self._lock:
            self._open.pop(number, None)
        connection.close()

    def _answer(self, connection: socket.socket, number: int, line: bytes) -> bool:
        """Obey a line and answer it; return False where the connection is to end."""
        with self._lock:
            self.lines.append(Line(number, line.decode("ascii", "replace")))
            trouble = self.trouble.popleft() if self.trouble else self.always
            if trouble is Trouble.DEAF:
                return True
            reply = self._obey(line, trouble)
            self._tell()
            stale, self._last_reply = self._last_reply, reply
        if trouble is Trouble.SILENCE:
            return True
        if trouble is Trouble.DISCONNECT:
            return False
        if trouble is Trouble.SLOW:
            self._stop.wait(self._slow_s)
        if trouble is Trouble.GARBAGE:
            reply = b"\xff\x00HTTP/1.1 400 Bad Request\n\r>"
        if trouble is Trouble.STALE:
            reply = stale
        if trouble is Trouble.EVENT_FIRST:
            reply = b"Evt1,128;\n\r>" + reply
        if trouble is Trouble.NOISE:
            reply = b"\x07~" + reply
        if trouble is Trouble.HALF:
            reply = reply[: len(reply) // 2]
        if trouble is Trouble.DRIPPING:
            for index in range(len(reply)):
                connection.sendall(reply[index : index + 1])
        else:
            connection.sendall(reply)
        return True

    def _tell(self) -> None:
        if self._on_change is not None:
            self._on_change(self.outputs.armed())

    def _obey(self, line: bytes, trouble: Trouble | None) -> bytes:
        replies = []
        clip = trouble in {Trouble.CLIPPED, Trouble.CLIPPED_SILENTLY}
        for command in line.decode("ascii", "replace").split(";"):
            text = command.replace(" ", "")
            if text == "VR":
                answer = self.identity
            elif text in {"GT0", "GT1"}:
                self._events = text == "GT1"
                answer = ""
            elif trouble is Trouble.REFUSED and not text.startswith(("ST", "VR")):
                answer = "Err 1"
            else:
                answer = self.outputs.obey(text, half=clip)
                if trouble in {Trouble.CLIPPED, Trouble.WARNED} and not text.startswith("ST"):
                    answer = "Err 5"
            replies.append((command if self._echo else "") + answer)
        return ("\n\r".join(replies) + "\n\r>").encode("ascii", "replace")


def main() -> None:
    """Run until interrupted."""
    parser = argparse.ArgumentParser(description="a Gardasoft light controller without lamps, for trying the driver")
    parser.add_argument("--port", type=int, default=30313)
    parser.add_argument("--outputs", type=int, default=8, choices=range(1, 33), metavar="1..32")
    chosen = parser.parse_args()
    fake = FakeGardasoft(port=chosen.port, outputs=chosen.outputs)
    print(f"a simulated {fake.identity} listens on {fake.host}:{fake.port}; end it with Ctrl-C")  # noqa: T201 (its only output)
    with contextlib.suppress(KeyboardInterrupt):
        queue.SimpleQueue[None]().get()
    fake.close()


if __name__ == "__main__":
    main()
