"""What every layout of labelled pictures is read into: entries that fit, and sentences about what does not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cell.errors import DataError
from cell.imaging.folders import PICTURES, Misfit
from trainer.folders.shapes import Shape

#: Largest label file that is read, bytes.
_MOST_BYTES = 1 << 29


@dataclass(frozen=True, slots=True)
class Region:
    """One labelled defect: its class as the folder names it, and its outline."""

    label: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture and all that its folder says of it. Without regions it shows a good part."""

    picture: Path
    regions: tuple[Region, ...] = ()
    subset: str = ""  # train, val, test, ... where the layout has such
    #: (height, width) as the labels state it, None where they don't.
    size: tuple[int, int] | None = None
    part: str = ""
    lot: str = ""


@dataclass(slots=True)
class Listing:
    """What a folder holds, as its labels say; pictures are not opened yet."""

    layout: str
    entries: list[Entry] = field(default_factory=list)
    misfits: list[Misfit] = field(default_factory=list)

    def misfit(self, path: Path, reason: str) -> None:
        """Note what does not fit."""
        self.misfits.append(Misfit(path, reason))


def read_text(path: Path) -> str:
    """Return a label file's text. Raises `DataError` when it can't be read, is too large or not UTF-8."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path} has more than {_MOST_BYTES >> 20} MiB; split the data set")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror}; check that the trainer may read it") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; save it so") from error


def read_json(path: Path) -> Any:
    """Return a JSON document. Raises `DataError`."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({' '.join(str(error).split())[:80]}); export it again") from error


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures directly in a folder, by name; none when there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if is_picture(file))


def is_picture(file: Path) -> bool:
    """Tell whether a file is called like a picture."""
    return file.suffix.lower() in PICTURES and not file.name.startswith(".") and file.is_file()


def inside(root: Path, name: str, folders: Iterable[Path]) -> Path | None:
    """Return the picture that a label file names, looked for in `folders` and below `root`; None when there is none.

    A name that leads out of `root` is taken by its last part alone.
    """
    relative = Path(name.replace("\\", "/"))
    tries = [folder / relative for folder in folders] + [folder / relative.name for folder in folders]
    for candidate in (*tries, root / relative, root / relative.name):
        if candidate.is_file() and candidate.resolve().is_relative_to(root.resolve()):
            return candidate
    return None
