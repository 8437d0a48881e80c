"""A camera without an SDK: the emulated cell's picture at any rate, triggered as lines do it, with faults on request.

It stands in for load tests, where the vendor's emulator is too slow, and for faults that no emulator can show. The
device is in `simulated_device`, what it looks at in `simulated_stage`, its faults in `simulated_faults`; here is the
driver, which knows of the device what a vendor's driver would.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Literal

from cell.errors import AcquisitionTimeout, CameraError
from cell.frames import AcquisitionFault, Frame
from cell.recipes import Channel, Recipe
from drivers.cameras.base import Meanwhile, Sequence, check_haste, check_pixels, nothing
from drivers.cameras.simulated_device import Buffer, SimulatedDevice, Timekeeper, WorldTime
from drivers.cameras.simulated_faults import Fault, parse
from drivers.cameras.simulated_features import SimulatedFeatures
from drivers.cameras.simulated_sensor import SensorPipe
from drivers.cameras.simulated_stage import Album, Stage

__all__ = ["Fault", "SimulatedCamera"]


class SimulatedCamera:
    """See `drivers.cameras.base.Camera`.

    :param frame_timeout_s: longest wait for the frame of a software trigger.
    :param hang_s: how long a call that does not return does not return.
    :param trigger: ``software``, or ``line`` (``action`` is the same here) for edges that :meth:`fire` gives.
    :param mark_frames: burn :mod:`drivers.cameras.simulated_mark` into a corner, for tests.
    :param album_mb: pictures kept and shown again instead of rendered anew.
    :param sensor: a pipe that fires the line, see `simulated_sensor`. Raises `ConfigurationError`.
    """

    name = "simulated"
    emulated = True
    #: What a test may ask for, also through the process that hosts the camera.
    EMULATED_ACTIONS = ("fire", "inject", "remove", "plug_in", "preset")

    def __init__(
        self,
        scene: Stage,
        frame_timeout_s: float = 2.0,
        hang_s: float = 30.0,
        *,
        trigger: Literal["software", "line", "action"] = "software",
        mark_frames: bool = False,
        album_mb: float = 0.0,
        sensor: Path | None = None,
        clock: Timekeeper | None = None,
    ) -> None:
        self.stage = Album(scene, album_mb)  # what lies before it, and in what light
        self._clock = clock or WorldTime()
        self.device = SimulatedDevice(self.stage, clock=self._clock, hang_s=hang_s, mark_frames=mark_frames)
        self.features = SimulatedFeatures(self._execute, self.device.require_there)
        self._timeout_s = frame_timeout_s
        self._on_line = trigger != "software"
        self._recipe: Recipe | None = None  # the last one asked for, also when it was refused
        self._ready = False
        self._sequence = Sequence()
        actions = {name: getattr(self, name) for name in self.EMULATED_ACTIONS}
        self._sensor = None if sensor is None else SensorPipe(sensor, actions)

    def configure(self, recipe: Recipe) -> None:
        """See the contract."""
        self._recipe = recipe
        self._ready = False
        self.device.disarm()
        self.device.require_there()
        self.features.take(recipe, self._on_line)
        self._sequence.restart()
        self.device.arm(recipe, on_line=self._on_line)
        self._ready = True

    def expose(self, channel: Channel, meanwhile: Meanwhile = nothing) -> Frame:
        """See the contract."""
        recipe = self._configured()
        if self._on_line:
            raise CameraError(
                "the camera is triggered by its line; await its frames, or set camera.trigger to software"
            )
        if not self.device.wait_ready(self._timeout_s):
            raise AcquisitionTimeout(f"channel {channel.name}: the camera took no trigger; check the trigger source")
        if surplus := self.device.flush(arrived=True):
            raise CameraError(
                f"channel {channel.name}: {surplus} frames came that no trigger asked for; check the trigger source",
                fault=AcquisitionFault.STALE,
            )
        self.features.expose_as(channel)
        before_s = self._clock.now()
        self.device.trigger(channel)
        meanwhile()
        buffer = self.device.retrieve(self._timeout_s)
        if buffer is None:
            # A frame that comes after all must not pass for the next one's.
            self.device.flush()
            raise AcquisitionTimeout(
                f"channel {channel.name}: no frame within {self._timeout_s:g} s; check the camera's cable and trigger"
            )
        try:
            check_haste(channel.name, buffer.exposure_us, before_s, self._clock.now())
            return self._frame(buffer, channel, recipe)
        except CameraError:
            self.device.flush()
            raise

    def await_frame(self, channel: Channel, timeout_s: float) -> Frame | None:
        """See the contract."""
        recipe = self._configured()
        if not self._on_line:
            raise CameraError("the camera is triggered by software; expose, or set camera.trigger to line")
        buffer = self.device.retrieve(timeout_s)
        return None if buffer is None else self._frame(buffer, channel, recipe)

    def recover(self) -> None:
        """See the contract."""
        self.device.require_there()
        if self._recipe is not None:
            self.configure(self._recipe)

    def close(self) -> None:
        """See the contract."""
        self.device.close()
        if self._sensor is not None:
            self._sensor.close()

    @property
    def faults(self) -> deque[Fault | None]:
        """What goes wrong next; the left one first, None for nothing."""
        return self.device.faults

    def fire(self, part_id: str | None = None, at_s: float | None = None) -> None:
        """Let the sensor line see a part; `part_id` is what lies there from then on. From any thread.

        `at_s` is the edge's instant on the system's monotonic clock where several cameras see it; now if left out.

        Raises `DataError` for an unknown part.
        """
        self.device.fire(part_id, at_s)

    def inject(self, *names: str | None) -> None:
        """Let the next exposures or edges go wrong, None for a good one. Raises `CameraError` for an unknown name."""
        self.device.inject(parse(names))

    def remove(self) -> None:
        """Pull the cable."""
        self.device.remove()

    def plug_in(self) -> None:
        """Bring a removed device back."""
        self.device.plug_in()

    def preset(self, trigger_count: int, block_id: int) -> None:
        """Let the device's counters begin with these values from its next set-up on: near their wrap, for instance."""
        self.device.preset(trigger_count, block_id)

    def _frame(self, buffer: Buffer, channel: Channel, recipe: Recipe) -> Frame:
        if not buffer.complete:
            raise CameraError(
                f"channel {channel.name}: frame {buffer.block_id} came with part of its pixels; check its cable",
                fault=AcquisitionFault.INCOMPLETE,
            )
        check_pixels(buffer.pixels, recipe, channel)
        count = self._sequence.admit(channel.name, buffer.block_id, buffer.timestamp_ns)
        return Frame(
            channel=channel.name,
            pixels=buffer.pixels,
            bit_depth=recipe.bit_depth,
            exposure_us=buffer.exposure_us,
            gain_db=buffer.gain_db,
            camera=self.name,
            frame_id=count,
            timestamp_ns=buffer.timestamp_ns,
            trigger_count=buffer.trigger_count,
            pixel_format=f"Mono{recipe.bit_depth}",
        )

    def _configured(self) -> Recipe:
        if self._recipe is None or not self._ready:
            self.device.require_there()
            raise CameraError("the camera is not configured; prepare a recipe first")
        return self._recipe

    def _execute(self, name: str) -> None:
        if name == "TriggerSoftware" and not self._on_line and self._recipe is not None:
            self.device.trigger(self._recipe.channels[0])
            return
        raise CameraError(f"the simulated camera can't execute {name} now; TriggerSoftware needs a prepared recipe")
