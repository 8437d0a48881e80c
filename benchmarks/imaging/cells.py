"""The emulated cells of the imaging benchmark: real drivers, the daemon's own acquirer, marked frames."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from cell.clock import monotonic, utc_now
from cell.frames import FrameSet
from cell.recipes import Channel, DefectClass, Recipe
from cell.settings import CameraSettings, EmulatedCellSettings, LightSettings, Settings
from daemon.parts import Part
from drivers.cameras import simulated_mark

#: Different parts that go round and round: rendering one is not the cell's work.
DISTINCT = 8
_PAGE_MB = resource.getpagesize() / 1e6


def settings(
    driver: Literal["pylon", "simulated"],
    lights: int,
    *,
    isolated: bool = True,
    album_mb: float = 1000.0,
    frame_timeout_s: float = 2.0,
    mark: bool = True,
    bit_depth: Literal[8, 12] = 8,
) -> Settings:
    """Return a cell with one camera and `lights` simulated lines around a plate.

    :param mark: let the simulated camera mark its frames, for which it copies each picture once.
    """
    return Settings(
        camera=CameraSettings(driver=driver, isolated=isolated, frame_timeout_s=frame_timeout_s),
        light=LightSettings(),
        emulated=EmulatedCellSettings(
            product=f"plate-{lights}",
            mark_frames=mark and driver == "simulated",
            album_mb=album_mb,
            bit_depth=bit_depth,
        ),
    )


def recipe(channels: int, height: int, width: int, *, exposure_us: float = 1000.0, bit_depth: int = 8) -> Recipe:
    """Return a recipe with one light for each channel, whose frames are not archived."""
    lines = [f"az{round(360 / channels * index):03d}" for index in range(channels)]
    return Recipe(
        recipe_id="imaging",
        product="plate",
        height=height,
        width=width,
        bit_depth=bit_depth,
        channels=tuple(Channel(name=line, exposure_us=exposure_us, lights={line: 1.0}) for line in lines),
        defect_classes=(DefectClass(name="pit"),),
    )


def part_name(number: int) -> str:
    """Return the id of the part that comes as number `number`."""
    return f"good-{number % DISTINCT:06d}"


def part(number: int, judged_by: Recipe) -> Part:
    """Return the trigger of part `number`, now."""
    return Part(
        job_id=f"j{number:08d}",
        trigger_id=number,
        part_id=part_name(number),
        recipe=judged_by,
        received=monotonic(),
        created_at=utc_now(),
    )


def wrong_frames(frames: FrameSet) -> int:
    """Count frames whose mark says another part or another light than the set says, or whose mark is gone."""
    wrong = 0
    wanted = simulated_mark.part_number(frames.part_id)
    for index, frame in enumerate(frames.frames):
        mark = simulated_mark.read(frame.pixels)
        wrong += mark is None or (mark.part, mark.channel) != (wanted, index)
    return wrong


def resident_mb(pid: int | str = "self") -> float:
    """Return a process's resident memory without what it shares with others, in MB (``/proc/PID/statm``)."""
    _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    return (int(resident) - int(shared)) * _PAGE_MB


def percentiles(values_ms: Sequence[float]) -> dict[str, float]:
    """Return p50, p99, p99.9 and max."""
    found = np.percentile(np.asarray(values_ms, np.float64), (50, 99, 99.9, 100))
    return {name: round(float(value), 3) for name, value in zip(("p50", "p99", "p99.9", "max"), found, strict=True)}
