"""What a set costs by the number of channels and the size of the sensor, and that memory stays bounded."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.imaging import cells
from benchmarks.imaging.load import Note
from cell.frames import FailedAcquisition
from daemon.acquire import Acquirer
from drivers.cameras.isolated import IsolatedCamera
from drivers.registry import open_rig

Figures = dict[str, Any]

_EXPOSURE_US = 100.0


def cost(channels: int, megapixels: float, sets: int, bit_depth: Literal[8, 12], note: Note) -> Figures:
    """Take `sets` sets without pauses, each held while the next is taken, as the daemon does; memory in MB.

    `set_ms` is without the exposures. `shared_mb` is the memory of all frame buffers that were ever written, which both
    processes see: with buffers used again it stays at two sets, however many went by. `daemon_grown_mb` and
    `camera_process_mb` are each process's own, the latter with the album of what it shows.
    """
    width = 32 * round(np.sqrt(megapixels * 1e6 * 4 / 3) / 32)
    height = 32 * round(megapixels * 1e6 / width / 32)
    recipe = cells.recipe(channels, height, width, exposure_us=_EXPOSURE_US, bit_depth=bit_depth)
    size_mb = channels * height * width * (1 if bit_depth <= 8 else 2) / 1e6
    # Unmarked and of the sensor's own depth: the simulated camera then copies nothing but into the shared memory.
    settings = cells.settings(
        "simulated", channels, album_mb=1.1 * size_mb, frame_timeout_s=30.0, mark=False, bit_depth=bit_depth
    )
    rig = open_rig(settings)
    try:
        acquirer = Acquirer(rig)
        acquirer.configure(recipe)
        same = cells.part(0, recipe)
        note(f"{channels} channels of {megapixels:g} MP, rendering", 0, sets)
        held = acquirer.take(same)  # rendered once, kept by the camera's album
        first = isinstance(held, FailedAcquisition)
        durations, before_mb, peak_mb, faults = [], cells.resident_mb(), 0.0, int(first)
        for number in range(sets):
            note(f"{channels} channels of {megapixels:g} MP", number, sets)
            begun = time.perf_counter()
            acquired = acquirer.take(same)
            durations.append((time.perf_counter() - begun) * 1e3 - channels * _EXPOSURE_US / 1e3)
            faults += isinstance(acquired, FailedAcquisition)
            peak_mb = max(peak_mb, cells.resident_mb() - before_mb)
            held = acquired
        del held
        median_ms = float(np.median(durations))
        camera = rig.camera
        return {
            "channels": channels,
            "megapixels": round(height * width / 1e6, 1),
            "bit_depth": bit_depth,
            "sets": sets,
            "faults": faults,
            "set_mb": round(size_mb, 1),
            "set_ms": cells.percentiles(durations),
            "ms_per_frame": round(median_ms / channels, 3),
            "gigabytes_per_s": round(size_mb / median_ms, 2),
            "shared_mb": round(_shared_mb(), 1),
            "daemon_grown_mb": round(peak_mb, 1),
            "camera_process_mb": (
                round(cells.resident_mb(camera.pid), 1) if isinstance(camera, IsolatedCamera) else None
            ),
        }
    finally:
        rig.close()


def _shared_mb() -> float:
    """Return what the frame buffers of this process take, MB: pages of them that were never written take nothing."""
    blocks: dict[int, int] = {}  # by file: a mapping holds a second descriptor of it
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the folder's own, closed by now
            if "inspectd-frames" in str(descriptor.readlink()):
                found = descriptor.stat()
                blocks[found.st_ino] = found.st_blocks
    return sum(blocks.values()) * 512 / 1e6
