"""Series of a still scene on disk, below ``calibrations/<recipe>/``: what a calibration is measured from.

A folder for each kind holds frame sets as TIFF stacks with the recipe's channels. A new series is written aside and put
in place when it is whole and serves, so that what was taken before stays valid until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cell.calibration import SeriesKind
from cell.frames import StoredStack
from cell.store.files import disk_errors, make_folder, remove
from cell.store.images import write_stack

_ASIDE = "taking"


def there_are(folder: Path) -> bool:
    """Tell whether any series lies in a recipe's folder."""
    return any(next((folder / kind).glob("*.tif"), None) is not None for kind in SeriesKind)


def listed(folder: Path) -> dict[str, dict[str, Any]]:
    """Return for each kind of series how many frame sets there are, and when the newest was taken."""
    found = {}
    for kind in SeriesKind:
        files = sorted((folder / kind).glob("*.tif"))
        if files:
            newest = max(file.stat().st_mtime for file in files)
            found[kind.value] = {"frame_sets": len(files), "taken_at": datetime.fromtimestamp(newest, UTC).isoformat()}
    return found


class NewSeries:
    """A series that is being taken. :meth:`keep` puts it in place, :meth:`drop` forgets it."""

    def __init__(self, folder: Path, kind: SeriesKind, started: datetime) -> None:
        """Make room for it. Raises `StoreError`, `DiskFull`."""
        self._folder = folder / kind
        self._aside = self._folder / _ASIDE
        self._stem = f"{started:%Y%m%dT%H%M%S%f}"
        self._count = 0
        with disk_errors(self._aside):
            make_folder(self._aside)
        self.drop()

    def add(self, stack: StoredStack) -> None:
        """Write one frame set. Raises `StoreError`, `DiskFull`, `DataError`."""
        write_stack(self._aside / f"{self._stem}-{self._count:04d}.tif", stack)
        self._count += 1

    def keep(self, *, beside: bool = False) -> Sequence[Path]:
        """Put the series in place of the one before, or beside it; return its files."""
        before = () if beside else tuple(self._folder.glob("*.tif"))
        remove(before)
        kept = []
        with disk_errors(self._folder):
            for file in sorted(self._aside.glob("*.tif")):
                place = self._folder / file.name
                file.replace(place)
                kept.append(place)
        return kept

    def drop(self) -> None:
        """Forget what was taken so far."""
        remove(tuple(self._aside.glob("*.tif")))
