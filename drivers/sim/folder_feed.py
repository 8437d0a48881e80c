"""How a picture gets in front of pylon's emulated camera: as the next file of a folder.

The emulator reads one file a trigger, in name order, round and round, and reads ahead by nothing when the folder holds
two files or more; a single file is read once and kept (measured, docs/notes/emulated-camera.md). So two files of the
same content are exchanged before each trigger, and what comes back is compared with what was put there.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from cell.frames import Pixels

_NAMES = ("a.bmp", "b.bmp")


class FolderFeed:
    """A folder of two pictures in memory-backed storage where there is some."""

    def __init__(self) -> None:
        shared = Path("/dev/shm")  # noqa: S108 (a private folder is made inside)
        self._root = Path(tempfile.mkdtemp(prefix="inspectd-feed-", dir=shared if shared.is_dir() else None))
        self.folder = self._root / "pictures"
        self.folder.mkdir()

    def put(self, pixels: Pixels) -> None:
        """Let the emulator's next trigger see `pixels`, (H, W) uint8."""
        image = Image.fromarray(np.ascontiguousarray(pixels))
        for name in _NAMES:
            image.save(self._root / name, format="BMP")
            (self._root / name).replace(self.folder / name)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._root, ignore_errors=True)
