"""What the checks look at: a tree with proc, sys and dev in it, the environment, and the kernel's clock state.

The tree's root is a parameter, so that the checks can be held against machines that are not here. Nothing needs root.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

#: The account that the daemon runs under where it is installed as a service.
SERVICE = "inspectd"
#: What adjtimex(2) returns while nothing has set the clock.
_TIME_ERROR = 5
_TIMEX_BYTES = 1024  # larger than struct timex on any architecture


class Level(StrEnum):
    """How a check ended. Only `WRONG` makes the whole of it fail."""

    OK = "ok"
    ADVICE = "advice"  # costs speed or safety, or will matter once such a camera is connected
    WRONG = "WRONG"  # frames get lost, or no camera is found
    UNKNOWN = "unknown"  # this machine does not tell


@dataclass(frozen=True, slots=True)
class Check:
    """One row: what was looked at, found, wanted, and the command (or step) that mends it, empty when nothing is."""

    name: str
    level: Level
    found: str
    wanted: str = ""
    mend: str = ""


@dataclass(frozen=True)
class Machine:
    """One machine. `account` is who must be able to open the cameras."""

    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    account: str = ""
    #: Whether the kernel's clock is disciplined; None: ask the kernel.
    synchronised: bool | None = None
    #: Highest real-time priority that may be set; None: ask the kernel for this process's.
    priority: int | None = None

    def text(self, path: str) -> str | None:
        """Return a file's text without outer space, None when it can't be read."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None

    def number(self, path: str) -> int | None:
        """Return the number that a file holds, None when it holds none."""
        text = self.text(path)
        try:
            return int(text) if text is not None else None
        except ValueError:
            return None

    def entries(self, path: str) -> list[Path]:
        """Return what a folder holds, by name; nothing when there is no such folder."""
        try:
            return sorted((self.root / path).iterdir())
        except OSError:
            return []

    def inside(self, path: Path) -> str:
        """Return a path as it is called on that machine."""
        return str(path.relative_to(self.root))

    def user(self) -> tuple[str, int, frozenset[int]]:
        """Return name, user id and groups of the account that opens the cameras: the service's, else one's own."""
        for name in (self.account, SERVICE):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return name, entry.pw_uid, frozenset(os.getgrouplist(name, entry.pw_gid))
        uid = os.getuid()
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = str(uid)
        return name, uid, frozenset({os.getgid(), *os.getgroups()})

    def may_write(self, path: Path) -> tuple[bool, str]:
        """Tell whether the account may write to a node, and the node's mode and owners in words."""
        status = path.stat()
        _, uid, groups = self.user()
        mode = status.st_mode
        allowed = bool(mode & 0o002)
        if uid == status.st_uid:
            allowed = bool(mode & 0o200)
        elif status.st_gid in groups:
            allowed = bool(mode & 0o020)
        return allowed or uid == 0, f"{mode & 0o777:04o} {_user(status.st_uid)}:{_group(status.st_gid)}"

    def priority_limit(self) -> int:
        """Return the highest real-time priority that this account may set, 0 for none, 99 for any."""
        if self.priority is not None:
            return self.priority
        soft, _ = resource.getrlimit(resource.RLIMIT_RTPRIO)
        return 99 if soft == resource.RLIM_INFINITY or os.geteuid() == 0 else soft

    def clock_is_set(self) -> bool | None:
        """Tell whether something keeps the clock, as the kernel sees it; None when it does not say."""
        if self.synchronised is not None:
            return self.synchronised
        try:
            # With no mode bits set adjtimex changes nothing, and anyone may ask.
            state = int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
        except (OSError, AttributeError):
            return None
        return None if state < 0 else state != _TIME_ERROR


def sysctl(name: str, value: int | str) -> str:
    """Return the command that sets a kernel parameter now and for good."""
    return f"echo '{name}={value}' | sudo tee -a /etc/sysctl.d/90-cameras.conf && sudo sysctl --system"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
