"""The simulated camera: triggered by software or by its line, at any depth, and wrong in every way on request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell.errors import AcquisitionTimeout, CameraError, ConfigurationError, DataError, HardwareError
from cell.frames import AcquisitionFault, Frame, Pixels
from cell.recipes import Channel, DefectClass, Recipe
from drivers.cameras import simulated_mark
from drivers.cameras.base import fault_of
from drivers.cameras.simulated import Fault, SimulatedCamera
from drivers.cameras.simulated_device import BUFFERS, VirtualTime
from drivers.cameras.simulated_mark import Mark, part_number

LINES = ("a", "b", "c", "d")


class Stage:
    """Parts of any name; each line lights them to another level, with a little noise."""

    def __init__(self) -> None:
        self.part_id = ""
        self.lights: Mapping[str, float] = {}
        self.rendered = 0
        self._generator = np.random.default_rng(1)

    def present(self, part_id: str) -> None:
        self.part_id = ""
        if part_id.startswith("unknown"):
            raise DataError(f"there is no part {part_id}; take another")
        self.part_id = part_id

    def illuminate(self, lights: Mapping[str, float]) -> None:
        self.lights = dict(lights)

    def picture(
        self, height: int, width: int, exposure_us: float, gain_db: float, bit_depth: int | None = None
    ) -> Pixels:
        self.rendered += 1
        level = sum(40 * (LINES.index(line) + 1) * share for line, share in self.lights.items())
        return (level + self._generator.integers(0, 8, (height, width))).astype(np.uint8)


def recipe(bit_depth: int = 8, channels: int = 4, exposure_us: float = 1000.0, size: int = 32) -> Recipe:
    return Recipe(
        recipe_id="r",
        product="p",
        height=size,
        width=size + 8,
        bit_depth=bit_depth,
        channels=tuple(Channel(name=f"c-{x}", exposure_us=exposure_us, lights={x: 1.0}) for x in LINES[:channels]),
        defect_classes=(DefectClass(name="d"),),
    )


def on_line(wanted: Recipe, **options: object) -> tuple[SimulatedCamera, VirtualTime]:
    clock = VirtualTime()
    camera = SimulatedCamera(Stage(), 0.5, trigger="line", mark_frames=True, clock=clock, **options)  # type: ignore[arg-type]
    camera.configure(wanted)
    return camera, clock


def software(wanted: Recipe) -> tuple[SimulatedCamera, VirtualTime]:
    clock = VirtualTime()
    camera = SimulatedCamera(Stage(), 0.5, mark_frames=True, clock=clock)
    camera.configure(wanted)
    return camera, clock


def waiting(camera: SimulatedCamera, wanted: Recipe, clock: VirtualTime) -> list[Frame]:
    """Return all frames that come, asked for in the recipe's order."""
    frames: list[Frame] = []
    while (frame := camera.await_frame(wanted.channels[len(frames) % len(wanted.channels)], 0.1)) is not None:
        frames.append(frame)
    return frames


@given(st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 2**40 - 1), st.sampled_from([8, 10, 12, 16]))
def test_a_mark_is_read_as_it_was_written_and_not_when_a_bit_changed(
    part: int, channel: int, n: int, depth: int
) -> None:
    pixels: Any = np.full((20, 30), 77, np.uint8 if depth == 8 else np.uint16)
    simulated_mark.write(pixels, Mark(part, channel, n), (1 << depth) - 1)
    assert simulated_mark.read(pixels) == Mark(part, channel, n)
    assert (pixels[8:] == 77).all()
    assert (pixels[:, 16:] == 77).all()
    pixels[3, 5] = 0 if pixels[3, 5] else (1 << depth) - 1
    assert simulated_mark.read(pixels) is None


def test_a_picture_without_a_mark_has_none() -> None:
    assert simulated_mark.read(np.zeros((20, 30), np.uint8)) is None
    assert simulated_mark.read(np.full((4, 4), 255, np.uint8)) is None
    tiny: Pixels = np.full((4, 4), 9, np.uint8)
    simulated_mark.write(tiny, Mark(1, 2, 3), 255)
    assert (tiny == 9).all()


