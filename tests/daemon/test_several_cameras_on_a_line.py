"""Several cameras and many lights on one trigger line, over the wire: each camera's own edges, whole parts, names."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cell.clock import utc_now
from cell.errors import DataError
from cell.frames import Frame
from daemon.acquire import Acquirer, shares_of
from daemon.line_sets import Sighting
from daemon.pairing import Announcement, Paired, Refused, Rules, Step, Surplus
from daemon.parts import Part
from daemon.strands import Strands
from drivers.cameras import simulated_mark
from drivers.registry import FIRST_CAMERA, Rig
from tests.daemon.plc import PATIENCE_S
from tests.daemon.rigs import recipe, string_rig
from tests.daemon.standing import StandingPlc, standing_line

SIDE = {"side": 2}


def _name(number: int) -> str:
    return f"good-{number:06d}"


def _run(plc: StandingPlc, numbers: Iterable[int], *, timed: bool = False) -> list[Future[dict[str, Any]]]:
    replies = []
    for number in numbers:
        count = plc.edge(_name(number))
        replies.append(plc.announce(_name(number), count, timed=timed))
        plc.pause()
    return replies


def _own(plc: StandingPlc, verdict: dict[str, Any], channels: tuple[int, ...]) -> bool:
    """Tell whether a result's frames are its part's: these channels of each camera's own sequence, in this order."""
    number = simulated_mark.part_number(verdict["part_id"])
    return [(mark.part, mark.channel) for mark in plc.marks(verdict["job_id"]) if mark] == [
        (number, c) for c in channels
    ]


def test_four_lights_of_one_camera_follow_the_edges_and_swapped_or_lost_frames_are_found(tmp_path: Path) -> None:
    with standing_line(tmp_path, lights=4) as plc:
        plc.start(window_ms=140)
        verdicts = [reply.result(PATIENCE_S) for reply in _run(plc, range(1, 67))]  # the looks are learned
        assert [verdict["outcome"] for verdict in verdicts] == ["OK"] * 66
        assert all(_own(plc, verdict, (0, 1, 2, 3)) for verdict in verdicts[::13])
        camera = plc.cameras[FIRST_CAMERA]
        replies = []
        for at, fault in enumerate(("swapped", "dropped")):
            camera.inject(None, None, fault)  # the third light of the next part
            replies += _run(plc, range(67 + 2 * at, 69 + 2 * at))
        wrong, after, lost, last = [reply.result(PATIENCE_S) for reply in replies]
        assert (wrong["outcome"], lost["outcome"]) == ("FAULT", "FAULT")
        assert wrong["reasons"][0].startswith("swapped")
        assert lost["reasons"][0].startswith("missing")
        assert [after["outcome"], last["outcome"]] == ["OK", "OK"]
        assert _own(plc, last, (0, 1, 2, 3))


@pytest.mark.parametrize("timed", [False, True])
def test_a_part_is_whole_when_both_cameras_gave_their_frames_of_its_edge(tmp_path: Path, timed: bool) -> None:
    with standing_line(tmp_path, others=SIDE, lights=4) as plc:
        plc.start(window_ms=140)
        verdicts = [reply.result(PATIENCE_S) for reply in _run(plc, range(1, 5), timed=timed)]
        assert [verdict["outcome"] for verdict in verdicts] == ["OK"] * 4, [v["reasons"] for v in verdicts]
        assert all(_own(plc, verdict, (0, 1, 0, 1)) for verdict in verdicts)
        plc.cameras["side"].inject("dropped")
        broken, whole = (reply.result(PATIENCE_S) for reply in _run(plc, range(5, 7), timed=timed))
        assert broken["outcome"] == "FAULT"
        assert broken["reasons"][0].startswith("missing (az270): camera side: "), broken["reasons"]
        assert whole["outcome"] == "OK"
        assert _own(plc, whole, (0, 1, 0, 1))
        assert plc.status()["conditions"] == []


