"""A camera without an SDK: the emulated cell's picture, at any rate, with faults on request.

It stands in for load tests, where the vendor's emulator is too slow, and for faults that no emulator can show.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from enum import StrEnum

from cell.errors import AcquisitionTimeout, CameraError
from cell.frames import Frame, Pixels
from cell.recipes import Channel, Recipe
from drivers.cameras.base import Sequence, check_pixels
from drivers.sim.scene import Scene


class Fault(StrEnum):
    """What the next exposure can be made to do."""

    DROPPED = "dropped"  # the frame never comes
    REPEATED = "repeated"  # the previous frame comes again
    STALE = "stale"  # a frame from before the trigger comes
    TRUNCATED = "truncated"  # a frame with too few lines comes
    HANG = "hang"  # the vendor's call does not return for `hang_s`
    REMOVED = "removed"  # the device is gone until :meth:`SimulatedCamera.plug_in`


class SimulatedCamera:
    """See `drivers.cameras.base.Camera`. `faults` are taken from the left, one an exposure; None is a good one."""

    name = "simulated"
    emulated = True

    def __init__(self, scene: Scene, frame_timeout_s: float, hang_s: float = 30.0) -> None:
        self.faults: deque[Fault | None] = deque()
        self._scene = scene
        self._timeout_s = frame_timeout_s
        self._hang_s = hang_s
        self._recipe: Recipe | None = None
        self._grabbing = self._removed = False
        self._frame_id = 0
        self._sequence = Sequence()
        self._last: tuple[Pixels, int, int] | None = None
        self._closed = threading.Event()

    def configure(self, recipe: Recipe) -> None:
        """See the contract."""
        self._grabbing = False
        self._recipe = recipe
        self._require_there()
        if recipe.bit_depth != 8:
            raise CameraError(
                f"the simulated camera has 8 bit, the recipe {recipe.recipe_id} wants {recipe.bit_depth}; "
                "correct the recipe's bit_depth"
            )
        self._sequence.restart()
        self._frame_id, self._last = 0, None
        self._grabbing = True

    def expose(self, channel: Channel) -> Frame:
        """See the contract."""
        recipe = self._recipe
        if recipe is None or not self._grabbing:
            raise CameraError("the camera is not configured; prepare a recipe first")
        self._require_there()
        pixels, frame_id, stamp = self._deliver(channel, self.faults.popleft() if self.faults else None, recipe)
        check_pixels(pixels, recipe, channel)
        count = self._sequence.admit(channel.name, frame_id, stamp)
        self._last = (pixels, frame_id, stamp)
        return Frame(channel.name, pixels, 8, channel.exposure_us, channel.gain_db, self.name, count, stamp)

    def recover(self) -> None:
        """See the contract."""
        self._require_there()
        if self._recipe is not None:
            self.configure(self._recipe)

    def plug_in(self) -> None:
        """Bring a removed device back."""
        self._removed = False

    def close(self) -> None:
        """See the contract."""
        self._grabbing = False
        self._closed.set()

    def _deliver(self, channel: Channel, fault: Fault | None, recipe: Recipe) -> tuple[Pixels, int, int]:
        if fault is Fault.REMOVED:
            self._removed = True
            self._grabbing = False
            self._require_there()
        if fault is Fault.HANG:
            self._closed.wait(self._hang_s)
        if fault in {Fault.DROPPED, Fault.HANG}:
            raise AcquisitionTimeout(
                f"channel {channel.name}: no frame within {self._timeout_s:g} s; check the camera's cable and trigger"
            )
        if self._last is not None and fault is Fault.REPEATED:
            return self._last
        if self._last is not None and fault is Fault.STALE:
            pixels, frame_id, stamp = self._last
            return pixels, frame_id - 1, stamp - 1
        pixels = self._scene.picture(recipe.height, recipe.width, channel.exposure_us, channel.gain_db)
        self._frame_id += 1
        if fault is Fault.TRUNCATED:
            pixels = pixels[: recipe.height // 2].copy()
        return pixels, self._frame_id, time.monotonic_ns()

    def _require_there(self) -> None:
        if self._closed.is_set():
            raise CameraError("the camera is closed; open the cell again")
        if self._removed:
            raise CameraError("the camera is gone; check its cable and power")
