"""The units under a real systemd: a machine of this system's /usr boots in a container and runs the cell.

Slow: boots systemd and waits for a watchdog. Needs root and systemd-nspawn (`apt-get install systemd-container`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="booting a container needs root"),
    pytest.mark.skipif(
        shutil.which("systemd-nspawn") is None,
        reason="systemd-nspawn is not installed: apt-get install systemd-container",
    ),
]

#: What runs inside once the machine is up. It writes one JSON object of facts to /facts.json and switches off.
CHECK = r"""
import json, os, pwd, shutil, signal, subprocess, threading, time, urllib.request
from cell.errors import InspectdError
from cell.wire.client import Client

def shell(command):
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()

def show(unit, name):
    return shell(f"systemctl show -P {name} {unit}")

def until(condition, seconds=60):
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not condition() and time.monotonic() < deadline:
        pause.wait(0.1)
    return condition()

def as_service(unit, command):
    # In the namespaces and with the user of a running service: what it may do, and no more.
    pid = show(unit, "MainPID")
    user = show(unit, "User")
    drop = f"setpriv --reuid {user} --regid inspectd --clear-groups"
    return shell(f"nsenter --target {pid} --mount {drop} sh -c '{command}'")

facts = {}
line = "inspectd"
facts["line_started"] = shell(f"systemctl start {line}")
facts["line_state"] = show(line, "ActiveState")
try:
    with Client("ipc:///run/inspectd/commands", timeout_s=30) as client:
        client.call("SelectModeAutomatic")
        client.call("PrepareRecipe", {"RecipeId": "plate"})
        facts["verdict"] = client.call("StartSingleJob", {"PartId": "good-000001"})
except InspectdError as error:
    facts["verdict"] = str(error)
pid = int(show(line, "MainPID"))
facts["line_nice"] = os.getpriority(os.PRIO_PROCESS, pid)

trainer = "inspectd-trainer"
facts["started"] = shell(f"systemctl start {trainer}")
facts["state"] = show(trainer, "ActiveState")
facts["socket"] = shell("stat -c %a /run/inspectd/trainer")
facts["owner"] = pwd.getpwuid(os.stat("/var/lib/inspectd/learning.db").st_uid).pw_name
pid = int(show(trainer, "MainPID"))
facts["nice"] = os.getpriority(os.PRIO_PROCESS, pid)
facts["oom"] = open(f"/proc/{pid}/oom_score_adj").read().strip()
facts["capabilities"] = [l.split()[1] for l in open(f"/proc/{pid}/status") if l.startswith(("CapEff", "CapBnd"))]
facts["no_new_privileges"] = next(l.split()[1] for l in open(f"/proc/{pid}/status") if l.startswith("NoNewPrivs"))
facts["write_system"] = as_service(trainer, "touch /etc/inspectd/x /usr/x")
facts["write_state"] = as_service(trainer, "touch /var/lib/inspectd/x && echo written")
facts["see_home"] = as_service(trainer, "ls /root /home")

web = "inspectd-web"
facts["web_started"] = shell(f"systemctl start {web}")
facts["web_state"] = show(web, "ActiveState")
try:
    with urllib.request.urlopen("http://127.0.0.1:8080/jobs", timeout=20) as page:
        facts["page"] = page.read().decode()
except OSError as error:
    facts["page"] = str(error)
facts["web_write"] = as_service(web, "touch /var/lib/inspectd/x /run/inspectd/x /etc/inspectd/recipes/x")
facts["web_keys"] = as_service(web, "ls /var/lib/inspectd/keys")
facts["web_user"] = as_service(web, "id -un; id -gn; cat /var/lib/inspectd/trainer.lock")

# What a job does to fit side by side, under all that the trainer's unit forbids.
unit = open(f"/etc/systemd/system/{trainer}.service").read()
unit = unit.replace("Type=notify", "Type=oneshot").replace("WatchdogSec=60", "")
# The shell waits for multiprocessing's own helper, which ends after its parent.
start = "/bin/sh -c '/opt/inspectd/bin/python /crew.py; sleep 2'"
unit = unit.replace("/opt/inspectd/bin/inspectd-trainer --config /etc/inspectd/inspectd.toml", start)
with open("/etc/systemd/system/crew.service", "w") as stream:
    stream.write(unit + "\n")
