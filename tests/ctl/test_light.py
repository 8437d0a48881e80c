"""inspectctl light, the conformance suites and sim, on simulated and fake hardware."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from daemon.ctl.camera import show_report
from daemon.ctl.session import Session
from drivers.conformance.report import CheckResult, Outcome, Report
from drivers.sim.fake_gardasoft import FakeGardasoft
from tests.ctl.bench_cell import Run, configured, runner


def test_a_real_controller_shines_for_a_while_and_is_dark_afterwards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeGardasoft()
    try:
        light = f"""
[light]
driver = "gardasoft"
host = "{fake.host}"
port = {fake.port}
[light.outputs.ring]
channel = 1
[light.outputs.bar]
channel = 2
"""
        file = configured(tmp_path)
        file.write_text(file.read_text() + light)
        run = runner(file, capsys)
        found = json.loads(run("light", "list", "--json")[1])
        assert (found["driver"], [line["line"] for line in found["lines"]]) == ("gardasoft", ["ring", "bar"])
        seen: list[dict[int, float]] = []
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.01):
                seen.append(dict(fake.armed()))

        watcher = threading.Thread(target=watch, name="test-watcher")
        watcher.start()
        code, out, err = run("light", "set", "ring=0.5", "--seconds", "0.3", "--json")
        over.set()
        watcher.join(5)
        assert (code, err) == (0, "")
        assert json.loads(out)["lines"] == [{"line": "ring", "level": 0.5}, {"line": "bar", "level": 0.0}]
        assert max(levels[1] for levels in seen) == 50
        assert max(levels[2] for levels in seen) == 0
        assert (fake.armed()[1], fake.armed()[2]) == (0, 0), "dark afterwards"
        fake.unplug()
        code, _, err = run("light", "list")
        assert code == 74
        assert fake.host in err
    finally:
        fake.close()


def test_lines_that_no_camera_sees_are_named(run: Run) -> None:
    code, out, _ = run("light", "sweep", "--level", "0.01", "--exposure", "2", "--json")
    assert code == 74
    assert json.loads(out)["unseen"] == ["az000", "az090", "az180", "az270"]
    code, out, _ = run("light", "sweep", "--level", "0.01", "--exposure", "2")
    assert code == 74
    assert out.count("NOT SEEN") == 4


@pytest.mark.parametrize("device", ["camera", "light"])
def test_the_suite_is_refused_while_a_daemon_runs(through: Run, device: str) -> None:
    code, _, err = through(device, "conformance")
    assert code == 1
    assert "systemctl stop inspectd" in err


@pytest.mark.parametrize("device", ["camera", "light"])
def test_a_suite_tells_of_every_check(run: Run, device: str) -> None:
    code, out, _ = run(device, "conformance", "--json")
    found = json.loads(out)
    assert (code, found["passed"]) == (0, True)
    outcomes = [check["outcome"] for check in found["checks"]]
    assert outcomes.count("passed") >= 12
    assert set(outcomes) <= {"passed", "skipped"}
    assert all(check["detail"] for check in found["checks"] if check["outcome"] == "skipped")


def test_a_suite_fires_the_line_of_an_emulated_camera(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = configured(tmp_path, camera='trigger = "line"')
    code, out, _ = runner(file, capsys)("camera", "conformance", "--json")
    checks = {check["check"]: check["outcome"] for check in json.loads(out)["checks"]}
    assert code == 0
    assert checks["gives each channel's frame of a trigger once, in order"] == "passed"
    assert checks["keeps frames in order until they are taken"] == "passed"


def test_a_controller_is_held_to_its_rules_without_the_camera_that_triggers_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeGardasoft()
    try:
        file = configured(tmp_path, camera='trigger = "line"')
        light = f"""
[light]
driver = "gardasoft"
mode = "pulsed"
host = "{fake.host}"
port = {fake.port}
exposure_line = "Line2"
[light.outputs.ring]
channel = 1
trigger_input = 1
camera_line = "Line3"
[light.outputs.bar]
channel = 2
"""
        file.write_text(file.read_text() + light)
        code, out, err = runner(file, capsys)("light", "conformance", "--json")
    finally:
        fake.close()
    assert (code, err) == (0, "")
    assert json.loads(out)["passed"]


def test_a_broken_rule_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(
        "camera c7",
        (CheckResult("says what it is", Outcome.PASSED), CheckResult("stays closed", Outcome.FAILED, "it does not")),
    )
    for as_json in (True, False):
        with pytest.raises(typer.Exit) as ended:
            show_report(Session(as_json=as_json), report)
        assert ended.value.exit_code == 1
        out = capsys.readouterr().out
        assert "it does not" in out
    assert out.splitlines()[-1] == "camera c7: 1 passed, 1 failed, 0 skipped"


def test_the_emulated_cell_is_drawn(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "sheet" / "cell.png"
    code, text, err = run("sim", str(out), "--product", "foil", "--lights", "2", "--json")
    assert (code, err) == (0, "")
    found = json.loads(text)
    assert found["path"] == str(out)
    assert found["parts"] >= 5
    with Image.open(out) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape[0] > 200 * found["parts"]
    assert len(np.unique(pixels[..., 0])) > 50
    marked = (pixels == (255, 64, 64)).all(axis=2)
    assert marked[:, pixels.shape[1] * 2 // 3 :].any(), "true masks are outlined in the last column"
    assert not marked[:, : pixels.shape[1] * 2 // 3].any(), "and nowhere else"
    code, _, err = run("sim", str(out), "--product", "nosuch")
    assert (code, "there are" in err) == (78, True)
    code, _, err = run("sim", str(out), "--product", "foil", "--lights", "sun")
    assert code == 78
