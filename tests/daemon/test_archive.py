"""Which parts keep their pixels, and what happens when the disk is slower than the line or full."""

from __future__ import annotations

from pathlib import Path

import pytest

from cell.clock import utc_now
from cell.frames import Frame, FrameSet
from cell.recipes import ArchiveRule
from cell.settings import Settings
from cell.verdicts import Outcome, Verdict
from daemon.archive import QUEUE_PARTS, keeps_for_good
from tests.daemon.cells import Cell, contrast_model, eventually, running, settings_in
from tests.daemon.rigs import CHANNELS, pixels_of, recipe


def _files(folder: Path) -> set[str]:
    return {file.stem for file in (folder / "state" / "archive").rglob("*.tif")}


def _run(cell: Cell, parts: list[str]) -> dict[str, str]:
    """Judge parts; return the outcome of each job."""
    verdicts = [cell.trigger(part) for part in parts]
    assert eventually(lambda: cell.status()["archive"]["waiting"] == 0)
    return {f"plate-{verdict['job_id']}": verdict["outcome"] for verdict in verdicts}


@pytest.mark.parametrize("restart", [False, True])
def test_all_bad_parts_and_the_last_good_ones_are_kept(tmp_path: Path, restart: bool) -> None:
    rule = ArchiveRule(ok_share=0.0, ring=4)
    contrast_model(tmp_path, model_id="m")
    outcomes: dict[str, str] = {}
    for start in (0, 8) if restart else (0,):
        with running(tmp_path, recipes=(recipe(archive=rule),)) as cell:
            if start == 0:
                cell.ready()
                cell.client.call("inspectd.deploy", {"model": "m", "promote": True})
            assert eventually(lambda cell=cell: cell.status()["state"]["name"] == "Operational/Ready")  # type: ignore[misc]
            names = [f"{'bad' if number % 4 == 0 else 'good'}-{number}" for number in range(start, start + 8)]
            outcomes |= _run(cell, names)
    good = [job for job, outcome in outcomes.items() if outcome == "OK"]
    bad = {job for job, outcome in outcomes.items() if outcome == "NG"}
    assert len(bad) == len(outcomes) // 4
    assert eventually(lambda: _files(tmp_path) == bad | set(good[-4:]))


def test_a_share_of_good_parts_is_kept(tmp_path: Path) -> None:
    rule = ArchiveRule(ok_share=0.3, ring=0)
    contrast_model(tmp_path, model_id="m")
    with running(tmp_path, recipes=(recipe(archive=rule),)) as cell:
        cell.ready()
        cell.client.call("inspectd.deploy", {"model": "m", "promote": True})
        verdicts = [cell.trigger(f"good-{number}") for number in range(40)]
        wanted = {
            f"plate-{verdict['job_id']}"
            for verdict in verdicts
            if keeps_for_good(_verdict(0, Outcome.OK).model_copy(update={"job_id": verdict["job_id"]}), rule)
        }
        assert 3 <= len(wanted) <= 25
        assert eventually(lambda: _files(tmp_path) == wanted)


def test_the_share_is_met_over_many_parts() -> None:
    def kept(number: int, outcome: Outcome) -> bool:
        return keeps_for_good(_verdict(number, outcome), ArchiveRule(ok_share=0.05))

    assert 0.04 < sum(kept(number, Outcome.OK) for number in range(10_000)) / 10_000 < 0.06
    assert all(kept(number, outcome) for number in range(100) for outcome in (Outcome.NG, Outcome.FAULT))


def test_a_disk_without_room_is_a_condition_and_parts_are_judged_all_the_same(tmp_path: Path) -> None:
    contrast_model(tmp_path, model_id="m")
    with running(tmp_path, settings=_demanding(tmp_path)) as cell:
        cell.ready()
        cell.client.call("inspectd.deploy", {"model": "m", "promote": True})
        assert [cell.trigger(f"good-{number}")["outcome"] for number in range(3)] == ["OK"] * 3
        assert eventually(lambda: {"disk-full", "disk-low"} <= {c["name"] for c in cell.status()["conditions"]})
        assert eventually(lambda: cell.status()["archive"]["failed"] == 3)
        assert _files(tmp_path) == set()


def _demanding(folder: Path) -> Settings:
    return settings_in(folder, minimum_free_mb=10**9)


def test_a_disk_slower_than_the_line_is_counted_and_told(tmp_path: Path) -> None:
    with running(tmp_path) as cell:
        for number in range(10 * QUEUE_PARTS):  # faster than any disk synchronises
            frames, verdict = _judged(number)
            cell.daemon.archive.offer(frames, verdict, ArchiveRule())
        assert cell.daemon.archive.dropped > 0
        assert "archive-behind" in {c["name"] for c in cell.status()["conditions"]}
        archive = cell.daemon.archive
        assert eventually(lambda: archive.written + archive.dropped == 10 * QUEUE_PARTS, 20)
        assert eventually(
            lambda: all(c["resolved_at"] for c in cell.status()["conditions"] if c["name"] == "archive-behind")
        )


def _verdict(number: int, outcome: Outcome) -> Verdict:
    return Verdict(
        job_id=f"x{number:08d}",
        part_id="p",
        recipe_id="plate",
        recipe_version=1,
        outcome=outcome,
        emulated=True,
        created_at=utc_now(),
    )


def _judged(number: int) -> tuple[FrameSet, Verdict]:
    frames = tuple(
        Frame(channel, pixels_of("p", channel), 8, 100.0, 0.0, "string-1", number, number) for channel in CHANNELS
    )
    return FrameSet(number, "p", "plate", utc_now(), frames, emulated=True), _verdict(number, Outcome.NG)
