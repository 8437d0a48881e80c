"""What brings cameras to the drivers: pylon's own transport layers and the makers' GenTL producers.

Both are loaded in a process of their own: one for another machine, or a broken one, ends the process that loads it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from cell.settings import CameraSettings
from daemon.ctl.doctor.machine import Check, Level, Machine

PRODUCERS = "GENICAM_GENTL64_PATH"
_LOAD = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).GCInitLib"
_LAYERS = (
    "from pypylon import pylon; print(*(t.GetDeviceClass() for t in pylon.TlFactory.GetInstance().EnumerateTls()))"
)
_LOAD_S = 20.0
#: Transport layers that a real camera needs one of.
_REAL = {"BaslerGigE", "BaslerUsb"}


def checks(machine: Machine, cameras: tuple[CameraSettings, ...], *, has_pylon: bool) -> list[Check]:
    """Return what is found, whichever drivers the settings name: the other ones may be what is missing."""
    found = [_transport_layers()] if has_pylon else []
    return [*found, *_producers(machine, cameras)]


def _transport_layers() -> Check:
    name, wanted = "pylon transport layers", "GigE or USB"
    mend = f"{sys.executable} -m pip install --force-reinstall pypylon"
    try:
        done = _python(_LAYERS)
    except subprocess.TimeoutExpired:
        return Check(name, Level.WRONG, f"pylon did not load within {_LOAD_S:g} s", wanted, mend)
    layers = done.stdout.split()
    if done.returncode != 0 or not _REAL.intersection(layers):
        return Check(name, Level.WRONG, ", ".join(layers) or _reason(done), wanted, mend)
    return Check(name, Level.OK, ", ".join(layers), wanted)


def _producers(machine: Machine, cameras: tuple[CameraSettings, ...]) -> list[Check]:
    needed = any(camera.driver == "genicam" for camera in cameras)
    named = [file for camera in cameras for file in camera.producers]
    folders = [Path(word) for word in machine.environment.get(PRODUCERS, "").split(os.pathsep) if word]
    files = list(dict.fromkeys([*named, *(file for folder in folders for file in sorted(folder.glob("*.cti")))]))
    if files:
        return [_producer(file, needed) for file in files]
    searched = f"no .cti file; {PRODUCERS} = {os.pathsep.join(map(str, folders)) or 'not set'}"
    if not needed:
        return [Check("GenTL producers", Level.OK, searched, "none: no camera has the driver genicam")]
    mend = f"install the camera maker's GenTL producer, then set camera.producers or {PRODUCERS}"
    return [Check("GenTL producers", Level.WRONG, searched, "at least one", mend)]


def _producer(file: Path, needed: bool) -> Check:
    name, bad = f"producer {file.name}", Level.WRONG if needed else Level.ADVICE
    if not file.is_file():
        return Check(name, bad, f"there is no {file}", "a file", "correct camera.producers in the settings")
    try:
        done = _python(_LOAD, str(file))
    except subprocess.TimeoutExpired:
        return Check(name, bad, f"did not load within {_LOAD_S:g} s", "loads", "install it anew")
    if done.returncode == 0:
        return Check(name, Level.OK, f"loads from {file.parent}", "loads")
    mend = f"ldd {file} | grep 'not found', then install what is missing; or the producer for {os.uname().machine}"
    return Check(name, bad, _reason(done), "loads", mend)


def _python(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=_LOAD_S)


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    told = done.stderr.strip().splitlines()
    return (told[-1] if told else f"ended with {done.returncode}")[:160]
