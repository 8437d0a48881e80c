"""Where files lie under the cell's state directory, who owns it, and how much room is left.

See ``docs/data-layout.md`` for the picture.
"""

# mypy: ignore-errors
from __future__ import annotations
from datetime import datetime

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StateDir:
    """The paths of one cell. Make it with :meth:`create`, which makes the folders too (``keys`` with mode 0700)."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> StateDir: ...
    @property
    def line_db(self) -> Path: ...
    @property
    def learning_db(self) -> Path: ...
    @property
    def archive(self) -> Path: ...
    @property
    def backgrounds(self) -> Path: ...
    @property
    def seeds(self) -> Path: ...
    @property
    def candidates(self) -> Path: ...
    @property
    def models(self) -> Path: ...
    @property
    def calibrations(self) -> Path: ...
    @property
    def adapters(self) -> Path: ...
    @property
    def keys(self) -> Path: ...
    def archive_path(self, recipe_id: str, job_id: str, at: datetime) -> Path:
        """archive/YYYYMMDD/<recipe>-<job>.tif."""
    def model_folder(self, onnx_digest: str) -> Path: ...
    def adapter_path(self, recipe_id: str, defect_class: str) -> Path: ...
    def resolve(self, relative: str) -> Path:
        """Absolute path of a stored relative one. Raises `StoreError` when it leaves the root."""
    def relative(self, path: Path) -> str: ...
    def lock(self, owner: str = "daemon") -> StateLock:
        """Take the exclusive lock. Raises `StoreInUse` naming the pid that holds it."""
    def free_mb(self) -> float: ...
    def require_free(self, minimum_mb: int) -> None:
        """Raise `DiskFull` when less is free."""
    def ensure_ballast(self, megabytes: int = 16) -> None:
        """Keep a file of that size that can be given up when the disk is full."""
    def release_ballast(self) -> bool:
        """Remove the ballast so that deletions can commit; tell whether there was one."""


class StateLock:
    """A held lock; `release()` or use as context manager."""

    def release(self) -> None: ...
