"""`inspectctl harvest`: what was taken, what was refused and why, in tables that a person can read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cell.verdicts import Outcome
from tests.ctl.bench_cell import Run, configured, daemon_of, runner
from tests.daemon.harvest_cell import RECIPE, HarvestCell, picture, pit


def _dim(levels: Any) -> None:
    levels *= 0.04


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """A daemon over an archive with good parts, a pit and a lamp that failed; the settings file."""
    archive = HarvestCell(tmp_path / "state")
    archive.good(12)
    archive.archive("bad-1", picture(50, spoil=pit))
    archive.report("bad-1", Outcome.NG, "pit", source="gauge")
    for number in range(4):
        archive.archive(f"dim-{number}", picture(60 + number, spoil=_dim))
    archive.close()
    settings = configured(tmp_path, RECIPE)
    with daemon_of(settings):
        yield settings


@pytest.fixture
def run(file: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(file, capsys)


def test_a_run_tells_all_and_the_looks_tell_it_again(run: Run, tmp_path: Path) -> None:
    assert run("harvest", "sheet", "--recipe", "cover")[0] == 65, "there is none yet"
    code, out, err = run("harvest", "--recipe", "cover")
    assert code == 0, err
    assert "12, parts held out among them: " in out
    assert "1 proposed" in out
    assert "WHAT" in out
    assert "channel left is dark" in out
    assert "! channel left is dark since part dim-0 (4 parts); look at its lamp" in out
    again = run("harvest", "summary", "--recipe", "cover")[1]
    assert "channel left is dark" in again
    assert "24 good parts are needed" in run("harvest", "coverage", "--recipe", "cover")[1]
    groups = run("harvest", "groups", "--recipe", "cover")[1]
    assert "g1" in groups
    assert "pit" in groups
    code, out, err = run("harvest", "sheet", str(tmp_path / "sheet.png"), "--recipe", "cover")
    assert code == 0, err
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 500
    document = json.loads(run("harvest", "summary", "--recipe", "cover", "--json")[1])
    assert document["refused"] == {"channel left is dark": 4}
    assert document["cost"]["max_ms"] == 0


def test_start_and_stop_say_what_holds(run: Run) -> None:
    assert run("harvest", "start")[1] == "harvests while parts run\n"
    assert json.loads(run("harvest", "summary", "--recipe", "cover", "--json")[1])["running"] is True
    assert json.loads(run("harvest", "stop", "--json")[1]) == {"harvesting": False}
