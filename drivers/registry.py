"""Which drivers there are, and how a cell's settings become cameras, a light and an engine.

This is the one place that knows the drivers by name. Vendor libraries are imported when a driver is opened, so that any
configuration can be read on any machine, and for an isolated camera only in its own process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cell.clock import monotonic
from cell.errors import ConfigurationError, HardwareError, InspectdError
from cell.frames import Pixels
from cell.settings import CameraSettings, EmulatedCellSettings, Settings
from drivers.cameras.base import Camera
from drivers.cameras.genicam import GenicamCamera
from drivers.cameras.isolated import IsolatedCamera
from drivers.cameras.pylon import PylonCamera
from drivers.cameras.simulated import SimulatedCamera
from drivers.cameras.simulated_stage import Stage
from drivers.engines.registry import load_engine
from drivers.lights.base import Light
from drivers.lights.camera_lines import CameraLineLight
from drivers.lights.gardasoft import GardasoftLight
from drivers.lights.simulated import SimulatedLight
from drivers.lights.stepping import lamps_of

if TYPE_CHECKING:
    from drivers.sim.cell import EmulatedCell

__all__ = ["FIRST_CAMERA", "Rig", "load_engine", "open_rig"]

_LOG = logging.getLogger(__name__)

#: Pause between two looks for a camera that is not there, seconds.
_LOOK_AGAIN_S = 3.0
#: The name of the camera that the section `camera` of the settings describes.
FIRST_CAMERA = "camera"


@dataclass(frozen=True, slots=True)
class Rig:
    """The opened hardware of one cell.

    `present(part_id)` puts a part in front of the emulated cameras (`DataError` for an unknown part) and does nothing
    on a real cell, where the line does that. `emulated` is True when any driver says so of itself. `others` are the
    cameras beside the first, by their names in the settings; `on_line` names those that a line or an action command
    triggers.
    """

    camera: Camera
    light: Light
    present: Callable[[str], None]
    emulated: bool
    others: Mapping[str, Camera] = field(default_factory=dict)
    on_line: frozenset[str] = frozenset()

    @property
    def cameras(self) -> dict[str, Camera]:
        """All cameras by the names that a recipe's channels call them."""
        return {FIRST_CAMERA: self.camera, **self.others}

    def close(self) -> None:
        """Switch the light off, then release every device. Never raises."""
        self.light.close()
        for camera in self.cameras.values():
            camera.close()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a light's driver may need of the rest of the cell.

    `lines` are those that an emulated product answers to, or None; `illuminate` tells every emulated camera what
    shines.
    """

    cameras: Mapping[str, Camera]
    lines: tuple[str, ...] | None
    illuminate: Callable[[Mapping[str, float]], None]


def open_rig(settings: Settings, patience_s: float = 0.0) -> Rig:
    """Open the configured cameras and light, and on an emulated cell the feeder between them.

    :param patience_s: how long to look for an isolated camera that is not there: after a power cut a camera may take
        longer to start than the box, and one whose last owner died is taken until its heartbeat expires.
    :raises SdkMissing: a vendor's library is not installed; the message names the command.
    :raises ConfigurationError: the settings name a device, product or folder that is not there.
    :raises CameraError, LightError: a device does not open. Nothing stays open then.
    """
    if FIRST_CAMERA in settings.cameras:
        raise ConfigurationError(
            f"cameras.{FIRST_CAMERA} takes the name of the first camera; call the further one otherwise"
        )
    scene = LazyScene(settings.emulated)
    cameras: dict[str, Camera] = {}
    wanted = {FIRST_CAMERA: settings.camera, **settings.cameras}
    try:
        for role, camera_settings in wanted.items():
            lamps = lamps_of(settings.light, role, camera_settings)
            cameras[role] = _open_camera(role, camera_settings.model_copy(update={"lamps": lamps}), scene, patience_s)
        places = _emulated_places(cameras, scene)
        light = LIGHTS[settings.light.driver](settings, Surroundings(cameras, places.lines, places.illuminate))
    except InspectdError:
        for camera in cameras.values():
            camera.close()
        raise
    return Rig(
        camera=cameras[FIRST_CAMERA],
        light=light,
        present=places.present,
        emulated=any(camera.emulated for camera in cameras.values()) or light.emulated,
        others={role: camera for role, camera in cameras.items() if role != FIRST_CAMERA},
        on_line=frozenset(role for role, camera in wanted.items() if camera.trigger != "software"),
    )


class LazyScene:
    """The emulated cell, made only when a driver turns out to be emulated: a real cell has no product to render.

    See `drivers.cameras.simulated_stage.Stage`.
    """

    def __init__(self, settings: EmulatedCellSettings) -> None:
        self.settings = settings
        self._cell: EmulatedCell | None = None
        self.part_id = ""
        self.lights: Mapping[str, float] = {}

    def open(self) -> EmulatedCell:
        """Return the cell. Raises `ConfigurationError` when its product can't be used."""
        if self._cell is None:
            # Here, because a camera's process starts anew while the line waits, and a real one's never renders.
            from drivers.sim.cell import open_cell

            self._cell = open_cell(self.settings)
        return self._cell

    def present(self, part_id: str) -> None:
        """Put a part there. Raises `DataError` for an unknown part; the place is then empty."""
        self.part_id = ""
        self.open().present(part_id)
        self.part_id = part_id

    def illuminate(self, lights: Mapping[str, float]) -> None:
        """Let exactly these lines shine, at relative intensities in [0, 1]."""
        self.lights = dict(lights)
        self.open().illuminate(lights)

    def picture(
        self, height: int, width: int, exposure_us: float, gain_db: float, bit_depth: int | None = None
    ) -> Pixels:
        """Return what a sensor of that size sees now."""
        return self.open().picture(height, width, exposure_us, gain_db, bit_depth)

    @property
    def condition(self) -> Hashable:
        """See `drivers.cameras.simulated_stage.Drifting`."""
        return self.open().condition

    def pass_by(self, part_id: str) -> None:
        """See `drivers.cameras.simulated_stage.Drifting`. Raises `DataError` for an unknown part."""
        self.part_id = ""
        self.open().pass_by(part_id)
        self.part_id = part_id

    def look(self) -> None:
        """See `drivers.cameras.simulated_stage.Drifting`."""
        self.open().look()


