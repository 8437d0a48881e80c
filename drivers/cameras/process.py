"""A camera's process as the daemon sees it: started, asked with a time limit, and killed when it does not answer.

::

    started --begin(call)--> busy --finish()--> idle
                              |--its limit passes--> killed, `AcquisitionTimeout`
                              '--it ends--> dead, `CameraError` with the signal

Every time-out is on the monotonic clock. A process that was killed is never spoken to again: its owner starts another.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from cell.clock import Monotonic
from cell.errors import AcquisitionTimeout, CameraError, StillBusy
from cell.frames import AcquisitionFault
from drivers.cameras.messages import ALIVE, LARGEST, Call, decode_reply, encode_call

_LOG = logging.getLogger(__name__)

_SEND_S = 0.5
#: How often a process is asked whether it lives while a call may take long, and how long it may take to answer.
_LOOK_S, _ANSWER_S = 1.0, 2.0
_REAP_S = 1.0
#: Time for the dying process to write down where it hangs.
_LAST_WORDS_S = 0.05
#: What belongs to the daemon alone: its line to systemd and its settings.
_PRIVATE = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class CameraProcess:
    """One process. Made and used by one thread at a time.

    :param role: the camera's name in the settings; it stands in the process's arguments and in the log.
    :raises CameraError: it can't be started.
    """

    def __init__(self, role: str, clock: Monotonic) -> None:
        self._role = role
        self._clock = clock
        self._number = self._asked = 0
        self._pending: Call | None = None
        self._deadline = 0.0
        self._packet = bytearray(LARGEST)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._beside, theirs_beside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._beside_lock = threading.Lock()
        reading, writing = os.pipe2(os.O_CLOEXEC)
        descriptors = (theirs.fileno(), theirs_beside.fileno())
        command = (sys.executable, "-P", "-m", "drivers.cameras.child", "--camera", role, "--sockets")
        try:
            self._process = subprocess.Popen(
                [*command, *map(str, descriptors)],
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                env=_environment(os.environ),
                pass_fds=descriptors,
                start_new_session=True,  # killed with whatever it starts; Ctrl-C is the daemon's
            )
        except OSError as error:
            self._socket.close()
            os.close(reading)
            raise CameraError(
                f"the process of camera {role} can't be started: {error.strerror}; free memory"
            ) from error
        finally:
            theirs.close()
            theirs_beside.close()
            os.close(writing)
        self.alive = True
        self._log = threading.Thread(target=_relay, args=(reading, role), name=f"camera-log-{role}", daemon=True)
        self._log.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def busy(self) -> bool:
        """True between :meth:`begin` and the end of its call."""
        return self._pending is not None

    def call(self, name: str, limit_s: float, *, descriptor: int | None = None, **arguments: Any) -> Any:
        """Carry out a call and return its value.

        Raises what the camera's driver raised; `AcquisitionTimeout` when it did not return within `limit_s`, and
        `CameraError` when the process ended. In both cases the process is gone.
        """
        self.begin(name, limit_s, descriptor=descriptor, **arguments)
        return self.finish(limit_s)

    def begin(self, name: str, limit_s: float, *, descriptor: int | None = None, **arguments: Any) -> None:
        """Send a call, with an open file if it takes one. Raises `CameraError`, `AcquisitionTimeout`."""
        if not self.alive or self._pending is not None:
            raise CameraError(f"the process of camera {self._role} can't take a call now; it is being brought back")
        self._number += 1
        call = Call(self._number, name, limit_s, arguments)
        packet = encode_call(call)
        try:
            self._socket.settimeout(_SEND_S)
            if descriptor is None:
                self._socket.send(packet)
            else:
                socket.send_fds(self._socket, [packet], [descriptor])
        except TimeoutError as error:
            self.kill()
            raise AcquisitionTimeout(
                f"the process of camera {self._role} takes no calls; it is started anew"
            ) from error
        except OSError as error:
            raise self._ended(name) from error
        self._pending, self._deadline = call, self._clock() + limit_s

    def finish(self, wait_s: float) -> Any:
        """Wait at most that long for the end of the call and return its value.

        Raises `StillBusy` when it has time left, and what :meth:`call` raises.
        """
        call = self._pending
        if call is None:
            raise CameraError(f"nothing was asked of the process of camera {self._role}; see the daemon's log")
        until = min(self._clock() + wait_s, self._deadline)
        try:
            self._socket.settimeout(max(1e-3, until - self._clock()))
            packet = self._packet[: self._socket.recv_into(self._packet)]
        except TimeoutError as error:
            if self._clock() < self._deadline:
                raise StillBusy(f"camera {self._role} has not finished yet; it is being brought back") from error
            _LOG.error("camera %s: the call %s did not return within %g s", self._role, call.name, call.limit_s)
            self.kill()
            raise AcquisitionTimeout(
                f"camera {self._role} did not return from {call.name} within {call.limit_s:g} s; its process was "
                "killed and is started anew"
            ) from error
        except OSError as error:
            raise self._ended(call.name) from error
        if not packet:
            raise self._ended(call.name)
        self._pending = None
        return decode_reply(packet, call.number)

    def finish_while_alive(self) -> Any:
        """Wait for the end of a call that may take long for good reasons, as long as the process answers beside it.

        Raises what :meth:`call` raises; a process that hangs is found after `_LOOK_S` and `_ANSWER_S`.
        """
        while True:
            try:
                return self.finish(_LOOK_S)
            except StillBusy:
                self._require_an_answer()

    def _require_an_answer(self) -> None:
        try:
            self.ask_beside(_ANSWER_S, ALIVE, ())
        except CameraError as error:
            _LOG.error("camera %s: its process answers nothing any more", self._role)
            self.kill()
            raise AcquisitionTimeout(
                f"the process of camera {self._role} answers nothing any more; it was killed and is started anew"
            ) from error

    def ask_beside(self, limit_s: float, action: str, arguments: Sequence[Any]) -> Any:
        """Have an emulated camera do something beside whatever call is under way. Safe from any thread.

        Raises `CameraError` and `DataError`.
        """
        with self._beside_lock:
            self._asked += 1
            try:
                self._beside.settimeout(limit_s)
                self._beside.send(encode_call(Call(self._asked, action, limit_s, {"arguments": list(arguments)})))
                return decode_reply(self._beside.recv(LARGEST), self._asked)
            except OSError as error:
                raise CameraError(f"the process of camera {self._role} does not answer {action}: {error}") from error

    def kill(self) -> None:
        """End the process now, with what it started. Never raises; may be called again."""
        if not self.alive:
            return
        self.alive = False
        self._pending = None
        if self._process.poll() is None:
            # faulthandler in the child writes where each thread is, even while a vendor's call holds the interpreter.
            self._signal(signal.SIGUSR1)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LAST_WORDS_S)
        self._signal(signal.SIGKILL)
        self._reap()

    def close(self, grace_s: float) -> None:
        """Let the process release its camera and end within `grace_s`, else kill it. Never raises."""
        if self.alive and not self.busy:
            self._socket.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
        self.kill()

    def _reap(self) -> None:
        self._socket.close()
        self._beside.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            # A process that sleeps in the kernel dies when its system call ends; its camera is not ours until then.
            self._process.wait(_REAP_S)
        self._log.join(_REAP_S)

    def _ended(self, call: str) -> CameraError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_S)
        how = _how(self._process.returncode)
        self.kill()
        _LOG.error("camera %s: its process %d %s during the call %s", self._role, self.pid, how, call)
        return CameraError(
            f"the process of camera {self._role} {how} during {call}; it is started anew, see the log for the reason",
            fault=AcquisitionFault.CAMERA,
        )

    def _signal(self, number: signal.Signals) -> None:
        # The session's id is the process's; until it is reaped the number can't become another one's.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


def _environment(base: Mapping[str, str]) -> dict[str, str]:
    environment = {key: value for key, value in base.items() if key not in _PRIVATE}
    # One frame at a time needs no second thread, and the line's processors are counted.
    return environment | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _relay(descriptor: int, role: str) -> None:
    """Hand what a process writes on to the log, line by line, until the last writer is gone."""
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            _LOG.warning("camera %s: %s", role, line.rstrip())


def _how(code: int | None) -> str:
    if code is None:
        return "stopped talking"
    if code >= 0:
        return f"ended with status {code}"
    return f"died by {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"died by signal {-code}"
