"""The host: libraries, GenTL producers, memory for frames, processor and clock."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path

from cell.recipes import Recipe
from cell.settings import CameraSettings, Settings
from daemon.ctl.doctor import permissions, producers
from daemon.ctl.doctor.machine import Check, Level, Machine

#: What each driver needs, and what is wanted of it at least.
_LIBRARIES = {"pylon": ("pypylon",), "genicam": ("harvesters", "genicam"), "simulated": ()}
#: Parts whose frames must find room at the same time: taken, judged, written, kept.
_PARTS = 4
_MB = 1 << 20


def checks(
    machine: Machine, settings: Settings, version: Callable[[str], str] = importlib.metadata.version
) -> list[Check]:
    """Return the checks of the host. `version` raises `PackageNotFoundError` for what is not installed."""
    cameras = (settings.camera, *settings.cameras.values())
    found = [check for library in _needed(cameras) for check in [_library(library, version)]]
    has_pylon = any(check.name == "pypylon" and check.level is Level.OK for check in found)
    found += producers.checks(machine, cameras, has_pylon=has_pylon)
    own = [permissions.priority(machine), _memory(machine, settings), _governor(machine), _clock(machine)]
    return [*found, *own]


def _needed(cameras: tuple[CameraSettings, ...]) -> list[str]:
    return list(dict.fromkeys(library for camera in cameras for library in _LIBRARIES[camera.driver]))


def _library(name: str, version: Callable[[str], str]) -> Check:
    try:
        return Check(name, Level.OK, version(name), "installed")
    except importlib.metadata.PackageNotFoundError:
        return Check(name, Level.WRONG, "not installed", "installed", f"{sys.executable} -m pip install {name}")


def _memory(machine: Machine, settings: Settings) -> Check:
    """Frames of a camera in its own process lie in memory without a name: it is not in /dev/shm."""
    lines = (machine.text("proc/meminfo") or "").splitlines()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    available = facts.get("MemAvailable", "").split()
    if not available:
        return Check(
            "memory for frames",
            Level.UNKNOWN,
            "proc/meminfo does not tell",
            "it tells",
            "run this on the machine itself",
        )
    wanted = _PARTS * max((_frames_bytes(file) for file in settings.recipes_dir.glob("*.json")), default=0)
    free = int(available[0]) * 1024
    enough = free > wanted
    largest = f"{wanted // _MB} MB for {_PARTS} parts of the largest recipe"
    text = largest if wanted else f"room for {_PARTS} parts; there is no recipe yet"
    mend = "" if enough else "more memory, fewer channels, or a smaller region in the recipe"
    return Check("memory for frames", Level.OK if enough else Level.WRONG, f"{free // _MB} MB available", text, mend)


def _frames_bytes(file: Path) -> int:
    try:
        recipe = Recipe.model_validate_json(file.read_bytes())
    except (OSError, ValueError):
        return 0  # `inspectctl selftest` says what is wrong with it
    return recipe.height * recipe.width * (1 if recipe.bit_depth <= 8 else 2) * len(recipe.channels)


def _governor(machine: Machine) -> Check:
    found: dict[str, int] = {}
    for folder in machine.entries("sys/devices/system/cpu"):
        governor = machine.text(f"{machine.inside(folder)}/cpufreq/scaling_governor")
        if governor:
            found[governor] = found.get(governor, 0) + 1
    if not found:
        return Check(
            "processor governor", Level.UNKNOWN, "this machine does not scale its clock, or does not say", "performance"
        )
    steady = set(found) == {"performance"}
    told = ", ".join(f"{count} x {name}" for name, count in sorted(found.items()))
    mend = "" if steady else "sudo cpupower frequency-set -g performance (on a Jetson: sudo jetson_clocks)"
    return Check("processor governor", Level.OK if steady else Level.ADVICE, told, "performance", mend)


def _clock(machine: Machine) -> Check:
    kept = machine.clock_is_set()
    if kept is None:
        return Check(
            "clock", Level.UNKNOWN, "the kernel does not say", "synchronised", "timedatectl status, or chronyc tracking"
        )
    told = "synchronised" if kept else "not synchronised: times in results and pictures may be wrong"
    mend = "" if kept else "sudo timedatectl set-ntp true, or chrony with the plant's time server"
    return Check("clock", Level.OK if kept else Level.ADVICE, told, "synchronised", mend)
