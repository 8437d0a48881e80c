"""A cell with simulated hardware, with a daemon and without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cell.wire.client import Client
from daemon.main import Daemon
from tests.ctl.bench_cell import Run, configured, daemon_of, runner, twelve_bit


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """inspectctl on a cell without a daemon."""
    return runner(configured(tmp_path, twelve_bit()), capsys)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Daemon, Client]]:
    """A cell whose daemon runs, no recipe prepared."""
    file = configured(tmp_path_factory.mktemp("cell"), twelve_bit())
    with daemon_of(file) as (daemon, client):
        client.call("SelectModeAutomatic")
        # Workers and intake start their threads at the first use, and a test may leave none behind.
        client.call("inspectd.cameras")
        client.call("inspectd.status")
        client.call("PrepareRecipe", {"RecipeId": "plate"})
        client.call("StartSingleJob", {"PartId": "good-000000"})
        client.call("UnprepareRecipe")
        yield file, daemon, client


@pytest.fixture
def through(served: tuple[Path, Daemon, Client], capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(served[0], capsys)