shutil.copytree(f"/etc/systemd/system/{trainer}.service.d", "/etc/systemd/system/crew.service.d")
with open("/etc/systemd/system/crew.service.d/here.conf", "a") as stream:
    stream.write("WatchdogSec=0\n")
facts["crew_started"] = shell("systemctl daemon-reload; systemctl start crew")
facts["crew"] = shell("cat /var/lib/inspectd/crew")

# A process that hangs is killed by its watchdog and comes back.
os.kill(pid, signal.SIGSTOP)
facts["watchdog"] = until(lambda: show(trainer, "NRestarts") == "1" and show(trainer, "ActiveState") == "active", 120)
# A wrong setting ends the start for good.
with open("/etc/inspectd/inspectd.toml", "a") as settings:
    settings.write("[colour]\n")
shell(f"systemctl restart {trainer}")
# While a restart is planned the state is "activating": "failed" is for good.
until(lambda: show(trainer, "ActiveState") == "failed")
facts["wrong_setting"] = [show(trainer, "ActiveState"), show(trainer, "ExecMainStatus"), show(trainer, "NRestarts")]
facts["journal"] = shell("journalctl --no-pager -o cat -u crew -u inspectd -u inspectd-trainer -u inspectd-web -n 80")
with open("/facts.json", "w") as stream:
    json.dump(facts, stream)
shell("systemctl exit --force --force")
"""

CREW = """
import os
from trainer.crew import side_by_side

def chore(progress, cancelled):
    return os.getpid()

if __name__ == "__main__":
    found = side_by_side([chore, chore], 2, "work")
    with open("/var/lib/inspectd/crew", "w") as stream:
        stream.write("well" if os.getpid() not in found else str(found))
