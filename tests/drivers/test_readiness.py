"""A camera made ready for the exposure that is due next: it is a guess, and no frame is ever taken by a wrong one."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cell.errors import AcquisitionTimeout, CameraError, HardwareError
from cell.recipes import Channel, Recipe
from cell.settings import CameraSettings
from drivers.cameras.pylon import PylonCamera
from drivers.cameras.readiness import FRESH_S, Readiness
from drivers.sim.plate import recipe_for_plate
from tests.drivers.isolation import gone, isolated

pytestmark = pytest.mark.timeout(60, method="thread")  # pylon uses SIGALRM itself

EXPOSURES_US = (1000.0, 2000.0, 3000.0, 4000.0)  # the emulator takes whole milliseconds


def _recipe() -> Recipe:
    recipe = recipe_for_plate(len(EXPOSURES_US))
    channels = tuple(
        channel.model_copy(update={"exposure_us": exposure})
        for channel, exposure in zip(recipe.channels, EXPOSURES_US, strict=True)
    )
    return recipe.model_copy(update={"channels": channels})


RECIPE = _recipe()


class Watched(PylonCamera):
    """Pylon's emulated camera, of which is kept who asked it whether it takes a trigger."""

    def __init__(self, clock: Any = time.monotonic) -> None:
        self.asked: list[str] = []
        super().__init__(CameraSettings(frame_timeout_s=1.0), clock=clock)

    def take(self, channel: Channel) -> float:
        """Expose and return the exposure that the camera had when it was triggered, us."""
        had: list[float] = []
        frame = self.expose(channel, lambda: had.append(float(self._camera.ExposureTimeAbs.Value)))
        assert [frame.exposure_us] == had, "the frame tells of another exposure than it was taken with"
        assert frame.channel == channel.name
        return had[0]

    def asked_beside(self) -> list[bool]:
        """Tell of each question since the last time whether it was asked beside the caller."""
        self.readiness.settle()
        asked, self.asked = self.asked, []
        return [name.startswith("camera-ready") for name in asked]

    def _takes_trigger(self, timeout_ms: int) -> bool:
        self.asked.append(threading.current_thread().name)
        return super()._takes_trigger(timeout_ms)


@pytest.fixture
def camera() -> Iterator[Watched]:
    opened = Watched()
    opened.configure(RECIPE)
    yield opened
    opened.close()


def test_in_the_order_of_the_recipe_the_camera_is_ready_before_it_is_asked_for(camera: Watched) -> None:
    camera.take(RECIPE.channels[0])
    assert camera.asked_beside() == [False, True]  # nothing prepared the first one
    for _ in range(2):
        for channel in (*RECIPE.channels[1:], RECIPE.channels[0]):
            assert camera.take(channel) == channel.exposure_us
    assert camera.asked_beside() == [True] * 8


@pytest.mark.parametrize("order", [(0, 0, 0), (0, 2, 1), (3, 2, 1, 0), (1, 3, 3, 2, 0, 2)])
def test_what_was_not_prepared_is_exposed_as_it_is_asked_for(camera: Watched, order: tuple[int, ...]) -> None:
    for index in order:
        assert camera.take(RECIPE.channels[index]) == EXPOSURES_US[index]


def test_a_channel_changed_since_is_exposed_as_it_is_now(camera: Watched) -> None:
    camera.take(RECIPE.channels[0])
    longer = RECIPE.channels[1].model_copy(update={"exposure_us": 4200.0})
    assert camera.take(longer) == 4200.0
    assert camera.take(RECIPE.channels[2]) == EXPOSURES_US[2]


def test_another_recipe_is_exposed_as_it_says(camera: Watched) -> None:
    camera.take(RECIPE.channels[0])
    turned = RECIPE.model_copy(update={"channels": RECIPE.channels[::-1]})
    camera.configure(turned)
    for channel in turned.channels:
        assert camera.take(channel) == channel.exposure_us


@pytest.mark.parametrize(("feature", "value"), [("ExposureTime", 9000.0), ("TriggerMode", "On"), ("Gain", 0.0)])
def test_what_was_written_since_has_the_camera_asked_again(camera: Watched, feature: str, value: Any) -> None:
    camera.take(RECIPE.channels[0])
    if feature not in camera.features.names():
        pytest.skip(f"the emulator has no {feature}")
    camera.asked_beside()
    camera.features.write(feature, value)
    assert camera.take(RECIPE.channels[1]) == EXPOSURES_US[1]
    assert camera.asked_beside() == [False, True]


