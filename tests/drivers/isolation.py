"""What the tests of isolated cameras share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from cell.settings import CameraSettings, EmulatedCellSettings, LightSettings, Settings
from drivers.cameras.isolated import IsolatedCamera
from drivers.registry import Rig, open_rig

LINES = ("az000", "az180")


def settings_of(driver: str = "simulated", *, others: tuple[str, ...] = (), **camera: Any) -> Settings:
    """Return the settings of a plate with two lights, and of further cameras by these names."""
    section = CameraSettings.model_validate({"driver": driver, "frame_timeout_s": 1.0} | camera)
    return Settings(
        camera=section,
        cameras=dict.fromkeys(others, section),
        light=LightSettings(lines=LINES),
        emulated=EmulatedCellSettings(product="plate-2"),
    )


@contextmanager
def isolated(driver: str = "simulated", **more: Any) -> Iterator[tuple[Rig, IsolatedCamera]]:
    """Open a rig whose camera is in its own process, and close it."""
    rig = open_rig(settings_of(driver, **more))
    try:
        assert isinstance(rig.camera, IsolatedCamera)
        yield rig, rig.camera
    finally:
        rig.close()


def gone(pid: int) -> bool:
    """Tell whether a process has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def shared_files() -> set[str]:
    """Return the names in /dev/shm but for those that other programs of the same machine come and go with.

    These are pylon's semaphores, what other emulators are fed just now, and the stores of programs that try something.
    """
    others = ("sem.", "emu", "inspectd-feed-", "inspectd-store-")
    return {path.name for path in Path("/dev/shm").iterdir() if not path.name.startswith(others)}


def descriptors() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))
