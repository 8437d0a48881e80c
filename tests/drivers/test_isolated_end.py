"""A camera's own process ends with its owner, however that ends, and leaves nothing behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from cell.errors import CameraError
from drivers.sim.folder_feed import FolderFeed
from drivers.sim.plate import recipe_for_plate
from tests.daemon.cells import eventually
from tests.drivers.isolation import descriptors, gone, isolated, shared_files

pytestmark = pytest.mark.timeout(60, method="thread")  # pylon uses SIGALRM itself

PLATE = recipe_for_plate(2)
CHANNEL = PLATE.channels[0]


def test_nothing_is_left_behind_and_nothing_grows() -> None:
    # Deterministic as far as it goes: descriptors, names in /dev/shm, threads and children; memory is the benchmark's.
    # What earlier tests of this worker left running (multiprocessing's tracker) is theirs.
    files, threads, before = shared_files(), threading.active_count(), set(psutil.Process().children())
    with isolated() as (_, camera):
        camera.configure(PLATE)
        opened = descriptors()
        for _ in range(3):
            os.kill(camera.pid, signal.SIGKILL)
            with pytest.raises(CameraError):
                camera.expose(CHANNEL)
            camera.recover()
            camera.expose(CHANNEL)
        gc.collect()
        assert descriptors() <= opened
        assert shared_files() <= files
        assert [child.pid for child in psutil.Process().children() if child not in before] == [camera.pid]
    assert threading.active_count() == threads
    assert set(psutil.Process().children()) <= before


def test_the_pictures_of_a_killed_emulator_are_swept_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.sim.folder_feed._FRESH_S", 0.0)
    with isolated("pylon") as (_, camera):
        camera.configure(PLATE)
        folders = {Path(file) for file in _open_files(camera.pid) if "inspectd-feed-" in file}
        assert folders
        FolderFeed().close()
        assert all(folder.exists() for folder in folders), "a living process's pictures were swept away"
        os.kill(camera.pid, signal.SIGKILL)
        assert eventually(lambda: gone(camera.pid))

        def swept() -> bool:
            FolderFeed().close()
            return not any(folder.exists() for folder in folders)

        # Its other threads may end, and let go of the folder, a moment after the first.
        assert eventually(swept)


def _open_files(pid: int) -> list[str]:
    links = Path(f"/proc/{pid}/fd").iterdir()
    return [str(link.readlink()) for link in links if link.exists()]


@pytest.mark.parametrize("state", ["idle", "exposing", "hanging"])
def test_the_process_does_not_outlive_the_daemon(state: str) -> None:
    # The daemon's stand-in is killed as by the kernel; its camera's process must go by itself, whatever it is doing.
    script = (
        "import sys; from tests.drivers.isolation import isolated; from tests.drivers.test_isolated import *\n"
        "with isolated(frame_timeout_s=0.5) as (rig, camera):\n"
        "    camera.configure(PLATE)\n"
        "    if sys.argv[1] == 'hanging': camera.emulate('mishap', 'expose', 'hang')\n"
        "    print(camera.pid, flush=True)\n"
        "    while sys.argv[1] != 'idle': camera.expose(CHANNEL)\n"
        "    threading.Event().wait()\n"
    )
    stand_in = subprocess.Popen(
        [sys.executable, "-c", script, state], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    )
    assert stand_in.stdout is not None
    pid = int(stand_in.stdout.readline())
    command = psutil.Process(pid).cmdline()
    assert "drivers.cameras.child" in command
    assert psutil.Process(pid).name() == "inspectd-camera"
    stand_in.kill()
    stand_in.wait(10)
    stand_in.stdout.close()
    assert eventually(lambda: gone(pid), 8), f"the camera's process lives on while {state}"


def test_signals_for_the_daemon_leave_the_process_alone() -> None:
    with isolated() as (_, camera):
        camera.configure(PLATE)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(camera.pid, number)
        camera.expose(CHANNEL)
