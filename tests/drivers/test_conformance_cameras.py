"""Every camera driver of the registry, held to the one suite; and every check of the suite, shown to fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pytest

from cell.frames import AcquisitionFault
from cell.recipes import Channel, DefectClass, Recipe
from cell.settings import CameraSettings, EmulatedCellSettings
from drivers.cameras.base import Camera
from drivers.cameras.isolated import IsolatedCamera
from drivers.conformance.camera import EmulatedFault, run_camera
from drivers.conformance.camera_bench import Trigger
from drivers.conformance.report import Outcome, Report
from drivers.registry import CAMERAS, LazyScene
from drivers.sim.plate import recipe_for_plate
from tests.drivers.conftest import VIKY

pytestmark = pytest.mark.timeout(120, method="thread")

_TIMEOUT_S = 0.5
_PART = "good-000001"
Driver = Literal["pylon", "genicam", "simulated"]


def _recipe(width: int, height: int, *, alike: bool) -> Recipe:
    lines = recipe_for_plate(1).channels[0].lights
    return Recipe(
        recipe_id="conformance",
        product="plate",
        height=height,
        width=width,
        channels=tuple(
            Channel(name=name, exposure_us=1000.0 if alike else 1000.0 + 100 * index, lights=lines)
            for index, name in enumerate(("left", "right"))
        ),
        defect_classes=(DefectClass(name="dent"),),
    )


@dataclass(frozen=True)
class Entry:
    """A registry entry as the suite gets it."""

    camera: Camera
    recipe: Recipe
    trigger: Trigger
    fire: Callable[[], None] | None
    faults: Sequence[EmulatedFault]

    def run(self) -> Report:
        return run_camera(
            self.camera,
            lambda: self.recipe,
            trigger=self.trigger,
            fire=self.fire,
            frame_timeout_s=_TIMEOUT_S,
            emulated_faults=self.faults,
        )


def _scene() -> LazyScene:
    scene = LazyScene(EmulatedCellSettings())
    scene.open().present(_PART)
    return scene


def _pylon_faults(ask: Callable[[str], Any]) -> tuple[EmulatedFault, ...]:
    return (
        EmulatedFault("a truncated buffer", lambda: ask("truncate_next"), frozenset({AcquisitionFault.INCOMPLETE})),
        EmulatedFault("a pulled cable", lambda: ask("remove"), frozenset({AcquisitionFault.CAMERA})),
    )


def _simulated_faults(ask: Callable[..., Any]) -> tuple[EmulatedFault, ...]:
    named = {
        "dropped": {AcquisitionFault.MISSING},
        "incomplete": {AcquisitionFault.INCOMPLETE},
        "repeated": {AcquisitionFault.REPEATED},
        "stale": {AcquisitionFault.STALE},
    }
    faults = [EmulatedFault(name, partial(ask, "inject", name), frozenset(faults)) for name, faults in named.items()]
    cable = EmulatedFault(
        "a pulled cable", lambda: ask("remove"), frozenset({AcquisitionFault.CAMERA}), lambda: ask("plug_in")
    )
    return (*faults, cable)


def _asking(camera: Camera) -> Callable[..., Any]:
    if isinstance(camera, IsolatedCamera):
        return camera.emulate
    return lambda name, *arguments: getattr(camera, name)(*arguments)


def _entry(driver: Driver, trigger: Trigger, isolated: bool) -> Entry:
    device, producers = ("1", (VIKY,)) if driver == "genicam" else ("", ())
    settings = CameraSettings(
        driver=driver,
        device=device,
        producers=producers,
        frame_timeout_s=_TIMEOUT_S,
        trigger=trigger,
        isolated=isolated,
    )
    cell = EmulatedCellSettings()
    camera: Camera = IsolatedCamera(settings, cell, "camera") if isolated else CAMERAS[driver](settings, _scene())
    if isinstance(camera, IsolatedCamera) and driver != "genicam":
        camera.present(_PART)
    ask = _asking(camera)
    fire = None if driver == "genicam" or trigger == "software" else lambda: ask("fire")
    faults = {"pylon": _pylon_faults, "simulated": _simulated_faults}.get(driver, lambda _: ())(ask)
    size = (400, 300) if driver == "genicam" else (320, 256)
    return Entry(camera, _recipe(*size, alike=trigger == "line"), trigger, fire, faults)


#: Skipped where a device has no such thing; anything else that is skipped is a check that nobody makes.
_ALL_SKIPS: dict[tuple[Driver, Trigger], set[str]] = {
    ("pylon", "software"): set(),
    ("pylon", "line"): set(),
    ("simulated", "software"): {"takes colour planes from one exposure, once each"},
    ("simulated", "line"): set(),
    ("genicam", "software"): {
        "tells exposure and gain as the camera has them",
        "refuses an exposure that it would clip, and takes the next",
        "refuses a gain that it would clip, and takes the next",
        "passes a frame that comes too late for no other",
        "names every fault in time and works again",
    },
    ("genicam", "line"): {
        "gives no frame without a trigger, in time",
        "gives each channel's frame of a trigger once, in order",
        "keeps frames in order until they are taken",
        "names a fault on the line or leaves a gap in the ids",
        "leaves nothing of one set-up to the next",
    },
}


@pytest.mark.parametrize("isolated", [False, True], ids=["here", "isolated"])
@pytest.mark.parametrize(("driver", "trigger"), list(_ALL_SKIPS))
def test_every_registered_camera_conforms(driver: Driver, trigger: Trigger, isolated: bool) -> None:
    report = _entry(driver, trigger, isolated).run()
    assert report.passed, report.text()
    assert {result.name for result in report.results if result.outcome is Outcome.SKIPPED} == _ALL_SKIPS[
        driver, trigger
    ]


def test_no_registered_camera_is_left_out() -> None:
    assert {driver for driver, _ in _ALL_SKIPS} == set(CAMERAS)
