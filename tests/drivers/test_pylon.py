"""The pylon driver against pylon's own camera emulation."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from cell.errors import AcquisitionTimeout, CameraError, HardwareError
from cell.frames import AcquisitionFault, Pixels
from cell.recipes import Recipe, SensorSetup
from cell.settings import CameraSettings
from drivers.cameras.base import fault_of
from drivers.cameras.pylon import PylonCamera, opening_error
from drivers.sim.plate import recipe_for_plate

# pylon counts its time-outs with POSIX timers that send SIGALRM to the process and handles it itself; a test runner
# that takes the signal for its own would call every time-out of the camera one of the test.
pytestmark = pytest.mark.timeout(60, method="thread")


class Pictures:
    """A scene that is a new random picture at each exposure, and remembers what it showed."""

    def __init__(self) -> None:
        self.shown: Pixels = np.zeros((1, 1), np.uint8)
        self.size: tuple[int, int] | None = None
        self._generator = np.random.default_rng(3)

    def picture(
        self, height: int, width: int, exposure_us: float, gain_db: float, bit_depth: int | None = None
    ) -> Pixels:
        self.shown = self._generator.integers(0, 256, self.size or (height, width)).astype(np.uint8)
        return self.shown


@pytest.fixture
def scene() -> Pictures:
    return Pictures()


@pytest.fixture
def recipe() -> Recipe:
    return recipe_for_plate(4)


@pytest.fixture
def camera(scene: Pictures, recipe: Recipe) -> Iterator[PylonCamera]:
    opened = PylonCamera(CameraSettings(frame_timeout_s=1.0), scene)
    opened.configure(recipe)
    yield opened
    opened.close()


def _fails(camera: PylonCamera, recipe: Recipe) -> HardwareError:
    with pytest.raises(HardwareError) as caught:
        camera.expose(recipe.channels[0])
    assert "\n" not in str(caught.value)
    return caught.value


def _note_exposure(camera: PylonCamera, had: list[float]) -> None:
    had.append(float(camera._camera.ExposureTimeAbs.Value))


def test_every_exposure_gives_the_picture_that_lies_there(camera: PylonCamera, scene: Pictures, recipe: Recipe) -> None:
    assert camera.emulated
    ids = []
    for _ in range(10):
        for channel in recipe.channels:
            frame = camera.expose(channel)
            assert np.array_equal(frame.pixels, scene.shown)
            assert frame.channel == channel.name
            ids.append(frame.frame_id)
    assert ids == list(range(ids[0], ids[0] + 40))


def test_exposure_stands_in_the_frame_as_the_camera_says_it(camera: PylonCamera, recipe: Recipe) -> None:
    for asked in (500.0, 1234.0):
        channel = recipe.channels[0].model_copy(update={"exposure_us": asked})
        had: list[float] = []
        # The one that has an effect, while it has it.
        frame = camera.expose(channel, partial(_note_exposure, camera, had))
        assert had == [frame.exposure_us]
        assert frame.exposure_us == pytest.approx(asked, rel=0.02)


def test_what_somebody_else_wrote_does_not_expose_the_next_channel(camera: PylonCamera, recipe: Recipe) -> None:
    channel = recipe.channels[0]
    camera.expose(channel)
    camera.features.write("ExposureTime", 40_000.0)
    had: list[float] = []
    frame = camera.expose(channel, partial(_note_exposure, camera, had))
    assert had == [frame.exposure_us]
    assert frame.exposure_us == pytest.approx(channel.exposure_us, rel=0.005)


def test_an_incompletely_grabbed_buffer_is_no_frame(camera: PylonCamera, scene: Pictures, recipe: Recipe) -> None:
    camera.expose(recipe.channels[0])
    camera._camera.ForceFailedBufferCount.Value = 1
    camera._camera.ForceFailedBuffer.Execute()
    error = _fails(camera, recipe)
    assert isinstance(error, CameraError)
    assert fault_of(error) is AcquisitionFault.INCOMPLETE
    frame = camera.expose(recipe.channels[1])
    assert np.array_equal(frame.pixels, scene.shown)


def test_a_frame_that_comes_after_its_timeout_never_passes_for_the_next_one(
    camera: PylonCamera, scene: Pictures, recipe: Recipe
) -> None:
    long = recipe.channels[0].model_copy(update={"exposure_us": 20_000.0})
    before = camera.expose(long)
    camera._timeout_ms = 10  # the frame comes, too late
    given_up = 0
    for _ in range(20):
        try:
            camera.expose(long)
        except AcquisitionTimeout as error:
            if fault_of(error) is not AcquisitionFault.MISSING or "no frame" not in str(error):
                continue  # the camera took no trigger in that time: no frame is under way
            given_up += 1
            camera._timeout_ms = 1000
            for channel in recipe.channels:
                frame = camera.expose(channel)
                assert np.array_equal(frame.pixels, scene.shown)
                assert frame.frame_id > before.frame_id
            camera._timeout_ms = 10
    assert given_up >= 3


def test_a_frame_that_something_else_triggered_is_stale_and_the_next_one_is_right(
    camera: PylonCamera, scene: Pictures, recipe: Recipe
) -> None:
    """The emulator has no clock, and the frame's number is the next one."""
    long = recipe.channels[0].model_copy(update={"exposure_us": 20_000.0})
    camera.expose(long)
    camera._camera.WaitForFrameTriggerReady(1000)
    camera._camera.TriggerSoftware.Execute()
    assert camera._camera.GetGrabResultWaitObject().Wait(1000)
    with pytest.raises(CameraError, match="after its trigger, sooner than its exposure of 20000 us takes") as caught:
        camera.expose(long)
    assert fault_of(caught.value) is AcquisitionFault.STALE
    frame = camera.expose(long)
    assert np.array_equal(frame.pixels, scene.shown)


