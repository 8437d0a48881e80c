"""Which drivers there are, and how a cell's settings become a camera, a light and an engine.

This is the one place that knows the drivers by name. Vendor libraries are imported when a driver is opened, so that any
configuration can be read on any machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cell.errors import InspectdError
from cell.frames import Pixels
from cell.settings import Settings
from drivers.cameras.base import Camera
from drivers.cameras.genicam import GenicamCamera
from drivers.cameras.pylon import PylonCamera
from drivers.cameras.simulated import SimulatedCamera
from drivers.engines.registry import load_engine
from drivers.lights.base import Light
from drivers.lights.simulated import SimulatedLight
from drivers.sim.cell import EmulatedCell, open_product
from drivers.sim.scene import Scene

__all__ = ["Rig", "load_engine", "open_rig"]


@dataclass(frozen=True, slots=True)
class Rig:
    """The opened hardware of one cell.

    `present(part_id)` puts a part in front of an emulated camera (`DataError` for an unknown part) and does nothing on
    a real cell, where the line does that. `emulated` is True when any driver says so of itself.
    """

    camera: Camera
    light: Light
    present: Callable[[str], None]
    emulated: bool

    def close(self) -> None:
        """Switch the light off, then release both devices. Never raises."""
        self.light.close()
        self.camera.close()


def open_rig(settings: Settings) -> Rig:
    """Open the configured camera and light, and on an emulated cell the feeder between them.

    :raises SdkMissing: a vendor's library is not installed; the message names the command.
    :raises ConfigurationError: the settings name a device, product or folder that is not there.
    :raises CameraError, LightError: a device does not open. Nothing stays open then.
    """
    scene = _LazyScene(settings)
    camera = CAMERAS[settings.camera.driver](settings, scene)
    try:
        cell = scene.open() if camera.emulated else None
        light = LIGHTS[settings.light.driver](settings, cell)
    except InspectdError:
        camera.close()
        raise
    return Rig(
        camera=camera,
        light=light,
        present=cell.present if cell is not None else _leave_to_the_line,
        emulated=camera.emulated or light.emulated,
    )


class _LazyScene:
    """The emulated cell, made only when a driver turns out to be emulated: a real cell has no product to render."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cell: EmulatedCell | None = None

    def open(self) -> EmulatedCell:
        if self._cell is None:
            self._cell = EmulatedCell(open_product(self._settings.emulated), self._settings.emulated.random_seed)
        return self._cell

    def picture(self, height: int, width: int, exposure_us: float, gain_db: float) -> Pixels:
        return self.open().picture(height, width, exposure_us, gain_db)


def _pylon(settings: Settings, scene: Scene) -> Camera:
    return PylonCamera(settings.camera, scene)


def _genicam(settings: Settings, scene: Scene) -> Camera:
    del scene  # a GenTL simulator shows its own test pattern
    return GenicamCamera(settings.camera)


def _simulated_camera(settings: Settings, scene: Scene) -> Camera:
    return SimulatedCamera(scene, settings.camera.frame_timeout_s)


def _simulated_light(settings: Settings, cell: EmulatedCell | None) -> Light:
    lines = settings.light.lines
    if cell is None:
        return SimulatedLight(lines)
    return SimulatedLight(cell.product.lines or lines, cell.illuminate)


def _leave_to_the_line(part_id: str) -> None:
    """Do nothing: on a real cell the line brings the part."""
    del part_id


CAMERAS: dict[str, Callable[[Settings, Scene], Camera]] = {
    "pylon": _pylon,
    "genicam": _genicam,
    "simulated": _simulated_camera,
}
LIGHTS: dict[str, Callable[[Settings, EmulatedCell | None], Light]] = {"simulated": _simulated_light}