def test_an_edge_gives_one_frame_for_each_channel_under_its_own_light() -> None:
    wanted = recipe()
    camera, clock = on_line(wanted)
    for number, part_id in enumerate(("p-1", "p-2"), 1):
        camera.fire(part_id)
        frames = waiting(camera, wanted, clock)
        assert [frame.channel for frame in frames] == ["c-a", "c-b", "c-c", "c-d"]
        assert [frame.trigger_count for frame in frames] == [number] * 4
        assert [frame.frame_id for frame in frames] == list(range(4 * number - 3, 4 * number + 1))
        assert (np.diff([frame.timestamp_ns for frame in frames]) >= 1_000_000).all()
        marks = [simulated_mark.read(frame.pixels) for frame in frames]
        assert marks == [Mark(part_number(part_id), index, 4 * number - 3 + index) for index in range(4)]
        levels = [np.median(frame.pixels) for frame in frames]
        assert np.allclose(levels, [44, 84, 124, 164], atol=4)
    assert camera.await_frame(wanted.channels[0], 0.01) is None


def test_an_edge_that_comes_while_the_sequence_runs_is_counted_and_not_exposed() -> None:
    wanted = recipe()
    camera, clock = on_line(wanted)
    camera.fire("p-1")
    clock.advance(0.002)
    camera.fire("p-2")
    clock.advance(0.1)
    camera.fire("p-3")
    assert [frame.trigger_count for frame in waiting(camera, wanted, clock)] == [1] * 4 + [3] * 4
    assert camera.device.overtriggered == 1


@pytest.mark.parametrize(
    ("fault", "counts"),
    [
        (Fault.LOST_TRIGGER, [1, 2]),  # the second edge was not seen, the third is the second
        (Fault.OVERTRIGGERED, [1, 3]),
        (Fault.SURPLUS_TRIGGER, [1, 2, 3, 4]),
    ],
)
def test_what_goes_wrong_with_an_edge_shows_in_the_count(fault: Fault, counts: list[int]) -> None:
    wanted = recipe(channels=1)
    camera, clock = on_line(wanted)
    camera.fire("p-1")
    camera.inject(fault.value)
    for part_id in ("p-2", "p-3"):
        clock.advance(0.05)
        camera.fire(part_id)
    assert [frame.trigger_count for frame in waiting(camera, wanted, clock)] == counts


def test_a_line_that_is_not_read_loses_frames_and_the_block_ids_say_so() -> None:
    wanted = recipe()
    camera, clock = on_line(wanted)
    for number in range(BUFFERS // 4 + 3):
        camera.fire(f"p-{number}")
        clock.advance(0.05)
    assert camera.device.underruns == 12
    frames = waiting(camera, wanted, clock)
    assert len(frames) == BUFFERS
    camera.fire("late")
    late = waiting(camera, wanted, clock)
    assert late[0].frame_id == frames[-1].frame_id + 13


def test_counters_wrap_as_a_cameras_do() -> None:
    wanted = recipe(channels=1)
    camera, clock = on_line(wanted)
    camera.preset(2**32 - 2, 65_533)
    camera.configure(wanted)
    for _ in range(3):
        camera.fire("p")
        clock.advance(0.05)
    assert [frame.trigger_count for frame in waiting(camera, wanted, clock)] == [2**32 - 1, 0, 1]


@pytest.mark.parametrize("bit_depth", [8, 10, 12, 16])
def test_every_depth_passes_through(bit_depth: int) -> None:
    wanted = recipe(bit_depth)
    camera, _ = software(wanted)
    camera.stage.illuminate({"c": 1.0})
    frame = camera.expose(wanted.channels[2])
    assert (frame.bit_depth, frame.pixel_format) == (bit_depth, f"Mono{bit_depth}")
    assert frame.pixels.dtype == (np.uint8 if bit_depth == 8 else np.uint16)
    assert np.median(frame.pixels) / ((1 << bit_depth) - 1) == pytest.approx(124 / 255, abs=0.02)
    assert camera.features.read("PixelFormat") == f"Mono{bit_depth}"


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (Fault.DROPPED, "missing"),
        (Fault.UNDERRUN, "missing"),
        (Fault.LOST_TRIGGER, "missing"),
        (Fault.OVERTRIGGERED, "missing"),
        (Fault.HANG, None),
        (Fault.REPEATED, "repeated"),
        (Fault.STALE, "stale"),
        (Fault.INCOMPLETE, "incomplete"),
        (Fault.TRUNCATED, "wrong-size"),
        (Fault.WRONG_SIZE, "wrong-size"),
        (Fault.REMOVED, "camera"),
    ],
)
def test_a_software_trigger_that_goes_wrong_is_named_and_the_next_one_is_good(fault: Fault, name: str | None) -> None:
    wanted = recipe()
    camera, clock = software(wanted)
    before = camera.expose(wanted.channels[0])
    camera.expose(wanted.channels[1])
    camera.faults.append(fault)
    started = clock.now()
    if name is None:  # a call that comes back after all gives its frame; who waited for it had gone
        camera.expose(wanted.channels[2])
        assert clock.now() - started >= 30
        return
    with pytest.raises(HardwareError) as caught:
        camera.expose(wanted.channels[2])
    assert fault_of(caught.value) == name
    assert isinstance(caught.value, AcquisitionTimeout) == (name == "missing")
    camera.plug_in()
    camera.recover()
    after = camera.expose(wanted.channels[3])
    assert after.frame_id > before.frame_id
    mark = simulated_mark.read(after.pixels)
    assert mark is not None
    assert mark.channel == 3