"""

CHECK_UNIT = """
[Unit]
Description=look at the installed units
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/opt/inspectd/bin/python /check.py
TimeoutStartSec=240
"""

SETTINGS = """
minimum_free_mb = 1
[camera]
driver = "pylon"
[light]
lines = ["az000", "az090", "az180", "az270"]
[emulated]
product = "plate-4"
"""


def build(root: Path) -> None:
    """Lay out a machine: this system's /usr, our units as installed, an environment under /opt."""
    for folder in (
        "etc/systemd/system",
        "var",
        "run",
        "proc",
        "sys",
        "dev",
        "tmp",
        "root",
        "usr",
        "home",
        "opt/python",
    ):
        (root / folder).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    shutil.copy("/usr/lib/os-release", root / "etc/os-release")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    for folder, kind in (("sysusers.d", "conf"), ("tmpfiles.d", "conf"), ("system", "service")):
        target = root / "etc" / ("systemd/system" if folder == "system" else folder)
        target.mkdir(exist_ok=True)
        for file in (ROOT / "systemd" / ("" if folder == "system" else folder)).glob(f"*.{kind}"):
            shutil.copy(file, target)
    # Watchdog and restart as they are, but sooner: nobody waits a minute in a test. The running interpreter looks for
    # its own library where it was built, which the sandbox hides.
    for unit in ("inspectd.service", "inspectd-trainer.service", "inspectd-web.service", "look.service"):
        drop_in = root / f"etc/systemd/system/{unit}.d/here.conf"
        drop_in.parent.mkdir()
        soon = "WatchdogSec=4\nRestartSec=1\n" if unit == "inspectd-trainer.service" else ""
        # pylon shows its emulated camera only when it is asked to.
        drop_in.write_text(f"[Service]\nEnvironment=LD_LIBRARY_PATH=/opt/python/lib PYLON_CAMEMU=1\n{soon}")
    (root / "etc/systemd/system/look.service").write_text(CHECK_UNIT)
    (root / "check.py").write_text(CHECK)
    (root / "crew.py").write_text(CREW)
    # An environment where the units look for it: the running one's libraries under /opt, where the sandbox sees them.
    programs = root / "opt/inspectd/bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(f"/opt/python/bin/{Path(sys.executable).resolve().name}")
    (root / "opt/inspectd/pyvenv.cfg").write_text("home = /opt/python/bin\ninclude-system-site-packages = false\n")
    (root / f"opt/inspectd/lib/{Path(sysconfig.get_path('purelib')).parent.name}/site-packages").mkdir(parents=True)
    modules = {"inspectd": "daemon.main", "inspectd-trainer": "trainer.main", "inspectd-web": "daemon.web.main"}
    for name, module in modules.items():
        program = programs / name
        program.write_text(f"#!/opt/inspectd/bin/python\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
        program.chmod(0o755)


def binds(root: Path) -> list[str]:
    """Return what of this system the machine sees, read-only."""
    packages = Path(sysconfig.get_path("purelib"))
    where = {
        Path("/usr"): "/usr",
        Path(sys.base_prefix): "/opt/python",
        packages: f"/opt/inspectd/lib/{packages.parent.name}/site-packages",
        ROOT: str(ROOT),
    }
    (root / str(ROOT).lstrip("/")).mkdir(parents=True, exist_ok=True)
    return [f"--bind-ro={source}:{target}" for source, target in where.items()]


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("machine") / "root"
    build(root)
    (root / "etc/inspectd").mkdir(mode=0o755)
    (root / "etc/inspectd/inspectd.toml").write_text(SETTINGS)
    (root / "etc/inspectd/recipes").mkdir()
    shutil.copy(ROOT / "config/recipes/plate.json", root / "etc/inspectd/recipes")
    command = [
        "systemd-nspawn",
        "--quiet",
        f"--directory={root}",
        *binds(root),
        "--boot",
        "--register=no",
        "--keep-unit",
        "--console=pipe",
        "--private-network",
        "--machine=inspectd-test",
        "systemd.unit=look.service",
        "systemd.wants=systemd-journald.service",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, stdin=subprocess.DEVNULL)
    assert (root / "facts.json").exists(), done.stdout[-2000:] + done.stderr[-2000:]
    found: dict[str, Any] = json.loads((root / "facts.json").read_text())
    return found


def test_the_daemon_comes_up_and_answers_a_trigger_from_pylon_s_camera(facts: dict[str, Any]) -> None:
    assert (facts["line_started"], facts["line_state"]) == ("", "active"), facts["journal"]
    answer = facts["verdict"]
    assert isinstance(answer, dict), (answer, facts["journal"])
    content = answer["Result"]["ResultContent"]
    # No model is deployed, so the part was photographed and can't be known: FAULT, and never OK.
    assert content["outcome"] == "FAULT"
    assert "model" in content["reasons"][0]
    assert content["frames_digest"], content
    assert facts["line_nice"] == -10


def test_the_trainer_comes_up_and_says_so(facts: dict[str, Any]) -> None:
    assert (facts["started"], facts["state"]) == ("", "active"), facts["journal"]
    assert facts["owner"] == "inspectd"
    # The group may talk to it, nobody else.
    assert facts["socket"] == "660"


def test_it_gives_way_to_the_line(facts: dict[str, Any]) -> None:
    assert (facts["nice"], facts["oom"]) == (19, "900")


def test_it_is_locked_in(facts: dict[str, Any]) -> None:
    assert set(facts["capabilities"]) == {"0000000000000000"}
    assert facts["no_new_privileges"] == "1"
    assert facts["write_system"].count("Read-only file system") == 2
    assert facts["write_state"] == "written"
    assert "opt" not in facts["see_home"]
    assert facts["see_home"].count("denied") == 2


def test_fits_run_side_by_side_under_all_that_the_unit_forbids(facts: dict[str, Any]) -> None:
    assert (facts["crew_started"], facts["crew"]) == ("", "well"), facts["journal"]


def test_the_pages_are_served_by_a_user_who_can_write_nothing(facts: dict[str, Any]) -> None:
    assert (facts["web_started"], facts["web_state"]) == ("", "active"), facts["journal"]
    assert "<html" in facts["page"].lower()
    user, group, lock = facts["web_user"].splitlines()
    assert (user, group) == ("inspectd-web", "inspectd")
    assert lock.isdecimal()
    assert facts["web_write"].count("cannot touch") == 3
    assert "denied" in facts["web_keys"]


def test_a_hanging_service_is_killed_and_comes_back(facts: dict[str, Any]) -> None:
    assert facts["watchdog"], facts["journal"]


def test_a_wrong_setting_is_told_once_and_not_tried_again(facts: dict[str, Any]) -> None:
    state, status, restarts = facts["wrong_setting"]
    assert (state, status) == ("failed", "78")
    assert restarts == "0"
    assert "colour" in facts["journal"]
