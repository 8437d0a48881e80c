"""What a set costs by the number of channels and the size of the sensor, and that memory stays bounded."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.imaging import cells
from benchmarks.imaging.load import Note
from cell.frames import FailedAcquisition
from daemon.acquire import Acquirer
from drivers.cameras.isolated import IsolatedCamera
from drivers.registry import open_rig

_EXPOSURE_US = 100.0


def cost(channels: int, megapixels: float, sets: int, bit_depth: int, note: Note) -> dict[str, Any]:
    """Take `sets` sets without pauses, one held at a time; ms a set without the exposures, memory in MB.

    `daemon_grown_mb` counts the frames that are shared with the camera's process: with buffers used again it stays at
    `set_mb` or so, however many sets went by.
    """
    width = 32 * round(np.sqrt(megapixels * 1e6 * 4 / 3) / 32)
    height = 32 * round(megapixels * 1e6 / width / 32)
    recipe = cells.recipe(channels, height, width, exposure_us=_EXPOSURE_US, bit_depth=bit_depth)
    size_mb = channels * height * width * (1 if bit_depth <= 8 else 2) / 1e6
    rig = open_rig(cells.settings("simulated", channels, album_mb=1.1 * size_mb, frame_timeout_s=30.0))
    try:
        acquirer = Acquirer(rig)
        acquirer.configure(recipe)
        same = cells.part(0, recipe)
        acquirer.take(same)  # rendered once, kept by the camera's album
        durations, peak_mb, faults = [], 0.0, 0
        before_mb = _touched_mb()
        for number in range(sets):
            note(f"{channels} channels of {megapixels:g} MP", number, sets)
            begun = time.perf_counter()
            acquired = acquirer.take(same)
            durations.append((time.perf_counter() - begun) * 1e3 - channels * _EXPOSURE_US / 1e3)
            faults += isinstance(acquired, FailedAcquisition)
            del acquired
            peak_mb = max(peak_mb, _touched_mb() - before_mb)
        camera = rig.camera
        return {
            "channels": channels,
            "megapixels": round(height * width / 1e6, 1),
            "bit_depth": bit_depth,
            "sets": sets,
            "faults": faults,
            "set_mb": round(size_mb, 1),
            "set_ms": cells.percentiles(durations),
            "ms_per_frame": round(float(np.median(durations)) / channels, 3),
            "gigabytes_per_s": round(size_mb / 1e3 / (float(np.median(durations)) / 1e3), 2),
            "daemon_grown_mb": round(peak_mb, 1),
            "camera_process_mb": round(cells.resident_mb(camera.pid), 1)
            if isinstance(camera, IsolatedCamera)
            else None,
        }
    finally:
        rig.close()


def _touched_mb() -> float:
    """Return this process's resident memory with the frames that it shares with the camera's, MB."""
    resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return resident * resource.getpagesize() / 1e6
