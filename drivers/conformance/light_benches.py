"""Every registered light on a bench without lamps: what the suite and the benchmark of switching run on.

The Gardasoft driver talks to the fake controller over a real socket; camera lines are those of pylon's emulated camera,
read back through the real SDK; the simulated light is itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from cell.errors import CameraError
from cell.frames import Pixels
from cell.settings import CameraSettings, LightSettings
from drivers.cameras.base import Camera
from drivers.cameras.pylon import PylonCamera
from drivers.conformance.lights import LightBench
from drivers.lights.camera_lines import CameraLineLight
from drivers.lights.gardasoft import GardasoftLight
from drivers.lights.simulated import SimulatedLight
from drivers.sim.fake_gardasoft import FakeGardasoft, Trouble
from drivers.sim.fake_gardasoft_outputs import Output

LINES = ("ring", "bar-left", "bar-right")

Mode = Literal["continuous", "pulsed"]

#: What makes an answer late or odd, but not wrong.
_NUISANCES = (Trouble.SLOW, Trouble.DRIPPING, Trouble.EVENT_FIRST)


@contextlib.contextmanager
def simulated_bench(mode: Mode = "continuous", light: type[SimulatedLight] = SimulatedLight) -> Iterator[LightBench]:
    """Give a simulated light; `light` may be one that is made wrong on purpose."""
    del mode  # it is told at each scheme
    shining: dict[str, float] = {}

    def shine(levels: Mapping[str, float]) -> None:
        shining.clear()
        shining.update(levels)

    yield LightBench(lambda: light(LINES, shine), lambda: shining, lambda: shine(dict.fromkeys(LINES, 1.0)))


@contextlib.contextmanager
def gardasoft_bench(mode: Mode = "continuous", dark_after_s: float = 1.0) -> Iterator[LightBench]:
    """Give the Gardasoft driver on a fake controller, which is seen and misbehaves without its driver."""
    fake = FakeGardasoft(slow_s=0.1)
    outputs = {line: {"channel": channel} for channel, line in enumerate(LINES, 1)}
    values: dict[str, Any] = {"driver": "gardasoft", "host": fake.host, "port": fake.port, "outputs": outputs}
    settings = LightSettings.model_validate(
        {**values, "mode": mode, "reply_timeout_s": 0.4, "settle_ms": 0, "dark_after_s": dark_after_s}
    )

    def light_up() -> None:
        fake.outputs.now = {channel: Output(percent=80.0) for channel in fake.outputs.now}

    def happens(trouble: Trouble) -> Callable[[], None]:
        return lambda: fake.trouble.append(trouble)

    def observe() -> dict[str, float]:
        armed = fake.armed()
        return {line: armed[channel] / 100 for channel, line in enumerate(LINES, 1)}

    try:
        yield LightBench(
            open=lambda: GardasoftLight(settings),
            observe=observe,
            light_up=light_up,
            faults={item.name.lower(): happens(item) for item in Trouble if item not in _NUISANCES},
            nuisances={item.name.lower(): happens(item) for item in _NUISANCES},
            unplug=fake.unplug,
            plug_in=fake.plug_in,
            stall_s=None if mode == "pulsed" else dark_after_s + 3.0,
        )
    finally:
        fake.close()


class _NoScene:
    """The emulator needs pictures from somewhere when it is exposed; here it never is."""

    def picture(
        self, height: int, width: int, exposure_us: float, gain_db: float, bit_depth: int | None = None
    ) -> Pixels:
        raise CameraError(
            f"a bench of lights has nothing to show at {width}x{height} in {exposure_us} us at {gain_db} dB, "
            f"{bit_depth or 8} bit"
        )


@contextlib.contextmanager
def camera_lines_bench(mode: Mode = "continuous") -> Iterator[LightBench]:
    """Give lamps on the three lines of pylon's emulated camera, the second of them active when low."""
    os.environ["PYLON_CAMEMU"] = "1"  # read once, when pylon first looks for cameras
    outputs = {
        line: {"camera_line": f"Line{number}", "channel": number, "inverted": number == 2}
        for number, line in enumerate(LINES, 1)
    }
    settings = LightSettings.model_validate({"driver": "camera_lines", "mode": mode, "outputs": outputs})
    camera = PylonCamera(CameraSettings(driver="pylon"), _NoScene())
    try:
        yield LightBench(
            open=lambda: CameraLineLight(camera, settings),
            observe=lambda: _seen_on(camera),
            light_up=lambda: _light_up(camera),
        )
    finally:
        camera.close()


def _seen_on(camera: Camera) -> dict[str, float]:
    """Return what a lamp on each line does; a line that is no output, or has the wrong polarity, can't be dark."""
    nodes = camera.features
    levels = {}
    for number, line in enumerate(LINES, 1):
        nodes.write("LineSelector", f"Line{number}")
        nodes.write("UserOutputSelector", f"UserOutput{number}")
        wired = nodes.read("LineMode") == "Output" and nodes.read("LineInverter") == (number == 2)
        off = nodes.read("LineSource") == f"UserOutput{number}" and not nodes.read("UserOutputValue")
        levels[line] = 0.0 if wired and off else 1.0
    return levels


def _light_up(camera: Camera) -> None:
    nodes = camera.features
    for number in range(1, len(LINES) + 1):
        nodes.write("LineSelector", f"Line{number}")
        nodes.write("LineMode", "Input")
        nodes.write("LineSource", "ExposureActive")
        nodes.write("UserOutputSelector", f"UserOutput{number}")
        nodes.write("UserOutputValue", True)


#: Benches by the names of the registry.
BENCHES: dict[str, Callable[[Mode], contextlib.AbstractContextManager[LightBench]]] = {
    "simulated": simulated_bench,
    "gardasoft": gardasoft_bench,
    "camera_lines": camera_lines_bench,
}
