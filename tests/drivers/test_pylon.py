"""The pylon driver against pylon's own camera emulation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from cell.errors import AcquisitionTimeout, CameraError, HardwareError
from cell.frames import AcquisitionFault, Pixels
from cell.recipes import Recipe
from cell.settings import CameraSettings
from drivers.cameras.base import fault_of
from drivers.cameras.pylon import PylonCamera
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

    def picture(self, height: int, width: int, exposure_us: float, gain_db: float) -> Pixels:
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
        frame = camera.expose(channel)
        assert frame.exposure_us == camera._camera.ExposureTime.Value
        assert frame.exposure_us == pytest.approx(asked, rel=0.02)


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
    before = camera.expose(recipe.channels[0])
    camera._timeout_ms = 1  # the emulator needs 10: the frame comes, too late
    given_up = 0
    for _ in range(20):
        try:
            camera.expose(recipe.channels[0])
        except AcquisitionTimeout as error:
            if fault_of(error) is not AcquisitionFault.MISSING or "no frame" not in str(error):
                continue  # the camera took no trigger in that time: no frame is under way
            given_up += 1
            camera._timeout_ms = 1000
            for channel in recipe.channels:
                frame = camera.expose(channel)
                assert np.array_equal(frame.pixels, scene.shown)
                assert frame.frame_id > before.frame_id
            camera._timeout_ms = 1
    assert given_up >= 3


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
    assert opened._feed is not None
    folder = opened._feed.folder
    assert folder.exists()
    opened.close()
    opened.close()
    assert not folder.exists()
    with pytest.raises(CameraError, match="not configured"):
        opened.expose(recipe.channels[0])
