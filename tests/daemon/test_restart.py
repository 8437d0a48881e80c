"""The daemon killed, stopped and started again: one effect, one answer, the same model, the same recipe."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cell.errors import PeerTimeout, StateError, StoreError
from cell.wire.client import Client
from tests.daemon.cells import contrast_model, eventually, settings_in
from tests.daemon.process import process, start, write_config


def test_killed_in_the_middle_of_a_part_it_answers_that_part_fault_and_goes_on(tmp_path: Path) -> None:
    manifest = contrast_model(tmp_path)
    with process(tmp_path) as first:
        first.client.call("SelectModeAutomatic")
        first.client.call("PrepareRecipe", {"RecipeId": "plate"})
        first.client.call("inspectd.deploy", {"model": manifest.model_id, "promote": True})
        answered = first.client.call("StartSingleJob", {"PartId": "good-1"}, request_id="id-1")
        with pytest.raises(PeerTimeout):
            first.client.call("StartSingleJob", {"PartId": "hang-2"}, request_id="id-2", timeout_s=0.3)
        first.kill()
    with process(tmp_path) as second:
        # Without a command it is back at its recipe with the model that was promoted.
        assert eventually(lambda: second.client.call("inspectd.status")["state"]["name"] == "Operational/Ready")
        assert second.client.call("inspectd.status")["model"]["model_digest"] == manifest.onnx_digest
        assert second.client.call("StartSingleJob", {"PartId": "good-1"}, request_id="id-1") == answered
        interrupted = second.client.call("StartSingleJob", {"PartId": "hang-2"}, request_id="id-2")
        assert interrupted["Result"]["ResultState"] == 3
        assert interrupted["Result"]["ResultContent"]["outcome"] == "FAULT"
        assert "aborted" in interrupted["Result"]["ResultContent"]["reasons"][0]
        again = second.client.call("StartSingleJob", {"PartId": "hang-2"}, request_id="id-2")
        assert again == interrupted
        judged = second.client.call("StartSingleJob", {"PartId": "bad-3"})["Result"]["ResultContent"]
        assert judged["outcome"] == "NG"
        parts = [entry["PartId"] for entry in second.client.call("GetResultListFiltered")["Results"]]
        assert sorted(parts) == ["bad-3", "good-1", "hang-2"]
        assert second.terminate() == 0


def test_after_a_reset_it_starts_in_preoperational(tmp_path: Path) -> None:
    with process(tmp_path) as first:
        first.client.call("SelectModeAutomatic")
        first.client.call("PrepareRecipe", {"RecipeId": "plate"})
        first.client.call("Reset")
        assert first.terminate() == 0
    with process(tmp_path) as second:
        assert second.client.call("inspectd.status")["state"]["name"] == "Preoperational"
        with pytest.raises(StateError):
            second.client.call("PrepareRecipe", {"RecipeId": "plate"})


def test_the_part_under_way_is_answered_before_an_orderly_end(tmp_path: Path) -> None:
    with process(tmp_path) as running:
        running.client.call("SelectModeAutomatic")
        running.client.call("PrepareRecipe", {"RecipeId": "plate"})
        for number in range(20):
            running.client.call("StartSingleJob", {"PartId": f"good-{number}"})
        assert running.terminate() == 0
        assert running.popen.stderr is not None
        assert "Traceback" not in running.popen.stderr.read()


def test_a_hanging_camera_does_not_keep_the_process(tmp_path: Path) -> None:
    with process(tmp_path) as running:
        running.client.call("SelectModeAutomatic")
        running.client.call("PrepareRecipe", {"RecipeId": "plate"})
        verdict = running.client.call("StartSingleJob", {"PartId": "hang-1"})["Result"]["ResultContent"]
        assert verdict["outcome"] == "FAULT"
        assert running.terminate() == 70


def test_an_error_nobody_foresaw_is_fault_and_ends_the_process_so_that_it_is_started_anew(tmp_path: Path) -> None:
    with process(tmp_path) as running:
        running.client.call("SelectModeAutomatic")
        running.client.call("PrepareRecipe", {"RecipeId": "plate"})
        verdict = running.client.call("StartSingleJob", {"PartId": "crash-1"})["Result"]["ResultContent"]
        assert verdict["outcome"] == "FAULT"
        assert running.popen.wait(20) == 70
    with process(tmp_path) as again:
        assert eventually(lambda: again.client.call("inspectd.status")["state"]["name"] == "Operational/Ready")


def test_a_disk_that_takes_no_more_is_never_ok(tmp_path: Path) -> None:
    manifest = contrast_model(tmp_path)
    with process(tmp_path) as running:
        running.client.call("SelectModeAutomatic")
        running.client.call("PrepareRecipe", {"RecipeId": "plate"})
        running.client.call("inspectd.deploy", {"model": manifest.model_id, "promote": True})
        unlimited = resource.prlimit(running.popen.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        with pytest.raises(StoreError):
            running.client.call("StartSingleJob", {"PartId": "good-1"}, request_id="id-1")
        resource.prlimit(running.popen.pid, resource.RLIMIT_FSIZE, unlimited)
        verdict = running.client.call("StartSingleJob", {"PartId": "good-1"}, request_id="id-1")
        assert verdict["Result"]["ResultContent"]["outcome"] == "OK"
        assert running.terminate() == 0


def _fails(config: Path) -> tuple[int, str]:
    popen = start(config)
    _, errors = popen.communicate(timeout=30)
    lines = [line for line in errors.splitlines() if line.startswith("inspectd: ")]
    assert "Traceback" not in errors
    assert len(lines) == 1, errors
    return popen.returncode, lines[0]


def test_a_second_daemon_on_the_same_cell_ends_with_one_line(tmp_path: Path) -> None:
    with process(tmp_path) as running:
        code, line = _fails(tmp_path / "inspectd.toml")
        assert code == 75
        assert f"pid {running.popen.pid}" in line
        assert running.client.call("inspectd.ping")


def test_a_port_in_use_ends_with_one_line(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = config.read_text().replace(settings_in(tmp_path).wire.commands, f"tcp://127.0.0.1:{port}")
        config.write_text(text)
        code, line = _fails(config)
    assert code == 78
    assert "in use" in line


@pytest.mark.parametrize(
    ("settings", "word"),
    [("colour = 1", "colour"), ("[wire]\ncommands = 'tcp://0.0.0.0:5'", "keys"), ("x = [", "TOML")],
)
def test_wrong_settings_end_with_one_line_and_leave_nothing(tmp_path: Path, settings: str, word: str) -> None:
    config = tmp_path / "inspectd.toml"
    config.write_text(f"{settings}\n" if "wire" not in settings else f'state_dir = "{tmp_path / "s"}"\n{settings}\n')
    code, line = _fails(config)
    assert code == 78
    assert word in line


def test_the_watchdog_is_fed_while_it_works_and_starves_when_the_line_hangs(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.settimeout(5)

        def heard(word: bytes, within_s: float) -> bool:
            notify.settimeout(within_s)
            try:
                while word not in notify.recv(4096):
                    pass
            except TimeoutError:
                return False
            return True

        with process(tmp_path, NOTIFY_SOCKET=path, WATCHDOG_USEC="1500000") as running:
            assert heard(b"READY=1", 5)
            assert heard(b"WATCHDOG=1", 5)
            running.client.call("SelectModeAutomatic")
            running.client.call("PrepareRecipe", {"RecipeId": "plate"})
            running.client.call("StartSingleJob", {"PartId": "hang-1"})
            while heard(b"WATCHDOG=1", 1.0):
                assert running.client.call("inspectd.ping")
            assert not heard(b"WATCHDOG=1", 2.0)
            assert running.client.call("inspectd.ping"), "commands are answered all the same"
            assert eventually(
                lambda: "stuck" in [c["name"] for c in running.client.call("inspectd.status")["conditions"]]
            )
            os.kill(running.popen.pid, signal.SIGTERM)
            assert heard(b"STOPPING=1", 5)


def test_it_starts_without_torch() -> None:
    script = "import sys; sys.modules['torch'] = None; sys.modules['diffusers'] = None; import daemon.main"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_command_that_nobody_answers_names_the_address(tmp_path: Path) -> None:
    with Client(f"ipc://{tmp_path}/nobody", timeout_s=0.1) as client, pytest.raises(PeerTimeout, match="nobody"):
        client.call("inspectd.ping")
