"""A line that stood for long: the clocks have parted, and no part may get its neighbour's frames for that."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.evidence import DeviceClock
from daemon.line_sets import Sighting
from daemon.pairing import Announcement, Paired, Pairing, Rules, Step
from tests.daemon.test_several_cameras_on_a_line import _Two

SPACING, BEFORE, BEHIND = 0.3, 20, 20


def _edges(pause_s: float) -> list[float]:
    """Return the instants of all parts' edges, seconds; a pause before part number `BEFORE`."""
    return [SPACING * part + (pause_s if part >= BEFORE else 0.0) for part in range(BEFORE + BEHIND)]


def _run(pause_s: float, *, missed: int | None, camera_ppm: float = 0.0) -> tuple[dict[int, float], list[Any]]:
    """Let parts pass whose PLC tells its clock; return which edge's frames each got, and all that was found."""
    pairing: Pairing[int] = Pairing(Rules())
    count = 0
    given: dict[int, float] = {}
    told: list[Any] = []
    for part, edge_s in enumerate(_edges(pause_s)):
        found: list[Any] = list(pairing.announce(Announcement(part, part + 1, edge_s + 0.01, 5000.0 + edge_s)))
        if part != missed:
            count += 1
            device_s = 77.0 + edge_s * (1 + camera_ppm * 1e-6)
            found += pairing.sight(Sighting(count, edge_s=edge_s, device_s=device_s))
        told += found
        given.update({each.part: each.sighting.edge_s or 0.0 for each in found if isinstance(each, Paired)})
    return given, told


@pytest.mark.parametrize("pause_s", [0.0, 60.0, 600.0, 1800.0, 86_400.0])
def test_an_edge_missed_after_a_pause_gives_no_part_its_neighbours_frames(pause_s: float) -> None:
    edges = _edges(pause_s)
    given, told = _run(pause_s, missed=BEFORE)
    assert [part for part, edge_s in given.items() if edge_s != edges[part]] == []
    assert BEFORE not in given
    assert sum(isinstance(each, Step) for each in told) == 2  # out of step, and in step again
    assert len(given) >= BEFORE + BEHIND - 4


@pytest.mark.parametrize("pause_s", [60.0, 1800.0, 86_400.0])
@pytest.mark.parametrize("camera_ppm", [-100.0, 100.0])
def test_a_pause_alone_costs_no_part(pause_s: float, camera_ppm: float) -> None:
    given, told = _run(pause_s, missed=None, camera_ppm=camera_ppm)
    assert given == dict(enumerate(_edges(pause_s)))
    assert not any(isinstance(each, Step) for each in told)


@pytest.mark.parametrize("ppm", [-50.0, 0.0, 50.0])
def test_the_host_knows_when_a_frame_was_exposed_after_a_pause_too(ppm: float) -> None:
    clock = DeviceClock()
    for edge_s in _edges(1800.0):
        stamp_ns = int((77.0 + edge_s * (1 + ppm * 1e-6)) * 1e9)
        clock.note(stamp_ns, edge_s + 0.004)
        assert abs(clock.exposed_at(stamp_ns, edge_s + 0.004) - edge_s) < 0.006


@pytest.mark.parametrize("pause_s", [0.0, 600.0])
def test_a_camera_that_slipped_in_a_pause_is_found_by_the_other_and_never_believed(pause_s: float) -> None:
    """Announcements are too coarse to tell neighbours apart, and the side camera is one edge behind for minutes."""
    two = _Two(window_s=1000.0)
    spacing, believed = 0.06, []
    for count in range(1, 40):
        at_s = spacing * count + (pause_s if count >= 20 else 0.0) + (10.0 * (count - 30) if count > 30 else 0.0)
        two.announce(count, at_s)
        two.sight(two.first, count, at_s)
        (paired,) = two.sight(two.side, count, at_s - spacing if count >= 20 else at_s)
        if paired.sighting.doubt is None:
            believed.append(count)
    assert believed == list(range(1, 20))
