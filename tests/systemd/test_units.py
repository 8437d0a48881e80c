"""The units as systemd itself reads them: nothing unknown, a tight sandbox, and the line before everything else."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
SERVICES = ("inspectd.service", "inspectd-trainer.service", "inspectd-web.service")
#: Highest exposure allowed, in tenths; redis of Debian 12 has 12, sshd 96. GPU and cameras cost the first two theirs.
EXPOSURE = {"inspectd.service": 20, "inspectd-trainer.service": 17, "inspectd-web.service": 13}

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed: apt-get install systemd"
)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Copies of the units that start this environment's programs, which exist here, instead of /opt/inspectd's."""
    programs = Path(sys.executable).parent
    for name in SERVICES:
        text = (UNITS / name).read_text()
        assert text.count("ExecStart=/opt/inspectd/bin/") == 1
        (tmp_path / name).write_text(text.replace("ExecStart=/opt/inspectd/bin/", f"ExecStart={programs}/"))
    return tmp_path


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", "--no-pager", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def verify(unit: Path) -> subprocess.CompletedProcess[str]:
    # Without --recursive-errors=one an unknown directive is a warning with status 0.
    return analyze("verify", "--recursive-errors=one", "--man=no", unit)


@needs_analyze
@pytest.mark.parametrize("name", SERVICES)
def test_systemd_accepts_every_line(units: Path, name: str) -> None:
    done = verify(units / name)
    assert (done.returncode, done.stderr) == (0, "")


@needs_analyze
def test_a_misspelt_directive_would_be_found(units: Path) -> None:
    unit = units / "inspectd.service"
    unit.write_text(unit.read_text().replace("ProtectHome=", "ProtectHomes="))
    done = verify(unit)
    assert done.returncode != 0
    assert "ProtectHomes" in done.stderr


@needs_analyze
@pytest.mark.parametrize("name", SERVICES)
def test_the_sandbox_stays_tight(units: Path, name: str) -> None:
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE[name]}", units / name)
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


@needs_analyze
def test_the_exposure_threshold_would_fail(units: Path) -> None:
    unit = units / "inspectd.service"
    unit.write_text(re.sub(r"(?m)^(Protect|Restrict|System|Cap|NoNew).*\n", "", unit.read_text()))
    assert analyze("security", "--offline=true", "--threshold=20", unit).returncode != 0


def service(name: str) -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / name)
    return dict(parser["Service"])


def test_the_line_goes_before_what_learns() -> None:
    line, trainer = service("inspectd.service"), service("inspectd-trainer.service")
    assert int(line["Nice"]) < 0 < int(trainer["Nice"])
    assert int(line["CPUWeight"]) > 100 > int(trainer["CPUWeight"])
    assert int(line["OOMScoreAdjust"]) < 0 < int(trainer["OOMScoreAdjust"])
    assert trainer["IOSchedulingClass"] == "idle"
    assert "MemoryMax" in trainer
    assert "MemoryMax" not in line


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_tells_when_it_is_up_and_comes_back_by_itself(name: str) -> None:
    unit = service(name)
    assert unit["Type"] == "notify"
    assert unit["Restart"] == "on-failure"
    # A wrong configuration is not mended by starting again.
    assert "78" in unit["RestartPreventExitStatus"].split()


@pytest.mark.skipif(os.geteuid() != 0, reason="making users in a root directory needs root")
@pytest.mark.skipif(
    shutil.which("systemd-sysusers") is None or shutil.which("systemd-tmpfiles") is None,
    reason="systemd-sysusers and systemd-tmpfiles are not installed: apt-get install systemd",
)
def test_users_and_folders_come_out_as_the_units_need_them(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for program, file in (("systemd-sysusers", "sysusers.d"), ("systemd-tmpfiles", "tmpfiles.d")):
        create = ["--create"] if program == "systemd-tmpfiles" else []
        command = [program, f"--root={tmp_path}", *create, str(UNITS / file / "inspectd.conf")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    users = {line.split(":")[0]: line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines()}
    groups = {line.split(":")[0]: line.split(":") for line in (tmp_path / "etc/group").read_text().splitlines()}
    gid = groups["inspectd"][2]
    assert users["inspectd"][3] == users["inspectd-web"][3] == gid
    assert users["inspectd"][2] != users["inspectd-web"][2]
    # Nobody outside the group may look into the settings, the stores or at the sockets.
    for folder, mode in {
        "run/inspectd": 0o750,
        "var/lib/inspectd": 0o750,
        "etc/inspectd": 0o750,
        "etc/inspectd/recipes": 0o770,
    }.items():
        assert (tmp_path / folder).stat().st_mode & 0o7777 == mode, folder
        assert str((tmp_path / folder).stat().st_gid) == gid, folder
