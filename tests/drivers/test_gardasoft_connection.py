"""The Gardasoft driver when connections, controllers, lamps and programs come and go, and what must never happen."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys

import pytest

from cell.errors import LightError
from drivers.lights.gardasoft import GardasoftLight
from drivers.sim.fake_gardasoft import FakeGardasoft, Trouble
from tests.drivers.controllers import eventually, wiring

LINES = ("ring", "bar")


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