def test_who_reads_the_exposure_between_two_triggers_reads_the_last_frames(camera: Watched) -> None:
    for channel in (*RECIPE.channels, *RECIPE.channels[1:]):
        assert camera.take(channel) == channel.exposure_us
        assert camera.features.read("ExposureTime") == channel.exposure_us
    camera.features.write("ExposureTime", 9000.0)
    assert camera.features.read("ExposureTime") == 9000.0, "what somebody wrote was written over before its time"
    assert camera.take(RECIPE.channels[0]) == EXPOSURES_US[0]


def test_a_camera_that_was_ready_long_ago_is_asked_again() -> None:
    late = 0.0
    camera = Watched(lambda: time.monotonic() + late)
    try:
        camera.configure(RECIPE)
        camera.take(RECIPE.channels[0])
        camera.asked_beside()
        late = 2 * FRESH_S
        assert camera.take(RECIPE.channels[1]) == EXPOSURES_US[1]
        assert camera.asked_beside() == [False, True]
    finally:
        camera.close()


def test_a_frame_at_fault_leaves_nothing_prepared(camera: Watched) -> None:
    camera.take(RECIPE.channels[0])
    camera.truncate_next()
    with pytest.raises(CameraError, match="incomplete frame"):
        camera.take(RECIPE.channels[1])
    camera.asked_beside()
    assert camera.take(RECIPE.channels[2]) == EXPOSURES_US[2]
    assert camera.asked_beside() == [False, True]


def test_an_exposure_that_the_camera_refuses_is_told_where_it_is_asked_for(camera: Watched) -> None:
    impossible = RECIPE.channels[1].model_copy(update={"exposure_us": 1e12})
    camera._exposer._next[RECIPE.channels[0].name] = impossible
    assert camera.take(RECIPE.channels[0]) == EXPOSURES_US[0]
    assert camera.take(RECIPE.channels[1]) == EXPOSURES_US[1]
    with pytest.raises(CameraError, match="can't be 1e\\+12"):
        camera.take(impossible)


def test_a_camera_removed_while_it_is_prepared_is_gone_where_it_is_asked_for(camera: Watched) -> None:
    camera.take(RECIPE.channels[0])
    camera.remove()
    with pytest.raises(HardwareError):
        camera.take(RECIPE.channels[1])
    camera.recover()
    for channel in RECIPE.channels:
        assert camera.take(channel) == channel.exposure_us


def test_a_closed_camera_leaves_no_thread_behind() -> None:
    camera = Watched()
    camera.configure(RECIPE)
    camera.take(RECIPE.channels[0])
    mine = {thread for thread in threading.enumerate() if thread.name.startswith("camera-ready")}
    assert mine
    camera.close()
    camera.close()
    assert not mine & set(threading.enumerate())


def test_a_preparation_that_does_not_return_is_a_time_out() -> None:
    held = threading.Event()
    readiness = Readiness((), 0.05, time.monotonic)

    def prepare() -> int | None:
        held.wait(20)
        return 0

    try:
        readiness.begin(prepare)
        with pytest.raises(AcquisitionTimeout, match="does not return from being prepared"):
            readiness.take(0)
        with pytest.raises(AcquisitionTimeout):
            readiness.begin(lambda: 0)
    finally:
        held.set()
        readiness.close()


def test_a_library_that_hangs_while_it_is_prepared_is_killed_and_the_next_process_goes_on() -> None:
    with isolated("pylon", frame_timeout_s=0.5) as (_, camera):
        camera.configure(RECIPE)
        first = camera.pid
        camera.emulate("mishap", "prepare", "hang")
        with contextlib.suppress(HardwareError):
            camera.expose(RECIPE.channels[0])  # may have come before
        with pytest.raises(HardwareError):
            camera.expose(RECIPE.channels[1])
        assert gone(first)
        camera.recover()
        for channel in RECIPE.channels:
            assert camera.expose(channel).exposure_us == channel.exposure_us


def test_a_kernel_timer_ends_a_process_whose_preparation_holds_the_interpreter() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HANG],
        capture_output=True,
        timeout=30,
        check=False,
        env={"PYTHONPATH": sys.path[0] or "."},
    )
    assert done.returncode == -9, done.stderr.decode()


_HANG = """
import ctypes
from drivers.cameras.child import Limit
with Limit().during(0.0):
    while True:
        ctypes.PyDLL(None).pause()
"""
