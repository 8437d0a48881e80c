"""Basler cameras through pylon (pypylon): GigE, USB3 and pylon's own camera emulation.

What the SDK leaves to its users, and is done here (docs/notes/emulated-camera.md, pylon issues #408, #547, #812):

- the first software trigger after `StartGrabbing` is lost unless `WaitForFrameTriggerReady` is asked;
- an incompletely grabbed buffer has error code 0 and still returns pixels: `GrabSucceeded` alone decides;
- after removal `IsOpen` and `IsGrabbing` stay true: `IsCameraDeviceRemoved` is asked;
- a program that crashed keeps its GigE camera until the heartbeat runs out: that is named, and tried again.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from cell.clock import Monotonic, monotonic
from cell.errors import AcquisitionTimeout, CameraError, ConfigurationError, SdkMissing
from cell.frames import AcquisitionFault, Frame
from cell.recipes import Channel, Recipe
from cell.settings import CameraSettings
from drivers.cameras.arming import Armed, arm, buffers_for, exposures_of
from drivers.cameras.assembly import Assembly, Delivery
from drivers.cameras.base import Allocate, Meanwhile, nothing
from drivers.cameras.chunks import ChunkData
from drivers.cameras.features import GenApiFeatures, sentence
from drivers.cameras.pylon_nodes import CameraNodes, ResultNodes, format_names
from drivers.cameras.pylon_removal import RemovalWatch
from drivers.cameras.pylon_stage import PylonStage
from drivers.cameras.readiness import Exposer, Readiness

if TYPE_CHECKING:
    from drivers.sim.scene import Scene

_EMULATED_CLASS = "BaslerCamEmu"
#: How long a GigE camera stays taken after its program died, ms (pylon's own default is up to five minutes).
_HEARTBEAT_MS = 3000
#: What pylon says when another program, or a dead one, holds the camera.
_TAKEN = ("0xe1018006", "controlled by another application", "exclusively opened by another")


def sdk() -> Any:
    """Return the module `pypylon.pylon`. Raises `SdkMissing`."""
    try:
        from pypylon import pylon
    except ImportError as error:
        raise SdkMissing("the camera driver pylon needs pypylon; run: pip install pypylon") from error
    return pylon


class PylonCamera:
    """See `drivers.cameras.base.Camera`. `scene` is what an emulated camera looks at; real ones look for themselves."""

    #: What a test may ask of an emulated camera, also through the process that hosts it.
    EMULATED_ACTIONS = ("fire", "remove", "truncate_next")

    def __init__(self, settings: CameraSettings, scene: Scene | None = None, clock: Monotonic = monotonic) -> None:
        self._pylon = sdk()
        self._settings = settings
        self._stage = PylonStage(scene)
        self._clock = clock
        self._timeout_ms = max(1, int(settings.frame_timeout_s * 1e3))
        self._recipe: Recipe | None = None  # the last one asked for, also when the camera refused it
        self._armed: Armed | None = None  # set up and grabbing
        self._closed = False
        self._clean = False  # no frame of an earlier trigger can be under way
        self._camera: Any = None
        self._watch: RemovalWatch | None = None
        self._found: tuple[str, Any] | None = None  # the device, and the name that it was found under
        self._formats = format_names(self._pylon)
        self._nodes = CameraNodes(self._pylon.GenericException)
        self.allocate: Allocate = np.empty
        self._features = GenApiFeatures(settings.device, self._nodes)
        #: Makes the camera ready for its next trigger beside everything else.
        self.readiness = Readiness((self._pylon.GenericException,), settings.frame_timeout_s, clock)
        self._exposer = Exposer(self._features, self.readiness, self._takes_trigger)
        self._assembly = Assembly(settings.device)
        self.name, self.emulated = self._open()
        # The emulator exposes whole milliseconds: below one not at all.
        self._assembly.exposes_in_us = 1000.0 if self.emulated else 0.0

    @property
    def features(self) -> GenApiFeatures:
        """See the contract. Raises `AcquisitionTimeout` when the camera does not return from being prepared."""
        self.readiness.settle()
        return self._features

    def configure(self, recipe: Recipe) -> None:
        """See the contract."""
        self._recipe = recipe
        self._armed = None
        if self._camera is None:
            raise CameraError(f"camera {self.name} is not open; check its cable and power")
        try:
            self._stop()
            armed = arm(self._features, recipe, self._settings, emulated=self.emulated)
            self._assembly.set_up(recipe, armed)
            if self.emulated:
                self._stage.set_up(self._features, recipe)
            self._camera.MaxNumBuffer.Value = buffers_for(recipe, self._settings)
            self._exposer.set_up(exposures_of(recipe), emulated=self.emulated)
            self._start()
        except self._pylon.GenericException as error:
            self._stop_quietly()
            raise CameraError(f"camera {self.name} can't be set up: {sentence(error)}; see the recipe") from error
        except CameraError as error:
            self._stop_quietly()
            raise CameraError(f"camera {self.name} can't be set up: {error}", fault=error.fault) from error
        self._armed = armed

    def expose(self, channel: Channel, meanwhile: Meanwhile = nothing) -> Frame:
        """See the contract."""
        recipe, armed = self._ready(software=True)
        shared = self._assembly.take_shared(channel, self.allocate)
        if shared is not None:
            meanwhile()
            return shared
        pylon, camera = self._pylon, self._camera
        clean, self._clean = self._clean, False
        try:
            if not clean:
                # The frame of a trigger that was given up may still come, and would pass for the next one's.
                self._stop()
                self._start()
                self._clean = False
            self._exposer.check(channel)
            self._stage.show(recipe, channel)
            actual = self._exposer.make_ready(channel, self._timeout_ms)
            before = self._clock()
            camera.TriggerSoftware.Execute()
            meanwhile()
            # Asked while the sensor is exposed, because the answer may take a millisecond.
            self._require_there(asked=False)
            delivery = self._retrieve(channel, armed, self._timeout_ms)
            if delivery is None:
                self._require_there(asked=True)
                raise AcquisitionTimeout(
                    f"channel {channel.name}: no frame from camera {self.name} within {self._timeout_ms} ms; "
                    "check its cable and bandwidth"
                )
            exposed = before, self._clock()
            self._exposer.prepare(channel)
            frame = self._assembly.take(delivery, channel, actual, self.allocate, exposed)
        except pylon.GenericException as error:
            raise self._failed(channel, error) from error
        self._stage.require_shown(frame)
        self._clean = True
        return frame

    def await_frame(self, channel: Channel, timeout_s: float) -> Frame | None:
        """See the contract."""
        _, armed = self._ready(software=False)
        actual = armed.actual.get(channel.name, (0.0, 0.0))
        timeout_ms = max(1, round(timeout_s * 1e3))
        try:
            frame = self._assembly.awaited(
                channel, actual, self.allocate, lambda: self._retrieve(channel, armed, timeout_ms)
            )
            if frame is None:
                self._require_there(asked=True)
            return frame
        except self._pylon.GenericException as error:
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
        self.readiness.close()
        self._stage.close()

    def fire(self) -> None:
        """Let an emulated camera that waits for its line expose once for each exposure of the recipe.

        The emulator takes its software trigger whatever its trigger source is (docs/notes/cameras.md). A camera that is
        gone does not see the edge.
        """
        recipe, _ = self._ready(software=False)
        with contextlib.suppress(self._pylon.GenericException):
            for channel in exposures_of(recipe):
                self._stage.show(recipe, channel)
                self._camera.WaitForFrameTriggerReady(self._timeout_ms, self._pylon.TimeoutHandling_Return)
                self._camera.TriggerSoftware.Execute()

    def remove(self) -> None:
        """Let an emulated camera look as if its cable had been pulled, until :meth:`recover`."""
        self._features.execute("FirePnPCallback")

    def truncate_next(self) -> None:
        """Let an emulated camera's next buffer come incomplete."""
        self._features.write("ForceFailedBufferCount", 1)
        self._features.execute("ForceFailedBuffer")

    def _open(self) -> tuple[str, bool]:
        pylon = self._pylon
        factory = pylon.TlFactory.GetInstance()
        device, created = self._create(factory)
        serial = str(device.GetSerialNumber())
        try:
            self._camera = pylon.InstantCamera(created or factory.CreateDevice(device))
            self._camera.Open()
            self._watch = RemovalWatch(pylon, self._camera)
            emulated = device.GetDeviceClass() == _EMULATED_CLASS
            self._nodes.attach(self._camera.GetNodeMap(), emulated=emulated)
            self._shorten_heartbeat()
        except pylon.GenericException as error:
            self._release()
            raise opening_error(serial, error) from error
        self._features.camera = serial
        self._assembly.opened(serial)
        return serial, emulated

    def _create(self, factory: Any) -> tuple[Any, Any]:
        """Return what is known of the device, and the device where it was there without looking for it.

        Looking for cameras takes a quarter of a second even when there is one only.
        """
        wanted = self._settings.device
        if self._found is not None and self._found[0] == wanted:
            with contextlib.suppress(self._pylon.GenericException):
                return self._found[1], factory.CreateDevice(self._found[1])
        self._found = None
        device = self._chosen(factory.EnumerateDevices())
        self._found = (wanted, device)
        return device, None

    def _chosen(self, devices: Any) -> Any:
        wanted = self._settings.device
        found = [
            device
            for device in devices
            if not wanted or wanted in {device.GetSerialNumber(), device.GetUserDefinedName(), device.GetFriendlyName()}
        ]
        if not found:
            named = f" {wanted}" if wanted else ""
            raise CameraError(f"there is no pylon camera{named}; check its cable, power and address")
        if len(found) > 1:
            serials = ", ".join(sorted(device.GetSerialNumber() for device in found))
            raise ConfigurationError(f"there are several pylon cameras ({serials}); set camera.device to one of them")
        return found[0]

    def _shorten_heartbeat(self) -> None:
        node = self._camera.GetTLNodeMap().GetNode("HeartbeatTimeout")
        if node is not None and node.IsValid() and node.IsWritable():
            node.Value = max(node.Min, min(node.Max, _HEARTBEAT_MS))

    def _takes_trigger(self, timeout_ms: int) -> bool:
        return bool(self._camera.WaitForFrameTriggerReady(timeout_ms, self._pylon.TimeoutHandling_Return))

    def _retrieve(self, channel: Channel, armed: Armed, timeout_ms: int) -> Delivery | None:
        """Return the next whole buffer, None when there is none in time. Raises `CameraError` for one that is not."""
        result = self._camera.RetrieveResult(timeout_ms, self._pylon.TimeoutHandling_Return)
        if not result.IsValid():
            return None
        try:
            if not result.GrabSucceeded():
                raise CameraError(
                    f"channel {channel.name}: camera {self.name} delivered an incomplete frame "
                    f"({result.GetErrorDescription().strip().rstrip('.')}); check cable and bandwidth",
                    fault=AcquisitionFault.INCOMPLETE,
                )
            return Delivery(
                data=np.frombuffer(result.GetImageMemoryView(), np.uint8),
                width=int(result.Width),
                height=int(result.Height),
                padding=int(result.PaddingX),
                pixel_format=self._formats.get(int(result.PixelType), f"{int(result.PixelType):#x}"),
                block_id=int(result.BlockID),
                timestamp_ns=round(int(result.TimeStamp) * armed.tick_ns),
                chunks=self._chunks(result, armed),
                release=result.Release,
            )
        except (CameraError, self._pylon.GenericException):
            result.Release()
            raise

    def _chunks(self, result: Any, armed: Armed) -> ChunkData:
        if not armed.chunks.nodes:
            return ChunkData()
        nodes = ResultNodes(result, self._pylon.GenericException)
        return armed.chunks.read(GenApiFeatures(self.name, nodes))

    def _ready(self, *, software: bool) -> tuple[Recipe, Armed]:
        if self._recipe is None or self._armed is None:
            raise CameraError(f"camera {self.name} is not configured; prepare a recipe first")
        if software != (self._settings.trigger == "software"):
            how = "its line; await its frames" if software else "software; expose"
            raise CameraError(f"camera {self.name} is triggered by {how}, or change camera.trigger")
        return self._recipe, self._armed

    def _require_there(self, *, asked: bool) -> None:
        if self._watch is not None and (self._watch.asked() if asked else self._watch.gone(self._clock())):
            raise CameraError(f"camera {self.name} is gone; check its cable and power")

    def _failed(self, channel: Channel, error: Exception) -> CameraError:
        return CameraError(
            f"channel {channel.name}: camera {self.name} failed: {sentence(error)}; check cable and power"
        )

    def _start(self) -> None:
        self._camera.StartGrabbing(self._pylon.GrabStrategy_OneByOne, self._pylon.GrabLoop_ProvidedByUser)
        self._assembly.restart()
        self._clean = True

    def _stop(self) -> None:
        self._exposer.forget()
        self._assembly.let_go()
        if self._camera.IsGrabbing():
            self._camera.StopGrabbing()

    def _stop_quietly(self) -> None:
        with contextlib.suppress(self._pylon.GenericException, AcquisitionTimeout):
            self._stop()

    def _release(self) -> None:
        self._armed = None
        if self._camera is None:
            return
        self._stop_quietly()
        self._features.forget()
        self._nodes.detach()
        if self._watch is not None:
            with contextlib.suppress(self._pylon.GenericException):
                self._watch.end()
            self._watch = None
        with contextlib.suppress(self._pylon.GenericException):
            self._camera.Close()
        with contextlib.suppress(self._pylon.GenericException):
            self._camera.DestroyDevice()
        self._camera = None


def opening_error(serial: str, error: Exception) -> CameraError:
    """Return what it means that a camera does not open."""
    if any(text in str(error).lower() for text in _TAKEN):
        return CameraError(
            f"camera {serial} is controlled by another application, or by one that died less than a heartbeat "
            f"({_HEARTBEAT_MS / 1e3:g} s) ago; close the other one, and it is tried again"
        )
    return CameraError(f"camera {serial} does not open: {sentence(error)}; check its cable and power")
