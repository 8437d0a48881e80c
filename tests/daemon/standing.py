"""A daemon on a trigger line whose time moves only when a test says so: real wire, stores, threads, pairing and proof.

With the clock of the world a window of 140 ms is true on a machine with nothing else to do and a matter of luck on any
other. Here instants are what the test makes them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cell.recipes import Recipe
from cell.settings import CameraSettings
from cell.store.layout import StateDir
from daemon.main import Daemon
from drivers.cameras.simulated import SimulatedCamera
from drivers.lights.base import Light
from drivers.lights.simulated import SimulatedLight
from drivers.registry import FIRST_CAMERA, Rig
from drivers.sim.cell import EmulatedCell
from drivers.sim.plate import PlateProduct
from tests.daemon.cells import eventually, settings_in
from tests.daemon.plc import CHANNELS, PATIENCE_S, SPACING_S, Plc, accepting_model, prepare, recipe

#: All exposures of a part and their readout are over within this, seconds.
_EXPOSED_S = 0.01


class StandingTime:
    """A clock that stands until a test moves it on; see `drivers.cameras.simulated_device.Timekeeper`.

    What waits on it is let go at once, or a moment later by a notification, so that a thread that polls goes on. How
    often one waited in vain is counted: it tells that all that was due at this instant has been done.
    """

    _MOMENT_S = 0.002

    def __init__(self) -> None:
        self._now = 1000.0
        self.idle = 0

    def now(self) -> float:
        return self._now

    def wait(self, changed: threading.Condition, until: float) -> bool:
        came = self._now >= until or changed.wait(self._MOMENT_S) or self._now >= until
        self.idle += not came
        return came

    def advance(self, seconds: float) -> None:
        self._now += seconds


class StandingPlc(Plc):
    """A PLC and a sensor in a world whose time moves only when the test says so, and only when all have caught up."""

    def __init__(
        self, folder: Path, daemon: Daemon, cameras: dict[str, SimulatedCamera], clock: StandingTime, waits: int
    ) -> None:
        super().__init__(folder)
        self._daemon = daemon
        self.cameras = cameras
        self._waits = waits
        self._clock = clock
        self._edge_ms: dict[int, float] = {}

    def control(self, **message: Any) -> None:
        for action, arguments in message.items():
            for camera in self.cameras.values():
                getattr(camera, action)(*(arguments if isinstance(arguments, list) else [arguments]))

    def start(self, **parameters: Any) -> None:
        """Begin a run; the first edge after it has count 1."""
        self.call("StartContinuous", Parameters=parameters)
        self.count = 0

    def edge(self, part_id: str, *, counted: bool = True, seen: bool = True) -> int:
        count = super().edge(part_id, counted=counted, seen=seen)
        if counted:
            self._edge_ms[count] = self._clock.now() * 1e3
        return count

    def announce(self, part_id: str, count: int, *, timed: bool = False, **more: Any) -> Future[dict[str, Any]]:
        """Announce a part, and wait until the line knows of it; `timed` with the PLC's clock at the edge."""
        if timed:
            more["edge_time_ms"] = self._edge_ms[count] % 2**32
        before = self._announced
        reply = super().announce(part_id, count, **more)
        assert eventually(lambda: reply.done() or self._announced > before, PATIENCE_S), "the line heard of no part"
        return reply

    def pause(self, seconds: float = SPACING_S) -> None:
        """Let the line move on: what is being exposed is received first, then the rest of the time passes."""
        first = min(seconds, _EXPOSED_S)
        self._advance(first)
        if seconds > first:
            self._advance(seconds - first)

    def _advance(self, seconds: float) -> None:
        self._clock.advance(seconds)
        self._daemon.server.wake()  # deadlines are looked at
        if self.running:
            idle = self._clock.idle
            # One wait may have begun before; the second says that nothing is left to do at this instant. Several
            # cameras take turns: while one still gives frames, another waits in vain once for each.
            done = idle + self._waits
            assert eventually(lambda: self._clock.idle > done or not self.running, PATIENCE_S), "the line is stuck"

    @property
    def running(self) -> bool:
        """True while a run is on."""
        run = self._daemon.station.trigger_run
        return run is not None and not run.ended

    @property
    def _announced(self) -> int:
        run = self._daemon.station.trigger_run
        return 0 if run is None else run.counts.announced


def _shared_out(wanted: Recipe, others: Mapping[str, int]) -> Recipe:
    """Return the recipe with its last channels given to other cameras."""
    own = len(wanted.channels) - sum(others.values())
    roles = [FIRST_CAMERA] * own + [role for role, count in others.items() for _ in range(count)]
    channels = (c.model_copy(update={"camera": role}) for c, role in zip(wanted.channels, roles, strict=True))
    return wanted.model_copy(update={"channels": tuple(channels)})


def _rig(
    wanted: Recipe,
    light_of: Callable[[SimulatedCamera], Light] | None,
    others: Sequence[str],
    lights: int,
    clock: StandingTime,
) -> tuple[Rig, dict[str, SimulatedCamera]]:
    """Return simulated cameras on one trigger line, and the rig they stand in."""
    cameras = {
        role: SimulatedCamera(
            EmulatedCell(PlateProduct(lights)), hang_s=1.0, trigger="line", mark_frames=True, clock=clock
        )
        for role in (FIRST_CAMERA, *others)
    }
    camera = cameras[FIRST_CAMERA]
    light = light_of(camera) if light_of else SimulatedLight(wanted.channel_names, camera.stage.illuminate)
    rig = Rig(
        camera=camera,
        light=light,
        present=camera.stage.present,
        emulated=True,
        others={role: other for role, other in cameras.items() if role != FIRST_CAMERA},
        on_line=frozenset(cameras),
    )
    return rig, cameras


@contextmanager
def standing_line(
    folder: Path,
    light_of: Callable[[SimulatedCamera], Light] | None = None,
    others: Mapping[str, int] | None = None,
    lights: int = CHANNELS,
    **changes: Any,
) -> Iterator[StandingPlc]:
    """Run a daemon whose simulated camera is on its trigger line, in this process and on a clock that stands; Ready.

    :param light_of: makes another light than the simulated one; it tells the camera's stage what shines.
    :param others: further cameras, and how many of the last channels each takes.
    :param changes: of the recipe.
    """
    wanted = _shared_out(recipe(lights, **changes), others or {})
    settings = settings_in(folder, camera=CameraSettings(driver="simulated", trigger="line", isolated=False))
    settings.recipes_dir.mkdir(parents=True, exist_ok=True)
    (settings.recipes_dir / "plate.json").write_text(wanted.model_dump_json())
    scratch = folder / "scratch"
    scratch.mkdir()
    accepting_model(StateDir.create(settings.state_dir), wanted, scratch)
    clock = StandingTime()
    rig, cameras = _rig(wanted, light_of, tuple(others or {}), lights, clock)
    daemon = Daemon(settings, lambda _: rig, clock.now)
    daemon.start()
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(daemon.run()), name="test-daemon")
    thread.start()
    waits = 1 if len(cameras) == 1 else len(cameras) * (lights + 2)
    plc = StandingPlc(folder, daemon, cameras, clock, waits)
    try:
        prepare(plc)
        yield plc
    finally:
        daemon.stop()
        thread.join(PATIENCE_S)
        daemon.close()
        plc.close()
    assert codes == [0]
