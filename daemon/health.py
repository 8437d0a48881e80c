"""Signs of life: the watchdog is fed by work that goes on, not by a process that exists."""

from __future__ import annotations

import os
from collections.abc import Mapping

import sdnotify

from cell.clock import Monotonic, monotonic


class Beat:
    """The heartbeat of one thread: call it at each turn of the thread's loop."""

    def __init__(self, clock: Monotonic = monotonic) -> None:
        self._clock = clock
        self._last = clock()

    def __call__(self) -> None:
        """Note that the thread has come round."""
        self._last = self._clock()

    @property
    def age_s(self) -> float:
        """Seconds since the last beat."""
        return self._clock() - self._last


class Health:
    """Tells systemd (``sd_notify``) that the daemon is ready and lives; does nothing outside of systemd.

    The watchdog's time comes from the unit (``WATCHDOG_USEC``). It is fed only while every beat is younger than that:
    a camera call that hangs for longer lets systemd end and restart the process.
    """

    def __init__(
        self, beats: Mapping[str, Beat], environment: Mapping[str, str] = os.environ, clock: Monotonic = monotonic
    ) -> None:
        self._beats = dict(beats)
        self._clock = clock
        # Without systemd the library would leak the socket that it can't connect.
        self._notifier = sdnotify.SystemdNotifier() if environment.get("NOTIFY_SOCKET") else None
        self._limit_s = _watchdog_s(environment)
        self._fed_at = -1e9
        self._status = ""

    @property
    def interval_s(self) -> float:
        """How often to call :meth:`turn` at least, seconds."""
        return min(0.5, self._limit_s / 4) if self._limit_s else 0.5

    @property
    def stuck(self) -> tuple[str, ...]:
        """Names of the threads whose heart has not beaten for the watchdog's time (10 s without a watchdog)."""
        limit = self._limit_s or 10.0
        return tuple(name for name, beat in self._beats.items() if beat.age_s > limit)

    def ready(self, status: str) -> None:
        """Tell that commands are taken from now on."""
        self._notify("READY=1")
        self.status(status)

    def status(self, status: str) -> None:
        """Tell in one line what the daemon is doing, when that changed."""
        if status != self._status:
            self._status = status
            self._notify(f"STATUS={status}")

    def stopping(self) -> None:
        """Tell that the daemon is on its way out."""
        self._notify("STOPPING=1")

    def close(self) -> None:
        """Say nothing more."""
        if self._notifier is not None and self._notifier.socket is not None:
            self._notifier.socket.close()

    def turn(self) -> None:
        """Feed the watchdog if every thread lives and it is time."""
        if not self._limit_s or self._clock() - self._fed_at < self._limit_s / 4 or self.stuck:
            return
        self._fed_at = self._clock()
        self._notify("WATCHDOG=1")

    def _notify(self, message: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(message)


def _watchdog_s(environment: Mapping[str, str]) -> float:
    if environment.get("WATCHDOG_PID") not in {None, str(os.getpid())}:
        return 0.0
    try:
        return max(0.0, int(environment.get("WATCHDOG_USEC", "0")) / 1e6)
    except ValueError:
        return 0.0
