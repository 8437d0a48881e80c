"""Frames out of buffers: ids, clock, counters, size, format and exposure must all agree, and buffers go back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cell.errors import CameraError
from cell.frames import AcquisitionFault, Frame
from cell.recipes import Channel, DefectClass, Recipe, SensorSetup
from drivers.cameras.arming import Armed
from drivers.cameras.assembly import Assembly, Delivery
from drivers.cameras.base import ExposureWindow, Sequence, fault_of, shares_exposure
from drivers.cameras.chunks import ChunkData, ChunkPlan
from drivers.cameras.formats import format_of

GREY = Channel(name="grey", exposure_us=100.0, lights={"l": 1.0})
PLANES = tuple(GREY.model_copy(update={"name": plane, "plane": plane}) for plane in ("red", "green", "blue"))


def _recipe(*channels: Channel, pixel_format: str = "Mono8") -> Recipe:
    return Recipe(
        recipe_id="r",
        product="p",
        height=4,
        width=6,
        sensor=SensorSetup(pixel_format=pixel_format),
        channels=channels or (GREY,),
        defect_classes=(DefectClass(name="d"),),
    )


class Camera:
    """An assembly, and the buffers that it was given and has not given back."""

    def __init__(self, recipe: Recipe | None = None) -> None:
        self.recipe = recipe or _recipe()
        self.assembly = Assembly("T")
        name = self.recipe.sensor.pixel_format or "Mono8"
        self.assembly.set_up(self.recipe, Armed(format_of(name), ChunkPlan({}), 1.0, software_trigger=True))
        self.out: list[int] = []

    def take(
        self, block_id: int, *, channel: Channel | None = None, exposed: Any = None, stamp: int = 0, **changes: Any
    ) -> Frame:
        name = self.recipe.sensor.pixel_format or "Mono8"
        height, width = changes.pop("height", 4), changes.pop("width", 6)
        told = {"pixel_format": name, "data": np.full(height * width * 3, block_id % 256, np.uint8)} | changes
        chunks = told.pop("chunks", ChunkData())
        self.out.append(block_id)
        delivery = Delivery(
            width=width,
            height=height,
            padding=0,
            block_id=block_id,
            timestamp_ns=stamp,
            chunks=chunks,
            release=lambda: self.out.remove(block_id),
            **told,
        )
        return self.assembly.take(delivery, channel or self.recipe.channels[0], (100.0, 0.0), np.empty, exposed)

    def refused(self, fault: AcquisitionFault, block_id: int, **changes: Any) -> str:
        with pytest.raises(CameraError) as caught:
            self.take(block_id, **changes)
        assert fault_of(caught.value) is fault
        assert "\n" not in str(caught.value)
        assert not self.out, "a refused buffer was kept"
        return str(caught.value)


def test_ids_move_on_and_a_loss_on_the_line_leaves_its_gap() -> None:
    camera = Camera()
    assert [camera.take(number).frame_id for number in (5, 6, 9)] == [1, 2, 5]
    camera.assembly.restart()
    assert camera.take(0).frame_id == 6
    assert not camera.out


def test_repeated_older_and_lost_frames_are_named() -> None:
    camera = Camera()
    camera.take(5, stamp=100)
    camera.refused(AcquisitionFault.REPEATED, 5, stamp=200)
    camera.refused(AcquisitionFault.STALE, 4, stamp=90)
    camera.refused(AcquisitionFault.STALE, 6, stamp=90)
    text = camera.refused(AcquisitionFault.MISSING, 8, stamp=300, exposed=(1.0, 2.0))
    assert "frame 8 came without the 2 before it" in text


def test_block_ids_of_gige_wrap_and_only_forwards_in_time() -> None:
    camera = Camera()
    camera.take(65_534, stamp=10)
    assert camera.take(65_535, stamp=20).frame_id == 2
    assert camera.take(1, stamp=30).frame_id == 3
    assert camera.take(3, stamp=40).frame_id == 5
    camera.refused(AcquisitionFault.STALE, 65_535, stamp=35)


def test_a_counter_that_begins_anew_is_doubted_once() -> None:
    camera = Camera()
    camera.take(70_000, stamp=10)
    camera.refused(AcquisitionFault.STALE, 3, stamp=20)
    assert camera.take(4, stamp=30).frame_id == 2


def test_what_was_lost_before_it_was_sent_shows_in_the_frame_counter() -> None:
    camera = Camera()
    camera.take(1, stamp=10, chunks=ChunkData(frame_counter=100))
    assert camera.take(2, stamp=20, chunks=ChunkData(frame_counter=104)).frame_id == 5
    camera.refused(AcquisitionFault.REPEATED, 3, stamp=30, chunks=ChunkData(frame_counter=104))
    camera.refused(AcquisitionFault.STALE, 3, stamp=30, chunks=ChunkData(frame_counter=102))


def test_chunk_data_comes_first() -> None:
    told = ChunkData(frame_counter=1, timestamp=77, exposure_us=99.5, gain_db=1.5, trigger_count=4, line_count=8)
    frame = Camera().take(1, stamp=5, chunks=told)
    assert (frame.timestamp_ns, frame.exposure_us, frame.gain_db) == (77, 99.5, 1.5)
    assert (frame.trigger_count, frame.line_count, frame.pixel_format) == (4, 8, "Mono8")
    plain = Camera().take(1, stamp=5)
    assert (plain.timestamp_ns, plain.exposure_us, plain.trigger_count) == (5, 100.0, None)


def test_another_size_format_length_or_exposure_is_named() -> None:
    camera = Camera()
    assert "6x5 pixels where the recipe r wants 6x4" in camera.refused(AcquisitionFault.WRONG_SIZE, 1, height=5)
    assert "Mono12 where Mono8" in camera.refused(AcquisitionFault.WRONG_SIZE, 1, pixel_format="Mono12")
    camera.refused(AcquisitionFault.INCOMPLETE, 1, data=np.zeros(23, np.uint8))
    text = camera.refused(AcquisitionFault.SWAPPED, 2, chunks=ChunkData(exposure_us=250.0))
    assert "exposed for 250 us where its channel has 100" in text


def test_planes_of_one_exposure_keep_its_buffer_until_the_last() -> None:
    camera = Camera(_recipe(*PLANES, pixel_format="RGB8"))
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8)
    red = camera.take(1, data=pixels)
    assert camera.out == [1]
    green = camera.assembly.take_shared(PLANES[1], np.empty)
    assert camera.out == [1]
    blue = camera.assembly.take_shared(PLANES[2], np.empty)
    assert not camera.out
    assert green is not None
    assert blue is not None
    assert [frame.frame_id for frame in (red, green, blue)] == [1, 1, 1]
    assert [frame.channel for frame in (red, green, blue)] == ["red", "green", "blue"]
    assert [int(frame.pixels[0, 1]) for frame in (red, green, blue)] == [3, 4, 5]
    assert camera.assembly.take_shared(PLANES[2], np.empty) is None


def test_a_plane_out_of_turn_is_a_new_exposure_and_frees_the_buffer() -> None:
    camera = Camera(_recipe(*PLANES, pixel_format="RGB8"))
    camera.take(1)
    assert camera.assembly.take_shared(PLANES[2], np.empty) is None
    assert not camera.out
    camera.take(2)
    camera.assembly.restart()
    assert not camera.out
    assert camera.assembly.take_shared(PLANES[1], np.empty) is None


def test_channels_share_an_exposure_only_when_nothing_but_the_plane_differs() -> None:
    red, green, _ = PLANES
    assert shares_exposure(red, green)
    assert not shares_exposure(GREY, GREY.model_copy(update={"name": "other"}))
    assert not shares_exposure(red, green.model_copy(update={"exposure_us": 101.0}))
    assert not shares_exposure(red, green.model_copy(update={"lights": {"l": 0.5}}))
    assert not shares_exposure(red, red)


def test_the_cameras_clock_tells_a_frame_of_another_trigger() -> None:
    clock = ExposureWindow()
    epoch = 5_000_000_000_000
    for second in range(50):
        # Exposed 3 to 9 ms after the trigger, delivered 20 ms after it; the clocks run 50 ppm apart.
        at = second + 0.003 + 0.0001 * (second % 60)
        clock.check("c", epoch + round(at * 1e9 * (1 + 50e-6)), float(second), second + 0.02)
    with pytest.raises(CameraError, match="camera's clock the frame was exposed") as caught:
        clock.check("c", epoch + round(49.9 * 1e9 * (1 + 50e-6)), 50.0, 50.02)
    assert fault_of(caught.value) is AcquisitionFault.STALE


def test_a_first_frame_that_is_stale_is_found_with_the_second() -> None:
    clock = ExposureWindow()
    clock.check("c", 1_000_000_000, 3.0, 3.02)
    with pytest.raises(CameraError, match="clock"):
        clock.check("c", 3_500_000_000, 3.5, 3.52)
    clock.check("c", 4_000_000_000, 4.0, 4.02)
    clock.check("c", 4_500_000_000, 4.5, 4.52)
    clock.check("c", 0, 9.0, 9.0)  # a camera without a clock says nothing


def test_a_camera_that_lost_its_power_may_begin_its_clock_anew() -> None:
    camera = Camera()
    camera.take(1, stamp=5_000_000_000, exposed=(10.0, 10.1))
    camera.refused(AcquisitionFault.STALE, 2, stamp=5_000_000_001, exposed=(20.0, 20.1))
    camera.take(3, stamp=25_000_000_000, exposed=(30.0, 30.1))
    camera.assembly.opened("T")
    camera.assembly.restart()
    camera.take(0, stamp=1_000, exposed=(40.0, 40.1))
    camera.take(1, stamp=1_000_000_000, exposed=(41.0, 41.1))


def test_a_sequence_tells_how_many_were_lost() -> None:
    sequence = Sequence()
    sequence.admit("c", 10, 0)
    sequence.admit("c", 14, 0)
    assert sequence.lost == 3
    sequence.restart()
    sequence.admit("c", 40, 0)
    assert sequence.lost == 0
