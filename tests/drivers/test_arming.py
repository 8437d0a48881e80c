"""Recipes written into described cameras: families' names, triggers, sequencer, chunk data, clipped values."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cell.errors import CameraError
from cell.frames import AcquisitionFault
from cell.recipes import Channel, DefectClass, Recipe, SensorSetup
from cell.settings import CameraSettings
from drivers.cameras.arming import Armed, arm
from drivers.cameras.features import GenApiFeatures
from tests.drivers.genapi_camera import Description, Nodes, classic, modern


def _recipe(*exposures: float, gain: float = 0.0, **changes: Any) -> Recipe:
    return Recipe(
        recipe_id="r",
        product="p",
        height=256,
        width=320,
        channels=tuple(
            Channel(name=f"c{index}", exposure_us=exposure, gain_db=gain, lights={"l": 1.0})
            for index, exposure in enumerate(exposures or (1000.0,))
        ),
        defect_classes=(DefectClass(name="d"),),
    ).model_copy(update=changes)


def _arm(camera: Description, recipe: Recipe, **settings: Any) -> tuple[GenApiFeatures, Armed]:
    features = GenApiFeatures("T", Nodes(camera.load()))
    return features, arm(features, recipe, CameraSettings(**settings), emulated=False)


def test_what_an_earlier_program_left_on_is_off_and_the_recipe_stands() -> None:
    camera = modern()
    camera.firmware.put("SequencerMode", 1)
    camera.firmware.put("TriggerMode", 1, index=0)
    recipe = _recipe(sensor=SensorSetup(offset_x=32, offset_y=4, binning=1))
    features, armed = _arm(camera, recipe)
    read = {name: features.read(name) for name in ("Width", "Height", "OffsetX", "OffsetY", "BinningHorizontal")}
    assert read == {"Width": 320, "Height": 256, "OffsetX": 32, "OffsetY": 4, "BinningHorizontal": 1}
    assert (features.read("ExposureAuto"), features.read("SequencerMode")) == ("Off", "Off")
    assert [camera.firmware.get("TriggerMode", index) for index in range(3)] == [0, 0, 1]
    assert features.read("TriggerSource") == "Software"
    assert armed.pixel_format.name == "Mono8"
    assert armed.software_trigger


def test_binning_keeps_grey_levels_and_must_be_there() -> None:
    features, _ = _arm(modern(), _recipe(sensor=SensorSetup(binning=4)))
    assert (features.read("BinningVertical"), features.read("BinningHorizontalMode")) == (4, "Average")
    with pytest.raises(CameraError, match="BinningHorizontal can't be 8 and is 2; it can be 1 to 4"):
        _arm(modern(), _recipe(sensor=SensorSetup(binning=8)))


@pytest.mark.parametrize(
    ("make", "bits", "named", "chosen"),
    [
        (modern, 12, None, "Mono12p"),
        (classic, 12, None, "Mono12Packed"),
        (modern, 8, "RGB8", "RGB8"),
        (classic, 8, "RGB8", "RGB8Packed"),
    ],
)
def test_the_format_is_the_one_that_the_camera_has_as_it_spells_it(
    make: Any, bits: int, named: str | None, chosen: str
) -> None:
    plane = "red" if named else "mono"
    recipe = _recipe(bit_depth=bits, sensor=SensorSetup(pixel_format=named))
    channels = tuple(channel.model_copy(update={"plane": plane}) for channel in recipe.channels)
    features, armed = _arm(make(), recipe.model_copy(update={"channels": channels}))
    assert features.read("PixelFormat") == chosen
    assert armed.pixel_format.bits == bits


def test_older_cameras_are_written_by_their_own_names() -> None:
    camera = classic()
    features, armed = _arm(camera, _recipe(2000.0))
    assert camera.firmware.get("ExposureTimeAbs") == 2000.0
    assert features.read("ExposureTime") == 2000.0
    assert "ExposureTime" in features.names()
    assert camera.firmware.get("GainRaw") == 36
    assert armed.tick_ns == 8.0
    with pytest.raises(CameraError, match=r"channel c0: camera T has no gain in dB and can't be set to 6"):
        _arm(classic(), _recipe(gain=6.0))


def test_a_value_that_the_camera_clips_or_rounds_is_named_with_what_it_became() -> None:
    camera = modern()
    camera.when_written("ExposureTime", lambda value: min(value, 800.0))
    with pytest.raises(CameraError, match="ExposureTime was set to 1000 and is 800"):
        _arm(camera, _recipe())
    camera = modern()
    camera.when_written("ExposureTime", lambda value: round(value / 4) * 4)
    features, _ = _arm(camera, _recipe(1001.0))
    assert features.read("ExposureTime") == 1000.0
    camera = modern()
    camera.when_written("Width", lambda value: value - 16)
    with pytest.raises(CameraError, match="Width was set to 320 and is 304"):
        _arm(camera, _recipe())
    with pytest.raises(CameraError, match="Width"):
        _arm(modern(), _recipe(width=321))


def test_one_edge_of_a_line_starts_one_exposure() -> None:
    features, armed = _arm(modern(), _recipe(1500.0), trigger="line", trigger_line="Line2")
    assert features.read("TriggerSelector") == "FrameStart"
    assert (features.read("TriggerSource"), features.read("TriggerActivation")) == ("Line2", "RisingEdge")
    assert armed.actual == {"c0": (1500.0, 0.0)}
    features, _ = _arm(modern(), _recipe(), trigger="action")
    assert features.read("TriggerSource") == "Action1"
    with pytest.raises(CameraError, match="TriggerSource can't be Line9 and is Software; it can be Software, Line1"):
        _arm(modern(), _recipe(), trigger="line", trigger_line="Line9")


def test_one_edge_of_a_line_starts_a_burst_of_equal_exposures() -> None:
    camera = modern()
    features, armed = _arm(camera, _recipe(500.0, 500.0, 500.0), trigger="line")
    assert features.read("TriggerSelector") == "FrameBurstStart"
    assert features.read("AcquisitionBurstFrameCount") == 3
    assert [camera.firmware.get("TriggerMode", index) for index in range(3)] == [0, 1, 0]
    assert features.read("SequencerMode") == "Off"
    assert set(armed.actual.values()) == {(500.0, 0.0)}
    features, _ = _arm(classic(), _recipe(500.0, 500.0), trigger="line")
    assert (features.read("TriggerSelector"), features.read("AcquisitionFrameCount")) == ("AcquisitionStart", 2)


def test_exposures_that_differ_go_into_the_sequencer_one_set_each() -> None:
    camera = modern()
    features, armed = _arm(camera, _recipe(500.0, 900.0, 700.0), trigger="line")
    assert camera.firmware.sets == {0: (500.0, 0.0), 1: (900.0, 0.0), 2: (700.0, 0.0)}
    assert [camera.firmware.get("SequencerSetNext", index) for index in range(3)] == [1, 2, 0]
    assert [camera.firmware.get("SequencerTriggerSource", index) for index in range(3)] == [1, 1, 1]
    assert (features.read("SequencerSetStart"), features.read("SequencerMode")) == (0, "On")
    assert features.read("SequencerConfigurationMode") == "Off"
    assert armed.actual == {"c0": (500.0, 0.0), "c1": (900.0, 0.0), "c2": (700.0, 0.0)}
    written = [name for name, _ in camera.firmware.log]
    assert written.index("SequencerMode") < written.index("SequencerConfigurationMode")


def test_colour_planes_count_as_one_exposure() -> None:
    recipe = _recipe(800.0, 800.0, 800.0, sensor=SensorSetup(pixel_format="BayerRG8"))
    planes = tuple(
        channel.model_copy(update={"plane": plane})
        for channel, plane in zip(recipe.channels, ("red", "green", "blue"), strict=True)
    )
    features, armed = _arm(modern(), recipe.model_copy(update={"channels": planes}), trigger="line")
    assert features.read("TriggerSelector") == "FrameStart"
    assert set(armed.actual) == {"c0", "c1", "c2"}


def test_a_set_that_does_not_hold_what_was_saved_is_named() -> None:
    camera = modern()
    camera.when_written("SequencerSetSave", lambda _: camera.firmware.sets.update({0: (500.0, 0.0), 1: (500.0, 0.0)}))
    with pytest.raises(CameraError, match="set 1 of its sequencer was saved with 900 us and 0 dB and holds 500 us"):
        _arm(camera, _recipe(500.0, 900.0), trigger="line")


def test_a_camera_without_sequencer_or_burst_says_what_to_do() -> None:
    with pytest.raises(CameraError, match=r"has no sequencer, and the channels c0, c1 differ") as caught:
        _arm(classic(), _recipe(500.0, 900.0), trigger="line")
    assert "trigger by software" in str(caught.value)
    bare = Description()
    bare.integer("Width", 16, 1024, 1024)
    bare.integer("Height", 2, 768, 768)
    bare.choice("PixelFormat", ("Mono8",))
    bare.floating("ExposureTime", 1, 1e6, 1)
    with pytest.raises(CameraError, match="has no trigger"):
        _arm(bare, _recipe())
    bare.choice("TriggerSource", ("Software", "Line1"))
    bare.choice("TriggerMode", ("Off", "On"))
    with pytest.raises(CameraError, match="gives one frame for a trigger, and a recipe of 2 exposures needs a burst"):
        _arm(bare, _recipe(5.0, 5.0), trigger="line")


def test_chunk_data_is_switched_on_and_read() -> None:
    camera = modern()
    features, armed = _arm(camera, _recipe(), trigger="line")
    assert features.read("ChunkModeActive") is True
    assert [camera.firmware.get("ChunkEnable", index) for index in range(6)] == [1, 1, 1, 1, 1, 0]
    assert (camera.firmware.get("CounterEventSource", 1), camera.firmware.get("CounterSelector")) == (2, 1)
    assert ("CounterReset", 1) in camera.firmware.log
    camera.firmware.put("ChunkFrameID", 12)
    camera.firmware.put("ChunkTimestamp", 3456)
    camera.firmware.put("ChunkExposureTime", 998.5)
    camera.firmware.put("ChunkCounterValue", 9, index=1)
    told = armed.chunks.read(features)
    assert (told.frame_counter, told.timestamp, told.exposure_us, told.gain_db) == (12, 3456, 998.5, 0.0)
    assert (told.trigger_count, told.line_count) == (9, None)


def test_a_counter_counts_only_where_a_line_triggers() -> None:
    _, armed = _arm(modern(), _recipe())
    assert "trigger_count" not in armed.chunks.nodes
    _, armed = _arm(modern(), _recipe(), trigger="line", trigger_line="Line2")  # no event of the counter's
    assert "trigger_count" not in armed.chunks.nodes
    features, armed = _arm(classic(), _recipe(), trigger="line")
    assert (armed.chunks.read(features).frame_counter, armed.chunks.read(features).trigger_count) == (7, 3)


def test_a_frame_without_its_chunk_data_is_not_whole() -> None:
    _, armed = _arm(modern(), _recipe())
    bare = GenApiFeatures("T", Nodes(classic().load()))
    with pytest.raises(CameraError, match="sent a frame without its ChunkFrameID") as caught:
        armed.chunks.read(bare)
    assert caught.value.fault is AcquisitionFault.INCOMPLETE


def test_lines_and_outputs_are_features_like_others() -> None:
    features, _ = _arm(modern(), _recipe())
    features.write("LineSelector", "Line2")
    assert features.write("LineSource", "UserOutput1") == "UserOutput1"
    assert features.write("UserOutputValue", True) is True
    for name, value in (("LineSource", "Smoke"), ("UserOutputValue", 1), ("Width", 17), ("TriggerSoftware", True)):
        with pytest.raises(CameraError) as caught:
            features.write(name, value)
        assert re.search(rf"{name} can't be (set to )?{value}", str(caught.value))
    features.execute("TriggerSoftware")
    with pytest.raises(CameraError, match="Width can't be executed"):
        features.execute("Width")
