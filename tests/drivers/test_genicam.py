"""The GenICam driver through harvesters against the real GenTL producer viky.cti."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cell.errors import AcquisitionTimeout, CameraError, ConfigurationError
from cell.frames import AcquisitionFault
from cell.recipes import Channel, DefectClass, Recipe
from cell.settings import CameraSettings
from drivers.cameras.base import fault_of
from drivers.cameras.genicam import GenicamCamera
from tests.drivers.conftest import VIKY

CHANNEL = Channel(name="grey", exposure_us=100.0, lights={"light": 1.0})


def _recipe(side: int = 400) -> Recipe:
    return Recipe(
        recipe_id="ball",
        product="ball",
        height=side,
        width=side,
        channels=(CHANNEL,),
        defect_classes=(DefectClass(name="dent"),),
    )


@pytest.fixture
def camera() -> Iterator[GenicamCamera]:
    opened = GenicamCamera(CameraSettings(driver="genicam", device="1", producers=(VIKY,)))
    yield opened
    opened.close()


def test_frames_are_whole_and_new(camera: GenicamCamera) -> None:
    camera.configure(_recipe())
    assert camera.emulated
    assert camera.name == "1"
    first, second = camera.expose(CHANNEL), camera.expose(CHANNEL)
    assert first.shape == (400, 400)
    assert second.frame_id > first.frame_id
    assert (first.pixels != second.pixels).any(), "the ball does not move"


def test_recovery_brings_the_recipe_back(camera: GenicamCamera) -> None:
    camera.configure(_recipe())
    before = camera.expose(CHANNEL)
    camera.recover()
    assert camera.expose(CHANNEL).frame_id > before.frame_id


def test_no_frame_in_time_is_missing_and_the_next_one_comes() -> None:
    step = [1.0]  # seconds that pass at each look at the clock
    now = [0.0]

    def clock() -> float:
        now[0] += step[0]
        return now[0]

    settings = CameraSettings(driver="genicam", device="0", producers=(VIKY,), frame_timeout_s=0.5)
    camera = GenicamCamera(settings, clock)
    try:
        camera.configure(_recipe())
        with pytest.raises(AcquisitionTimeout, match=r"within 0.5 s") as caught:
            camera.expose(CHANNEL)
        assert fault_of(caught.value) is AcquisitionFault.MISSING
        step[0] = 0.001
        assert camera.expose(CHANNEL).shape == (400, 400)
    finally:
        camera.close()


def test_an_incomplete_buffer_is_not_a_timeout(camera: GenicamCamera) -> None:
    camera.configure(_recipe())
    camera.expose(CHANNEL)
    event = camera._acquirer.Events.INCOMPLETE_BUFFER
    fetch = camera._acquirer.try_fetch

    def incomplete(*, timeout: float, is_raw: bool) -> None:
        # What harvesters does with an incomplete buffer: it tells its listeners, queues it again and returns None.
        fetched = fetch(timeout=timeout, is_raw=is_raw)
        if fetched is not None:
            fetched.parent.queue_buffer(fetched)
            camera._acquirer._emit_callbacks(event)

    camera._acquirer.try_fetch = incomplete
    with pytest.raises(CameraError, match="incomplete frame") as caught:
        camera.expose(CHANNEL)
    assert fault_of(caught.value) is AcquisitionFault.INCOMPLETE
    camera._acquirer.try_fetch = fetch
    camera.expose(CHANNEL)


def test_a_size_that_the_camera_does_not_have_is_refused(camera: GenicamCamera) -> None:
    with pytest.raises(CameraError) as caught:
        camera.configure(_recipe(side=401_000))
    assert "\n" not in str(caught.value)
    camera.configure(_recipe())
    camera.expose(CHANNEL)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"camera.producers"):
        GenicamCamera(CameraSettings(driver="genicam"))
    with pytest.raises(ConfigurationError, match=r"no GenTL producer .*none.cti"):
        GenicamCamera(CameraSettings(driver="genicam", producers=(tmp_path / "none.cti",)))
    with pytest.raises(ConfigurationError, match=r"several cameras \(0, 1, 2\)"):
        GenicamCamera(CameraSettings(driver="genicam", producers=(VIKY,)))
    with pytest.raises(CameraError, match="no camera 77"):
        GenicamCamera(CameraSettings(driver="genicam", producers=(VIKY,), device="77"))
    (tmp_path / "text.cti").write_text("no library")
    with pytest.raises((CameraError, ConfigurationError)) as caught:
        GenicamCamera(CameraSettings(driver="genicam", producers=(tmp_path / "text.cti",)))
    assert "\n" not in str(caught.value)
