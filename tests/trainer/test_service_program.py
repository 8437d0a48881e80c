"""The trainer service as a program: it starts or says why not, tells systemd, ends when told, and may be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cell import settings
from cell.defects import ReviewVerb
from cell.jobs import JobState
from cell.wire.client import Client
from tests.trainer.service_support import add_backgrounds, add_candidates, add_seeds, open_store, until, write_config


def test_the_service_never_loads_torch() -> None:
    script = "import sys, trainer.main; print(sorted(set(sys.modules) & {'torch', 'diffusers', 'peft', 'scipy'}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def start(config: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "trainer.main", "--config", str(config)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def test_the_program_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    with start(config) as process:
        assert process.stderr is not None
        assert "listening" in process.stderr.readline()
        with Client(settings.load(config).wire.trainer_commands, timeout_s=20) as client:
            assert client.call("inspectd.trainer.status", {})["pid"] == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"colour": "red"}, 78, "colour"),
        ({"state_dir": "/proc/nowhere"}, 74, "/proc/nowhere"),
    ],
)
def test_a_program_that_can_not_start_says_why_in_one_line(
    tmp_path: Path, change: dict[str, str], status: int, words: str
) -> None:
    with start(write_config(tmp_path, **change)) as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == status
    assert words in said
    assert len(said.strip().splitlines()) == 1


def test_systemd_hears_that_the_service_is_up_and_turning(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(address)
        notify.settimeout(20)
        with start(write_config(tmp_path), NOTIFY_SOCKET=address, WATCHDOG_USEC="300000") as process:
            assert notify.recv(256) == b"READY=1"
            assert notify.recv(256) == b"WATCHDOG=1"
            assert notify.recv(256) == b"WATCHDOG=1"
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


@pytest.mark.slow
def test_a_service_killed_in_the_middle_takes_its_job_along_and_shows_it_afterwards(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    store = open_store(tmp_path)
    address = settings.load(config).wire.trainer_commands
    try:
        add_backgrounds(store, 4, 1)
        add_seeds(store, 3, 1)
        for candidate in add_candidates(store, 1):
            token = store.gate.displayed(candidate, "Ada")
            store.gate.decide(candidate, ReviewVerb.ACCEPT, reviewer="Ada", is_person=True, token=token)
        with start(config) as process, Client(address, timeout_s=60) as client:
            assert process.stderr is not None
            process.stderr.readline()
            asked = {"recipe_id": "disc", "synthetic_ratio": 1.0, "classes": ["pit"], "updates": 100_000}
            job_id = client.call("inspectd.train", asked)["job_id"]
            until(lambda: store.jobs.get(job_id).progress is not None, seconds=60)
            job = psutil.Process(process.pid).children()[0]
            assert job.nice() == 19
            process.kill()
        until(lambda: not job.is_running() or job.status() == psutil.STATUS_ZOMBIE)
        with start(config) as process, Client(address, timeout_s=60) as client:
            assert process.stderr is not None
            process.stderr.readline()
            assert client.call("inspectd.job", {"job_id": job_id})["job"]["state"] == "interrupted"
            client.call("inspectd.job.resume", {"job_id": job_id})
            until(lambda: client.call("inspectd.trainer.status")["running"] is not None)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        assert store.jobs.get(job_id).state is JobState.INTERRUPTED
        assert store.models() == ()
    finally:
        store.close()
