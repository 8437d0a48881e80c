"""A line that does not stop, at the wire: the sensor fires, the PLC announces, and every part gets its own frames."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from cell.errors import InspectdError, LightError, PeerTimeout, StateError
from cell.recipes import Recipe
from daemon.hardware_trigger import TEND_S
from drivers.cameras.simulated import SimulatedCamera
from drivers.lights.base import Light
from drivers.lights.gardasoft import GardasoftLight
from drivers.lights.simulated import SimulatedLight
from drivers.sim.fake_gardasoft import FakeGardasoft
from tests.daemon.cells import eventually
from tests.daemon.plc import PATIENCE_S, SPACING_S, Plc, moving_line, recipe
from tests.daemon.standing import StandingPlc, standing_line
from tests.drivers.controllers import wiring

pytestmark = pytest.mark.timeout(240, method="thread")


def _name(number: int) -> str:
    return f"good-{number:06d}"


def _state(plc: Plc) -> str:
    return str(plc.status()["state"]["name"])


def _later(plc: StandingPlc, seconds: float) -> bool:
    plc.pause(seconds)
    return True


def _run(plc: StandingPlc, parts: range, **how: Any) -> list[Future[dict[str, Any]]]:
    """Let parts pass and announce each as it passes."""
    replies = []
    for number in parts:
        count = plc.edge(_name(number))
        replies.append(plc.announce(_name(number), count, **how))
        plc.pause()
    return replies


def test_parts_announced_before_during_and_after_their_exposure_get_their_own_frames(tmp_path: Path) -> None:
    with standing_line(tmp_path) as plc:
        plc.start(window_ms=140)
        replies: dict[str, Future[dict[str, Any]]] = {}
        for number in range(1, 13):
            name = _name(number)
            if number % 3 == 0:  # before
                replies[name] = plc.announce(name, plc.count + 1)
                plc.pause(0.05)
                plc.edge(name)
            elif number % 3 == 1:  # during
                replies[name] = plc.announce(name, plc.edge(name))
            else:  # after
                count = plc.edge(name)
                plc.pause(0.05)
                replies[name] = plc.announce(name, count)
            plc.pause()
        verdicts = {name: reply.result(PATIENCE_S) for name, reply in replies.items()}
        assert {verdict["outcome"] for verdict in verdicts.values()} == {"OK"}, verdicts
        assert [verdict["part_id"] for verdict in verdicts.values()] == list(verdicts)
        for name, verdict in verdicts.items():
            assert plc.shows(verdict, name)
        assert plc.status()["trigger_line"] == {"on": True, "whole": 12, "in_doubt": 0, "announced": 12}
        assert plc.call("Stop")["State"] == "Operational/Ready"
        assert len(plc.results()) == 12


def test_a_camera_in_its_own_process_gives_each_part_its_own_frames(tmp_path: Path) -> None:
    with moving_line(tmp_path, isolated=True) as plc:
        plc.start()
        for number in range(1, 7):
            name = _name(number)
            # Before or after its exposure, as it happens; the next part comes when this one has its verdict.
            reply = plc.announce(name, number) if number % 2 else None
            count = plc.edge(name)
            verdict = (reply or plc.announce(name, count)).result(PATIENCE_S)
            assert (verdict["outcome"], verdict["part_id"]) == ("OK", name), verdict
            assert plc.shows(verdict, name)


def test_announcements_out_of_order_find_their_frames_by_count(tmp_path: Path) -> None:
    with standing_line(tmp_path) as plc:
        plc.start(window_ms=200)
        counts = []
        for number in (1, 2, 3):
            counts.append(plc.edge(_name(number)))
            plc.pause(0.06)
        replies = [plc.announce(_name(number), counts[number - 1], timed=True) for number in (1, 3, 2)]
        verdicts = [reply.result(PATIENCE_S) for reply in replies]
        assert [verdict["outcome"] for verdict in verdicts] == ["OK"] * 3
        assert all(plc.shows(verdict, verdict["part_id"]) for verdict in verdicts)


@pytest.mark.parametrize("timed", [False, True])
def test_a_lost_edge_is_named_and_no_part_gets_its_neighbours_frames(tmp_path: Path, timed: bool) -> None:
    with standing_line(tmp_path) as plc:
        plc.start(window_ms=140)
        replies = _run(plc, range(1, 4), timed=timed)
        count = plc.edge(_name(4), seen=False)
        replies.append(plc.announce(_name(4), count, timed=timed))
        plc.pause()
        replies += _run(plc, range(5, 13), timed=timed)
        verdicts = [reply.result(PATIENCE_S) for reply in replies]
        outcomes = [verdict["outcome"] for verdict in verdicts]
        assert outcomes[:4] == ["OK", "OK", "OK", "FAULT"]
        assert verdicts[3]["reasons"][0].startswith("lost-trigger")
        # With the PLC's clock the very next part is judged, without it after three that agree.
        assert outcomes.index("OK", 4) <= (4 if timed else 7), [verdict["reasons"] for verdict in verdicts]
        assert outcomes[8:] == ["OK"] * 4
        for verdict in verdicts:
            if verdict["outcome"] == "OK":
                assert plc.shows(verdict, verdict["part_id"])
        messages = plc.messages("trigger-count")
        assert any("1 edges fewer" in message for message in messages), messages
        assert [c["name"] for c in plc.status()["conditions"] if c["resolved_at"] is None] == []


@pytest.mark.parametrize("timed", [False, True])
def test_an_edge_that_only_the_camera_saw_is_surplus_and_archived_and_the_line_goes_on(
    tmp_path: Path, timed: bool
) -> None:
    with standing_line(tmp_path) as plc:
        plc.start(window_ms=140)
        replies = _run(plc, range(1, 4), timed=timed)
        plc.edge("good-000099", counted=False)
        plc.pause()
        replies += _run(plc, range(4, 12), timed=timed)
        verdicts = [reply.result(PATIENCE_S) for reply in replies]
        outcomes = [verdict["outcome"] for verdict in verdicts]
        assert outcomes[:3] == ["OK"] * 3
        assert outcomes[7:] == ["OK"] * 4, [verdict["reasons"] for verdict in verdicts]
        faults = [verdict for verdict in verdicts if verdict["outcome"] == "FAULT"]
        assert len(faults) <= (1 if timed else 3)
        assert all("surplus-trigger" in fault["reasons"][0] for fault in faults)
        for verdict in verdicts:
            if verdict["outcome"] == "OK":
                assert plc.shows(verdict, verdict["part_id"])
        assert eventually(lambda: bool(plc.messages("surplus-trigger")))
        surplus = [job for job in plc.results() if job[0].startswith("surplus-")]
        assert surplus == [(surplus[0][0], "FAULT")]
        assert plc.shows({"job_id": surplus[0][0].removeprefix("surplus-")}, "good-000099")


def test_a_part_that_was_never_announced_is_surplus_and_its_neighbours_are_judged(tmp_path: Path) -> None:
    with standing_line(tmp_path) as plc:
        plc.start(window_ms=140)
        replies = _run(plc, range(1, 3))
        plc.edge(_name(3))
        plc.pause()
        replies += _run(plc, range(4, 6))
        plc.pause()
        assert [reply.result(PATIENCE_S)["outcome"] for reply in replies] == ["OK"] * 4
        assert eventually(lambda: len(plc.messages("surplus-trigger")) == 1)
        assert "saw edge 3, and no part was announced with that count" in plc.messages("surplus-trigger")[0]
        assert not plc.messages("trigger-count")
        late = plc.announce(_name(3), 3).result(PATIENCE_S)
        assert late["outcome"] == "FAULT"
        assert "announced too late" in late["reasons"][0]


def test_a_count_announced_twice_is_fault_for_both_and_the_same_request_is_answered_once(tmp_path: Path) -> None:
    with standing_line(tmp_path) as plc:
        plc.start(window_ms=300)
        first = plc.announce(_name(1), 1)
        plc.pause(0.05)
        second = plc.announce(_name(2), 1)
        verdicts = [first.result(PATIENCE_S), second.result(PATIENCE_S)]
        assert [verdict["outcome"] for verdict in verdicts] == ["FAULT"] * 2
        assert all("two parts were announced with trigger count 1" in verdict["reasons"][0] for verdict in verdicts)
        plc.edge(_name(1))
        plc.pause()
        arguments = {"part_id": _name(3), "trigger_count": plc.edge(_name(3))}
        plc.pause(0.02)
        once = plc.client.call("inspectd.announce_part", arguments, request_id="the-same")
        again = plc.client.call("inspectd.announce_part", arguments, request_id="the-same")
        assert once == again
        assert once["Result"]["ResultContent"]["outcome"] == "OK"
        other = plc.announce(_name(3), 2).result(PATIENCE_S)
        assert "announced and answered before" in other["reasons"][0]
        assert len([part for part, _ in plc.results() if part == _name(3)]) == 2


def test_a_frame_that_is_dropped_is_fault_for_its_part_alone(tmp_path: Path) -> None:
    with standing_line(tmp_path) as plc:
        plc.start(window_ms=140)
        plc.control(inject=[None, None, None, "dropped", None, None, "incomplete", None, None, None, "overtriggered"])
        plc.pause(0.05)
        verdicts = [reply.result(PATIENCE_S) for reply in _run(plc, range(1, 9))]
        reasons = [verdict["reasons"][0].split(":")[0] if verdict["reasons"] else "OK" for verdict in verdicts]
        assert [reason.split(" ")[0] for reason in reasons] == [
            *("OK", "missing", "OK", "incomplete", "OK", "overrun", "OK", "OK"),
        ]


def test_stop_lets_announced_parts_have_their_verdicts_and_a_new_run_counts_anew(tmp_path: Path) -> None:
    with standing_line(tmp_path) as plc:
        plc.start(window_ms=140)
        replies = _run(plc, range(1, 3))
        waiting = plc.announce(_name(3), 3)
        plc.pause(0.02)
        assert plc.call("Stop")["State"] == "Operational/Ready"
        with pytest.raises(StateError, match="StartContinuous"):
            plc.announce(_name(4), 4).result(PATIENCE_S)
        plc.edge(_name(3))
        plc.pause(0.02)
        assert [reply.result(PATIENCE_S)["outcome"] for reply in (*replies, waiting)] == ["OK"] * 3
        for _ in range(4):
            plc.edge(_name(9), counted=False)  # nobody is interested between two runs
            plc.pause(0.02)
        plc.start(window_ms=140, first_trigger_count=65_535, count_modulus=65_536)
        plc.count = 65_534
        wrapped = []
        for number in (10, 11, 12):
            count = plc.edge(_name(number)) % 65_536
            wrapped.append(plc.announce(_name(number), count))
            plc.pause()
        verdicts = [reply.result(PATIENCE_S) for reply in wrapped]
        assert [verdict["outcome"] for verdict in verdicts] == ["OK"] * 3
        assert all(plc.shows(verdict, verdict["part_id"]) for verdict in verdicts)
        plc.announce(_name(13), 2)
        assert plc.call("Abort", CauseDescription="a hand in the cell")["State"] == "Operational/Ready"
        assert eventually(lambda: (_name(13), "FAULT") in plc.results())


def test_a_part_that_no_edge_comes_for_is_fault_by_its_deadline_and_the_reason_says_so(tmp_path: Path) -> None:
    with standing_line(tmp_path, deadline_ms=400.0) as plc:
        plc.start()
        reply = plc.announce(_name(1), 1)
        plc.pause(0.37)
        assert not reply.done()
        plc.pause(0.015)
        verdict = reply.result(PATIENCE_S)
        assert verdict["outcome"] == "FAULT"
        assert verdict["reasons"][0].startswith("lost-trigger: the camera has seen no edge with count 1")
        assert verdict["timings"]["total_ms"] == pytest.approx(380)


def test_a_camera_that_is_gone_ends_the_run_and_a_new_run_goes_on_when_it_is_back(tmp_path: Path) -> None:
    with standing_line(tmp_path) as plc:
        plc.start(window_ms=140)
        assert _run(plc, range(1, 2))[0].result(PATIENCE_S)["outcome"] == "OK"
        waiting = plc.announce(_name(2), 2)
        plc.pause(0.03)
        plc.control(remove=[])
        verdict = waiting.result(PATIENCE_S)
        assert verdict["outcome"] == "FAULT"
        assert eventually(lambda: _state(plc) == "Error", PATIENCE_S)
        during = plc.announce(_name(3), 3).result(PATIENCE_S)
        assert "Error" in during["reasons"][0]
        plc.control(plug_in=[])
        assert eventually(lambda: _later(plc, 0.1) and _state(plc) == "Operational/Ready", PATIENCE_S)
        plc.start(window_ms=140)
        assert [reply.result(PATIENCE_S)["outcome"] for reply in _run(plc, range(4, 6))] == ["OK"] * 2


def test_killed_in_the_middle_it_answers_the_announced_part_fault_once(tmp_path: Path) -> None:
    arguments = {"part_id": _name(2), "trigger_count": 2, "meas_id": "m"}
    with moving_line(tmp_path) as plc:
        plc.start()
        assert plc.announce(_name(1), plc.edge(_name(1))).result(PATIENCE_S)["outcome"] == "OK"
        with pytest.raises(PeerTimeout):
            plc.client.call("inspectd.announce_part", arguments, request_id="id-2", timeout_s=0.1)
        assert eventually(lambda: plc.status()["trigger_line"]["announced"] == 2, PATIENCE_S)
        plc.popen.kill()
        plc.popen.wait(10)
    with moving_line(tmp_path) as plc:
        assert eventually(lambda: _state(plc) == "Operational/Ready", PATIENCE_S)
        content = plc.client.call("inspectd.announce_part", arguments, request_id="id-2")["Result"]["ResultContent"]
        assert (content["outcome"], content["part_id"], content["meas_id"]) == ("FAULT", _name(2), "m")
        assert "aborted" in content["reasons"][0]
        plc.start()
        plc.edge(_name(3))
        assert plc.announce(_name(3), 1).result(PATIENCE_S)["outcome"] == "OK"
        assert [part for part, _ in plc.results()] == [_name(1), _name(2), _name(3)]
        plc.popen.terminate()
        assert plc.popen.wait(PATIENCE_S) == 0


def test_a_light_that_fails_ends_the_run_with_a_condition_and_a_new_run_goes_on(tmp_path: Path) -> None:
    fake = FakeGardasoft()
    line = recipe().channel_names[0]
    channels = tuple(channel.model_copy(update={"lights": {line: 1.0}}) for channel in recipe().channels)

    def light_of(_: SimulatedCamera) -> Light:
        return GardasoftLight(wiring(fake, outputs={line: {"channel": 1}}))

    def starts() -> bool:
        try:
            plc.start(window_ms=140)
        except LightError:
            return False
        return True

    try:
        with standing_line(tmp_path, light_of, channels=channels, deadline_ms=600_000) as plc:
            plc.start(window_ms=140)
            assert _run(plc, range(1, 2))[0].result(PATIENCE_S)["outcome"] == "OK"
            waiting = plc.announce(_name(2), 2)
            fake.unplug()
            assert eventually(lambda: _later(plc, 0.3) and waiting.done(), PATIENCE_S)
            verdict = waiting.result()
            assert verdict["outcome"] == "FAULT"
            assert verdict["reasons"][0].startswith("light: ")
            assert eventually(lambda: _state(plc) == "Operational/Ready", PATIENCE_S)
            [condition] = [c for c in plc.status()["conditions"] if c["name"] == "light"]
            assert condition["message"].startswith("the run on the trigger line ended: ")
            assert condition["message"].endswith("see to the light, then StartContinuous")
            fake.plug_in()
            assert eventually(starts, PATIENCE_S)
            assert not [c for c in plc.status()["conditions"] if c["resolved_at"] is None]
            assert [reply.result(PATIENCE_S)["outcome"] for reply in _run(plc, range(3, 5))] == ["OK"] * 2
    finally:
        fake.close()


class TendedLight(SimulatedLight):
    """A simulated light that counts how often it was tended."""

    tended = 0

    def arm(self, recipe: Recipe) -> None:
        self.tended += 1
        super().arm(recipe)


def test_the_light_is_tended_for_each_part_and_now_and_then_not_for_each_look_at_the_camera(tmp_path: Path) -> None:
    lights: list[TendedLight] = []

    def light_of(camera: SimulatedCamera) -> Light:
        lights.append(TendedLight(recipe().channel_names, camera.stage.illuminate))
        return lights[0]

    with standing_line(tmp_path, light_of) as plc:
        plc.start(window_ms=140)
        assert lights[0].tended == 1
        replies = _run(plc, range(1, 5))
        assert [reply.result(PATIENCE_S)["outcome"] for reply in replies] == ["OK"] * 4
        assert 4 < lights[0].tended <= 1 + 2 * 4  # for its frames, and once in the rest of its time
        before = lights[0].tended
        plc.pause(TEND_S)
        assert lights[0].tended == before + 1


def test_the_wrong_command_for_the_trigger_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with standing_line(tmp_path) as plc:
        with pytest.raises(StateError, match="announce each part"):
            plc.call("StartSingleJob", PartId="p")
        with pytest.raises(StateError, match="for software triggers"):
            plc.start(parts=["a", "b"])
        with pytest.raises(StateError, match="StartContinuous"):
            plc.announce(_name(1), 1).result(PATIENCE_S)
        with pytest.raises(InspectdError, match="trigger_count"):
            plc.announce(_name(1), -1).result(PATIENCE_S)


def test_parts_closer_than_the_window_without_the_plcs_clock_raise_a_condition(tmp_path: Path) -> None:
    with standing_line(tmp_path) as plc:
        plc.start(window_ms=SPACING_S * 1e3 * 5)
        assert {reply.result(PATIENCE_S)["outcome"] for reply in _run(plc, range(1, 4))} == {"OK"}
        [condition] = [c for c in plc.status()["conditions"] if c["name"] == "trigger-window"]
        assert "lower window_ms or announce edge_time_ms" in condition["message"]