@pytest.mark.parametrize("timed", [False, True])
def test_an_edge_that_one_camera_missed_is_named_and_no_part_mixes_two_edges(tmp_path: Path, timed: bool) -> None:
    with standing_line(tmp_path, others=SIDE, lights=4) as plc:
        plc.start(window_ms=140)
        replies = _run(plc, range(1, 4), timed=timed)
        plc.cameras["side"].inject("lost-trigger")
        replies += _run(plc, range(4, 12), timed=timed)
        verdicts = [reply.result(PATIENCE_S) for reply in replies]
        outcomes = [verdict["outcome"] for verdict in verdicts]
        assert outcomes[:4] == ["OK", "OK", "OK", "FAULT"]
        assert verdicts[3]["reasons"][0].startswith("lost-trigger: camera side: "), verdicts[3]["reasons"]
        assert outcomes[8:] == ["OK"] * 3, [verdict["reasons"] for verdict in verdicts]
        assert all(_own(plc, verdict, (0, 1, 0, 1)) for verdict in verdicts if verdict["outcome"] == "OK")
        messages = plc.messages("trigger-count")
        assert any("camera side: the camera has counted 1 edges fewer" in message for message in messages), messages
        assert [c["name"] for c in plc.status()["conditions"] if c["resolved_at"] is None] == []


def test_a_part_that_nobody_announced_is_told_once_and_a_camera_that_is_gone_ends_the_run_by_name(
    tmp_path: Path,
) -> None:
    with standing_line(tmp_path, others=SIDE, lights=4) as plc:
        plc.start(window_ms=140)
        first = _run(plc, [1])
        plc.edge(_name(2))
        plc.pause()
        assert _run(plc, [3])[0].result(PATIENCE_S)["outcome"] == "OK"
        assert first[0].result(PATIENCE_S)["outcome"] == "OK"
        for _ in range(4):
            plc.pause()
        told = plc.messages("surplus-trigger")
        assert len(told) == 1
        assert "saw edge 2" in told[0]
        reply = plc.announce(_name(4), plc.count + 1)
        plc.cameras["side"].remove()
        gone = reply.result(PATIENCE_S)
        assert gone["outcome"] == "FAULT"
        assert "camera side: " in gone["reasons"][0]
        plc.cameras["side"].plug_in()
        assert plc.status()["cameras"]["side"]["faults"]


def test_cameras_of_one_recipe_are_triggered_alike() -> None:
    rig, camera, light = string_rig()
    mixed = Rig(
        camera=camera,
        light=light,
        present=rig.present,
        emulated=True,
        others={"side": string_rig()[1]},
        on_line=frozenset({"side"}),
    )
    wanted = recipe()
    channels = (wanted.channels[0], wanted.channels[1].model_copy(update={"camera": "side"}))
    with pytest.raises(DataError, match=r"camera side, which is triggered by a line .* set cameras.side.trigger as"):
        Acquirer(mixed).configure(wanted.model_copy(update={"channels": channels}))


class _Two:
    """Two cameras' strands of one channel each, and parts that are announced at their edge."""

    def __init__(self, window_s: float = 0.05, side_us: float = 100.0) -> None:
        wanted = recipe()
        side = wanted.channels[1].model_copy(update={"camera": "side", "exposure_us": side_us})
        channels = (wanted.channels[0], side)
        self.recipe = wanted.model_copy(update={"channels": channels})
        self.strands: Strands[Part] = Strands(self.recipe, shares_of(self.recipe), Rules(window_s=window_s))
        self.first, self.side = self.strands.all

    def announce(self, count: int, at_s: float) -> list[Any]:
        part = Part(f"j{count}", count, f"p{count}", self.recipe, at_s, utc_now())
        return list(self.strands.announce(Announcement(part, count, at_s)))

    def sight(self, strand: Any, count: int, at_s: float, device_s: float | None = None, *, clock: bool = True) -> Any:
        """Let a camera see an edge; its own clock is `device_s`, or the host's but for its zero."""
        channel = self.recipe.channels[self.strands.all.index(strand)].name
        frame = Frame(channel, _PIXELS, 8, 100.0, 0.0, strand.role, count, int(at_s * 1e9))
        device_s = at_s + 77.0 if device_s is None else device_s
        sighting = Sighting(count, (frame,), None, at_s, device_s if clock else None, dated=clock)
        return list(self.strands.sight(strand, sighting))


