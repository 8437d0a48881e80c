"""``inspectctl process`` against a real daemon: how it stands, what a person says, what is marked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from cell.clock import utc_now
from cell.process import Cause
from cell.wire.client import Client
from daemon.main import Daemon
from tests.ctl.bench_cell import Run, configured, daemon_of, runner, twelve_bit
from tests.daemon.cells import eventually


def _beyond(daemon: Daemon, before: int) -> bool:
    return daemon.process.looked_at > before


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Daemon, Client]]:
    file = configured(tmp_path_factory.mktemp("cell"), twelve_bit(), more="[process]\nmost_cpu = 1.0\n")
    with daemon_of(file) as (daemon, client):
        client.call("SelectModeAutomatic")
        client.call("PrepareRecipe", {"RecipeId": "plate"})
        client.call("StartSingleJob", {"PartId": "good-000000"})
        client.call("inspectd.status")
        client.call("inspectd.harvest.run", {"recipe_id": "plate"})
        yield file, daemon, client


@pytest.fixture
def run(watched: tuple[Path, Daemon, Client], capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(watched[0], capsys)


def test_parts_are_looked_at_and_the_status_says_so(run: Run, watched: tuple[Path, Daemon, Client]) -> None:
    for part in range(3):
        before = watched[1].process.looked_at
        watched[2].call("StartSingleJob", {"PartId": f"good-{part:06d}"})
        assert eventually(partial(_beyond, watched[1], before))
    code, out, _ = run("process")
    assert code == 0
    assert "making its reference" in out
    assert "no changes" in out
    code, out, _ = run("status")
    assert code == 0
    assert "parts looked at" in out
    found = json.loads(run("process", "--json")[1])
    assert found["monitor"]["parts"] >= 3
    assert found["monitor"]["running"] is True


def test_a_person_says_what_changed(run: Run) -> None:
    code, out, err = run("process", "ordinary")
    assert code != 0
    assert "suspected" in err
    code, out, _ = run("process", "changed", "--what", "material", "--as", "anna", "--note", "new supplier")
    assert code == 0
    assert "material changed since" in out
    found = json.loads(run("process", "--json")[1])
    (change,) = found["changes"]
    assert (change["state"], change["what"], change["by"], change["note"]) == (
        "declared",
        "material",
        "anna",
        "new supplier",
    )
    code, out, _ = run("process")
    assert code == 0
    assert "new supplier" in out


def test_what_the_monitor_suspects_is_open_until_somebody_settles_it(
    run: Run, watched: tuple[Path, Daemon, Client]
) -> None:
    watched[1].learning.process.suspect("plate", Cause.LAMP, utc_now(), "a light gives less", {"level": -0.1})
    code, out, _ = run("process")
    assert code == 3
    assert "a light gives less" in out
    code, out, _ = run("process", "ordinary", "--as", "anna", "--json")
    assert code == 0
    assert json.loads(out)["change"]["state"] == "withdrawn"
    assert run("process")[0] == 0


def test_a_wrong_word_is_a_usage_error(run: Run) -> None:
    code, _, err = run("process", "changed", "--what", "weather")
    assert code == 64
    assert "weather" in err
