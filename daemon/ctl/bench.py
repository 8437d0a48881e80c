"""How ``inspectctl camera`` and ``light`` get at the hardware: through the daemon when one runs, else directly.

The cameras are the daemon's as long as it lives; it answers between two parts and refuses while a run is on. Without a
daemon this program opens them itself, for as long as the command takes.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from cell.errors import PeerTimeout, StateError, StoreError
from cell.store.files import disk_errors
from daemon.ctl.session import Session

Facts = dict[str, Any]

#: Whoever listens answers a ping at once.
_KNOCK_S = 1.0
#: Taking waits for the line, the camera's time-outs and its set-up.
_TAKE_S = 60.0


class Bench(Protocol):
    """What both ways offer; answers are those of the commands ``inspectd.camera.*`` and ``inspectd.light.*``."""

    #: Whether the daemon stands between.
    through_daemon: bool

    def cameras(self) -> list[Facts]:
        """Return who the cameras are."""

    def info(self, camera: str) -> Facts:
        """Return a camera's features."""

    def take(self, asked: Facts, folder: Path | None = None) -> Facts:
        """Take frames; what `save` keeps of them is written to the folder, and `paths` says under which names."""

    def lights(self) -> Facts:
        """Return the light's lines."""

    def shine(self, lights: dict[str, float]) -> Facts:
        """Switch lines on and all others off."""


class ThroughDaemon:
    """The daemon's commands."""

    through_daemon = True

    def __init__(self, session: Session) -> None:
        self._session = session

    def cameras(self) -> list[Facts]:
        """See `Bench`."""
        found: list[Facts] = self._session.daemon("inspectd.cameras", {}, _TAKE_S)["cameras"]
        return found

    def info(self, camera: str) -> Facts:
        """See `Bench`."""
        return self._session.daemon("inspectd.camera.info", {"camera": camera}, _TAKE_S)

    def take(self, asked: Facts, folder: Path | None = None) -> Facts:
        """See `Bench`. The daemon writes below its state directory; from there the pictures are copied."""
        taken = self._session.daemon("inspectd.camera.take", asked, _TAKE_S)
        if folder is not None:
            root = self._session.settings.state_dir
            taken["paths"] = [str(_copied(root / path, folder)) for path in taken["paths"]]
        return taken

    def lights(self) -> Facts:
        """See `Bench`."""
        return self._session.daemon("inspectd.lights", {}, _TAKE_S)

    def shine(self, lights: dict[str, float]) -> Facts:
        """See `Bench`."""
        return self._session.daemon("inspectd.light.shine", {"lights": lights}, _TAKE_S)


@contextlib.contextmanager
def opened(session: Session) -> Iterator[Bench]:
    """Give the daemon's hardware, or this program's own when no daemon answers.

    Raises `StoreInUse` when a daemon has the cell and does not answer, and what opening the devices raises.
    """
    if daemon_answers(session):
        yield ThroughDaemon(session)
        return
    # Not above: commands that only speak to the daemon must not wait for drivers and renderer to load.
    from daemon.ctl import direct

    with direct.opened(session.settings) as bench:
        yield bench


def daemon_answers(session: Session) -> bool:
    """Tell whether a daemon runs on this cell."""
    address = session.settings.wire.commands
    if address.startswith("ipc://") and not Path(address.removeprefix("ipc://")).exists():
        return False  # nobody ever listened: no need to wait for an answer
    try:
        session.daemon("inspectd.ping", patience_s=_KNOCK_S)
    except PeerTimeout:
        return False
    return True


def require_no_daemon(session: Session, what: str) -> None:
    """Raise `StateError` when a daemon runs: `what` needs the device for itself."""
    if daemon_answers(session):
        raise StateError(f"{what} needs the device for itself; sudo systemctl stop inspectd first")


def _copied(source: Path, folder: Path) -> Path:
    target = folder / source.name
    with disk_errors(target):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(source, target)
        except PermissionError as error:
            raise StoreError(f"can't read {source}; are you in the group inspectd?") from error
    return target
