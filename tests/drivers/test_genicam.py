"""The GenICam driver through harvesters against the real GenTL producer viky.cti."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cell.errors import AcquisitionTimeout, CameraError, ConfigurationError
from cell.frames import AcquisitionFault
from cell.recipes import Channel, DefectClass, Recipe, SensorSetup
from cell.settings import CameraSettings
from drivers.cameras.base import fault_of
from drivers.cameras.genicam import GenicamCamera, opening_error
from drivers.cameras.gentl import Device, choose_device
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


def test_cameras_of_several_producers_are_told_apart(tmp_path: Path) -> None:
    second = tmp_path / "other.cti"
    shutil.copy(VIKY, second)
    both = (VIKY, second)
    with pytest.raises(ConfigurationError, match=r"several cameras \(0, 1, 2\); set camera.device"):
        GenicamCamera(CameraSettings(driver="genicam", producers=both))
    # One camera that both find is one camera.
    for wanted in ("2", "VikyTL_DEV_blue", "Machine Vision Games Ltd. Viky (VikyTL_DEV_blue)"):
        camera = GenicamCamera(CameraSettings(driver="genicam", device=wanted, producers=both))
        try:
            assert camera.name == "2"
            camera.configure(_recipe())
            assert camera.expose(CHANNEL).camera == "2"
        finally:
            camera.close()


def test_a_name_that_two_cameras_have_is_refused_with_their_serials() -> None:
    devices = [
        Device(0, "123", frozenset({"123", "left"}), "V"),
        Device(1, "124", frozenset({"124", "left"}), "V"),
        Device(2, "123", frozenset({"123", "left"}), "V"),
    ]
    with pytest.raises(ConfigurationError, match=r"several cameras called left \(123, 124\)"):
        choose_device(devices, "left")
    assert choose_device(devices, "123").index == 0
    with pytest.raises(CameraError, match="no camera right"):
        choose_device(devices, "right")


def test_colour_planes_of_the_real_producer(camera: GenicamCamera) -> None:
    channels = tuple(CHANNEL.model_copy(update={"name": plane, "plane": plane}) for plane in ("red", "green", "blue"))
    recipe = _recipe().model_copy(update={"channels": channels, "sensor": SensorSetup(pixel_format="RGBa8")})
    camera.configure(recipe)
    frames = [camera.expose(channel) for channel in channels]
    assert len({frame.frame_id for frame in frames}) == 1
    # The producer calls it VikyTL_DEV_green: its ball, on a white ground, is green.
    red, green, blue = (int(frame.pixels.sum()) for frame in frames)
    assert green > max(red, blue)
    with pytest.raises(CameraError, match="wants a mono frame of RGBa8"):
        camera.configure(recipe.model_copy(update={"channels": (CHANNEL,)}))


def test_chunk_data_of_a_frame_is_read_where_the_features_are(camera: GenicamCamera) -> None:
    camera.configure(_recipe())
    camera.expose(CHANNEL)
    assert isinstance(camera.features.read("ChunkNrBounces"), int)


def test_frames_that_come_by_themselves_are_awaited_in_order() -> None:
    camera = GenicamCamera(CameraSettings(driver="genicam", device="1", producers=(VIKY,), trigger="line"))
    try:
        camera.configure(_recipe())
        frames = [camera.await_frame(CHANNEL, 1.0) for _ in range(4)]
        ids = [frame.frame_id for frame in frames if frame is not None]
        assert ids == list(range(ids[0], ids[0] + 4))
        with pytest.raises(CameraError, match="triggered by its line"):
            camera.expose(CHANNEL)
    finally:
        camera.close()


def test_frames_that_found_no_buffer_leave_a_gap_in_the_ids() -> None:
    camera = GenicamCamera(CameraSettings(driver="genicam", device="1", producers=(VIKY,), trigger="line"))
    try:
        camera.configure(_recipe())
        first = camera.await_frame(CHANNEL, 1.0)
        held = []
        while (buffer := camera._acquirer.try_fetch(timeout=0.5, is_raw=True)) is not None:
            held.append(buffer)  # until none is left and frames are lost for half a second
        for buffer in held:
            buffer.parent.queue_buffer(buffer)
        later = camera.await_frame(CHANNEL, 1.0)
        assert first is not None
        assert later is not None
        assert later.frame_id > first.frame_id + len(held) + 1
    finally:
        camera.close()


def test_a_camera_that_another_program_holds_is_named() -> None:
    class ResourceInUseException(RuntimeError):
        pass

    assert "controlled by another application" in str(opening_error("7", ResourceInUseException("no (ID: -1004)")))
    assert "camera 7 does not open: bad" in str(opening_error("7", RuntimeError("bad.")))