def test_a_frame_that_nobody_asked_for_does_not_pass_for_the_next_one() -> None:
    wanted = recipe()
    camera, clock = software(wanted)
    # Read out when the next trigger comes, or there long before it.
    for passed_s, words in ((0.0, "sooner than its exposure"), (1.0, "1 frames came that no trigger asked for")):
        camera.faults.append(Fault.SURPLUS_TRIGGER)
        camera.expose(wanted.channels[0])
        clock.advance(passed_s)
        with pytest.raises(CameraError, match=words) as caught:
            camera.expose(wanted.channels[1])
        assert fault_of(caught.value) is AcquisitionFault.STALE
        camera.expose(wanted.channels[1])


def test_a_swapped_light_shows_in_the_pixels_alone() -> None:
    wanted = recipe()
    camera, _ = software(wanted)
    camera.stage.illuminate(wanted.channels[0].lights)
    camera.faults.append(Fault.SWAPPED)
    frame = camera.expose(wanted.channels[0])
    mark = simulated_mark.read(frame.pixels)
    assert mark is not None
    assert (frame.channel, mark.channel) == ("c-a", 1)
    assert np.median(frame.pixels) > 80
    assert np.median(camera.expose(wanted.channels[0]).pixels) < 60, "the light is back"


def test_on_its_line_a_removed_camera_says_so_and_counts_anew_when_it_is_back() -> None:
    wanted = recipe()
    camera, clock = on_line(wanted)
    camera.fire("p-1")
    waiting(camera, wanted, clock)
    camera.remove()
    camera.fire("p-2")
    for call in (lambda: camera.await_frame(wanted.channels[0], 0.1), camera.recover):
        with pytest.raises(CameraError, match="gone"):
            call()
    camera.plug_in()
    camera.recover()
    camera.fire("p-3")
    assert [frame.trigger_count for frame in waiting(camera, wanted, clock)] == [1] * 4


def test_the_wrong_way_to_ask_is_refused() -> None:
    wanted = recipe()
    camera, _ = on_line(wanted)
    with pytest.raises(CameraError, match="triggered by its line"):
        camera.expose(wanted.channels[0])
    other, _ = software(wanted)
    with pytest.raises(CameraError, match="triggered by software"):
        other.await_frame(wanted.channels[0], 0.1)
    other.fire("p-1")
    assert other.device.flush() == 0, "a software-triggered camera does not listen to its line"
    with pytest.raises(CameraError, match="can't show all of"):
        camera.inject("explosion")
    camera.close()
    with pytest.raises(CameraError):
        camera.await_frame(wanted.channels[0], 0.1)
    fresh = SimulatedCamera(Stage())
    with pytest.raises(CameraError, match="prepare a recipe"):
        fresh.expose(wanted.channels[0])


