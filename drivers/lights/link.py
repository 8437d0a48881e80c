"""A TCP connection to a device that answers lines of text: every step has a deadline, every failure ends it.

After a failure nobody knows whether an answer is still under way, which would pass for the next one's. The connection
is therefore closed at once, and what comes next starts on a new one.
"""

from __future__ import annotations

import contextlib
import socket

from cell.clock import Monotonic, monotonic
from cell.errors import LightError

_LONGEST_REPLY = 16384


class TextLink:
    """One connection, opened by :meth:`connect`. Not thread-safe. All methods raise `LightError`."""

    def __init__(self, host: str, port: int, timeout_s: float, clock: Monotonic = monotonic) -> None:
        self.address = f"{host}:{port}"
        self._host = host
        self._port = port
        self._timeout_s = timeout_s
        self._clock = clock
        self._socket: socket.socket | None = None
        self._received = b""

    @property
    def connected(self) -> bool:
        """False once anything failed, until :meth:`connect`."""
        return self._socket is not None

    def connect(self) -> None:
        """Open a new connection within the time-out."""
        self.close()
        try:
            self._socket = socket.create_connection((self._host, self._port), self._timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            self.close()
            raise LightError(
                f"the light controller at {self.address} can't be reached ({_why(error)}); check its power, network "
                "and light.host"
            ) from error

    def pending(self) -> str:
        """Return what came unasked, without waiting. An end of the connection is noticed here, not at the next use."""
        while self._socket is not None:
            self._socket.settimeout(0.0)
            try:
                self._keep(self._socket.recv(4096))
            except (BlockingIOError, TimeoutError):
                break
            except OSError:
                self.close()
        text, self._received = self._received, b""
        return text.decode("ascii", "replace")

    def ask(self, line: bytes, mark: bytes) -> str:
        """Send a line and return the answer up to and with `mark`, within the time-out."""
        deadline = self._clock() + self._timeout_s
        if self._socket is None:
            raise LightError(f"the light controller at {self.address} is not connected")
        self._socket.settimeout(self._timeout_s)
        try:
            self._socket.sendall(line)
        except OSError as error:
            raise self._lost(error) from error
        return self._until(mark, deadline)

    def more(self, mark: bytes) -> str:
        """Return what comes next up to and with `mark`, within the time-out."""
        return self._until(mark, self._clock() + self._timeout_s)

    def close(self) -> None:
        """Close the connection; never raises."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
        self._socket = None
        self._received = b""

    def _until(self, mark: bytes, deadline: float) -> str:
        while mark not in self._received:
            left = deadline - self._clock()
            if left <= 0 or len(self._received) > _LONGEST_REPLY:
                raise self._mute()
            if self._socket is None:
                raise self._lost(ConnectionResetError("closed"))
            self._socket.settimeout(left)
            try:
                self._keep(self._socket.recv(4096))
            except TimeoutError as error:
                raise self._mute() from error
            except OSError as error:
                raise self._lost(error) from error
        end = self._received.index(mark) + len(mark)
        text, self._received = self._received[:end], self._received[end:]
        return text.decode("ascii", "replace")

    def _keep(self, data: bytes) -> None:
        if not data:
            self.close()
        self._received += data

    def _mute(self) -> LightError:
        begun = f"only {self._received[:40]!r} came" if self._received else "nothing came"
        self.close()
        return LightError(
            f"the light controller at {self.address} did not answer within {self._timeout_s:g} s ({begun}); check it"
        )

    def _lost(self, error: OSError) -> LightError:
        self.close()
        return LightError(f"the connection to the light controller at {self.address} broke ({_why(error)}); check it")


def _why(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
