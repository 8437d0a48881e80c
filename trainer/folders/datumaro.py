"""Datumaro: its own JSON data sets (``annotations/*.json`` beside ``images``), and projects, whose sources are folders.

A project has ``.datumaro`` in it; each source is a folder below it in a layout of its own, which is read as such
(https://open-edge-platform.github.io/datumaro, formats "datumaro" and "project").
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cell.errors import DataError
from trainer.folders.base import Entry, Listing, Region, inside, read_json
from trainer.folders.shapes import Box, Decoded, Ellipse, Polygons, Shape, coco_run_lengths

#: Marks that say nothing about where a defect is.
_IGNORED = frozenset({"caption"})


def documents(root: Path) -> list[Path]:
    """Return the JSON documents of a data set in datumaro's own format."""
    return [file for file in sorted((root / "annotations").glob("*.json")) if _is_datumaro(file)]


def is_project(root: Path) -> bool:
    """Tell whether a folder is a datumaro project."""
    return (root / ".datumaro").is_dir()


def sources(root: Path) -> list[Path]:
    """Return the folders of a project's sources."""
    return sorted(
        entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".") and any(entry.iterdir())
    )


def read_datumaro(root: Path) -> Listing:
    """Read every document; each is a subset by its name."""
    listing = Listing("datumaro")
    for file in documents(root):
        _read(root, file, listing)
    return listing


def _is_datumaro(file: Path) -> bool:
    try:
        document = read_json(file)
    except DataError:
        return False
    return isinstance(document, dict) and "items" in document and "categories" in document


def _read(root: Path, file: Path, listing: Listing) -> None:
    document = read_json(file)
    try:
        labels = [str(label["name"]) for label in document["categories"].get("label", {}).get("labels", [])]
        items = list(document["items"])
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{file} is not a whole datumaro document ({error}); export it again") from error
    subset = "" if file.stem == "default" else file.stem
    places = [root / "images" / file.stem, root / "images", root]
    for item in items:
        name = str(item.get("id", ""))
        picture = _picture(root, item, places)
        if picture is None:
            listing.misfit(root / (name or "an item without id"), f"{file.name} names it, but it is not there")
            continue
        try:
            marks = [mark for mark in item.get("annotations") or () if mark.get("type") not in _IGNORED]
            regions = _regions(marks, labels)
        except (DataError, KeyError, TypeError, ValueError, IndexError) as error:
            why = str(error) if isinstance(error, DataError) else f"a mark of it can't be read ({error})"
            listing.misfit(picture, why)
            continue
        attributes = item.get("attr") or {}
        entry = Entry(
            picture, regions, subset, _size(item), str(attributes.get("part", "")), str(attributes.get("lot", ""))
        )
        listing.entries.append(entry)


def _regions(marks: list[dict[str, Any]], labels: list[str]) -> tuple[Region, ...]:
    """Return the regions; those of one group and class that a mask stands for are left to the mask."""
    found: list[Region] = []
    masked = {mark.get("group") for mark in marks if mark["type"] in ("mask", "polygon") and mark.get("group")}
    said: set[str] = set()
    for mark in marks:
        name = _label(mark, labels)
        if mark["type"] == "label":
            said.add(name)
        elif not (mark["type"] == "bbox" and mark.get("group") in masked):
            found.append(Region(name, _shape(mark)))
    # A class of the whole picture says nothing that its regions don't; without regions it can't be learned from.
    alone = said - {region.label for region in found} - {"good", "ok", "normal"}
    if alone:
        raise DataError(f"it is called {', '.join(sorted(alone))} without a region; mark where the defect is")
    return tuple(found)


def _label(mark: dict[str, Any], labels: list[str]) -> str:
    number = mark.get("label_id")
    if number is None or not 0 <= int(number) < len(labels):
        raise DataError(f"a mark has the label {number!r}, which is not among the document's")
    return labels[int(number)]


def _shape(mark: dict[str, Any]) -> Shape:
    kind = mark["type"]
    if kind == "polygon":
        values = [float(value) for value in mark["points"]]
        return Polygons((tuple(zip(values[::2], values[1::2], strict=True)),))
    if kind == "mask":
        rle = mark["rle"]
        counts, size = rle["counts"], rle["size"]
        return Decoded(lambda: coco_run_lengths(counts, size))
    if kind == "bbox":
        x, y, width, height = (float(value) for value in mark["bbox"])
        if min(width, height) <= 0:
            raise DataError("a box of it is empty")
        return Box(x + width / 2, y + height / 2, width, height)
    if kind == "ellipse":
        left, top, right, bottom = (float(value) for value in mark["points"])
        return Ellipse((left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2)
    raise DataError(f"a mark of type {kind} can't be used; use masks, polygons, boxes or ellipses")


def _picture(root: Path, item: dict[str, Any], places: list[Path]) -> Path | None:
    media = item.get("image") or item.get("media") or {}
    names = [str(media.get("path") or ""), str(item.get("id", ""))]
    for name in names:
        for end in ("", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"):
            found = inside(root, name + end, places) if name else None
            if found is not None:
                return found
    return None


def _size(item: dict[str, Any]) -> tuple[int, int] | None:
    size = (item.get("image") or item.get("media") or {}).get("size")
    try:
        height, width = (int(length) for length in size or ())
    except (TypeError, ValueError):
        return None
    return height, width
