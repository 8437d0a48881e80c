"""Light sleep is asked for as long as a recipe is prepared, and nobody is worse off where it can't be had."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

import pytest

from daemon.light_sleep import DEVICE, LightSleep
from tests.daemon.cells import eventually, running


def test_it_is_asked_for_and_let_go(tmp_path: Path) -> None:
    device = tmp_path / "cpu_dma_latency"
    device.write_bytes(b"")
    sleep = LightSleep(device)
    for _ in range(2):
        sleep.follow(True)
        assert sleep.held
        assert str(device) in _open_files()
        assert struct.unpack("=i", device.read_bytes()) == (0,)
    sleep.follow(False)
    assert not sleep.held
    assert str(device) not in _open_files()
    sleep.close()


def test_a_machine_without_it_runs_all_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    sleep = LightSleep(tmp_path / "absent")
    for _ in range(3):
        sleep.follow(True)
        assert not sleep.held
    assert caplog.text.count("No such file or directory") == 1


@pytest.mark.skipif(not os.access(DEVICE, os.W_OK), reason="this machine does not offer it to us")
def test_the_daemon_asks_for_it_while_a_recipe_is_prepared(tmp_path: Path) -> None:
    with running(tmp_path) as cell:
        assert str(DEVICE) not in _open_files()
        cell.ready()
        assert eventually(lambda: str(DEVICE) in _open_files())
        cell.client.call("UnprepareRecipe")
        assert eventually(lambda: str(DEVICE) not in _open_files())
        cell.client.call("PrepareRecipe", {"RecipeId": "plate"})
        assert eventually(lambda: str(DEVICE) in _open_files())
    assert str(DEVICE) not in _open_files()


def _open_files() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found.add(str(entry.readlink()))
    return found