def test_exposures_below_a_millisecond_which_the_emulator_leaves_out_are_no_stale_frames(
    camera: PylonCamera, recipe: Recipe
) -> None:
    short = recipe.channels[0].model_copy(update={"exposure_us": 900.0})
    for _ in range(40):
        assert camera.expose(short).exposure_us == pytest.approx(900.0)


def test_a_frame_of_another_size_is_named(camera: PylonCamera, scene: Pictures, recipe: Recipe) -> None:
    scene.size = (recipe.height // 2, recipe.width)
    assert fault_of(_fails(camera, recipe)) is AcquisitionFault.WRONG_SIZE
    scene.size = None
    assert camera.expose(recipe.channels[0]).shape == (recipe.height, recipe.width)


def test_removal_is_seen_and_recovered(camera: PylonCamera, scene: Pictures, recipe: Recipe) -> None:
    before = camera.expose(recipe.channels[0])
    camera._camera.GetNodeMap().GetNode("FirePnPCallback").Execute()
    assert fault_of(_fails(camera, recipe)) is AcquisitionFault.CAMERA
    camera.recover()
    frame = camera.expose(recipe.channels[0])
    assert np.array_equal(frame.pixels, scene.shown)
    assert frame.frame_id > before.frame_id


def test_a_refused_recipe_leaves_the_camera_idle_and_a_good_one_brings_it_back(
    camera: PylonCamera, recipe: Recipe
) -> None:
    with pytest.raises(CameraError, match=r"can't be set up"):
        camera.configure(recipe.model_copy(update={"width": 50_000}))
    assert not camera._camera.IsGrabbing()
    assert "prepare a recipe" in str(_fails(camera, recipe))
    camera.configure(recipe)
    camera.expose(recipe.channels[0])


def test_an_exposure_out_of_range_is_refused(camera: PylonCamera, recipe: Recipe) -> None:
    channel = recipe.channels[0].model_copy(update={"exposure_us": 1e12})
    with pytest.raises(CameraError, match="can't be 1e\\+12"):
        camera.expose(channel)
    camera.expose(recipe.channels[0])


def test_recovery_goes_on_with_the_recipe_after_it_failed(camera: PylonCamera, recipe: Recipe) -> None:
    good = camera._settings
    camera._settings = CameraSettings(device="not-there")
    with pytest.raises(CameraError, match="no pylon camera not-there"):
        camera.recover()
    assert fault_of(_fails(camera, recipe)) is AcquisitionFault.CAMERA
    camera._settings = good
    camera.recover()
    assert camera.expose(recipe.channels[0]).channel == recipe.channels[0].name


def test_a_closed_camera_leaves_no_files_and_says_so(scene: Pictures, recipe: Recipe) -> None:
    opened = PylonCamera(CameraSettings(), scene)
    opened.configure(recipe)
    assert opened._stage.feed is not None
    folder = opened._stage.feed.folder
    assert folder.exists()
    opened.close()
    opened.close()
    assert not folder.exists()
    with pytest.raises(CameraError, match="not configured"):
        opened.expose(recipe.channels[0])


class Deep:
    """A scene of 12 bits."""

    def __init__(self) -> None:
        self.shown: Pixels = np.zeros((1, 1), np.uint16)
        self._generator = np.random.default_rng(4)

    def picture(
        self, height: int, width: int, exposure_us: float, gain_db: float, bit_depth: int | None = None
    ) -> Pixels:
        self.shown = self._generator.integers(0, 4096, (height, width)).astype(np.uint16)
        return self.shown


def _changed(recipe: Recipe, **changes: Any) -> Recipe:
    return recipe.model_copy(update=changes)


def test_twelve_bits_stay_twelve_bits_through_the_sdk(recipe: Recipe) -> None:
    deep = Deep()
    camera = PylonCamera(CameraSettings(frame_timeout_s=1.0), deep)
    try:
        camera.configure(_changed(recipe, bit_depth=12))
        for channel in recipe.channels:
            frame = camera.expose(channel)
            assert np.array_equal(frame.pixels, deep.shown)
            assert frame.pixels.dtype == np.uint16
            assert (frame.bit_depth, frame.pixel_format) == (12, "Mono12")
        camera.configure(recipe.model_copy(update={"bit_depth": 16}))
        assert np.array_equal(camera.expose(recipe.channels[0]).pixels, deep.shown)
    finally:
        camera.close()


@pytest.mark.parametrize(("name", "bits"), [("BayerRG12", 12), ("BayerGB8", 8), ("RGB8", 8), ("RGB16", 16)])
def test_three_planes_come_of_one_trigger(recipe: Recipe, name: str, bits: int) -> None:
    camera = PylonCamera(CameraSettings(frame_timeout_s=1.0))
    channels = tuple(
        recipe.channels[0].model_copy(update={"name": plane, "plane": plane}) for plane in ("red", "green", "blue")
    )
    try:
        camera.configure(
            _changed(recipe, bit_depth=bits, channels=channels, sensor=SensorSetup(pixel_format=name, offset_x=32))
        )
        assert camera.features.read("OffsetX") == 32
        for _ in range(2):
            frames = [camera.expose(channel) for channel in channels]
            assert len({frame.frame_id for frame in frames}) == 1
            assert {frame.pixel_format for frame in frames} == {name}
            assert all(0 < int(frame.pixels.max()) < 1 << bits for frame in frames)
        assert camera.expose(channels[0]).frame_id == frames[0].frame_id + 1
    finally:
        camera.close()


def test_pixels_go_where_the_host_wants_them(camera: PylonCamera, recipe: Recipe) -> None:
    given: list[Any] = []

    def allocate(shape: tuple[int, int], dtype: Any) -> Any:
        given.append(np.empty(shape, dtype))
        return given[-1]

    camera.allocate = allocate
    frame = camera.expose(recipe.channels[0])
    assert frame.pixels is given[0]
    assert len(given) == 1


@pytest.fixture
def on_line(scene: Pictures, recipe: Recipe) -> Iterator[PylonCamera]:
    opened = PylonCamera(CameraSettings(frame_timeout_s=1.0, trigger="line", trigger_line="Line2"), scene)
    alike = tuple(channel.model_copy(update={"exposure_us": 500.0, "gain_db": 0.0}) for channel in recipe.channels)
    opened.configure(_changed(recipe, channels=alike))
    yield opened
    opened.close()


def test_frames_of_a_line_wait_in_order(on_line: PylonCamera, scene: Pictures, recipe: Recipe) -> None:
    assert on_line.features.read("TriggerSource") == "Line2"
    assert on_line.await_frame(recipe.channels[0], 0.05) is None
    for _ in range(3):
        on_line.fire()
    frames = []
    for _ in range(3):
        for channel in recipe.channels:
            frame = on_line.await_frame(channel, 1.0)
            assert frame is not None
            assert (frame.channel, frame.exposure_us) == (channel.name, 500.0)
            frames.append(frame)
    assert np.array_equal(frames[-1].pixels, scene.shown)
    ids = [frame.frame_id for frame in frames]
    assert ids == list(range(ids[0], ids[0] + 3 * len(recipe.channels)))
    assert on_line.await_frame(recipe.channels[0], 0.05) is None


def test_an_incomplete_frame_of_a_line_is_named_and_leaves_the_ones_behind_it(
    on_line: PylonCamera, recipe: Recipe
) -> None:
    on_line.truncate_next()
    on_line.fire()
    with pytest.raises(CameraError, match="incomplete frame") as caught:
        on_line.await_frame(recipe.channels[0], 1.0)
    assert fault_of(caught.value) is AcquisitionFault.INCOMPLETE
    rest = [on_line.await_frame(channel, 1.0) for channel in recipe.channels[1:]]
    assert all(frame is not None for frame in rest)


def test_exposures_that_differ_need_a_sequencer_that_the_emulator_lacks(recipe: Recipe) -> None:
    camera = PylonCamera(CameraSettings(trigger="line"))
    channels = tuple(
        channel.model_copy(update={"exposure_us": 500.0 + 100 * index}) for index, channel in enumerate(recipe.channels)
    )
    try:
        with pytest.raises(CameraError, match="has no sequencer") as caught:
            camera.configure(_changed(recipe, channels=channels))
        assert "\n" not in str(caught.value)
    finally:
        camera.close()


def test_recovery_writes_every_setting_again_and_reads_it_back(camera: PylonCamera, recipe: Recipe) -> None:
    camera._camera.StopGrabbing()
    for feature, value in (("BinningVertical", 2), ("Width", 640), ("TriggerMode", "Off"), ("GainAuto", "Continuous")):
        camera.features.write(feature, value)
    camera.recover()
    read = {name: camera.features.read(name) for name in ("BinningVertical", "Width", "TriggerMode", "GainAuto")}
    assert read == {"BinningVertical": 1, "Width": recipe.width, "TriggerMode": "On", "GainAuto": "Off"}
    camera.expose(recipe.channels[0])


def test_a_camera_that_another_program_holds_is_named() -> None:
    taken = RuntimeError(
        "Failed to open device 'Basler#1'. Error: 'The device is controlled by another application. (0xE1018006)'"
    )
    assert "controlled by another application, or by one that died" in str(opening_error("123", taken))
    assert "tried again" in str(opening_error("123", taken))
    assert "does not open: No power" in str(opening_error("123", RuntimeError("No power.\nat line 3")))


def test_one_of_several_cameras_must_be_named() -> None:
    # PYLON_CAMEMU is read once by the library, so this looks from a process of its own.
    code = (
        "from cell.settings import CameraSettings\n"
        "from cell.errors import ConfigurationError\n"
        "from drivers.cameras.pylon import PylonCamera\n"
        "try:\n    PylonCamera(CameraSettings())\n"
        "except ConfigurationError as error:\n    print(error)\n"
        "camera = PylonCamera(CameraSettings(device='0815-0001'))\n"
        "print(camera.name)\ncamera.close()\n"
        "camera = PylonCamera(CameraSettings(device='Basler Emulation (0815-0000)'))\n"
        "print(camera.name)\ncamera.close()\n"
    )
    environment = os.environ | {"PYLON_CAMEMU": "2"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    several, first, second = done.stdout.splitlines()
    assert several == "there are several pylon cameras (0815-0000, 0815-0001); set camera.device to one of them"
    assert (first, second) == ("0815-0001", "0815-0000")
