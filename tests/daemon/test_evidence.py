"""What proves that frames belong together, and what does not: numbers, clocks, counts and looks, from frames alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.injected_faults import NAMES, LineTriggered, SoftwareTriggered, clean, faulty
from cell.errors import CameraError
from cell.frames import AcquisitionFault, Frame
from cell.recipes import Channel, DefectClass, Recipe
from daemon.evidence import DeviceClock, Evidence
from daemon.line_sets import COUNTER, LineSets, Sighting
from daemon.pairing import Announcement, Paired, Pairing, Refused, Rules, Step, Surplus
from daemon.signatures import LEARNED, MEASURED, Dark, SignatureBook, Signatures, Swap
from drivers.cameras.simulated import Fault
from drivers.sim.cell import EmulatedCell
from drivers.sim.plate import PlateProduct, recipe_for_plate

NAMES_OF = ("a", "b", "c")
PIXELS = np.full((8, 8), 50, np.uint8)


def recipe(channels: int = 3, exposure_us: tuple[float, ...] = (1000.0, 1000.0, 1000.0)) -> Recipe:
    return Recipe(
        recipe_id="r",
        product="p",
        height=8,
        width=8,
        channels=tuple(
            Channel(name=name, exposure_us=exposure, lights={name: 1.0})
            for name, exposure in zip(NAMES_OF[:channels], exposure_us, strict=False)
        ),
        defect_classes=(DefectClass(name="d"),),
    )


def frame(number: int, stamp_s: float = 0.0, count: int | None = None, channel: str = "a") -> Frame:
    return Frame(channel, PIXELS, 8, 1000.0, 0.0, "cam", number, int(stamp_s * 1e9), count)


def _taken(sets: LineSets, numbers: list[tuple[int, int]], start: float = 0.0) -> list[Sighting]:
    """Return what a set-up makes of frames (number, count) that come 1.2 ms apart."""
    found: list[Sighting] = []
    for number, count in numbers:
        found += sets.add(frame(number, 10 + number * 0.0012, count), start + number * 0.0012)
    return found


@given(st.integers(1, 2**40), st.integers(1, 5), st.integers(0, 4))
def test_in_a_part_every_frame_is_the_next_of_its_camera(first: int, step: int, at: int) -> None:
    evidence = Evidence(recipe())
    evidence.begin()
    channels = recipe().channels
    number = first
    for index, channel in enumerate(channels):
        number += step if index == at else 1
        doubt = evidence.admit(frame(number, channel=channel.name), channel, 0.0, 0.01)
        if 0 < index == at and step > 1:
            assert doubt is not None
            assert doubt.fault is AcquisitionFault.MISSING
            return
        assert doubt is None


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"frame_id": 7}, "repeated"),
        ({"frame_id": 6}, "stale"),
        ({"timestamp_ns": 10_000_000_000}, "repeated"),
        ({"timestamp_ns": 9_000_000_000}, "stale"),
        ({"frame_id": 10}, "missing"),
        ({"channel": "c"}, "swapped"),
        ({"exposure_us": 500.0}, "swapped"),
        ({"exposure_us": 700.0}, "swapped"),
        ({"gain_db": 6.0}, "swapped"),
        ({"exposure_us": 0.0}, None),
        ({"bit_depth": 12}, "wrong-size"),
        ({"pixels": PIXELS[:4]}, "wrong-size"),
        ({"pixels": PIXELS.astype(np.uint16)}, "wrong-size"),
        ({}, None),
    ],
)
def test_each_contradiction_has_its_name(changes: dict[str, object], fault: str | None) -> None:
    wanted = recipe(exposure_us=(1000.0, 1000.0, 500.0))
    evidence = Evidence(wanted)
    evidence.begin()
    assert evidence.admit(frame(7, 10.0), wanted.channels[0], 0.0, 0.01) is None
    doubt = evidence.admit(replace(frame(8, 10.1, channel="b"), **changes), wanted.channels[1], 0.1, 0.11)  # type: ignore[arg-type]
    assert (None if doubt is None else str(doubt.fault)) == fault


@given(st.floats(-1e4, 1e4), st.floats(-1e-4, 1e-4), st.lists(st.floats(0.002, 0.3), min_size=30, max_size=80))
def test_a_clock_that_drifts_never_makes_a_fresh_frame_stale(zero: float, drift: float, waits: list[float]) -> None:
    evidence = Evidence(recipe(1))
    channel = recipe(1).channels[0]
    now = 100.0
    for number, wait in enumerate(waits, 1):
        now += wait * 20
        stamp = 20_000 + zero + now * (1 + drift) + 0.0005
        evidence.begin()
        assert evidence.admit(frame(number, stamp), channel, now, now + 0.002 + wait / 10) is None


def test_a_frame_exposed_before_its_trigger_is_stale() -> None:
    evidence = Evidence(recipe(1))
    channel = recipe(1).channels[0]
    for number in range(1, 30):
        evidence.begin()
        assert evidence.admit(frame(number, 5 + number * 0.1), channel, number * 0.1, number * 0.1 + 0.003) is None
    evidence.begin()
    doubt = evidence.admit(frame(30, 5 + 2.95), channel, 3.0, 3.003)
    assert doubt is not None
    assert doubt.fault is AcquisitionFault.STALE


def test_a_clock_of_another_rate_proves_nothing_and_blames_nobody() -> None:
    clock = DeviceClock()
    for number in range(1, 50):
        clock.note(number * 1000, number * 0.1)
    assert not clock.proven
    assert clock.exposed_at(50_000, 5.0) == 5.0


@given(st.integers(0, 2), st.integers(1, 30))
def test_a_set_is_given_out_whole_or_not_at_all(lost: int, edges: int) -> None:
    sets = LineSets(recipe())
    frames = [(3 * edge + index + 1, edge + 1) for edge in range(edges + 1) for index in range(3)]
    del frames[3 * (edges - 1) + lost]
    found = _taken(sets, frames)
    assert [sighting.count for sighting in found] == list(range(1, edges + 2))
    assert [bool(sighting.frames) for sighting in found] == [edge != edges - 1 for edge in range(edges + 1)]
    for sighting in found:
        assert [each.channel for each in sighting.frames] in ([], ["a", "b", "c"])
        assert sighting.doubt is None or sighting.doubt.fault is AcquisitionFault.MISSING


@settings(max_examples=200)
@given(st.data())
def test_whatever_comes_a_set_without_doubt_is_three_frames_in_a_row_of_one_edge(data: st.DataObject) -> None:
    sets = LineSets(recipe())
    numbers = data.draw(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 5)), max_size=25))
    for sighting in _taken(sets, numbers):
        if sighting.doubt is None:
            ids = [each.frame_id for each in sighting.frames]
            assert ids == list(range(ids[0], ids[0] + 3))
            assert len({each.trigger_count for each in sighting.frames}) == 1


def test_edges_without_frames_are_told_apart_from_frames_that_were_lost() -> None:
    sets = LineSets(recipe())
    found = _taken(sets, [(1, 1), (2, 1), (3, 1), (4, 3), (5, 3), (6, 3), (10, 5), (11, 5), (12, 5)])
    assert [(s.count, None if s.doubt is None else str(s.doubt.fault)) for s in found] == [
        (1, None),
        (2, "overrun"),  # counted, not numbered: the camera was busy
        (3, None),
        (4, "missing"),  # numbered, not there
        (5, None),
    ]


def test_the_cameras_count_may_wrap_and_a_frame_the_driver_refused_spoils_its_own_set() -> None:
    sets = LineSets(recipe())
    sets._count = COUNTER - 2
    last = COUNTER - 1
    assert [s.count for s in _taken(sets, [(1, last), (2, last), (3, last), (4, 0)])] == [last]
    assert sets.fault(CameraError("torn", fault=AcquisitionFault.INCOMPLETE)) == []
    [spoilt] = sets.add(frame(6, 11.0, 0), 1.0)
    assert (spoilt.count, spoilt.frames) == (COUNTER, ())
    assert spoilt.doubt is not None
    assert spoilt.doubt.fault is AcquisitionFault.INCOMPLETE


def test_a_set_that_stays_short_is_given_up_and_a_camera_without_a_count_proves_nothing() -> None:
    sets = LineSets(recipe())
    assert _taken(sets, [(1, 1)]) == []
    assert sets.turn(0.1) == []
    [short] = sets.turn(1.0)
    assert short.doubt is not None
    assert short.doubt.fault is AcquisitionFault.MISSING
    [nothing] = sets.add(frame(2, 11.0, None), 2.0)
    assert nothing.doubt is not None
    assert "no count of its trigger line" in nothing.doubt.detail


SPACING = 0.06


@settings(max_examples=150, deadline=None)
@given(
    st.sets(st.integers(2, 30), max_size=3),
    st.sets(st.integers(2, 30), max_size=3),
    st.sets(st.integers(2, 30), max_size=3),
    st.booleans(),
    st.lists(st.floats(-0.008, 0.008), min_size=41, max_size=41),
)
def test_whatever_is_lost_or_surplus_no_part_gets_frames_of_another(
    lost: set[int], surplus: set[int], silent: set[int], timed: bool, early: list[float]
) -> None:
    """40 parts pass; some edges only the PLC sees, some only the camera, some parts nobody announces."""
    happens: list[tuple[float, str, int, int]] = []  # (instant, what, part or -1, count)
    camera = 0
    for part in range(40):
        edge_s, plc = 10 + part * SPACING, part + 1
        if part not in silent:
            happens.append((edge_s + early[part], "announce", part, plc))
        if part not in lost:
            camera += 1
            happens.append((edge_s + 0.004, "sight", part, camera))
        if part in surplus:
            camera += 1
            happens.append((edge_s + SPACING / 2 + 0.004, "sight", -1, camera))
    pairing: Pairing[int] = Pairing(Rules(window_s=0.014))
    given_to: dict[int, int] = {}
    told: list[object] = []
    whose: dict[int, int] = {}
    for instant, what, part, count in sorted(happens):
        if what == "announce":
            clock = (5000 + part * SPACING) % (2**32 / 1e3) if timed else None
            findings = pairing.announce(Announcement(part, count, instant, clock))
        else:
            whose[count] = part
            frames = (frame(count, instant + 77, count),)
            findings = pairing.sight(Sighting(count, frames, None, instant - 0.002, instant + 77))
        findings += pairing.expire(instant, 0.5)
        for finding in findings:
            told.append(finding)
            if isinstance(finding, Paired):
                assert finding.part not in given_to, "two answers"
                assert whose[finding.sighting.count] == finding.part, "another part's frames"
                given_to[finding.part] = finding.sighting.count
            elif isinstance(finding, Refused):
                assert finding.part not in given_to, "two answers"
                given_to[finding.part] = 0
    told += pairing.end("over")
    if not lost and not surplus:
        assert all(given_to.get(part) for part in range(40) if part not in silent)
        assert sum(isinstance(finding, Surplus) for finding in told) == len(silent)
        assert not any(isinstance(finding, Step) for finding in told)
    elif timed and not silent:
        # Each part that the camera saw is judged; only those whose edge was lost are not.
        assert sum(count > 0 for count in given_to.values()) >= 40 - len(lost) - 1


@pytest.mark.parametrize("modulus", [256, 65_536])
def test_the_plcs_count_may_wrap_and_begin_anywhere(modulus: int) -> None:
    pairing: Pairing[int] = Pairing(Rules(window_s=1.0, modulus=modulus, first_count=modulus - 2))
    for part in range(600):
        now = part * SPACING
        assert pairing.announce(Announcement(part, (modulus - 2 + part) % modulus, now)) == []
        [found] = pairing.sight(Sighting(part + 1, (frame(part + 1),), None, now, None))
        assert isinstance(found, Paired)
        assert found.part == part


def test_a_part_that_waits_is_told_what_for() -> None:
    pairing: Pairing[str] = Pairing(Rules(window_s=0.05))
    pairing.announce(Announcement("p", 1, 0.0))
    why = pairing.waits_for(1)
    assert why.startswith("lost-trigger: the camera has seen no edge with count 1, the last one it saw is 0")
    [refused] = pairing.end("aborted")
    assert refused == Refused("p", "aborted")


def _sets_of(channels: int, parts: int, kinds: tuple[str, ...] = ("good",)) -> list[list[Frame]]:
    cell = EmulatedCell(PlateProduct(channels))
    wanted = recipe_for_plate(channels)
    sets = []
    for number in range(parts):
        cell.present(f"{kinds[number % len(kinds)]}-{number:06d}")
        frames = []
        for channel in wanted.channels:
            cell.illuminate(channel.lights)
            pixels = cell.picture(wanted.height, wanted.width, channel.exposure_us, 0.0)
            frames.append(Frame(channel.name, pixels, 8, 1000.0, 0.0, "cam", 1, 0))
        sets.append(frames)
    return sets


def test_swapped_lights_are_seen_in_the_pictures_and_defects_are_not_taken_for_them() -> None:
    kinds = ("good", "good", "scratch", "crack", "good", "pit")
    sets = _sets_of(4, LEARNED + MEASURED + 30, kinds)
    names = [each.channel for each in sets[0]]
    signatures = Signatures(names)
    for frames in sets[: LEARNED + MEASURED]:
        assert not signatures.ready
        assert signatures.judge(frames) is None
    assert signatures.ready
    assert signatures.alike == ()
    for frames in sets[LEARNED + MEASURED :]:
        assert signatures.judge(frames) is None
        for k, j in ((0, 1), (1, 3), (3, 2)):
            once = [*frames]
            once[k] = replace(frames[k], pixels=frames[j].pixels)
            swap = signatures.judge(once)
            assert isinstance(swap, Swap)
            assert (swap.channel, swap.other, swap.both) == (names[k], names[j], False)
            once[j] = replace(frames[j], pixels=frames[k].pixels)
            both = signatures.judge(once)
            assert isinstance(both, Swap)
            assert both.both
            assert both.doubt().fault is AcquisitionFault.SWAPPED


def test_channels_that_look_alike_are_named_and_never_blamed() -> None:
    generator = np.random.default_rng(4)
    signatures = Signatures(("left", "right", "bright"))
    for _ in range(LEARNED + MEASURED + 200):
        frames = [
            Frame(name, generator.integers(level, level + 20, (64, 96)).astype(np.uint8), 8, 1.0, 0.0, "c", 1, 0)
            for name, level in (("left", 60), ("right", 60), ("bright", 160))
        ]
        assert signatures.judge(frames) is None
    assert signatures.alike == (("left", "right"),)
    swapped = [frames[2], frames[1], frames[0]]
    assert signatures.judge(swapped) is not None
    dark = [replace(each, pixels=np.zeros((64, 96), np.uint8)) for each in frames]
    found: Swap | Dark | None = signatures.judge(dark)
    assert isinstance(found, Dark)
    assert found.channel is None
    assert found.doubt().fault is AcquisitionFault.LIGHT
    one_out = [frames[0], replace(frames[1], pixels=np.full((64, 96), 2, np.uint8)), frames[2]]
    found = signatures.judge(one_out)
    assert isinstance(found, Dark)
    assert (found.channel, found.doubt().channels) == ("right", ("right",))
    single = Signatures(("only",))
    assert single.judge(frames[:1]) is None
    assert isinstance(single.judge(dark[:1]), Dark)


def test_what_was_learned_outlives_the_process_and_belongs_to_its_recipe(tmp_path: Path) -> None:
    folder = tmp_path / "signatures"
    wanted = recipe_for_plate(4)
    sets = _sets_of(4, LEARNED + MEASURED + 1)
    book = SignatureBook(folder)
    signatures = book.open(wanted)
    for frames in sets[:-1]:
        signatures.judge(frames)
        book.keep(signatures)
    [file] = folder.glob("*.npz")
    again = SignatureBook(folder).open(wanted)
    assert again.ready
    assert again.judge([sets[-1][1], *sets[-1][1:]]) is not None
    assert again.judge(sets[-1]) is None
    changed = wanted.model_copy(update={"channels": wanted.channels[:3]})
    assert not SignatureBook(folder).open(changed).ready
    file.write_bytes(b"torn")
    assert not SignatureBook(folder).open(wanted).ready
    assert not SignatureBook(None).open(wanted).ready


@pytest.mark.parametrize("trigger", ["software", "line"])
def test_every_kind_of_fault_is_found_by_name_and_good_sets_are_blamed_for_nothing(trigger: str) -> None:
    def taker() -> SoftwareTriggered | LineTriggered:
        return SoftwareTriggered(4) if trigger == "software" else LineTriggered(4)

    good = clean(taker(), 300, trigger)
    assert (good.sets, good.false_faults, good.ok_in_spite) == (300, 0, 0), good
    for fault in Fault:
        tally = faulty(taker(), fault, 8, 4, trigger)
        assert (tally.injected, tally.found, tally.missed, tally.misnamed, tally.ok_in_spite) == (8, 8, 0, 0, 0), tally
        assert set(tally.names) <= NAMES[fault]


@pytest.mark.parametrize("position", range(4))
def test_a_frame_too_many_of_a_camera_without_a_clock_is_found_before_anything_is_learned(position: int) -> None:
    """It comes next and has the next number; behind it every frame would be the trigger's before."""
    taker = SoftwareTriggered(4, stamps=False)
    taker.inject(Fault.SURPLUS_TRIGGER, position)
    parts = taker.take(4)
    assert not any(part.wrong_frames for part in parts)
    # On its way when the next trigger comes, or there before the next part.
    at_fault = 0 if position < 3 else 1
    assert [part.name for part in parts] == ["stale" if at == at_fault else "OK" for at in range(4)]
    for fault in (Fault.REPEATED, Fault.STALE, Fault.DROPPED):
        taker.inject(fault, position)
        found = taker.take(3)
        assert not any(part.wrong_frames for part in found)
        assert [part.name for part in found if not part.good][:1] != [], fault
        assert found[-1].good
