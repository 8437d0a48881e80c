"""The Gardasoft driver on a real socket, against a fake that takes bytes only as the manual writes them."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell.errors import LightError
from cell.recipes import Channel, DefectClass, Recipe
from cell.settings import CameraSettings, EmulatedCellSettings, Settings
from drivers.lights.gardasoft import GardasoftLight
from drivers.lights.gardasoft_protocol import Event, Mode, Setting, Status, parse, reason
from drivers.registry import open_rig
from drivers.sim.fake_gardasoft import FakeGardasoft
from drivers.sim.fake_gardasoft_outputs import Outputs
from drivers.sim.plate import recipe_for_plate
from tests.drivers.controllers import talk, wiring

# The wire.


def test_what_goes_over_the_wire_is_what_the_manual_says(fake: FakeGardasoft, opened: list[GardasoftLight]) -> None:
    outputs = {"ring": {"channel": 1, "rated_current_a": 0.7}, "bar": {"channel": 2, "trigger_input": 4}}
    light = GardasoftLight(wiring(fake, outputs=outputs))
    opened.append(light)
    light.apply({"ring": 0.8})
    light.apply({"ring": 0.8})  # nothing changes, nothing is sent
    light.apply({"bar": 1.0 / 3})
    light.off()
    assert [line.text for line in fake.lines] == [
        "VR",
        "RS1,0.0;RS2,0.0;ST1;ST2",
        "GT1;TT0;ST0",
        "VL1,0,0.700A;RE1,0;ST1",
        "RP2,4;RE2,0;ST2",
        "RS1,80.0;ST1",
        "RS1,0.0;RS2,33.3;ST1;ST2",
        "RS2,0.0;ST2",
    ]
    assert fake.outputs.saves == 0


def test_many_outputs_are_set_in_lines_of_a_moderate_length(fake: FakeGardasoft, opened: list[GardasoftLight]) -> None:
    outputs = {f"l{channel}": {"channel": channel} for channel in range(1, 9)}
    light = GardasoftLight(wiring(fake, mode="pulsed", outputs=outputs))
    opened.append(light)
    light.apply(dict.fromkeys(outputs, 0.5), 200.0)
    assert light.levels() == dict.fromkeys(outputs, 0.5)
    assert max(len(line.text) for line in fake.lines) <= 100
    light.off()
    assert not any(light.levels().values())


@pytest.mark.parametrize("echo", [True, False])
def test_families_with_and_without_an_echo_are_understood(echo: bool, opened: list[GardasoftLight]) -> None:
    fake = FakeGardasoft(echo=echo)
    light = GardasoftLight(wiring(fake))
    opened.append(light)
    light.apply({"ring": 0.5, "bar": 1.0})
    assert light.levels() == {"ring": 0.5, "bar": 1.0}
    light.close()
    fake.close()


def test_a_reply_is_taken_apart_as_the_manual_prints_it() -> None:
    # RT manual, "Show configuration"; the line ends and spaces of other families.
    text = (
        "ST\n\rCH 1, MD 0, S  50.0,  0.0, DL 1.000ms, PU 1.000ms, RT   0.0us, IP 1, FL 0, CS 0.000A, RA 0.000A\r\n"
        "CH2,MD1,S 120.5, 0.0,DL20.0us,PU0.2s,RT 0.0us,IP2,FL4,CS0.000A,RA350mA\n\r>"
    )
    reply = parse(text, ("ST",))
    assert reply.statuses == {
        1: Status(1, 0, 50.0, 1000.0, 1000.0, 1, 0, 0.0),
        2: Status(2, 1, 120.5, 20.0, 200_000.0, 2, 4, 0.35),
    }
    assert (reply.rest, reply.errors) == ("", ())
    version = parse("VRRT420-20 (HW02) V031\n\r>", ("VR",))
    assert version.identity is not None
    assert (version.identity.model, version.identity.hardware, version.identity.firmware) == ("RT420-20", "HW02", "031")
    assert parse("Evt2,36;\n\r>", ()).events == (Event(2, 36),)
    assert parse("RS9,1Err 1\n\rRT1,0,0,5Err 5>", ("RS9,1", "RT1,0,0,5")).errors == (1, 5)
    assert parse("hello>", ("VR",)).rest == "hello"
    twice = parse("RS1,80.0;ST1\n\rRS1,80.0\n\rST1" + text[2:], ("RS1,80.0", "ST1"))
    assert (set(twice.statuses), twice.rest) == ({1, 2}, ""), "the line is echoed, then each command"
    assert parse("\n\r>", ("RS1,0",)).empty
    assert reason(5) == "Err 5 (a value was out of range and has been adjusted)"
    assert reason(23) == "Err 23 (see the controller's manual)"


@given(st.text(alphabet="VRSTCHMDLPUIFEvtr0123456789.,;>\n\r ums", max_size=120))
def test_no_reply_breaks_the_parser(text: str) -> None:
    parse(text, ("VR", "ST1"))


@settings(max_examples=200)
@given(
    st.sampled_from([Mode.CONTINUOUS, Mode.SWITCHED, Mode.PULSE]),
    st.integers(0, 1000),
    st.integers(20, 900_000),
    st.integers(20, 900_000),
)
def test_what_is_set_is_what_is_read_back(mode: Mode, tenths: int, width_us: int, delay_us: int) -> None:
    outputs = Outputs(1)
    setting = Setting(mode, tenths / 10, float(width_us), float(delay_us))
    command = setting.command(1)
    assert outputs.obey(command) == ""
    status = parse(outputs.obey("ST1"), ("ST1",)).statuses[1]
    assert setting.problem(status) == ""
    assert Setting(mode, tenths / 10 + 1, width_us, delay_us).problem(status)


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("RS1,101", "Err 1"),
        ("RS9,10", "Err 1"),
        ("RS0,10", "Err 1"),
        ("RU1,50,60", "Err 1"),
        ("XY1", "Err 2"),
        ("rs1,10", "Err 2"),
        ("", "Err 2"),
        ("RS1,1O", "Err 3"),
        ("RS1,0,5", "Err 4"),
        ("RS1,0.5.1", "Err 3"),
        ("RS1", "Err 4"),
        ("RT1,1,1", "Err 4"),
        ("RT1,1,0,50", "Err 5"),
        ("RT1,0.001,1,50", "Err 5"),
        ("RT1,1,1,1000", "Err 1"),
        ("RT1, 200us, 1, 50", ""),
        ("ST0", "TM 0, TP 20.00ms"),
    ],
)
def test_the_fake_is_as_strict_as_the_manual(command: str, answer: str) -> None:
    fake = FakeGardasoft(echo=False)
    assert talk(fake, command.encode() + b"\r") == f"{answer}\n\r>"
    fake.close()


def test_the_fake_waits_for_the_carriage_return_and_closes_when_idle() -> None:
    fake = FakeGardasoft(idle_s=0.3)
    with socket.create_connection((fake.host, fake.port), 5) as connection:
        connection.sendall(b"RS1,80\n")
        connection.settimeout(5)
        assert connection.recv(100) == b""
    assert fake.idle_closes == 1
    assert fake.shining()[1] == 50.0, "a line feed ends nothing"
    fake.close()


def test_the_fake_bears_only_what_the_controller_bears() -> None:
    outputs = Outputs(1)
    assert outputs.obey("VL1,0,2A") == ""
    assert outputs.obey("RT1,0.1,1,999") == ""
    assert outputs.obey("RT1,0.2,1,999") == "Err 1", "20 A for 200 us"
    assert outputs.obey("RT1,2,1,200") == ""
    assert outputs.obey("RT1,4,1,200") == "Err 1", "4 A for 4 ms"
    assert outputs.obey("VL1,0,3500mA") == ""
    assert outputs.obey("RS1,100") == "Err 1", "3.5 A without end"


# Strobing, rating, polarity.


def test_strobed_lines_flash_on_their_trigger_and_are_dark_without(
    fake: FakeGardasoft, opened: list[GardasoftLight]
) -> None:
    outputs = {
        "ring": {"channel": 1, "trigger_input": 1, "overdrive_percent": 400, "rated_current_a": 0.5},
        "bar": {"channel": 2, "trigger_input": 1, "inverted": True},
    }
    light = GardasoftLight(wiring(fake, mode="pulsed", outputs=outputs))
    opened.append(light)
    assert fake.outputs.now[2].flags == 4
    light.apply({"ring": 0.5, "bar": 1.0}, 120.0)
    assert light.levels() == {"ring": 0.5, "bar": 1.0}
    mine = {channel: percent for channel, percent in fake.shining().items() if channel in {1, 2}}
    assert mine == {1: 0.0, 2: 0.0}
    assert [(pulse.channel, pulse.percent, pulse.width_us) for pulse in fake.trigger(1)] == [
        (1, 200.0, 120.0),
        (2, 100.0, 100.0 * 1.2),
    ]
    light.apply({"bar": 1.0}, 80.0)
    assert [(pulse.channel, pulse.width_us) for pulse in fake.trigger(1)] == [(2, 80.0)]
    light.apply({"bar": 0.7})
    assert fake.outputs.now[2].mode == Mode.SWITCHED, "as long as the exposure lasts"
    light.off()
    assert fake.trigger(1) == []


def test_the_cameras_exposure_is_carried_to_the_trigger_with_each_recipe(fake: FakeGardasoft) -> None:
    recipe = recipe_for_plate(2)
    recipe = recipe.model_copy(
        update={"channels": tuple(c.model_copy(update={"strobe_us": 50.0}) for c in recipe.channels)}
    )
    outputs = {line: {"channel": channel} for channel, line in enumerate(recipe.channel_names, 1)}
    cell = open_rig(
        Settings(
            camera=CameraSettings(driver="pylon"),
            light=wiring(fake, mode="pulsed", outputs=outputs, exposure_line="Line2"),
            emulated=EmulatedCellSettings(product="plate-2"),
        )
    )
    try:
        nodes = cell.camera.features
        for _ in range(2):
            cell.camera.configure(recipe)
            cell.light.prepare(recipe)
            nodes.write("LineSelector", "Line2")
            assert (nodes.read("LineMode"), nodes.read("LineSource")) == ("Output", "ExposureActive")
            nodes.write("LineSource", "Off")
            nodes.write("LineMode", "Input")
        for channel in recipe.channels:
            cell.light.apply(channel.lights, channel.strobe_us)
            cell.camera.expose(channel)
    finally:
        cell.close()


def test_a_camera_that_has_no_such_line_is_named(fake: FakeGardasoft) -> None:
    cell = open_rig(
        Settings(
            camera=CameraSettings(driver="simulated", isolated=False),
            light=wiring(fake, mode="pulsed", exposure_line="Line2"),
        )
    )
    try:
        with pytest.raises(LightError, match="does not carry its exposure on Line2"):
            cell.light.prepare(recipe_for_plate(1))
    finally:
        cell.close()


@pytest.mark.parametrize(
    ("changes", "lights", "strobe_us", "words"),
    [
        ({"mode": "pulsed"}, {"ring": 1.0}, 5.0, "ring: a pulse of 5 us was asked for and 20 us is set"),
        ({"mode": "pulsed", "pulse_delay_us": 0}, {"ring": 1.0}, 50.0, "ring: a delay of 0 us was asked for and 20 us"),
        (
            {"mode": "pulsed", "outputs": {"ring": {"rated_current_a": 3, "overdrive_percent": 900}}},
            {"ring": 1.0},
            50.0,
            r"Err 1 \(a parameter value is invalid\)",
        ),
        ({}, {"ring": 1.0}, 50.0, "set light.mode to pulsed"),
        ({"mode": "pulsed"}, {"ring": 1.0}, 85.0, "ends later than the exposure of 100 us"),
    ],
)
def test_a_scheme_that_the_controller_does_not_take_is_found_beforehand(
    fake: FakeGardasoft,
    opened: list[GardasoftLight],
    changes: dict[str, Any],
    lights: dict[str, float],
    strobe_us: float,
    words: str,
) -> None:
    light = GardasoftLight(wiring(fake, **changes))
    opened.append(light)
    channels = (Channel(name="bright", exposure_us=100, lights=lights, strobe_us=strobe_us),)
    recipe = Recipe(
        recipe_id="r", product="p", height=8, width=8, channels=channels, defect_classes=(DefectClass(name="d"),)
    )
    with pytest.raises(LightError, match=f"channel bright: .*{words}"):
        light.prepare(recipe)
    assert not any(light.levels().values())


def test_an_output_that_the_controller_lacks_is_refused_at_once(fake: FakeGardasoft) -> None:
    with pytest.raises(LightError, match=r"Err 1 \(a parameter value is invalid\)"):
        GardasoftLight(wiring(fake, outputs={"ring": {"channel": 9}}))
