"""Which drivers there are, and how a cell's settings become a camera, a light and an engine.

This is the one place that knows the drivers by name. Vendor libraries are imported when a driver is opened, so that any
configuration can be read on any machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cell.settings import Settings
from drivers.cameras.base import Camera
from drivers.engines.registry import load_engine
from drivers.lights.base import Light

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
    raise SystemExit  # being written
