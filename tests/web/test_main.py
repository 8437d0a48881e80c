"""inspectd-web as a program: where it listens, how it ends, what it says when it can't start."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from daemon.web.main import listen, main
from tests.web import cells

PROGRAM = Path(sys.executable).with_name("inspectd-web")


def test_it_serves_on_loopback_and_ends_on_sigterm(tmp_path: Path) -> None:
    cells.settings_in(tmp_path)
    command = [str(PROGRAM), "--config", str(tmp_path / "inspectd.toml"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], 20)[0], "it says where it listens"
            address = process.stdout.readline().split()[-1]
            assert address.startswith("http://127.0.0.1:")
            assert httpx.get(address, timeout=10).status_code == 200
        finally:
            process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "cell7.example"])
def test_it_refuses_to_be_open_to_other_machines(
    tmp_path: Path, host: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cells.settings_in(tmp_path)
    monkeypatch.setenv("INSPECTD_WEB__HOST", host)
    assert main(["--config", str(tmp_path / "inspectd.toml")]) == 78
    said = capsys.readouterr().err
    assert said.startswith("inspectd-web: ")
    assert said.count("\n") == 1
    assert "reverse proxy" in said


def test_a_port_in_use_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells.settings_in(tmp_path)
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert main(["--config", str(tmp_path / "inspectd.toml"), "--port", str(port)]) == 78
    said = capsys.readouterr().err
    assert said == (
        f"inspectd-web: can't serve at 127.0.0.1:{port}: address already in use; "
        "stop what listens there or set web.port\n"
    )


def test_a_proxy_shows_the_pages_under_its_own_name(tmp_path: Path) -> None:
    cells.settings_in(tmp_path)
    os.environ["INSPECTD_WEB__PUBLIC_ORIGIN"] = "https://cell7.example"
    try:
        settings = cells.settings_in(tmp_path)
    finally:
        del os.environ["INSPECTD_WEB__PUBLIC_ORIGIN"]
    assert settings.web.public_origin == "https://cell7.example"
    with cells.pages(settings) as address, httpx.Client(base_url=address, headers={"host": "cell7.example"}) as http:
        page = http.get("/review")
        assert page.status_code == 200
        token = page.text.split('name="csrf" content="')[1][:64]
        http.cookies.clear()
        session = {"cookie": page.headers["set-cookie"].split(";")[0], "x-csrf-token": token}
        body = {"name": "Ada Moser"}
        for origin, status in (("https://cell7.example", 200), ("https://cell8.example", 403)):
            answer = http.post("/api/reviewer", json=body, headers=session | {"origin": origin})
            assert answer.status_code == status
