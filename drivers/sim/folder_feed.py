"""How a picture gets in front of pylon's emulated camera: as the next file of a folder.

The emulator reads one file a trigger, in name order, round and round, and reads nothing ahead; but a file that has the
name of the one before is not read again (measured, docs/notes/emulated-camera.md). So the folder holds two names of one
file, which is replaced before each trigger, and what comes back is compared with what was put there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from cell.errors import CameraError
from cell.frames import Pixels

_NAMES = ("a", "b")
_PREFIX = "inspectd-feed-"
_FRESH_S = 2.0


class FolderFeed:
    """A folder of two pictures in memory-backed storage where there is some.

    :param bit_depth: of the pictures; above 8 they are files of 16 bits, of which the emulator takes the highest ones.
    """

    def __init__(self, bit_depth: int = 8) -> None:
        self.bit_depth = bit_depth
        suffix = ".bmp" if bit_depth <= 8 else ".tif"
        shared = Path("/dev/shm")  # noqa: S108 (a private folder is made inside)
        home = shared if shared.is_dir() else Path(tempfile.gettempdir())
        _sweep(home)
        self._root = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home))
        # Held as long as this process lives, however it ends: what nobody holds is an orphan.
        self._hold = os.open(self._root, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._hold, fcntl.LOCK_EX)
        self.folder = self._root / "pictures"
        self.folder.mkdir()
        self._now = self._root / f"now{suffix}"
        for name in _NAMES:
            (self.folder / f"{name}{suffix}").symlink_to(self._now)

    def put(self, pixels: Pixels) -> None:
        """Let the emulator's next trigger see `pixels`, (H, W) of the bit depth. Raises `CameraError`."""
        wanted = np.uint8 if self.bit_depth <= 8 else np.uint16
        if pixels.dtype != wanted:
            raise CameraError(
                f"pylon's emulator was fed {pixels.dtype} pictures where {self.bit_depth} bit need {np.dtype(wanted)}; "
                "correct the recipe's bit_depth"
            )
        next_file = self._root / f"next{self._now.suffix}"
        try:
            if self.bit_depth <= 8:
                Image.fromarray(np.ascontiguousarray(pixels)).save(next_file, format="BMP")
            else:
                tifffile.imwrite(next_file, np.left_shift(pixels, 16 - self.bit_depth))
            next_file.replace(self._now)
        except OSError as error:
            raise CameraError(f"can't write the emulated picture {next_file}: {error.strerror}; free memory") from error

    def close(self) -> None:
        """Remove the folder. May be called again."""
        shutil.rmtree(self._root, ignore_errors=True)
        if self._hold >= 0:
            os.close(self._hold)
            self._hold = -1


def _sweep(home: Path) -> None:
    """Remove the folders of processes that were killed."""
    for folder in home.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or gone by now
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # One that was made this instant may not be held yet.
                if time.time() - folder.stat().st_mtime > _FRESH_S:
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
