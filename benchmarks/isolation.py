"""What a camera's own process costs, and how it comes back: ``python -m benchmarks.isolation --json FILE``.

- The time of one exposure through the process against the same driver in the same program, in turns, in one run.
- Reconnects: the device goes, every part is FAULT, the device returns; how long until a whole frame comes again, and
  how much memory 100 of them leave behind, in the daemon and in the camera's process.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import psutil

from cell.clock import monotonic, utc_now
from cell.errors import CameraError
from cell.frames import FrameSet
from cell.recipes import Recipe
from cell.settings import CameraSettings, EmulatedCellSettings, LightSettings, Settings
from daemon.acquire import Acquirer
from daemon.parts import Part
from drivers.cameras.isolated import IsolatedCamera
from drivers.registry import Rig, open_rig
from drivers.sim.plate import recipe_for_plate

# pylon offers its emulated camera when this is set before it is first asked; the camera's process inherits it.
os.environ["PYLON_CAMEMU"] = "1"

Driver = Literal["simulated", "pylon"]
How = Literal["removal", "crash"]
DRIVERS: tuple[Driver, ...] = ("simulated", "pylon")
HOWS: tuple[How, ...] = ("removal", "crash")
_GIVE_UP_S = 20.0
_PART = "good-000001"


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of one exposure, in this program and through the process."""

    driver: str
    megapixels: float
    frames: int
    here_p50_ms: float
    here_p99_ms: float
    isolated_p50_ms: float
    isolated_p99_ms: float

    @property
    def added_ms(self) -> float:
        """What the process adds to the median."""
        return self.isolated_p50_ms - self.here_p50_ms


@dataclass(frozen=True, slots=True)
class Reconnects:
    """How a camera came back."""

    driver: str
    how: str
    times: int
    p50_s: float
    worst_s: float
    answered_late: int  # parts during the absence that did not become a fault at once
    growth_daemon_mb: float
    growth_process_mb: float  # of the camera's process; 0 where each crash brings a new one
    process_restarts: int
    left_descriptors: int


def settings_for(driver: Driver, *, isolated: bool, channels: int = 1, album_mb: float = 0.0) -> Settings:
    """Return the settings of a plate under `channels` lights before one camera."""
    recipe = recipe_for_plate(channels)
    return Settings(
        camera=CameraSettings(driver=driver, isolated=isolated),
        light=LightSettings(lines=tuple(line for channel in recipe.channels for line in channel.lights)),
        emulated=EmulatedCellSettings(product=f"plate-{channels}", album_mb=album_mb),
    )


def cost(driver: Driver, frames: int = 300, height: int = 1024, width: int = 1024) -> Cost:
    """Measure one exposure with and without a process between, in turns so that the machine's load is the same."""
    recipe = recipe_for_plate(1).model_copy(update={"height": height, "width": width, "roi": None})
    times: dict[bool, list[float]] = {False: [], True: []}
    with (
        _rig(settings_for(driver, isolated=False, album_mb=200)) as here,
        _rig(settings_for(driver, isolated=True, album_mb=200)) as apart,
    ):
        rigs = {False: here, True: apart}
        for rig in rigs.values():
            rig.camera.configure(recipe)
            rig.present(_PART)
            rig.light.apply(recipe.channels[0].lights)
        for number in range(frames + 10):
            for isolated, rig in rigs.items():
                started = time.perf_counter()
                rig.camera.expose(recipe.channels[0])
                if number >= 10:
                    times[isolated].append((time.perf_counter() - started) * 1e3)
    here_p50, here_p99 = np.percentile(times[False], (50, 99))
    p50, p99 = np.percentile(times[True], (50, 99))
    return Cost(
        driver, height * width / 1e6, frames, *(round(float(value), 3) for value in (here_p50, here_p99, p50, p99))
    )


