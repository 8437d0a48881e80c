"""Label Studio: a JSON list of tasks, each with its picture's address and what people marked on it.

Rectangles, ellipses, polygons and brush strokes; places are per cent of the picture's size
(https://labelstud.io/guide/task_format).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from cell.errors import DataError
from trainer.folders.base import Entry, Listing, Region, inside, read_json
from trainer.folders.shapes import Box, Decoded, Ellipse, Polygons, Shape, brush_strokes

_KINDS = ("rectanglelabels", "ellipselabels", "polygonlabels", "brushlabels")
#: Labels that say of a whole picture that nothing is wrong with it.
_GOOD = frozenset({"good", "ok", "normal"})


def documents(root: Path) -> list[Path]:
    """Return the JSON documents of a folder that are lists of tasks."""
    return [file for file in sorted(root.glob("*.json")) if _is_tasks(file)]


def read_label_studio(root: Path) -> Listing:
    """Read every export of a folder. The newest annotation of a task counts, cancelled ones don't."""
    listing = Listing("label-studio")
    for file in documents(root):
        for task in read_json(file):
            _read(root, file, task, listing)
    return listing


def _is_tasks(file: Path) -> bool:
    try:
        document = read_json(file)
    except DataError:
        return False
    return isinstance(document, list) and bool(document) and isinstance(document[0], dict) and "data" in document[0]


def _read(root: Path, file: Path, task: Any, listing: Listing) -> None:
    data = task.get("data") if isinstance(task, dict) else None
    if not isinstance(data, dict):
        listing.misfit(file, "a task without data; export it again as JSON")
        return
    address = next((str(data[key]) for key in ("image", "img", "picture") if data.get(key)), "")
    name = _file_of(address)
    picture = _find(root, name)
    if picture is None:
        listing.misfit(root / (name or f"task {task.get('id')}"), f"{file.name} names it, but it is not there")
        return
    finished = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
    if not finished:
        listing.misfit(picture, "nobody finished labelling it")
        return
    try:
        results = list(finished[-1].get("result") or ())
        regions = tuple(region for result in results for region in _regions(result, results))
        size = next(
            ((int(r["original_height"]), int(r["original_width"])) for r in results if "original_width" in r), None
        )
    except (DataError, KeyError, TypeError, ValueError) as error:
        listing.misfit(picture, str(error) if isinstance(error, DataError) else f"a mark of it can't be read ({error})")
        return
    listing.entries.append(Entry(picture, regions, "", size, str(data.get("part", "")), str(data.get("lot", ""))))


def _regions(result: dict[str, Any], results: list[dict[str, Any]]) -> list[Region]:
    kind, value = str(result.get("type", "")), result.get("value") or {}
    if kind in ("choices", "labels"):
        said = {str(choice).lower() for choice in value.get(kind, ())}
        if said - _GOOD:
            raise DataError(f"it is called {', '.join(sorted(said))} without a region; mark where the defect is")
        return []
    if kind not in _KINDS:
        marks = {"rectangle", "ellipse", "polygon", "brush"}
        if kind in marks and any(one.get("id") == result.get("id") and one.get("type") in _KINDS for one in results):
            return []  # the same mark with its label stands beside
        raise DataError(
            f"a mark of type {kind or 'none'} can't be used; use rectangles, ellipses, polygons or the brush"
        )
    labels = list(value.get(kind) or ())
    if len(labels) != 1:
        raise DataError(f"a mark has {len(labels)} labels; give it one")
    return [Region(str(labels[0]), _shape(kind, value, result))]


def _shape(kind: str, value: dict[str, Any], result: dict[str, Any]) -> Shape:
    width, height = int(result["original_width"]), int(result["original_height"])
    turn = float(value.get("rotation") or 0)
    if kind == "brushlabels":
        if value.get("format") != "rle":
            raise DataError("a brush stroke is not stored as run lengths; export it as JSON")
        packed = value["rle"]
        return Decoded(lambda: brush_strokes(packed, height, width))
    if kind == "polygonlabels":
        return Polygons((tuple((float(x) / 100 * width, float(y) / 100 * height) for x, y in value["points"]),))
    x, y = float(value["x"]) / 100 * width, float(value["y"]) / 100 * height
    if kind == "ellipselabels":
        return Ellipse(x, y, float(value["radiusX"]) / 100 * width, float(value["radiusY"]) / 100 * height, turn)
    wide, tall = float(value["width"]) / 100 * width, float(value["height"]) / 100 * height
    if min(wide, tall) <= 0:
        raise DataError("a rectangle of it is empty")
    if turn:
        # Label Studio turns about the upper left corner.
        right, down = Box(0.0, 0.0, wide, tall, turn).offset()
        return Box(x + right, y + down, wide, tall, turn)
    return Box(x + wide / 2, y + tall / 2, wide, tall)


def _file_of(address: str) -> str:
    parsed = urlparse(address)
    local = parse_qs(parsed.query).get("d")
    return unquote(local[0] if local else parsed.path).lstrip("/")


def _find(root: Path, name: str) -> Path | None:
    if not name:
        return None
    places = [root / "images", root]
    found = inside(root, name, places)
    # Uploaded files are called <8 hexadecimal digits>-<name>.
    stem = Path(name).name
    if found is None and len(stem) > 9 and stem[8] == "-":
        found = inside(root, stem[9:], places)
    return found
