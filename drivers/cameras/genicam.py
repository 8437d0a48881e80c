"""Any GenICam camera through its GenTL producer, with harvesters.

What the library leaves to its users, and is done here: an incomplete buffer and a time-out both come back as None (told
apart by its INCOMPLETE_BUFFER event); its time-outs read the wall clock (so it is asked in short slices under a
monotonic deadline); it does not reconnect (so `recover` makes everything anew); it expands packed pixels into arrays of
its own (so raw buffers are asked for and read here, once).

A camera without a software trigger is refused: its frames can't be told to be those of a light. Only the simulators of
the GenICam group run free; there the frame after the next whole one is taken.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from cell.clock import Monotonic, monotonic
from cell.errors import AcquisitionTimeout, CameraError, ConfigurationError, SdkMissing
from cell.frames import AcquisitionFault, Frame
from cell.recipes import Channel, Recipe
from cell.settings import CameraSettings
from drivers.cameras.arming import Armed, arm, buffers_for, expose_as
from drivers.cameras.assembly import Assembly, Delivery
from drivers.cameras.base import Allocate, Meanwhile, nothing
from drivers.cameras.features import GenApiFeatures, sentence
from drivers.cameras.gentl import AcquirerNodes, choose_device, list_devices, require_producers

_SIMULATORS = frozenset({"Machine Vision Games Ltd.", "EMVA_D", "GenICam"})
_SLICE_S = 0.05


def sdk() -> tuple[Any, Any, type[Exception], dict[int, str]]:
    """Return harvesters' core, GenTL's module, the root of GenApi's errors and PFNC's names. Raises `SdkMissing`."""
    try:
        from genicam import genapi, gentl
        from harvesters import core
        from harvesters.util import pfnc
    except ImportError as error:
        raise SdkMissing("the camera driver genicam needs harvesters; run: pip install harvesters genicam") from error
    return core, gentl, genapi.GenericException, dict(pfnc.dict_by_ints)


class GenicamCamera:
    """See `drivers.cameras.base.Camera`."""

    def __init__(self, settings: CameraSettings, clock: Monotonic = monotonic) -> None:
        self._core, gentl, genapi_error, self._formats = sdk()
        self._errors: tuple[type[Exception], ...] = (gentl.GenericException, genapi_error, RuntimeError, AttributeError)
        self._opening_errors: tuple[type[Exception], ...] = (*self._errors, OSError)
        self._all_errors: tuple[type[Exception], ...] = (*self._errors, CameraError)
        self._settings = settings
        self._clock = clock
        self._recipe: Recipe | None = None  # the last one asked for, also when the camera refused it
        self._armed: Armed | None = None  # set up and acquiring
        self._closed = False
        self._clean = False  # no frame of an earlier trigger can be under way
        self._incomplete = 0
        self._actual = (0.0, 0.0)
        self._harvester: Any = None
        self._acquirer: Any = None
        self._nodes = AcquirerNodes(self._errors)
        self.allocate: Allocate = np.empty
        self.features = GenApiFeatures(settings.device, self._nodes)
        self._assembly = Assembly(settings.device)
        self.name, self.emulated = self._open()

    def configure(self, recipe: Recipe) -> None:
        """See the contract."""
        self._recipe = recipe
        self._armed = None
        if self._acquirer is None:
            raise CameraError(f"camera {self.name} is not open; check its cable and power")
        try:
            self._assembly.let_go()
            self._acquirer.stop()
            armed = arm(self.features, recipe, self._settings, emulated=self.emulated)
            self._assembly.set_up(recipe, armed)
            self._acquirer.num_buffers = buffers_for(recipe, self._settings)
            self._start()
        except self._all_errors as error:
            fault = error.fault if isinstance(error, CameraError) else None
            raise CameraError(f"camera {self.name} can't be set up: {sentence(error)}", fault=fault) from error
        self._armed = armed

    def expose(self, channel: Channel, meanwhile: Meanwhile = nothing) -> Frame:
        """See the contract."""
        _, armed = self._ready(software=True)
        shared = self._assembly.take_shared(channel, self.allocate)
        if shared is not None:
            meanwhile()
            return shared
        clean, self._clean = self._clean, False
        try:
            if not clean:
                # The frame of a trigger that was given up may still come, and would pass for the next one's.
                self._assembly.let_go()
                self._acquirer.stop()
                self._start()
                self._clean = False
            self._actual = expose_as(self.features, channel, emulated=self.emulated)
            exposed = self._trigger(channel, armed)
            meanwhile()
            delivery = self._fetch(channel, armed, self._settings.frame_timeout_s)
            if delivery is None:
                raise AcquisitionTimeout(
                    f"channel {channel.name}: no frame from camera {self.name} within "
                    f"{self._settings.frame_timeout_s:g} s; check its cable and trigger"
                )
            window = None if exposed is None else (exposed, self._clock())
            frame = self._assembly.take(delivery, channel, self._actual, self.allocate, window)
        except self._errors as error:
            raise self._failed(channel, error) from error
        self._clean = True
        return frame

    def await_frame(self, channel: Channel, timeout_s: float) -> Frame | None:
        """See the contract."""
        _, armed = self._ready(software=False)
        actual = armed.actual.get(channel.name, self._actual)
        try:
            return self._assembly.awaited(
                channel, actual, self.allocate, lambda: self._fetch(channel, armed, timeout_s)
            )
        except self._errors as error:
            raise self._failed(channel, error) from error

    def recover(self) -> None:
        """See the contract."""
        if self._closed:
            raise CameraError(f"camera {self.name} is closed; open the cell again")
        recipe = self._recipe
        self._release()
        self.name, self.emulated = self._open()
        if recipe is not None:
            self.configure(recipe)

    def close(self) -> None:
        """See the contract."""
        self._closed = True
        self._release()

    def _open(self) -> tuple[str, bool]:
        producers = require_producers(self._settings)
        self._harvester = self._core.Harvester()
        try:
            for producer in producers:
                self._harvester.add_file(str(producer), check_existence=True, check_validity=True)
            self._harvester.update()
            devices = list_devices(self._harvester.device_info_list, self._errors)
            device = choose_device(devices, self._settings.device)
            self._acquirer = self._harvester.create(device.index)
            self._nodes.attach(self._acquirer.remote_device.node_map)
            self._acquirer.add_callback(self._acquirer.Events.INCOMPLETE_BUFFER, self._counter())
        except self._opening_errors as error:
            self._release()
            raise opening_error(self._settings.device, error) from error
        except (CameraError, ConfigurationError):
            self._release()
            raise
        self.features.camera = device.name
        self._assembly.opened(device.name)
        return device.name, device.vendor in _SIMULATORS

    def _trigger(self, channel: Channel, armed: Armed) -> float | None:
        """Start an exposure and return the instant; None on a simulator, whose next frame may have begun before."""
        self._drain()
        self._incomplete = 0
        if armed.software_trigger:
            before = self._clock()
            self.features.execute("TriggerSoftware")
            return before
        passed = self._fetch(channel, armed, self._settings.frame_timeout_s)
        if passed is not None:
            passed.release()
        return None

    def _fetch(self, channel: Channel, armed: Armed, timeout_s: float) -> Delivery | None:
        """Return the next whole buffer, None when there is none in time. Raises `CameraError` for one that is not."""
        deadline = self._clock() + timeout_s
        while not self._incomplete:
            left = deadline - self._clock()
            if left <= 0:
                return None
            buffer = self._acquirer.try_fetch(timeout=min(left, _SLICE_S), is_raw=True)
            if buffer is not None:
                return self._delivered(buffer, armed)
        self._incomplete -= 1
        raise CameraError(
            f"channel {channel.name}: camera {self.name} delivered an incomplete frame; check cable and bandwidth",
            fault=AcquisitionFault.INCOMPLETE,
        )

    def _delivered(self, buffer: Any, armed: Armed) -> Delivery:
        try:
            chunks = armed.chunks.read(self.features)
            return self._nodes.delivery(buffer, chunks, self._formats, armed.tick_ns)
        except self._all_errors:
            buffer.parent.queue_buffer(buffer)
            raise

    def _ready(self, *, software: bool) -> tuple[Recipe, Armed]:
        if self._recipe is None or self._armed is None:
            raise CameraError(f"camera {self.name} is not configured; prepare a recipe first")
        if software != (self._settings.trigger == "software"):
            how = "its line; await its frames" if software else "software; expose"
            raise CameraError(f"camera {self.name} is triggered by {how}, or change camera.trigger")
        return self._recipe, self._armed

    def _failed(self, channel: Channel, error: Exception) -> CameraError:
        return CameraError(
            f"channel {channel.name}: camera {self.name} failed: {sentence(error)}; check cable and power"
        )

    def _start(self) -> None:
        self._acquirer.start()
        self._assembly.restart()
        self._clean = True

    def _drain(self) -> None:
        """Throw away what was delivered before the trigger."""
        for _ in range(2 * self._acquirer.num_buffers):
            buffer = self._acquirer.try_fetch(timeout=1e-4, is_raw=True)
            if buffer is None:
                return
            buffer.parent.queue_buffer(buffer)

    def _counter(self) -> Any:
        outer = self

        class Counter(self._core.Callback):  # type: ignore[name-defined]
            def emit(self, context: Any) -> None:
                del context
                outer._incomplete += 1

        return Counter()

    def _release(self) -> None:
        self._armed = None
        with contextlib.suppress(*self._errors):
            self._assembly.let_go()
        self.features.forget()
        self._nodes.detach()
        for step in ("stop", "destroy"):
            if self._acquirer is not None:
                with contextlib.suppress(*self._errors):
                    getattr(self._acquirer, step)()
        self._acquirer = None
        if self._harvester is not None:
            with contextlib.suppress(*self._errors):
                self._harvester.reset()
        self._harvester = None


def opening_error(device: str, error: Exception) -> CameraError:
    """Return what it means that a camera does not open."""
    named = f"camera {device}" if device else "the camera"
    text = str(error).lower()
    if "resourceinuse" in type(error).__name__.lower() or "-1004" in text or "controlled by another" in text:
        return CameraError(
            f"{named} is controlled by another application, or by one that died less than a heartbeat ago; close the "
            "other one, and it is tried again"
        )
    return CameraError(f"{named} does not open: {sentence(error)}; check producer, cable and power")
