"""A process that switches continuous light off when the program that wanted it dies.

A controller goes on shining when its host's program crashes. The guard is a child that does nothing but wait for the
end of a pipe, whose other end only the program holds: however the program dies, the kernel closes it, and the guard
then tells the controllers to go dark. On an orderly end it is told so first, and leaves.

What it can't help: the whole host stops or loses its network. There only strobing helps, where the trigger decides.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from cell.errors import LightError
from drivers.lights import gardasoft_protocol as protocol
from drivers.lights.link import TextLink

_TIMEOUT_S = 1.0
_TRY_FOR_S = 30.0
_PAUSE_S = 0.1
_LEAVE = b"."
_READY = b"!"
_START_S = 20.0  # on a small computer whose cores are busy


class Guard:
    """The parent's side. Used from one thread at a time."""

    def __init__(self, outputs: Sequence[tuple[str, int, int]]) -> None:
        """Start a guard for these outputs: host, port and channel. Raises `LightError` when it does not start."""
        self._outputs = [f"{host}:{port}:{channel}" for host, port, channel in outputs]
        self._process = self._start()
        self._ready = False

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            # A session of its own: what ends the program from a terminal must not end the guard before it has acted.
            return subprocess.Popen(
                [sys.executable, "-m", "drivers.lights.guard", *self._outputs],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise LightError(f"the guard of continuous light does not start: {error.strerror}") from error

    @property
    def pid(self) -> int:
        """The guard's process id."""
        return self._process.pid

    def require(self) -> None:
        """See to a living guard that stands; one that was killed is started again. Raises `LightError`."""
        if self._process.poll() is not None:
            self._end()
            self._process = self._start()
            self._ready = False
        if not self._ready:
            self._await()

    def _await(self) -> None:
        """Wait until the guard can no longer be ended by a signal; before that, light would be unguarded."""
        assert self._process.stdout is not None  # noqa: S101 (given above)
        told = select.select([self._process.stdout], [], [], _START_S)[0]
        if not told or self._process.stdout.read(1) != _READY:
            raise LightError("the guard of continuous light does not start; see the journal, or strobe the lines")
        self._ready = True

    def close(self) -> None:
        """Tell the guard that all is well and wait for it to leave. Never raises."""
        self._end()

    def _end(self) -> None:
        try:
            self._process.communicate(_LEAVE, timeout=5.0)
        except (OSError, ValueError):
            self._process.wait()
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def main(arguments: Sequence[str]) -> int:
    """Wait for the end of standard input, then switch these outputs off: ``HOST:PORT:CHANNEL`` each."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.write(sys.stdout.fileno(), _READY)
    if sys.stdin.buffer.read(1) == _LEAVE:
        return 0
    controllers: dict[tuple[str, int], list[int]] = {}
    for argument in arguments:
        host, port, channel = argument.rsplit(":", 2)
        controllers.setdefault((host, int(port)), []).append(int(channel))
    end = time.monotonic() + _TRY_FOR_S
    waiting = list(controllers)
    while waiting and time.monotonic() < end:
        waiting = [address for address in waiting if not _darken(*address, controllers[address])]
        if waiting:
            time.sleep(_PAUSE_S)
    return 1 if waiting else 0


def _darken(host: str, port: int, channels: Sequence[int]) -> bool:
    """Switch outputs off and tell whether the controller confirmed."""
    link = TextLink(host, port, _TIMEOUT_S)
    commands = (*(f"RS{channel},0" for channel in channels), *(f"ST{channel}" for channel in channels))
    try:
        link.connect()
        reply = protocol.parse(link.ask((";".join(commands) + "\r").encode("ascii"), protocol.PROMPT), commands)
    except LightError:
        return False
    finally:
        link.close()
    return all(channel in reply.statuses and reply.statuses[channel].percent == 0 for channel in channels)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
