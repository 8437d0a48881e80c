"""A camera's own process: ``python -m drivers.cameras.child --camera NAME --socket FD``, started by the daemon.

It hosts one vendor's driver, and for an emulated camera the cell that it looks at, and carries out one call at a time.
It ends itself, so that no device stays taken:

- when the daemon is gone it reads the end of the socket, releases the camera and ends;
- a call that does not return is ended by a timer of the kernel (SIGKILL a second after the call's limit), which needs
  neither the daemon nor the interpreter, that a vendor's call may hold for ever.

Ctrl-C and systemd's SIGTERM reach the whole group; they are the daemon's to follow, so both are ignored here.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

from cell.errors import CameraError, InspectdError
from cell.frames import Frame
from cell.recipes import Channel, Recipe
from cell.settings import CameraSettings, EmulatedCellSettings
from drivers.cameras.base import Camera
from drivers.cameras.messages import ALIVE, LARGEST, Call, decode_call, describe, encode_error, encode_value
from drivers.cameras.shared_frames import SlotWriter
from drivers.registry import CAMERAS, LazyScene, stage_of

_PR_SET_NAME = 15
_CLOSE_S = 3.0
_MARGIN_S = 1.0


class Host:
    """The driver and what each call does with it."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._camera: Camera | None = None
        self._settings = CameraSettings()
        self._scene = LazyScene(EmulatedCellSettings())
        self._recipe: Recipe | None = None
        self._slots = SlotWriter()
        self._mishap: tuple[str, str] | None = None
        self._beside = Limit()  # of what the driver does between two calls
        self._calls: dict[str, Callable[..., Any]] = {
            "open": self._open,
            "configure": self._configure,
            "expose": self._expose,
            "await_frame": self._await_frame,
            "recover": self._recover,
            "present": self._present,
            "feature": self._feature,
        }

    def handle(self, call: Call, descriptors: list[int]) -> Any:
        """Carry out a call and return its value. Raises the tree's errors, as the driver does."""
        if descriptors:
            try:
                self._slots.attach(descriptors[0], call.arguments.pop("slot_bytes"))
            except OSError as error:
                raise CameraError(f"the frames' memory can't be mapped: {error.strerror}; free some") from error
        self._suffer(call.name)
        return self._calls[call.name](**call.arguments)

    def close(self) -> None:
        """Release the device."""
        if self._camera is not None:
            self._camera.close()

    @contextlib.contextmanager
    def _guard(self, seconds: float) -> Iterator[None]:
        with self._beside.during(seconds):
            self._suffer("prepare")
            yield

    def _suffer(self, what: str) -> None:
        if self._mishap is not None and self._mishap[0] == what:
            come_to_grief(self._mishap[1])

    @property
    def _driver(self) -> Camera:
        if self._camera is None:
            raise CameraError(f"camera {self._role} is not open; check its cable and power")
        return self._camera

    def _open(self, settings: dict[str, Any], emulated: dict[str, Any], recipe: str | None) -> dict[str, Any]:
        self._settings = CameraSettings.model_validate(settings)
        self._scene = LazyScene(EmulatedCellSettings.model_validate(emulated))
        self._recipe = None if recipe is None else Recipe.model_validate_json(recipe)
        return self._recover()

    def _recover(self) -> dict[str, Any]:
        if self._camera is not None:
            self._camera.recover()
            return self._identity()
        self._camera = CAMERAS[self._settings.driver](self._settings, self._scene)
        if hasattr(self._camera, "allocate"):
            self._camera.allocate = self._slots.allocate
        if hasattr(self._camera, "readiness"):
            self._camera.readiness.guard = self._guard
        # Before the recipe, which may be refused: the emulated cell is made here, where there is time for it.
        identity = self._identity()
        if self._recipe is not None:
            self._camera.configure(self._recipe)
        _settle_memory()
        return identity

    def _identity(self) -> dict[str, Any]:
        camera = self._driver
        lines = self._scene.open().product.lines if camera.emulated else None
        return {"name": camera.name, "emulated": camera.emulated, "lines": lines}

    def _configure(self, recipe: str) -> None:
        self._recipe = Recipe.model_validate_json(recipe)
        self._driver.configure(self._recipe)
        _settle_memory()

    def _expose(self, channel: str, slot: int, scene: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        del timeout_s  # the settings' own, which the driver has
        self._set(scene)
        self._slots.select(slot)
        return self._sent(self._driver.expose(_channel(channel)))

    def _await_frame(self, channel: str, slot: int, scene: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
        self._set(scene)
        self._slots.select(slot)
        frame = self._driver.await_frame(_channel(channel), timeout_s)
        return None if frame is None else self._sent(frame)

    def _sent(self, frame: Frame) -> dict[str, Any]:
        self._slots.place(frame.pixels)
        return describe(frame)

    def _present(self, part_id: str) -> None:
        self._set({"part": part_id})

    def _set(self, scene: dict[str, Any]) -> None:
        """Follow what the emulated cell's feeder and light did since the last exposure."""
        if not scene:
            return
        if "part" in scene:
            stage_of(self._driver, self._scene).present(scene["part"])
        if "lights" in scene:
            stage_of(self._driver, self._scene).illuminate(scene["lights"])

    def _feature(self, action: str, arguments: list[Any]) -> Any:
        return getattr(self._driver.features, action)(*arguments)

    def emulate(self, action: str, arguments: list[Any]) -> Any:
        """See `IsolatedCamera.emulate`; called on a thread of its own. To answer `ALIVE` is all there is to it."""
        if action == ALIVE:
            return None
        camera = self._driver
        if not camera.emulated:
            raise CameraError(f"camera {camera.name} is a real one; {action} is for emulated cameras")
        if action == "mishap":
            self._mishap = (str(arguments[0]), str(arguments[1]))
            return None
        known = getattr(camera, "EMULATED_ACTIONS", ())
        if action not in known:
            raise CameraError(f"camera {camera.name} can't {action}; it can {', '.join(('mishap', *known))}")
        return getattr(camera, action)(*arguments)


def _settle_memory() -> None:
    """Let the collector leave alone what is there now: looking through it takes as long as three exposures."""
    gc.collect()
    gc.freeze()


@lru_cache(maxsize=64)
def _channel(told: str) -> Channel:
    """Return a channel; the same few come with every part."""
    return Channel.model_validate_json(told)


class Limit:
    """Kills this process when a call takes too long: a timer of the kernel, which no vendor's code can hold up."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = ctypes.c_void_p()
        event = _SignalEvent(0, signal.SIGKILL, 0)
        clock = 1  # CLOCK_MONOTONIC
        if self._libc.timer_create(clock, ctypes.byref(event), ctypes.byref(self._timer)) != 0:
            raise CameraError(f"this system has no timer for a camera: {os.strerror(ctypes.get_errno())}; use Linux")

    def set(self, seconds: float) -> None:
        """End the process after that time unless set again before; 0 for never."""
        whole = int(seconds)
        period = (ctypes.c_long * 4)(0, 0, whole, int((seconds - whole) * 1e9))
        self._libc.timer_settime(self._timer, 0, period, None)

    @contextlib.contextmanager
    def during(self, seconds: float) -> Iterator[None]:
        """End the process when what is done inside takes longer; see `drivers.cameras.readiness.Guard`."""
        self.set(seconds + _MARGIN_S)
        try:
            yield
        finally:
            self.set(0)


class _SignalEvent(ctypes.Structure):
    """The kernel's struct sigevent: 64 bytes, of which the first three fields are used here."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("number", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_byte * 48),
    )


def serve(connection: socket.socket, beside: socket.socket, role: str) -> None:
    """Answer calls until the daemon closes the socket, then release the camera."""
    limit = Limit()
    host = Host(role)
    threading.Thread(target=_serve_beside, args=(beside, host), name="emulate", daemon=True).start()
    try:
        while True:
            packet, descriptors, _, _ = socket.recv_fds(connection, LARGEST, 1)
            if not packet:
                return
            call = decode_call(packet)
            limit.set(call.limit_s + _MARGIN_S)
            connection.send(_answer(call, partial(host.handle, call, descriptors)))
            limit.set(0)
    except (BrokenPipeError, ConnectionResetError):
        return
    finally:
        limit.set(_CLOSE_S)
        host.close()


def _serve_beside(beside: socket.socket, host: Host) -> None:
    """Carry out controls of an emulated camera while a call is under way."""
    with beside:
        while packet := beside.recv(LARGEST):
            call = decode_call(packet)
            beside.send(_answer(call, partial(host.emulate, call.name, call.arguments["arguments"])))


def _answer(call: Call, carry_out: Callable[[], Any]) -> bytes:
    try:
        return encode_value(call.number, carry_out())
    except InspectdError as error:
        return encode_error(call.number, error)
    except MemoryError:
        return encode_error(call.number, CameraError(f"no memory is left for the camera's {call.name}; free some"))


def come_to_grief(kind: str) -> None:
    """Hang for ever without letting go of the interpreter (``"hang"``), or die by the signal of that name."""
    libc = ctypes.PyDLL(None)
    while kind == "hang":
        libc.pause()  # returns after a signal that is caught
    os.kill(os.getpid(), signal.Signals[kind])


def main(arguments: Sequence[str] | None = None) -> int:
    """Host one camera until the daemon closes the socket."""
    parser = argparse.ArgumentParser(prog="drivers.cameras.child", description="One camera, in a process of its own.")
    parser.add_argument("--camera", required=True, help="the camera's name in the settings")
    parser.add_argument("--sockets", type=int, nargs=2, required=True, help="descriptors of the daemon's two sockets")
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    ctypes.CDLL(None).prctl(_PR_SET_NAME, b"inspectd-camera")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    with socket.socket(fileno=options.sockets[0]) as connection:
        serve(connection, socket.socket(fileno=options.sockets[1]), options.camera)
    return 0


if __name__ == "__main__":
    sys.exit(main())
