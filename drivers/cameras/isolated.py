"""A camera whose vendor's code runs in a process of its own: it can crash or hang there, and the line goes on.

::

    ready --a call fails--> ready or lost, as the driver in the process says
      |  \\--a call does not return in its time--> killed, `AcquisitionTimeout` --> lost
      |   \\--the process dies--> `CameraError` --> lost
    lost --recover(patience_s)--> still coming back (`StillBusy`) --recover(patience_s)--> ready

Every call ends within a limit of its own. Pixels come through `drivers.cameras.shared_frames`; everything else is a few
hundred bytes of JSON for each frame.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from cell.clock import Monotonic, monotonic
from cell.errors import CameraError, DataError, HardwareError, InspectdError, StillBusy
from cell.frames import Frame
from cell.recipes import Channel, Recipe
from cell.settings import CameraSettings, EmulatedCellSettings
from drivers.cameras.base import Meanwhile, nothing
from drivers.cameras.messages import frame_of, shape_of
from drivers.cameras.process import CameraProcess
from drivers.cameras.shared_frames import FrameRing, RingPlan

_LOG = logging.getLogger(__name__)

#: How long a vendor's library may take, seconds. Opening looks for cameras on every network.
_OPEN_S = 30.0
_RECOVER_S = 15.0
_CONFIGURE_S = 5.0  # with the time to kill it below the unit's WatchdogSec
_FEATURE_S = 3.0
_CLOSE_S = 3.0
_REPLACE_S = 1.0
_PRESENT_S = 60.0  # an emulated part may have to be rendered
#: Beyond the frame's own time-out: writing exposure and gain, copying the pixels.
_SLACK_S = 1.0
#: A library that failed so often in a row gets a new process: its own state may be what is wrong.
_FAILURES_FOR_NEW_PROCESS = 8
#: After so many recoveries a process is replaced: pylon leaves 30 to 70 KB behind at each (docs/notes/isolation.md).
_RECOVERIES_FOR_NEW_PROCESS = 25


class IsolatedCamera:
    """See `drivers.cameras.base.Camera`. The constructor waits until the camera is open.

    :param role: the camera's name in the settings.
    :raises SdkMissing, ConfigurationError, CameraError, AcquisitionTimeout: it does not open; nothing is left running.
    """

    def __init__(
        self, settings: CameraSettings, emulated: EmulatedCellSettings, role: str, clock: Monotonic = monotonic
    ) -> None:
        self._settings = settings
        self._cell = emulated
        self._role = role
        self._clock = clock
        self._closed = False
        self._recipe: Recipe | None = None  # the last one asked for, also when the camera refused it
        self._told: Recipe | None = None  # the last one that the process was told
        self._ring: FrameRing | None = None
        self._shared = False  # the process has the ring
        self._scene: dict[str, Any] = {}  # what lies before an emulated camera, and which lines shine
        self._shown: dict[str, Any] = {}  # what the process knows of that
        self._failures = 0  # of attempts to recover, in a row
        self._recoveries = 0  # in this process
        self._last_id = 0
        self._earlier = 0  # frames that earlier processes counted: the count goes on
        self.name, self.emulated = role, False
        #: Light lines of the emulated product; None when any light shows it or the camera is real.
        self.lines: tuple[str, ...] | None = None
        self.features = RemoteFeatures(self)
        self.restarts = 0
        self._process = self._start()
        try:
            self._take_identity(self._process.finish(_OPEN_S))
        except InspectdError:
            self._process.close(_CLOSE_S)
            raise

    @property
    def pid(self) -> int:
        """Id of the process that hosts the camera now."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """False after the process was killed or died, until :meth:`recover`."""
        return self._process.alive

    def configure(self, recipe: Recipe) -> None:
        """See the contract. Raises `AcquisitionTimeout` when the camera takes longer than 5 s."""
        self._recipe = recipe
        self._require_open()
        self._process.begin("configure", _CONFIGURE_S, **self._recipe_and_memory())
        self._process.finish(_CONFIGURE_S)

    def expose(self, channel: Channel, meanwhile: Meanwhile = nothing) -> Frame:
        """See the contract. The frame's pixels are read-only and shared with the camera's process."""
        frame = self._take("expose", channel, self._settings.frame_timeout_s, meanwhile)
        if frame is None:
            raise CameraError(f"channel {channel.name}: the process of camera {self._role} gave no frame; see its log")
        return frame

    def await_frame(self, channel: Channel, timeout_s: float) -> Frame | None:
        """See the contract."""
        return self._take("await_frame", channel, timeout_s)

    def recover(self, patience_s: float = _OPEN_S) -> None:
        """Bring the camera back, in its process or, when that is gone, in a new one. See the contract.

        Raises `StillBusy` when it is still under way after `patience_s`: to be called again soon, it goes on meanwhile.
        """
        if self._closed:
            raise CameraError(f"camera {self._role} is closed; open the cell again")
        process = self._process
        try:
            if not process.alive or (not process.busy and self._worn_out):
                process.close(_REPLACE_S)
                process = self._process = self._start()
                self.restarts += 1
                self._failures = self._recoveries = 0
            elif not process.busy:
                process.begin("recover", _RECOVER_S)
            self._take_identity(process.finish(patience_s))
            if self._recipe is not None and self._recipe is not self._told:
                self.configure(self._recipe)  # another recipe was asked for meanwhile
        except StillBusy:
            raise
        except HardwareError:
            self._failures += 1
            raise
        except InspectdError as error:
            self._failures += 1
            raise CameraError(str(error)) from error
        self._failures = 0
        self._recoveries += 1

    def close(self) -> None:
        """See the contract."""
        if self._closed:
            return
        self._closed = True
        self._process.close(_CLOSE_S)
        self._drop_ring()

    def present(self, part_id: str) -> None:
        """Put a part before an emulated camera; nothing happens at a real one. Raises `DataError` for an unknown part.

        A camera that is gone raises nothing here: the next exposure does.
        """
        if not self.emulated:
            return
        self._scene["part"] = part_id
        self._shown.pop("part", None)
        if not self._process.alive or self._process.busy:
            return
        try:
            self._process.begin("present", _PRESENT_S, part_id=part_id)
            self._process.finish_while_alive()
        except DataError:
            del self._scene["part"]
            raise
        except HardwareError as error:
            _LOG.error("camera %s: part %s can't be presented: %s", self._role, part_id, error)
        else:
            self._shown["part"] = part_id

    def illuminate(self, lights: Mapping[str, float]) -> None:
        """Let exactly these lines shine on what an emulated camera sees; it is told with the next exposure."""
        self._scene["lights"] = dict(lights)

    def ask(self, call: str, **arguments: Any) -> Any:
        """Carry out a short call in the camera's process and return its value. Raises what :meth:`expose` does."""
        self._require_open()
        return self._process.call(call, _FEATURE_S, **arguments)

    def emulate(self, action: str, *arguments: Any) -> Any:
        """Do to an emulated camera what never happens on request to a real one; from any thread, during any call.

        ``emulate("mishap", CALL, KIND)`` lets the process come to grief at the next call of that name, or while pylon's
        driver is made ready for the next trigger if CALL is ``"prepare"``: KIND is
        ``"hang"``, for ever and without letting go of the interpreter, or a signal's name such as ``"SIGSEGV"``. Any
        other action is a method of the driver that stands in its ``EMULATED_ACTIONS``, such as ``inject``, ``plug_in``
        and ``fire`` of the simulated camera. Raises `CameraError`, and `DataError` for an unknown part.
        """
        return self._process.ask_beside(_FEATURE_S, action, arguments)

    def _start(self) -> CameraProcess:
        # New memory as well: whatever the old process still does, it can't do it to the new one's frames.
        self._drop_ring()
        self._shown = {}
        self._told = None
        self._earlier = self._last_id
        process = CameraProcess(self._role, self._clock)
        try:
            process.begin(
                "open",
                _OPEN_S,
                settings=self._settings.model_dump(mode="json"),
                emulated=self._cell.model_dump(mode="json"),
                **self._recipe_and_memory(),
            )
        except HardwareError:
            process.kill()
            raise
        return process

    def _recipe_and_memory(self) -> dict[str, Any]:
        """Return what the process must be told for the present recipe; the descriptor is sent beside it."""
        recipe = self._recipe
        self._told = recipe
        if recipe is None:
            return {"recipe": None}
        plan = RingPlan.of(recipe)
        if self._ring is None or self._ring.plan != plan:
            self._drop_ring()
            self._ring = FrameRing(plan)
        told: dict[str, Any] = {"recipe": recipe.model_dump_json()}
        if not self._shared:
            self._shared = True
            told |= {"descriptor": self._ring.descriptor, "slot_bytes": plan.slot_bytes}
        return told

    def _take_identity(self, told: dict[str, Any]) -> None:
        self.name, self.emulated = str(told["name"]), bool(told["emulated"])
        self.lines = None if told["lines"] is None else tuple(told["lines"])

    def _take(self, call: str, channel: Channel, timeout_s: float, meanwhile: Meanwhile = nothing) -> Frame | None:
        if self._recipe is None:
            raise CameraError(f"camera {self.name} is not configured; prepare a recipe first")
        self._require_open()
        ring = self._ring
        if ring is None or not self._shared:
            raise CameraError(f"camera {self.name} was not set up for recipe {self._recipe.recipe_id}; prepare it anew")
        news = {key: value for key, value in self._scene.items() if self._shown.get(key) != value}
        slot = ring.take()
        try:
            limit_s = timeout_s + _SLACK_S
            self._process.begin(
                call,
                limit_s,
                channel=channel.model_dump_json(),
                slot=slot,
                scene=news if self.emulated else {},
                timeout_s=timeout_s,
            )
            meanwhile()
            told = self._process.finish(limit_s)
            shape, dtype = shape_of(told) if told is not None else ((0, 0), "")
        except InspectdError:
            ring.give_back(slot)
            raise
        self._shown.update(news)
        if told is None:
            ring.give_back(slot)
            return None
        frame = frame_of(told | {"frame_id": told["frame_id"] + self._earlier}, ring.lease(slot, shape, dtype))
        self._last_id = frame.frame_id
        return frame

    @property
    def _worn_out(self) -> bool:
        """True when the vendor's library deserves a new process. The simulated device would be a new one too."""
        used_up = self._failures >= _FAILURES_FOR_NEW_PROCESS or self._recoveries >= _RECOVERIES_FOR_NEW_PROCESS
        return used_up and self._settings.driver != "simulated"

    def _require_open(self) -> None:
        if self._closed:
            raise CameraError(f"camera {self._role} is closed; open the cell again")
        if not self._process.alive or self._process.busy:
            raise CameraError(f"camera {self._role} is gone and is being brought back; check its cable and power")

    def _drop_ring(self) -> None:
        if self._ring is not None:
            self._ring.close()
        self._ring = None
        self._shared = False


class RemoteFeatures:
    """The device's features, read and written in the camera's process; see `drivers.cameras.base.Features`."""

    def __init__(self, camera: IsolatedCamera) -> None:
        self._camera = camera

    def names(self) -> tuple[str, ...]:
        """Names of all features."""
        return tuple(self._ask("names"))

    def read(self, name: str) -> str | int | float | bool:
        """Return a feature's value. Raises `CameraError`."""
        value: str | int | float | bool = self._ask("read", name)
        return value

    def write(self, name: str, value: str | int | float | bool) -> str | int | float | bool:
        """Write a feature and return what the camera made of it. Raises `CameraError` naming both when it differs."""
        actual: str | int | float | bool = self._ask("write", name, value)
        return actual

    def execute(self, name: str) -> None:
        """Carry out a command feature. Raises `CameraError`."""
        self._ask("execute", name)

    def _ask(self, action: str, *arguments: Any) -> Any:
        return self._camera.ask("feature", action=action, arguments=arguments)
