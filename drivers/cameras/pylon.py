"""Basler cameras through pylon (pypylon): GigE, USB3 and pylon's own camera emulation.

What the SDK leaves to its users, and is done here (docs/notes/emulated-camera.md, pypylon issues #408, #547):

- the first software trigger after `StartGrabbing` is lost unless `WaitForFrameTriggerReady` is asked;
- an incompletely grabbed buffer has error code 0 and still returns pixels: `GrabSucceeded` alone decides;
- after removal `IsOpen` and `IsGrabbing` stay true: `IsCameraDeviceRemoved` is asked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from cell.errors import AcquisitionTimeout, CameraError, ConfigurationError, SdkMissing
from cell.frames import AcquisitionFault, Frame, Pixels
from cell.recipes import Channel, Recipe
from cell.settings import CameraSettings
from drivers.cameras.base import Sequence, check_pixels
from drivers.cameras.features import GenApiFeatures
from drivers.sim.folder_feed import FolderFeed

if TYPE_CHECKING:
    from drivers.sim.scene import Scene

_EMULATED_CLASS = "BaslerCamEmu"
_FORMATS = {8: "Mono8", 10: "Mono10", 12: "Mono12", 16: "Mono16"}
#: A value that differs by no more than this share counts as set: cameras round to their own steps.
_ROUNDING = 0.02


def sdk() -> Any:
    """Return the module `pypylon.pylon`. Raises `SdkMissing`."""
    try:
        from pypylon import pylon
    except ImportError as error:
        raise SdkMissing("the camera driver pylon needs pypylon; run: pip install pypylon") from error
    return pylon


class PylonCamera:
    """See `drivers.cameras.base.Camera`. `scene` is what an emulated camera looks at; real ones look for themselves."""

    def __init__(self, settings: CameraSettings, scene: Scene | None = None) -> None:
        self._pylon = sdk()
        self._settings = settings
        self._scene = scene
        self._timeout_ms = max(1, int(settings.frame_timeout_s * 1e3))
        self._recipe: Recipe | None = None  # the last one asked for, also when the camera refused it
        self._ready = False  # set up and grabbing
        self._clean = False  # no frame of an earlier trigger can be under way
        self._sequence = Sequence()
        self._set: tuple[float, float] | None = None
        self._feed: FolderFeed | None = None
        self._camera: Any = None
        self.features = GenApiFeatures("", self)
        self.errors: tuple[type[Exception], ...] = (self._pylon.GenericException,)
        self.name, self.emulated = self._open()
        self.features.camera = self.name

    snake_case = False

    def find(self, name: str) -> Any | None:
        """See `drivers.cameras.features.NodeMap`."""
        if self._camera is None:
            raise CameraError(f"camera {self.name} is not open; check its cable and power")
        node = self._camera.GetNodeMap().GetNode(name)
        return node if node is not None and node.IsValid() else None

    def all_names(self) -> Iterable[str]:
        """See `drivers.cameras.features.NodeMap`."""
        if self._camera is None:
            raise CameraError(f"camera {self.name} is not open; check its cable and power")
        nodes = (node.GetNode() for node in self._camera.GetNodeMap().GetNodes())
        return [str(node.GetName()) for node in nodes if node.IsFeature()]

    def configure(self, recipe: Recipe) -> None:
        """See the contract."""
        self._recipe = recipe
        self._ready = False
        self._set = None
        if self._camera is None:
            raise CameraError(f"camera {self.name} is not open; check its cable and power")
        try:
            self._stop()
            self._set_up(recipe)
            self._start()
        except self._pylon.GenericException as error:
            self._stop_quietly()
            raise CameraError(f"camera {self.name} can't be set up: {_sentence(error)}; see the recipe") from error
        except CameraError:
            self._stop_quietly()
            raise
        self._ready = True

    def expose(self, channel: Channel) -> Frame:
        """See the contract."""
        recipe = self._recipe
        if recipe is None or not self._ready:
            raise CameraError(f"camera {self.name} is not configured; prepare a recipe first")
        pylon, camera = self._pylon, self._camera
        clean, self._clean = self._clean, False
        try:
            if not clean:
                # The frame of a trigger that was given up may still come, and would pass for the next one's.
                self._stop()
                self._start()
            exposure, gain = self._expose_as(channel)
            shown = self._show(recipe, channel)
            if not camera.WaitForFrameTriggerReady(self._timeout_ms, pylon.TimeoutHandling_Return):
                raise AcquisitionTimeout(f"channel {channel.name}: camera {self.name} takes no trigger; power-cycle it")
            camera.TriggerSoftware.Execute()
            # Asked while the sensor is exposed, because the answer takes a millisecond.
            if camera.IsCameraDeviceRemoved():
                raise CameraError(f"camera {self.name} is gone; check its cable and power")
            result = camera.RetrieveResult(self._timeout_ms, pylon.TimeoutHandling_Return)
            frame = self._frame(result, recipe, channel, exposure, gain)
        except pylon.GenericException as error:
            raise CameraError(
                f"channel {channel.name}: camera {self.name} failed: {_sentence(error)}; check cable and power"
            ) from error
        if shown is not None and not np.array_equal(shown, frame.pixels):
            raise CameraError(
                f"channel {channel.name}: the emulated camera delivered another picture than was put before it",
                fault=AcquisitionFault.SWAPPED,
            )
        self._clean = True
        return frame

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
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    def _open(self) -> tuple[str, bool]:
        pylon = self._pylon
        factory = pylon.TlFactory.GetInstance()
        wanted = self._settings.device
        found = [
            device
            for device in factory.EnumerateDevices()
            if not wanted or wanted in {device.GetSerialNumber(), device.GetUserDefinedName()}
        ]
        if not found:
            named = f" {wanted}" if wanted else ""
            raise CameraError(f"there is no pylon camera{named}; check its cable, power and address")
        if len(found) > 1 and not wanted:
            serials = ", ".join(device.GetSerialNumber() for device in found)
            raise ConfigurationError(f"there are several pylon cameras ({serials}); set camera.device to one of them")
        emulated = found[0].GetDeviceClass() == _EMULATED_CLASS
        try:
            self._camera = pylon.InstantCamera(factory.CreateDevice(found[0]))
            self._camera.Open()
        except pylon.GenericException as error:
            self._release()
            raise CameraError(f"camera {found[0].GetSerialNumber()} does not open: {_sentence(error)}") from error
        if emulated and self._scene is not None and self._feed is None:
            self._feed = FolderFeed()
        return str(found[0].GetSerialNumber()), emulated

    def _set_up(self, recipe: Recipe) -> None:
        if recipe.bit_depth not in _FORMATS:
            raise CameraError(
                f"pylon cameras have 8, 10, 12 or 16 bit, the recipe wants {recipe.bit_depth}; correct it"
            )
        # Offsets first: a width that fits the sensor may not fit behind an old offset.
        for offset in ("OffsetX", "OffsetY"):
            if hasattr(self._camera, offset):
                self._write(offset, 0)
        self._write("Width", recipe.width)
        self._write("Height", recipe.height)
        self._write("PixelFormat", _FORMATS[recipe.bit_depth])
        if self._feed is not None:
            self._feed.put(np.zeros((recipe.height, recipe.width), np.uint8))
            self._write("TestImageSelector", "Off")
            self._write("ImageFilename", str(self._feed.folder))
            self._write("ImageFileMode", "On")
        self._write("TriggerSelector", "FrameStart")
        self._write("TriggerMode", "On")
        self._write("TriggerSource", "Software")
        self._write("ExposureAuto", "Off", optional=True)
        self._write("GainAuto", "Off", optional=True)

    def _write(self, feature: str, value: str | int | float, *, optional: bool = False) -> Any:
        """Write a feature, read it back and return what the camera made of it."""
        node = self._camera.GetNodeMap().GetNode(feature)
        if node is None:
            if optional:
                return None
            raise CameraError(f"camera {self.name} has no feature {feature}; it can't be used here")
        parameter = getattr(self._camera, feature)
        parameter.Value = value
        actual = parameter.Value
        same = actual == value if isinstance(value, (str, int)) else abs(actual - value) <= _ROUNDING * abs(value)
        if not same:
            raise CameraError(f"camera {self.name}: {feature} was set to {value} and is {actual}; correct the recipe")
        return actual

    def _expose_as(self, channel: Channel) -> tuple[float, float]:
        """Set exposure and gain when they change and return what the camera says that they are."""
        if self._set != (channel.exposure_us, channel.gain_db):
            self._set = None
            self._exposure = self._either(("ExposureTime", "ExposureTimeAbs"), channel.exposure_us)
            self._gain = self._either(("Gain",), channel.gain_db) if self._has("Gain") else 0.0
            self._set = (channel.exposure_us, channel.gain_db)
        return self._exposure, self._gain

    def _either(self, names: tuple[str, ...], value: float) -> float:
        # GigE cameras before SFNC 2.0 spell the feature otherwise.
        feature = next((name for name in names if self._has(name)), names[0])
        try:
            return float(self._write(feature, float(value)))
        except self._pylon.GenericException as error:
            raise CameraError(f"camera {self.name}: {feature} can't be {value:g}: {_sentence(error)}") from error

    def _has(self, feature: str) -> bool:
        return self._camera.GetNodeMap().GetNode(feature) is not None

    def _show(self, recipe: Recipe, channel: Channel) -> Pixels | None:
        if self._feed is None or self._scene is None:
            return None
        pixels = self._scene.picture(recipe.height, recipe.width, channel.exposure_us, channel.gain_db)
        self._feed.put(pixels)
        return pixels

    def _frame(self, result: Any, recipe: Recipe, channel: Channel, exposure: float, gain: float) -> Frame:
        with result:
            if not result.IsValid():
                raise AcquisitionTimeout(
                    f"channel {channel.name}: no frame from camera {self.name} within {self._timeout_ms} ms; "
                    "check its cable and bandwidth"
                )
            if not result.GrabSucceeded():
                raise CameraError(
                    f"channel {channel.name}: camera {self.name} delivered an incomplete frame "
                    f"({result.GetErrorDescription().strip().rstrip('.')}); check cable and bandwidth",
                    fault=AcquisitionFault.INCOMPLETE,
                )
            pixels = result.GetArray()
            check_pixels(pixels, recipe, channel)
            count = self._sequence.admit(channel.name, int(result.BlockID), int(result.TimeStamp))
            return Frame(
                channel.name,
                pixels,
                recipe.bit_depth,
                exposure,
                gain,
                self.name,
                count,
                int(result.TimeStamp),
            )

    def _start(self) -> None:
        self._camera.StartGrabbing(self._pylon.GrabStrategy_OneByOne, self._pylon.GrabLoop_ProvidedByUser)
        self._sequence.restart()
        self._clean = True

    def _stop(self) -> None:
        if self._camera.IsGrabbing():
            self._camera.StopGrabbing()

    def _stop_quietly(self) -> None:
        with contextlib.suppress(self._pylon.GenericException):
            self._stop()

    def _release(self) -> None:
        self._ready = False
        self.features.forget()
        if self._camera is None:
            return
        self._stop_quietly()
        with contextlib.suppress(self._pylon.GenericException):
            self._camera.Close()
        with contextlib.suppress(self._pylon.GenericException):
            self._camera.DestroyDevice()
        self._camera = None


def _sentence(error: Exception) -> str:
    """Return the first line of a vendor's message without its file and line."""
    text = str(error).strip().splitlines()
    return text[0].split(" : ")[0].rstrip(".") if text else type(error).__name__
