"""A named pipe as the sensor of an emulated line: whoever writes to it makes parts come.

One JSON object a line: ``{"fire": "good-000001"}`` lets that part pass the sensor, ``{"fire": null}`` is an edge
without a new part, ``{"fire": ["good-000001", 5012.25]}`` one of that instant on the system's monotonic clock, for
several cameras that see one edge. What else a simulated camera can be told goes the same way: ``{"inject":
["dropped", null]}``, ``{"remove": []}``, ``{"plug_in": []}``, ``{"preset": [4294967290, 1]}``. The pipe works wherever
the camera lives, in the daemon or in a process of its own, and needs nothing of the daemon's.
"""

from __future__ import annotations

import json
import logging
import os
import select
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from cell.errors import ConfigurationError, InspectdError

_LOG = logging.getLogger(__name__)
_READ = 65_536


class SensorPipe:
    """Carries out what comes through the pipe, in a thread of its own, until :meth:`close`."""

    def __init__(self, path: Path, actions: Mapping[str, Callable[..., None]]) -> None:
        """Make the pipe unless it is there, and listen. Raises `ConfigurationError` when it can't be made."""
        self._actions = actions
        try:
            if not path.is_fifo():
                os.mkfifo(path, 0o600)
            # Opened for writing too, so that there is no end of file when a writer leaves.
            self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigurationError(f"can't use the pipe {path}: {error.strerror}; correct emulated.sensor") from error
        self._stop = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="simulated-sensor", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and leave the pipe where it is; may be called again."""
        if self._thread.is_alive():
            os.eventfd_write(self._stop, 1)
            self._thread.join()
            os.close(self._pipe)
            os.close(self._stop)

    def _run(self) -> None:
        left = b""
        poll = select.poll()
        for descriptor in (self._pipe, self._stop):
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._stop in ready:
                return
            *lines, left = (left + os.read(self._pipe, _READ)).split(b"\n")
            for line in lines:
                self._carry_out(line)

    def _carry_out(self, line: bytes) -> None:
        try:
            content = json.loads(line)
            if not isinstance(content, dict) or len(content) != 1:
                raise ValueError("one JSON object with one key is wanted")
            [(action, arguments)] = content.items()
            if action not in self._actions:
                raise ValueError(f"the camera knows {', '.join(self._actions)}")
            self._actions[action](*(arguments if isinstance(arguments, list) else [arguments]))
        except (ValueError, TypeError, InspectdError) as error:
            _LOG.error("the emulated sensor can't carry out %r: %s", line, error)
