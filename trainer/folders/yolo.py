"""YOLO: a text file a picture, ``class cx cy w h`` (boxes) or ``class x1 y1 x2 y2 ...`` (outlines), shares of its size.

Ultralytics' tree (``data.yaml``, ``images/<subset>``, ``labels/<subset>``) and darknet's (``obj.names``,
``obj_<subset>_data``); also what Label Studio exports (``classes.txt``, ``images``, ``labels``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cell.defects import Mask
from cell.errors import DataError
from trainer.folders.base import Entry, Listing, Region, pictures_in, read_text
from trainer.folders.shapes import Box, Points, Polygons

_SUBSETS = ("train", "val", "valid", "test")


@dataclass(frozen=True, slots=True)
class Shares:
    """A box or an outline in shares of its picture's size, which is known when the picture is opened."""

    values: tuple[float, ...]

    @property
    def rough(self) -> bool:
        """Boxes outline a defect roughly."""
        return len(self.values) == 4

    def mask(self, shape: tuple[int, int]) -> Mask:
        """Return its pixels. Raises `DataError` as the shapes in pixels do."""
        height, width = shape
        if self.rough:
            x, y, wide, tall = self.values
            return Box(x * width, y * height, wide * width, tall * height).mask(shape)
        points: Points = tuple(
            (x * width, y * height) for x, y in zip(self.values[::2], self.values[1::2], strict=True)
        )
        return Polygons((points,)).mask(shape)


def is_yolo(root: Path) -> bool:
    """Tell whether a folder is laid out for YOLO."""
    names = ("data.yaml", "data.yml", "dataset.yaml", "obj.names", "classes.txt")
    return any((root / name).is_file() for name in names)


def read_yolo(root: Path) -> Listing:
    """Read YOLO's labels. Raises `DataError` when the classes have no names."""
    listing = Listing("yolo")
    names = _names(root)
    seen: set[Path] = set()
    for folder, labels, subset in _folders(root):
        for picture in pictures_in(folder):
            label = labels / f"{picture.stem}.txt"
            seen.add(label)
            if not label.is_file():
                listing.misfit(picture, "it has no label file; an empty one says that it is good")
                continue
            try:
                regions = tuple(_region(line, names) for line in read_text(label).splitlines() if line.strip())
            except DataError as error:
                listing.misfit(label, str(error))
            else:
                listing.entries.append(Entry(picture, regions, subset))
        for label in sorted(labels.glob("*.txt")) if labels.is_dir() else ():
            if label not in seen and label.name not in ("classes.txt", "train.txt", "val.txt", "test.txt"):
                seen.add(label)
                listing.misfit(label, "labels without their picture")
    return listing


def _folders(root: Path) -> list[tuple[Path, Path, str]]:
    """Return (pictures, labels, subset) of each place where pictures lie."""
    found = []
    for subset in _SUBSETS:
        name = "val" if subset == "valid" else subset
        found += [
            (root / "images" / subset, root / "labels" / subset, name),
            (root / subset / "images", root / subset / "labels", name),
            (root / f"obj_{subset}_data", root / f"obj_{subset}_data", name),
        ]
    found.append((root / "images", root / "labels", ""))
    return [place for place in found if place[0].is_dir()]


def _region(line: str, names: dict[int, str]) -> Region:
    words = line.split()
    try:
        number, values = int(words[0]), tuple(float(word) for word in words[1:])
    except (ValueError, IndexError) as error:
        raise DataError(f"the line {line[:60]!r} is not class and numbers; export it again") from error
    if number not in names:
        raise DataError(f"the line {line[:60]!r} is of class {number}, which has no name")
    if len(values) < 4 or len(values) % 2 or len(values) == 5:
        raise DataError(f"the line {line[:60]!r} has {len(values)} numbers; a box has 4, an outline 6 or more")
    if not all(-0.001 <= value <= 1.001 for value in values):
        raise DataError(f"the line {line[:60]!r} leaves the picture: values are shares of its size")
    return Region(names[number], Shares(values))


def _names(root: Path) -> dict[int, str]:
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (root / name).is_file():
            return _of_yaml(root / name)
    for name in ("obj.names", "classes.txt"):
        if (root / name).is_file():
            lines = [line.strip() for line in read_text(root / name).splitlines()]
            return dict(enumerate(line for line in lines if line))
    raise DataError(f"{root} has neither data.yaml, obj.names nor classes.txt, so its classes have no names")


def _of_yaml(file: Path) -> dict[int, str]:
    try:
        document: Any = yaml.safe_load(read_text(file))
        names = document["names"]
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        return {int(number): str(name) for number, name in pairs}
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} gives the classes no names; it needs `names`") from error