_PIXELS = np.zeros((8, 8), np.uint8)


def test_frames_of_two_cameras_that_were_not_taken_together_are_no_set() -> None:
    """Parts 60 ms apart in a window of a second: announcements alone can't tell neighbours apart."""
    two = _Two(window_s=1.0)
    for count in (1, 2, 3):
        two.announce(count, 0.06 * count)
        assert two.sight(two.first, count, 0.06 * count) == []
        (paired,) = two.sight(two.side, count, 0.06 * count + 0.0005)
        assert isinstance(paired, Paired)
        assert [frame.camera for frame in paired.sighting.frames] == [FIRST_CAMERA, "side"]
    for count in (4, 5):  # the side camera missed an edge, and its counts are a part behind
        two.announce(count, 0.06 * count)
        two.sight(two.first, count, 0.06 * count)
        (paired,) = two.sight(two.side, count, 0.06 * (count + 1))
        assert paired.sighting.doubt is not None
        assert not paired.sighting.frames
        assert "camera side took its frames of the part 60 ms after camera camera did" in paired.sighting.doubt.detail


def test_cameras_that_go_on_taking_their_frames_together_are_believed_again() -> None:
    """The first set was none, though it was received together: a frame of long ago, say."""
    two = _Two(window_s=1.0)
    outcomes = []
    for count in range(1, 8):
        two.announce(count, 0.1 * count)
        two.sight(two.first, count, 0.1 * count)
        device_s = -4.0 if count == 1 else 0.1 * count + 9.0
        (paired,) = two.sight(two.side, count, 0.1 * count + 0.001, device_s=device_s)
        outcomes.append(paired.sighting.doubt is None)
    assert outcomes == [True, False, False, True, True, True, True]


def test_a_long_exposure_is_received_later_and_taken_together_all_the_same() -> None:
    two = _Two(window_s=1.0, side_us=90_000.0)
    two.announce(1, 0.1)
    two.sight(two.first, 1, 0.1)
    (paired,) = two.sight(two.side, 1, 0.19)
    assert paired.sighting.doubt is None


def test_without_clocks_the_first_set_must_come_together() -> None:
    two = _Two(window_s=1.0)
    two.announce(1, 0.06)
    two.sight(two.first, 1, 0.06, clock=False)
    (paired,) = two.sight(two.side, 1, 0.12, clock=False)
    assert paired.sighting.doubt is not None
    two.announce(2, 0.18)
    two.sight(two.first, 2, 0.18, clock=False)
    (paired,) = two.sight(two.side, 2, 0.185, clock=False)
    assert paired.sighting.doubt is None


def test_what_one_camera_says_is_named_and_a_part_is_told_of_once_at_the_end() -> None:
    two = _Two()
    two.announce(1, 0.1)
    assert two.strands.waiting == 1
    assert two.strands.waits_for(1).startswith("lost-trigger: camera camera: the camera has seen no edge")
    two.sight(two.first, 1, 0.1)
    assert two.strands.waits_for(1).startswith("lost-trigger: camera side: ")
    (refused,) = two.strands.end("aborted: stopped")
    assert isinstance(refused, Refused)
    assert refused.reason == "aborted: stopped"
    two = _Two()
    two.announce(1, 0.1)
    steps = two.sight(two.side, 1, 0.9)
    step = next(finding for finding in steps if isinstance(finding, Step))
    assert step.message.startswith("lost-trigger: camera side: ")
    surplus = [two.sight(two.first, count, 0.1 * count) for count in (2, 3)]
    assert surplus == [[], []]
    given_up = two.strands.expire(9.0, 0.5)
    assert [type(finding) for finding in given_up].count(Surplus) >= 1
    assert two.strands.expire(9.0, 0.5) == []