def test_features_are_read_back_and_what_is_clipped_names_both() -> None:
    camera, _ = software(recipe())
    assert camera.features.read("Width") == 40
    assert camera.features.write("ExposureTime", 250.5) == 250.5
    with pytest.raises(CameraError, match="Gain was set to 99 and became 48"):
        camera.features.write("Gain", 99)
    with pytest.raises(CameraError, match="no feature Colour"):
        camera.features.read("Colour")
    loud = recipe().channels[0].model_copy(update={"gain_db": 60.0})
    with pytest.raises(CameraError, match="recipe r: Gain was set to 60 and became 48"):
        camera.configure(recipe().model_copy(update={"channels": (loud,)}))
    with pytest.raises(CameraError, match="can't execute Explode"):
        camera.features.execute("Explode")


def test_an_album_renders_a_part_once_and_hands_out_its_picture_without_a_copy() -> None:
    wanted = recipe()
    stage, clock = Stage(), VirtualTime()
    camera = SimulatedCamera(stage, trigger="line", album_mb=1.0, clock=clock)
    camera.configure(wanted)
    seen = []
    for _ in range(3):
        for part_id in ("p-1", "p-2"):
            clock.advance(0.05)
            camera.fire(part_id)
            seen.append(waiting(camera, wanted, clock))
    assert stage.rendered == 8
    assert seen[0][1].pixels is seen[2][1].pixels
    assert not np.array_equal(seen[0][1].pixels, seen[1][1].pixels)
    with pytest.raises(DataError, match="unknown-1"):
        camera.fire("unknown-1")


def test_an_album_is_bounded() -> None:
    wanted = recipe(channels=1, size=100)
    camera = SimulatedCamera(Stage(), trigger="line", album_mb=0.05, clock=VirtualTime())
    camera.configure(wanted)
    for number in range(50):
        camera.stage.present(f"p-{number}")
        camera.stage.picture(100, 100, 1.0, 0.0)
    assert camera.stage._bytes <= 50_000
    assert len(camera.stage._kept) == 5


def test_the_sensor_pipe_makes_parts_come_and_says_what_it_does_not_understand(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = recipe()
    pipe = tmp_path / "sensor"
    camera = SimulatedCamera(Stage(), trigger="line", mark_frames=True, sensor=pipe)
    try:
        camera.configure(wanted)
        with pipe.open("w") as sensor:
            for line in (
                '{"fire": "p-7"}',
                "nonsense",
                '{"close": []}',
                '{"fire": "unknown"}',
                '{"inject": ["dropped"]}',
            ):
                print(line, file=sensor, flush=True)
        frames = [camera.await_frame(channel, 5.0) for channel in wanted.channels]
        assert all(frame is not None and frame.trigger_count == 1 for frame in frames)
        deadline = time.monotonic() + 5
        pause = threading.Event()
        while not camera.faults and time.monotonic() < deadline:
            pause.wait(0.01)
        assert list(camera.faults) == [Fault.DROPPED]
        assert len([r for r in caplog.records if "can't carry out" in r.message]) == 3
    finally:
        camera.close()
        camera.close()
    assert not any(thread.name == "simulated-sensor" for thread in threading.enumerate())
    file = tmp_path / "none" / "sensor"
    with pytest.raises(ConfigurationError, match="can't use the pipe"):
        SimulatedCamera(Stage(), sensor=file)
    assert json.loads('{"fire": null}') == {"fire": None}


def test_an_exposure_takes_its_time() -> None:
    wanted = recipe(exposure_us=20_000.0, channels=2)
    camera = SimulatedCamera(Stage())
    camera.configure(wanted)
    started = time.monotonic()
    for channel in wanted.channels:
        camera.expose(channel)
    assert time.monotonic() - started >= 0.04
