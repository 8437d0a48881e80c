"""The Gardasoft driver on a real socket, against a fake that takes bytes only as the manual writes them."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell.errors import LightError
from cell.recipes import Channel, DefectClass, Recipe
from cell.settings import CameraSettings, EmulatedCellSettings, LightSettings, Settings
from drivers.lights.gardasoft import GardasoftLight
from drivers.lights.gardasoft_protocol import Event, Mode, Setting, Status, parse, reason
from drivers.lights.link import TextLink
from drivers.registry import open_rig
from drivers.sim.fake_gardasoft import FakeGardasoft, Trouble
from drivers.sim.fake_gardasoft_outputs import Outputs
from drivers.sim.plate import recipe_for_plate

LINES = ("ring", "bar")


@pytest.fixture
def fake() -> Iterator[FakeGardasoft]:
    controller = FakeGardasoft()
    yield controller
    controller.close()


@pytest.fixture
def opened() -> Iterator[list[GardasoftLight]]:
    lights: list[GardasoftLight] = []
    yield lights
    for light in lights:
        light.close()


def wiring(fake: FakeGardasoft, **changes: Any) -> LightSettings:
    values: dict[str, Any] = {
        "driver": "gardasoft",
        "host": fake.host,
        "port": fake.port,
        "reply_timeout_s": 0.4,
        "settle_ms": 0,
        "outputs": {"ring": {"channel": 1}, "bar": {"channel": 2}},
    }
    return LightSettings.model_validate(values | changes)


def eventually(condition: Callable[[], object], within_s: float = 5.0) -> bool:
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def talk(fake: FakeGardasoft, line: bytes) -> str:
    link = TextLink(fake.host, fake.port, 1.0)
    link.connect()
    try:
        return link.ask(line, b">")
    finally:
        link.close()


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


# The connection.


def test_the_keep_alive_holds_a_connection_that_would_be_closed(opened: list[GardasoftLight]) -> None:
    fake = FakeGardasoft(idle_s=0.6)
    light = GardasoftLight(wiring(fake, keep_alive_s=0.2))
    opened.append(light)
    light.apply({"ring": 1.0})
    assert eventually(lambda: sum(line.text == "VR" for line in fake.lines) >= 8)
    assert (fake.connections, fake.idle_closes, light.reconnections) == (1, 0, 0)
    assert light.levels()["ring"] == 1.0
    light.close()
    fake.close()


def test_a_connection_that_was_closed_is_made_anew_without_losing_a_part(opened: list[GardasoftLight]) -> None:
    fake = FakeGardasoft(idle_s=0.2)
    outputs = {"ring": {"channel": 1, "rated_current_a": 0.7}, "bar": {"channel": 2}}
    light = GardasoftLight(wiring(fake, keep_alive_s=9.0, outputs=outputs))
    opened.append(light)
    assert eventually(lambda: fake.idle_closes == 1)
    light.apply({"bar": 1.0})
    assert light.reconnections == 1
    assert fake.shining()[2] == 100.0
    light.close()
    fake.close()


def test_after_a_power_cycle_everything_is_restored_dark_without_being_asked(
    fake: FakeGardasoft, opened: list[GardasoftLight]
) -> None:
    outputs = {
        "ring": {"channel": 1, "rated_current_a": 0.7, "inverted": True, "trigger_input": 3},
        "bar": {"channel": 2},
    }
    light = GardasoftLight(wiring(fake, outputs=outputs))
    opened.append(light)
    light.apply({"bar": 1.0})
    fake.reboot()
    assert eventually(lambda: light.reconnections == 1)
    assert eventually(lambda: (fake.outputs.now[1].rating_a, fake.outputs.now[1].source) == (0.7, 3))
    assert eventually(lambda: fake.outputs.now[1].flags == 4)
    assert fake.shining()[1] == fake.shining()[2] == 0.0
    light.apply({"bar": 1.0})
    assert fake.shining()[2] == 100.0


def test_a_power_cycle_between_two_parts_is_noticed_by_the_next(
    fake: FakeGardasoft, opened: list[GardasoftLight]
) -> None:
    light = GardasoftLight(wiring(fake))
    opened.append(light)
    light.apply({"ring": 1.0})
    fake.reboot()
    light.apply({"ring": 1.0})  # nothing would have changed, had it not been for the power
    assert (fake.shining()[1], fake.shining()[2]) == (100.0, 0.0)


@pytest.mark.parametrize("identity", ["PP420 (HW001) V029", "OpenSSH 9", "", "RT820F-20"])
def test_another_device_is_refused(identity: str) -> None:
    fake = FakeGardasoft(identity=identity)
    with pytest.raises(LightError, match=r"not a Gardasoft controller|check that light.host|did not answer"):
        GardasoftLight(wiring(fake))
    assert not any(line.text.startswith("R") for line in fake.lines), "it was told what to do"
    fake.close()


def test_a_real_controller_is_not_emulated(opened: list[GardasoftLight]) -> None:
    fake = FakeGardasoft(identity="RT420-20 (HW02) V031", outputs=4)
    light = GardasoftLight(wiring(fake))
    opened.append(light)
    assert not light.emulated
    light.close()
    fake.close()


def test_a_strobe_lamp_is_never_lit_continuously(opened: list[GardasoftLight]) -> None:
    fake = FakeGardasoft(identity="VTR1 (HW001) V001", outputs=1)
    with pytest.raises(LightError, match="can only be strobed"):
        GardasoftLight(wiring(fake, outputs={"ring": {}}))
    light = GardasoftLight(wiring(fake, outputs={"ring": {}}, mode="pulsed"))
    opened.append(light)
    light.apply({"ring": 1.0}, 100.0)
    light.off()
    assert not any("RS" in line.text or "RE" in line.text for line in fake.lines)
    assert fake.shining() == fake.armed() == {1: 0.0}
    light.close()
    fake.close()


def test_nobody_there_is_one_sentence() -> None:
    fake = FakeGardasoft()
    fake.close()
    with pytest.raises(LightError, match=r"can't be reached \(Connection refused\); check its power"):
        GardasoftLight(wiring(fake))


def test_lamps_that_fail_are_told_by_their_lines(fake: FakeGardasoft, opened: list[GardasoftLight]) -> None:
    light = GardasoftLight(wiring(fake))
    opened.append(light)
    light.apply({"ring": 1.0})
    fake.tell(2, 128)  # a lamp was connected
    fake.tell(7, 36)  # an output that has no line
    light.apply({"bar": 1.0})
    fake.tell(1, 36)
    with pytest.raises(LightError, match=r"light line ring: .* event 36"):
        eventually(lambda: light.apply({"ring": 1.0}), 0.5)
    assert any(line.text == "GR;VR" for line in fake.lines)
    light.apply({"ring": 1.0})
    fake.tell(0, 44)
    with pytest.raises(LightError, match=r"the whole controller: .* event 44"):
        eventually(light.off, 0.5)


def test_lines_of_several_controllers_make_one_light(opened: list[GardasoftLight]) -> None:
    first = FakeGardasoft()
    second = FakeGardasoft(host="127.0.0.2", port=first.port)
    light = GardasoftLight(wiring(first, outputs={"ring": {"channel": 3}, "bar": {"channel": 3, "host": second.host}}))
    opened.append(light)
    light.apply({"ring": 0.5, "bar": 1.0})
    assert (first.shining()[3], second.shining()[3]) == (50.0, 100.0)
    assert light.levels() == {"ring": 0.5, "bar": 1.0}
    second.trouble.append(Trouble.REFUSED)
    with pytest.raises(LightError, match="Err 1"):
        light.apply({"ring": 1.0})
    assert (first.shining()[3], second.shining()[3]) == (0.0, 0.0), "one failed, so both are dark"
    light.close()
    second.close()
    first.close()


# What must never happen.


def test_whatever_goes_wrong_no_scheme_is_confirmed_that_does_not_shine(
    fake: FakeGardasoft, opened: list[GardasoftLight]
) -> None:
    chance = random.Random(5)
    light = GardasoftLight(wiring(fake, reply_timeout_s=0.05, keep_alive_s=0.02))
    opened.append(light)
    told = 0
    for _ in range(300):
        if chance.random() < 0.5:
            fake.trouble.append(chance.choice([item for item in Trouble if item is not Trouble.SLOW]))
        wanted = {line: round(chance.random(), 2) for line in LINES if chance.random() < 0.6}
        try:
            light.apply(wanted)
        except LightError:
            told += 1
            continue
        shining = fake.shining()
        for channel, line in enumerate(LINES, 1):
            assert shining[channel] == pytest.approx(100 * wanted.get(line, 0.0), abs=0.11)
    assert 50 < told < 250
    fake.trouble.clear()
    light.off()
    assert fake.shining()[1] == fake.shining()[2] == 0.0


def test_light_that_nobody_tends_goes_out(fake: FakeGardasoft, opened: list[GardasoftLight]) -> None:
    light = GardasoftLight(wiring(fake, dark_after_s=0.3))
    opened.append(light)
    light.apply({"ring": 1.0})
    assert eventually(lambda: fake.shining()[1] == 0.0)
    assert eventually(lambda: light.timeouts == 1)
    light.apply({"ring": 1.0})
    assert fake.shining()[1] == 100.0


_HOST = """
import sys, time
from cell.settings import CameraSettings, EmulatedCellSettings, LightSettings, Settings
from drivers.lights.gardasoft import GardasoftLight
light = GardasoftLight(LightSettings.model_validate_json(sys.argv[1]))
light.apply({"ring": 1.0, "bar": 0.5})
print(light._guard.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_light_goes_out_when_its_program_is_killed(fake: FakeGardasoft, end: signal.Signals) -> None:
    arguments = [sys.executable, "-c", _HOST, wiring(fake).model_dump_json()]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        guard = int(program.stdout.readline())
        assert (fake.shining()[1], fake.shining()[2]) == (100.0, 50.0)
        os.kill(guard, signal.SIGTERM)  # as a service manager does to the whole group
        program.send_signal(end)
        program.wait(10)
        assert eventually(lambda: fake.shining()[1] == fake.shining()[2] == 0.0, 10)
    assert eventually(lambda: not _runs(guard)), "the guard stays"


def test_a_guard_that_was_killed_is_replaced(fake: FakeGardasoft, opened: list[GardasoftLight]) -> None:
    light = GardasoftLight(wiring(fake))
    opened.append(light)
    assert light._guard is not None
    first = light._guard.pid
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: light._guard is not None and light._guard._process.poll() is not None)
    light.apply({"ring": 1.0})
    assert light._guard.pid != first
    second = light._guard.pid
    light.close()
    assert not _runs(second)


def test_strobed_light_needs_no_guard(fake: FakeGardasoft, opened: list[GardasoftLight]) -> None:
    light = GardasoftLight(wiring(fake, mode="pulsed"))
    opened.append(light)
    assert light._guard is None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