def reconnects(driver: Driver, how: How, times: int = 100) -> Reconnects:
    """Let the device of an isolated camera go and come back, under the daemon's own recovery, and look at the memory.

    The first tenth warms up and is not looked at for memory.
    """
    recipe = recipe_for_plate(2)
    with _rig(settings_for(driver, isolated=True, channels=2)) as rig:
        camera = rig.camera
        if not isinstance(camera, IsolatedCamera):
            raise CameraError("the camera is not in a process of its own; leave camera.isolated at true")
        acquirer = Acquirer(rig)
        acquirer.configure(recipe)
        warm = max(1, times // 10)
        waits: list[float] = []
        late = 0
        before = (0.0, 0.0, 0)
        for number in range(times + warm):
            if number == warm:
                before = _footprint(camera)
            _take(acquirer, recipe, number)
            _let_go(camera, driver, how)
            late += _is_whole(acquirer, recipe, number)
            if how == "removal" and driver == "simulated":
                acquirer.recover()  # while it is away
                camera.emulate("plug_in")
            returned = time.monotonic()
            while not acquirer.recover() or not _is_whole(acquirer, recipe, number):
                if time.monotonic() - returned > _GIVE_UP_S:
                    raise CameraError(f"the camera did not come back within {_GIVE_UP_S:g} s; see the log")
                time.sleep(min(0.01, acquirer.retry_in_s or 0.0))
            if number >= warm:
                waits.append(time.monotonic() - returned)
        after = _footprint(camera)
        return Reconnects(
            driver=driver,
            how=how,
            times=times,
            p50_s=round(float(np.median(waits)), 3),
            worst_s=round(max(waits), 3),
            answered_late=late,
            growth_daemon_mb=round(after[0] - before[0], 2),
            growth_process_mb=round(after[1] - before[1], 2) if how == "removal" else 0.0,
            process_restarts=camera.restarts,
            left_descriptors=after[2] - before[2],
        )


@contextmanager
def _rig(settings: Settings) -> Iterator[Rig]:
    rig = open_rig(settings)
    try:
        yield rig
    finally:
        rig.close()


def _let_go(camera: IsolatedCamera, driver: Driver, how: How) -> None:
    if how == "crash":
        camera.emulate("mishap", "expose", "SIGKILL")
    elif driver == "pylon":
        camera.features.execute("FirePnPCallback")  # the emulator's own removal; the device is there again at once
    else:
        camera.emulate("remove")


def _take(acquirer: Acquirer, recipe: Recipe, number: int) -> None:
    if not _is_whole(acquirer, recipe, number):
        raise CameraError("the camera gave no whole frame set although it was back; see the log")


def _is_whole(acquirer: Acquirer, recipe: Recipe, number: int) -> bool:
    part = Part(f"job-{number}", number, _PART, recipe, monotonic(), utc_now())
    return isinstance(acquirer.take(part), FrameSet)


def _footprint(camera: IsolatedCamera) -> tuple[float, float, int]:
    """Return the memory of this program and of the camera's process that is theirs alone, MB, and open descriptors."""
    gc.collect()
    here = psutil.Process()
    return _own_mb(here), _own_mb(psutil.Process(camera.pid)), here.num_fds()


def _own_mb(process: psutil.Process) -> float:
    return float(process.memory_full_info().uss) / 1e6


def main() -> None:
    """Run all and print it; with ``--json`` write it as well."""
    parser = argparse.ArgumentParser(prog="benchmarks.isolation", description=__doc__)
    parser.add_argument("--times", type=int, default=100, help="reconnects of each kind")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    costs = [cost(driver, options.frames) for driver in DRIVERS]
    for one in costs:
        print(
            f"{one.driver:10} {one.megapixels:.1f} MP, p50 / p99: here {one.here_p50_ms:.2f} / {one.here_p99_ms:.2f} ms"
            f", isolated {one.isolated_p50_ms:.2f} / {one.isolated_p99_ms:.2f} ms; adds {one.added_ms:+.2f} ms"
        )
    backs = [reconnects(driver, how, options.times) for driver in DRIVERS for how in HOWS]
    for back in backs:
        print(
            f"{back.driver:10} {back.how:8} {back.times} x  p50 {back.p50_s:.2f} s, worst {back.worst_s:.2f} s; "
            f"late {back.answered_late}; growth {back.growth_daemon_mb:+.2f} MB in the daemon, "
            f"{back.growth_process_mb:+.2f} MB in the process; descriptors {back.left_descriptors:+d}"
        )
    if options.json is not None:
        content = {"cost": [asdict(one) for one in costs], "reconnects": [asdict(back) for back in backs]}
        options.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
