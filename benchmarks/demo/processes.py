"""The product's own processes, started and stopped as systemd would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

from cell.errors import InspectdError, PeerTimeout
from cell.wire.client import Client

#: Longest wait for a process to answer, seconds: the trainer's child imports torch on a cold disk.
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0


@dataclass(slots=True)
class Processes:
    """Children by module name; ends them all on exit, and knows how much memory they took together."""

    config: Path
    logs: Path
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    peak_mb: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _watcher: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Begin to watch the memory."""
        self.logs.mkdir(parents=True, exist_ok=True)
        self._watcher = threading.Thread(target=self._watch_memory, name="demo-memory")
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End every child, politely and then not."""
        for name in reversed(list(self.children)):
            self.stop(name)
        self._stop.set()
        if self._watcher:
            self._watcher.join()

    def launch(self, module: str) -> Path:
        """Start ``python -m module`` and return the path of its log.

        It is ended with this process, also where that is killed: left over, it would judge on and hold the port.
        """
        log = self.logs / f"{module}.log"
        with log.open("ab") as stream:
            self.children[module] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", module, "--config", str(self.config)],
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        return log

    def start(self, module: str, address: str, ping: str) -> None:
        """Start ``python -m module`` and wait until `ping` is answered at `address`.

        Raises `InspectdError` with the last line of its log when it ends or does not answer in time.
        """
        log = self.launch(module)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.children[module].poll() is not None:
                break
            try:
                with Client(address, timeout_s=2.0) as client:
                    client.call(ping, {})
                return
            except PeerTimeout:
                continue
        raise InspectdError(f"{module} did not come up: {last_line(log)}; the whole log is {log}")

    def stop(self, module: str) -> None:
        """Send SIGTERM, wait, send SIGKILL."""
        child = self.children.pop(module, None)
        if child is None or child.poll() is not None:
            return
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def check(self) -> None:
        """Raise `InspectdError` with the last line it said when one of the children ended, which none should."""
        for module, child in self.children.items():
            if child.poll() is not None:
                log = self.logs / f"{module}.log"
                how = f"ended with status {child.returncode}"
                raise InspectdError(f"{module} {how}: {last_line(log)}; the whole log is {log}")

    def wait(self) -> None:
        """Wait until :meth:`check` raises."""
        while not self._stop.wait(0.5):
            self.check()

    def _watch_memory(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(1.0):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak_mb = max(self.peak_mb, total / 2**20)


def last_line(log: Path) -> str:
    """Return the last line of a log, or that it is empty."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "its log is empty"
