"""What a set costs by the number of channels and the size of the sensor, and that memory stays bounded."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.imaging import cells
from benchmarks.imaging.load import Note
from cell.frames import FailedAcquisition
from daemon.acquire import Acquirer
from daemon.parts import Part
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
        label = f"{channels} channels of {megapixels:g} MP"
        note(f"{label}, rendering", 0, sets)
        taken = _held_while_next(acquirer, same, sets, partial(note, label))
        durations = [duration - channels * _EXPOSURE_US / 1e3 for duration in taken.set_ms]
        median_ms = float(np.median(durations))
        camera = rig.camera
        return {
            "channels": channels,
            "megapixels": round(height * width / 1e6, 1),
            "bit_depth": bit_depth,
            "sets": sets,
            "faults": taken.faults,
            "set_mb": round(size_mb, 1),
            "set_ms": cells.percentiles(durations),
            "ms_per_frame": round(median_ms / channels, 3),
            "gigabytes_per_s": round(size_mb / median_ms, 2),
            "shared_mb": round(_shared_mb(), 1),
            "daemon_grown_mb": round(taken.grown_mb, 1),
            "camera_process_mb": (
                round(cells.resident_mb(camera.pid), 1) if isinstance(camera, IsolatedCamera) else None
            ),
        }
    finally:
        rig.close()


@dataclass(slots=True)
class _Taken:
    set_ms: list[float] = field(default_factory=list)
    faults: int = 0
    grown_mb: float = 0.0


def _held_while_next(acquirer: Acquirer, part: Part, sets: int, note: Callable[[int, int], None]) -> _Taken:
    """Take a first set, which is rendered and kept by the camera's album, and `sets` more, timed."""
    taken = _Taken()
    held = acquirer.take(part)
    taken.faults += isinstance(held, FailedAcquisition)
    before_mb = cells.resident_mb()
    for number in range(sets):
        note(number, sets)
        begun = time.perf_counter()
        acquired = acquirer.take(part)
        taken.set_ms.append((time.perf_counter() - begun) * 1e3)
        taken.faults += isinstance(acquired, FailedAcquisition)
        taken.grown_mb = max(taken.grown_mb, cells.resident_mb() - before_mb)
        held = acquired
    del held
    return taken


def _shared_mb() -> float:
    """Return what the frame buffers of this process take, MB: pages of them that were never written take nothing."""
    blocks: dict[int, int] = {}  # by file: a mapping holds a second descriptor of it
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the folder's own, closed by now
            if "inspectd-frames" in str(descriptor.readlink()):
                found = descriptor.stat()
                blocks[found.st_ino] = found.st_blocks
    return sum(blocks.values()) * 512 / 1e6
