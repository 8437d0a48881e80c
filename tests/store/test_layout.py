from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cell.errors import DiskFull, StoreError, StoreInUse
from cell.store.layout import StateDir
from tests.store.helpers import NOON

HOLD = """
import sys
from pathlib import Path
from cell.store.layout import StateDir
lock = StateDir.create(Path(sys.argv[1])).lock()
print("held", flush=True)
sys.stdin.read()
"""


def test_folders_are_made_and_keys_are_private(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        state = StateDir.create(tmp_path / "deep" / "state")
    finally:
        os.umask(old)
    names = {path.name for path in state.root.iterdir()}
    assert names == {"archive", "backgrounds", "seeds", "candidates", "models", "calibrations", "adapters", "keys"}
    assert stat.S_IMODE(state.keys.stat().st_mode) == 0o700
    state.keys.chmod(0o755)
    StateDir.create(state.root)
    assert stat.S_IMODE(state.keys.stat().st_mode) == 0o700


def test_a_second_daemon_is_told_who_holds_the_cell(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        state = StateDir.create(tmp_path)
        with pytest.raises(StoreInUse, match=f"pid {first.pid}") as caught:
            state.lock()
        assert caught.value.exit_code == 75
        with state.lock("trainer"):
            pass
        first.kill()
        first.wait(10)
    with state.lock() as lock:  # the kernel gave it back
        with pytest.raises(StoreInUse, match=f"pid {os.getpid()}"):
            state.lock()
        lock.release()
    with state.lock():
        pass


def test_stored_paths_stay_inside(tmp_path: Path) -> None:
    state = StateDir.create(tmp_path / "state")
    assert state.resolve("seeds/a.tif") == state.seeds / "a.tif"
    assert state.relative(state.seeds / "a.tif") == "seeds/a.tif"
    for bad in ("../outside.tif", "/etc/passwd", "seeds/../../x"):
        with pytest.raises(StoreError, match="leads out"):
            state.resolve(bad)
    with pytest.raises(StoreError, match="does not lie under"):
        state.relative(tmp_path / "x")


def test_archive_paths_are_by_day(tmp_path: Path) -> None:
    state = StateDir.create(tmp_path)
    assert state.relative(state.archive_path("plate", "j00000001", NOON)) == "archive/20260301/plate-j00000001.tif"
    assert state.relative(state.model_folder("ab")) == "models/ab"
    assert state.relative(state.adapter_path("plate", "pit")) == "adapters/plate/pit.safetensors"


def test_room_is_measured_and_ballast_gives_some(tmp_path: Path) -> None:
    state = StateDir.create(tmp_path)
    state.require_free(1)
    with pytest.raises(DiskFull, match="MiB are free"):
        state.require_free(1e12)
    assert not state.release_ballast()
    state.ensure_ballast(2)
    state.ensure_ballast(2)
    ballast = tmp_path / "ballast"
    assert ballast.stat().st_blocks * 512 >= 2 << 20  # really allocated, not a hole
    assert state.release_ballast()
    assert not ballast.exists()


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    state = StateDir.create(tmp_path)
    old, young, kept = (state.seeds / name for name in (".a.tif.0f.tmp", ".b.tif.0f.tmp", "c.tif"))
    for path in (old, young, kept):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    assert state.sweep() == 1
    assert not old.exists()
    assert young.exists()
    assert kept.exists()
