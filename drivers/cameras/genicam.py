"""Any GenICam camera through its GenTL producer, with harvesters.

What the library leaves to its users, and is done here: an incomplete buffer and a time-out both come back as None (told
apart by its INCOMPLETE_BUFFER event); its time-outs read the wall clock (so it is asked in short slices under a
monotonic deadline); it does not reconnect (so `recover` makes everything anew).

A camera without a software trigger is refused: its frames can't be told to be those of a light. Only the simulators of
the GenICam group run free; there the frame after the next whole one is taken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cell.clock import Monotonic, monotonic
from cell.errors import AcquisitionTimeout, CameraError, ConfigurationError, SdkMissing
from cell.frames import AcquisitionFault, Frame, Pixels
from cell.recipes import Channel, Recipe
from cell.settings import CameraSettings
from drivers.cameras.base import Sequence, check_pixels
from drivers.cameras.features import GenApiFeatures

_FORMATS = {8: ("Mono8",), 10: ("Mono10",), 12: ("Mono12",), 16: ("Mono16",)}
_SIMULATORS = frozenset({"Machine Vision Games Ltd.", "EMVA_D", "GenICam"})
_SLICE_S = 0.05
_BUFFERS = 4
_ROUNDING = 0.02


def sdk() -> tuple[Any, Any, type[Exception]]:
    """Return harvesters' core, GenTL's module and the root of their errors. Raises `SdkMissing`."""
    try:
        from genicam import genapi, gentl
        from harvesters import core
    except ImportError as error:
        raise SdkMissing("the camera driver genicam needs harvesters; run: pip install harvesters genicam") from error
    return core, gentl, genapi.GenericException


class GenicamCamera:
    """See `drivers.cameras.base.Camera`."""

    def __init__(self, settings: CameraSettings, clock: Monotonic = monotonic) -> None:
        self._core, gentl, genapi_error = sdk()
        self._errors: tuple[type[Exception], ...] = (gentl.GenericException, genapi_error, RuntimeError, AttributeError)
        self._opening_errors: tuple[type[Exception], ...] = (*self._errors, OSError)
        self._settings = settings
        self._clock = clock
        self._recipe: Recipe | None = None  # the last one asked for, also when the camera refused it
        self._ready = False  # set up and acquiring
        self._clean = False  # no frame of an earlier trigger can be under way
        self._sequence = Sequence()
        self._incomplete = 0
        self._harvester: Any = None
        self._acquirer: Any = None
        self._triggered = False
        self.features = GenApiFeatures("", self)
        self.name, self.emulated = self._open()
        self.features.camera = self.name

    snake_case = True

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """See `drivers.cameras.features.NodeMap`."""
        return self._errors

    def find(self, name: str) -> Any | None:
        """See `drivers.cameras.features.NodeMap`."""
        if self._acquirer is None:
            raise CameraError(f"camera {self.name} is not open; check its cable and power")
        nodes = self._nodes()
        return nodes.get_node(name) if nodes.has_node(name) else None

    def all_names(self) -> Iterable[str]:
        """See `drivers.cameras.features.NodeMap`."""
        if self._acquirer is None:
            raise CameraError(f"camera {self.name} is not open; check its cable and power")
        return [str(node.node.name) for node in self._nodes().nodes if node.node.is_feature()]

    def configure(self, recipe: Recipe) -> None:
        """See the contract."""
        self._recipe = recipe
        self._ready = False
        if self._acquirer is None:
            raise CameraError(f"camera {self.name} is not open; check its cable and power")
        try:
            self._acquirer.stop()
            self._set_up(recipe)
            self._start()
        except self._errors as error:
            raise CameraError(f"camera {self.name} can't be set up: {_sentence(error)}; see the recipe") from error
        self._ready = True

    def expose(self, channel: Channel) -> Frame:
        """See the contract."""
        recipe = self._recipe
        if recipe is None or not self._ready:
            raise CameraError(f"camera {self.name} is not configured; prepare a recipe first")
        clean, self._clean = self._clean, False
        try:
            if not clean:
                # The frame of a trigger that was given up may still come, and would pass for the next one's.
                self._acquirer.stop()
                self._start()
            exposure = self._set_value("ExposureTime", channel.exposure_us)
            gain = self._set_value("Gain", channel.gain_db)
            self._drain()
            self._incomplete = 0
            if self._triggered:
                self._nodes().TriggerSoftware.execute()
            else:
                self._fetch(channel)
            pixels, frame_id, stamp = self._fetch(channel)
        except self._errors as error:
            raise CameraError(f"channel {channel.name}: camera {self.name} failed: {_sentence(error)}") from error
        check_pixels(pixels, recipe, channel)
        count = self._sequence.admit(channel.name, frame_id, stamp)
        self._clean = True
        return Frame(channel.name, pixels, recipe.bit_depth, exposure, gain, self.name, count, stamp)

    def await_frame(self, channel: Channel, timeout_s: float) -> Frame | None:
        """See the contract."""
        del channel, timeout_s
        raise CameraError(f"camera {self.name} is triggered by software; expose, or set camera.trigger to line")

    def recover(self) -> None:
        """See the contract."""
        recipe = self._recipe
        self._release()
        self.name, self.emulated = self._open()
        if recipe is not None:
            self.configure(recipe)

    def close(self) -> None:
        """See the contract."""
        self._release()

    def _open(self) -> tuple[str, bool]:
        if not self._settings.producers:
            raise ConfigurationError("the driver genicam needs camera.producers, the camera maker's GenTL files (.cti)")
        harvester = self._core.Harvester()
        self._harvester = harvester
        try:
            for producer in self._settings.producers:
                _require_file(producer)
                harvester.add_file(str(producer), check_existence=True, check_validity=True)
            harvester.update()
            index = self._chosen(harvester.device_info_list)
            vendor = str(harvester.device_info_list[index].vendor)
            serial = str(harvester.device_info_list[index].serial_number)
            self._acquirer = harvester.create(index)
            self._acquirer.num_buffers = _BUFFERS
            self._acquirer.add_callback(self._acquirer.Events.INCOMPLETE_BUFFER, self._counter())
        except self._opening_errors as error:
            self._release()
            raise CameraError(
                f"the camera does not open: {_sentence(error)}; check producer, cable and power"
            ) from error
        except (CameraError, ConfigurationError):
            self._release()
            raise
        return serial, vendor in _SIMULATORS

    def _chosen(self, devices: Any) -> int:
        wanted = self._settings.device
        names = [_names(device, self._errors) for device in devices]
        if not names:
            raise CameraError("the GenTL producers find no camera; check its cable, power and address")
        if not wanted:
            if len(names) > 1:
                serials = ", ".join(sorted(name[0] for name in names))
                raise ConfigurationError(f"there are several cameras ({serials}); set camera.device to one of them")
            return 0
        for index, name in enumerate(names):
            if wanted in name:
                return index
        raise CameraError(f"the GenTL producers find no camera {wanted}; check its cable, power and address")

    def _set_up(self, recipe: Recipe) -> None:
        nodes = self._nodes()
        for feature, value in (("OffsetX", 0), ("OffsetY", 0), ("Width", recipe.width), ("Height", recipe.height)):
            if nodes.has_node(feature):
                self._write(feature, value)
        formats = _FORMATS.get(recipe.bit_depth)
        if formats is None:
            raise CameraError(f"GenICam names no mono format of {recipe.bit_depth} bit; correct the recipe's bit_depth")
        self._write("PixelFormat", formats[0])
        self._triggered = bool(nodes.has_node("TriggerSoftware"))
        if not self._triggered and not self.emulated:
            raise CameraError(
                f"camera {self.name} has no software trigger; without one no frame is known to be a part's"
            )
        if self._triggered:
            for feature, text in (
                ("TriggerSelector", "FrameStart"),
                ("TriggerMode", "On"),
                ("TriggerSource", "Software"),
            ):
                self._write(feature, text)

    def _write(self, feature: str, value: str | float) -> float | str:
        node = getattr(self._nodes(), feature)
        node.value = value
        actual: float | str = node.value
        same = actual == value if isinstance(value, str) else abs(float(actual) - value) <= _ROUNDING * abs(value)
        if not same:
            raise CameraError(f"camera {self.name}: {feature} was set to {value} and is {actual}; correct the recipe")
        return actual

    def _set_value(self, feature: str, value: float) -> float:
        """Set exposure or gain and return it as read; 0 on a simulator that has no such feature."""
        if self._nodes().has_node(feature):
            return float(self._write(feature, value))
        if not self.emulated and value:
            raise CameraError(f"camera {self.name} has no feature {feature}; it can't take the recipe's exposures")
        return 0.0

    def _fetch(self, channel: Channel) -> tuple[Pixels, int, int]:
        deadline = self._clock() + self._settings.frame_timeout_s
        while self._clock() < deadline and not self._incomplete:
            buffer = self._acquirer.try_fetch(timeout=_SLICE_S)
            if buffer is None:
                continue
            try:
                image = buffer.payload.components[0]
                pixels = np.array(image.data.reshape(image.height, image.width))
                return pixels, int(buffer.module.frame_id), _stamp(buffer, self._errors)
            finally:
                buffer.queue()
        if self._incomplete:
            raise CameraError(
                f"channel {channel.name}: camera {self.name} delivered an incomplete frame; check cable and bandwidth",
                fault=AcquisitionFault.INCOMPLETE,
            )
        raise AcquisitionTimeout(
            f"channel {channel.name}: no frame from camera {self.name} within {self._settings.frame_timeout_s:g} s; "
            "check its cable and trigger"
        )

    def _start(self) -> None:
        self._acquirer.start()
        self._sequence.restart()
        self._clean = True

    def _drain(self) -> None:
        """Throw away what was delivered before the trigger."""
        for _ in range(2 * _BUFFERS):
            buffer = self._acquirer.try_fetch(timeout=1e-4)
            if buffer is None:
                return
            buffer.queue()

    def _counter(self) -> Any:
        outer = self

        class Counter(self._core.Callback):  # type: ignore[name-defined]
            def emit(self, context: Any) -> None:
                del context
                outer._incomplete += 1

        return Counter()

    def _nodes(self) -> Any:
        return self._acquirer.remote_device.node_map

    def _release(self) -> None:
        self._ready = False
        self.features.forget()
        for step in ("stop", "destroy"):
            if self._acquirer is not None:
                with contextlib.suppress(*self._errors):
                    getattr(self._acquirer, step)()
        self._acquirer = None
        if self._harvester is not None:
            with contextlib.suppress(*self._errors):
                self._harvester.reset()
        self._harvester = None


def _names(device: Any, errors: tuple[type[Exception], ...]) -> tuple[str, ...]:
    """Return serial number and, where the producer knows it, user id of a device."""
    names = [str(device.serial_number)]
    with contextlib.suppress(*errors):
        names.append(str(device.user_defined_name))
    return tuple(names)


def _stamp(buffer: Any, errors: tuple[type[Exception], ...]) -> int:
    with contextlib.suppress(*errors):
        return int(buffer.timestamp_ns or 0)
    return 0


def _require_file(producer: Path) -> None:
    if not producer.is_file():
        raise ConfigurationError(f"there is no GenTL producer {producer}; correct camera.producers")


def _sentence(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0].rstrip(".") if text else type(error).__name__
