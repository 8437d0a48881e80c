"""COCO object detection: one JSON document with images, categories and annotations (https://cocodataset.org/#format-data)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cell.errors import DataError
from trainer.folders.base import Entry, Listing, Region, inside, read_json
from trainer.folders.shapes import Box, Decoded, Polygons, Shape, coco_run_lengths

_DOCUMENTS = ("*.json", "annotations/*.json", "*/_annotations.coco.json")


def documents(root: Path) -> list[Path]:
    """Return the JSON documents of a folder that are COCO's."""
    found = [file for file in sorted({f for pattern in _DOCUMENTS for f in root.glob(pattern)}) if _is_coco(file)]
    # COCO's own tree has documents for other tasks about the same pictures.
    return [file for file in found if file.stem.startswith("instances")] or found


def read_coco(root: Path) -> Listing:
    """Read every COCO document of a folder. Raises `DataError` for one that breaks off."""
    listing = Listing("coco")
    for file in documents(root):
        _read(root, file, listing)
    return listing


def subset_of(file: Path) -> str:
    """Return the part of a data set that a label file's name speaks of: ``instances_val2017`` is ``val``."""
    words = f"{file.parent.name}_{file.stem}".lower().replace("-", "_").replace(".", "_").split("_")
    for word in words:
        for subset in ("train", "valid", "val", "test"):
            if word == subset or (word.startswith(subset) and word[len(subset) :].isdigit()):
                return "val" if subset == "valid" else subset
    return ""


def _is_coco(file: Path) -> bool:
    try:
        document = read_json(file)
    except DataError:
        return False
    return isinstance(document, dict) and {"images", "annotations", "categories"} <= document.keys()


def _read(root: Path, file: Path, listing: Listing) -> None:
    document = read_json(file)
    try:
        names = {int(category["id"]): str(category["name"]) for category in document["categories"]}
        images = {int(image["id"]): image for image in document["images"]}
        annotations = list(document["annotations"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} is not a whole COCO document ({error}); export it again") from error
    regions: dict[int, list[Region]] = {}
    broken: set[int] = set()
    for annotation in annotations:
        owner = annotation.get("image_id") if isinstance(annotation, dict) else None
        if owner not in images:
            listing.misfit(file, f"an annotation names image {owner!r}, which is not there")
            continue
        try:
            regions.setdefault(owner, []).append(_region(annotation, names, images[owner]))
        except (DataError, KeyError, TypeError, ValueError) as error:
            broken.add(owner)
            listing.misfit(
                file, f"annotation {annotation.get('id')} of {images[owner].get('file_name')}: {_said(error)}"
            )
    places = [file.parent, file.parent / "images", root / "images", root / "data", root]
    places += [root / "images" / subset_of(file), root / subset_of(file)]
    for number, image in images.items():
        name = str(image.get("file_name", ""))
        picture = inside(root, name, places) if name else None
        if picture is None:
            listing.misfit(root / (name or f"image {number}"), f"{file.name} names it, but it is not there")
        elif number not in broken:
            known = tuple(regions.get(number, ()))
            listing.entries.append(
                Entry(
                    picture, known, subset_of(file), _size(image), str(image.get("part", "")), str(image.get("lot", ""))
                )
            )


def _region(annotation: dict[str, Any], names: dict[int, str], image: dict[str, Any]) -> Region:
    category = annotation["category_id"]
    if category not in names:
        raise DataError(f"its category {category!r} is not among the document's")
    return Region(names[category], _shape(annotation, image))


def _shape(annotation: dict[str, Any], image: dict[str, Any]) -> Shape:
    outline = annotation.get("segmentation")
    if isinstance(outline, dict):
        counts, size = outline["counts"], outline.get("size") or [image["height"], image["width"]]
        return Decoded(lambda: coco_run_lengths(counts, size))
    if outline:
        return Polygons(tuple(_points(flat) for flat in outline))
    x, y, width, height = (float(value) for value in annotation["bbox"])
    if min(width, height) <= 0:
        raise DataError("its box is empty")
    return Box(x + width / 2, y + height / 2, width, height)


def _points(flat: Any) -> tuple[tuple[float, float], ...]:
    values = [float(value) for value in flat]
    if len(values) % 2:
        raise DataError("its outline has an odd number of coordinates")
    return tuple(zip(values[::2], values[1::2], strict=True))


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    try:
        return int(image["height"]), int(image["width"])
    except (KeyError, TypeError, ValueError):
        return None


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, DataError) else f"{type(error).__name__} {error}"
