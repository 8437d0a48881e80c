"""Where files lie under the cell's state directory, who owns it, and how much room is left.

``docs/data-layout.md`` draws the picture.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from cell.errors import DiskFull, StoreError, StoreInUse
from cell.recipes import Name
from cell.store.files import disk_errors, make_folder, remove, sweep

_MIB = 1 << 20
#: What is given up on a full disk, so that rows can still be written, MiB.
BALLAST_MB = 16


@dataclass(frozen=True, slots=True)
class StateDir:
    """The paths of one cell. Make it with :meth:`create`, which makes the folders too."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> StateDir:
        """Make what is missing of the folders (``keys`` for the owner alone). Raises `StoreError` or `DiskFull`."""
        state = cls(root.absolute())
        folders = (state.archive, state.backgrounds, state.seeds, state.candidates, state.models, state.calibrations)
        for folder in (*folders, state.adapters):
            with disk_errors(folder):
                make_folder(folder)
        with disk_errors(state.keys):
            make_folder(state.keys, mode=0o700)
            state.keys.chmod(0o700)
        return state

    def sweep(self) -> int:
        """Remove temporary files that killed processes left; return how many. The daemon calls it at its start."""
        return sweep(self.root)

    @property
    def line_db(self) -> Path:
        """The line's database: requests, verdicts, events."""
        return self.root / "line.db"

    @property
    def learning_db(self) -> Path:
        """The learning database: real images, candidates, decisions, jobs, models."""
        return self.root / "learning.db"

    @property
    def archive(self) -> Path:
        """Frame sets of inspected parts, a folder a day."""
        return self.root / "archive"

    @property
    def backgrounds(self) -> Path:
        """Good parts."""
        return self.root / "backgrounds"

    @property
    def seeds(self) -> Path:
        """Real defects and their masks."""
        return self.root / "seeds"

    @property
    def candidates(self) -> Path:
        """Synthetic defects and their masks."""
        return self.root / "candidates"

    @property
    def models(self) -> Path:
        """Model packages, a folder each, named by the digest of the ONNX file."""
        return self.root / "models"

    @property
    def calibrations(self) -> Path:
        """Pictures and curves of calibrations; the figures stand in the database."""
        return self.root / "calibrations"

    @property
    def adapters(self) -> Path:
        """Generator adapters, a file per recipe and defect class."""
        return self.root / "adapters"

    @property
    def keys(self) -> Path:
        """The gate's key and head; readable for the owner alone."""
        return self.root / "keys"

    def archive_path(self, recipe_id: Name, job_id: str, at: datetime) -> Path:
        """Return where the frame set of a job is archived: ``archive/YYYYMMDD/<recipe>-<job>.tif``."""
        return self.archive / f"{at:%Y%m%d}" / f"{recipe_id}-{job_id}.tif"

    def model_folder(self, onnx_digest: str) -> Path:
        """Return the folder of a model package."""
        return self.models / onnx_digest

    def adapter_path(self, recipe_id: Name, defect_class: Name) -> Path:
        """Return the adapter file of a defect class."""
        return self.adapters / recipe_id / f"{defect_class}.safetensors"

    def resolve(self, relative: str) -> Path:
        """Return the absolute path of a stored relative one. Raises `StoreError` when it leaves the root."""
        path = (self.root / relative).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise StoreError(f"the stored path {relative!r} leads out of {self.root}; the database was edited")
        return path

    def relative(self, path: Path) -> str:
        """Return `path` as it is stored. Raises `StoreError` when it does not lie under the root."""
        try:
            return path.absolute().relative_to(self.root).as_posix()
        except ValueError as error:
            raise StoreError(f"{path} does not lie under {self.root}; keep what the store names there") from error

    def lock(self, owner: str = "daemon") -> StateLock:
        """Take the exclusive lock of `owner` (a service). Raises `StoreInUse` naming the process that holds it."""
        return StateLock(self.root / f"{owner}.lock", owner)

    def free_mb(self) -> float:
        """Return the room left for this user, in MiB."""
        with disk_errors(self.root):
            return shutil.disk_usage(self.root).free / _MIB

    def require_free(self, minimum_mb: float) -> None:
        """Raise `DiskFull` when less than `minimum_mb` MiB are free."""
        free = self.free_mb()
        if free < minimum_mb:
            raise DiskFull(
                f"{free:.0f} MiB are free in {self.root}, at least {minimum_mb:.0f} are needed; "
                "free space on that disk or lower minimum_free_mb"
            )

    @property
    def _ballast(self) -> Path:
        return self.root / "ballast"

    @property
    def has_ballast(self) -> bool:
        """Tell whether the ballast is there."""
        return self._ballast.exists()

    def ensure_ballast(self, megabytes: int = BALLAST_MB) -> None:
        """Keep a file of that size that can be given up when the disk is full.

        On a full disk SQLite can't even commit a deletion. Raises `DiskFull` when there is no room for it.
        """
        size = megabytes * _MIB
        if self._ballast.exists() and self._ballast.stat().st_size >= size:
            return
        try:
            with disk_errors(self._ballast), self._ballast.open("wb") as stream:
                os.posix_fallocate(stream.fileno(), 0, size)
                os.fsync(stream.fileno())
        except DiskFull:
            remove((self._ballast,))
            raise

    def release_ballast(self) -> bool:
        """Remove the ballast so that deletions can commit; tell whether there was one. Raises `StoreError`."""
        there = self._ballast.exists()
        remove((self._ballast,))
        return there


class StateLock:
    """An exclusive lock on the state directory; the system gives it back however the process ends."""

    def __init__(self, path: Path, owner: str) -> None:
        self._path = path
        with disk_errors(path):
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _note_pid(self._descriptor)
        except OSError as error:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            self.release()
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise StoreInUse(
                    f"another {owner} (pid {holder}) owns {path.parent}; stop it or choose another state_dir"
                ) from error
            with disk_errors(path):
                raise

    def release(self) -> None:
        """Give the lock back; calling it again does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _note_pid(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    try:
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        # The lock is held all the same, and who holds it must be able to start on a full disk and make room there.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