@dataclass(frozen=True, slots=True)
class _Places:
    """Where emulated cameras look: in their own processes, and in this one. Empty on a real cell."""

    stages: tuple[IsolatedCamera | Stage, ...]
    lines: tuple[str, ...] | None  # light lines of the emulated product; None when any light shows it

    def present(self, part_id: str) -> None:
        for stage in self.stages:
            stage.present(part_id)

    def illuminate(self, lights: Mapping[str, float]) -> None:
        for stage in self.stages:
            stage.illuminate(lights)


def stage_of(camera: Camera, scene: LazyScene) -> Stage:
    """Return what an emulated camera of this process must be told of parts and light: its own stage, or the scene."""
    return camera.stage if isinstance(camera, SimulatedCamera) else scene


def _emulated_places(cameras: Mapping[str, Camera], scene: LazyScene) -> _Places:
    emulated = [camera for camera in cameras.values() if camera.emulated]
    isolated = [camera for camera in emulated if isinstance(camera, IsolatedCamera)]
    here = [stage_of(camera, scene) for camera in emulated if not isinstance(camera, IsolatedCamera)]
    if here:
        return _Places((*isolated, *here), scene.open().product.lines)
    return _Places(tuple(isolated), isolated[0].lines if isolated else None)


def _open_camera(role: str, settings: CameraSettings, scene: LazyScene, patience_s: float) -> Camera:
    if not settings.isolated:
        return CAMERAS[settings.driver](settings, scene)
    deadline = monotonic() + patience_s
    while True:
        try:
            return IsolatedCamera(settings, _seen_by(role, scene.settings), role)
        except HardwareError as error:
            left_s = deadline - monotonic()
            if left_s <= 0:
                raise
            _LOG.warning("camera %s does not open, looking for it for another %.0f s: %s", role, left_s, error)
            threading.Event().wait(min(_LOOK_AGAIN_S, left_s))


def _seen_by(role: str, settings: EmulatedCellSettings) -> EmulatedCellSettings:
    """Return the emulated cell for one camera: a pipe has one reader, so each further camera has its own sensor."""
    if settings.sensor is None or role == FIRST_CAMERA:
        return settings
    return settings.model_copy(update={"sensor": settings.sensor.with_name(f"{settings.sensor.name}-{role}")})


def _pylon(settings: CameraSettings, scene: LazyScene) -> Camera:
    return PylonCamera(settings, scene)


def _genicam(settings: CameraSettings, scene: LazyScene) -> Camera:
    del scene  # a GenTL simulator shows its own test pattern
    return GenicamCamera(settings)


def _simulated_camera(settings: CameraSettings, scene: LazyScene) -> Camera:
    emulated = scene.settings
    return SimulatedCamera(
        scene,
        settings.frame_timeout_s,
        trigger=settings.trigger,
        mark_frames=emulated.mark_frames,
        album_mb=emulated.album_mb,
        sensor=emulated.sensor,
    )


def _simulated_light(settings: Settings, around: Surroundings) -> Light:
    return SimulatedLight(around.lines or settings.light.names, around.illuminate)


def _gardasoft(settings: Settings, around: Surroundings) -> Light:
    light = settings.light
    wired = light.exposure_line or any(output.camera_line for output in light.outputs.values())
    camera = _lights_camera(settings, around) if wired else None
    return GardasoftLight(light, camera, triggered=_on_line(settings))


def _camera_lines(settings: Settings, around: Surroundings) -> Light:
    return CameraLineLight(_lights_camera(settings, around), settings.light, triggered=_on_line(settings))


def _on_line(settings: Settings) -> bool:
    """Tell whether the camera that light belongs to is triggered without the host."""
    role = settings.light.camera
    camera = settings.cameras.get(role, settings.camera)
    return camera.trigger != "software"


def _lights_camera(settings: Settings, around: Surroundings) -> Camera:
    camera = around.cameras.get(settings.light.camera)
    if camera is None:
        known = ", ".join(around.cameras)
        raise ConfigurationError(f"light.camera names {settings.light.camera}, but the cell's cameras are {known}")
    return camera


CAMERAS: dict[str, Callable[[CameraSettings, LazyScene], Camera]] = {
    "pylon": _pylon,
    "genicam": _genicam,
    "simulated": _simulated_camera,
}
LIGHTS: dict[str, Callable[[Settings, Surroundings], Light]] = {
    "simulated": _simulated_light,
    "gardasoft": _gardasoft,
    "camera_lines": _camera_lines,
}
