"""Accepted candidates and good parts for other tools: as an MVTec AD tree, a COCO or a YOLO data set.

::

    mvtec: train/good/NAME.png                       coco: images/NAME.png
           test/<class>/NAME.png                           annotations.json (masks as run lengths: exact)
           ground_truth/<class>/NAME_mask.png        yolo: images/train/NAME.png
                                                           labels/train/NAME.txt (outlines; holes are filled)
                                                           data.yaml

Pixels stay as the camera gave them: PNG with 8 or 16 bits. A part under several lights gives one picture for each
channel, ``NAME_<channel>.png``, with the same mask. Candidates that nobody accepted, planted ones, and those on a
background that was withdrawn are left out.
Several defects on a part are annotations of their own, each of its class; in the MVTec tree, which has one class a
picture, those of several classes lie under ``combined``, as in MVTec AD itself.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from cell.defects import CandidateState, Mask, Split
from cell.errors import DataError, StateError
from cell.frames import Pixels
from cell.recipes import Recipe
from cell.store.files import disk_errors
from cell.store.learning import LearningStore

Format = Literal["mvtec", "coco", "yolo"]
_COMBINED = "combined"


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    """One channel of one part, with class and mask of each of its defects; a good one has none."""

    name: str
    pixels: Pixels
    defects: tuple[tuple[str, Mask], ...]


def export(
    store: LearningStore,
    recipe: Recipe,
    layout: Format,
    directory: Path,
    cancelled: Callable[[], bool] = lambda: False,
) -> int:
    """Write a data set into `directory`, which must not exist yet; it appears whole or not at all.

    :returns: the number of files.
    :raises DataError: when the directory exists or there is nothing to export.
    :raises DiskFull: when there is no room; nothing is left of it then.
    """
    if directory.exists():
        raise DataError(f"{directory} exists already; name a new folder for the export")
    part = directory.with_name(f".{directory.name}.part")
    write = {"mvtec": _write_mvtec, "coco": _write_coco, "yolo": _write_yolo}[layout]
    try:
        with disk_errors(directory):
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            files = write(part, recipe, _pictures(store, recipe, cancelled))
            part.rename(directory)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return files


def _pictures(store: LearningStore, recipe: Recipe, cancelled: Callable[[], bool]) -> Iterator[_Picture]:
    accepted = store.candidates.list(recipe.recipe_id, state=CandidateState.ACCEPTED, limit=1_000_000)
    gone = store.withdrawals.of(recipe.recipe_id)
    candidates = [
        row.candidate
        for row in accepted
        if not row.candidate.planted_bad and row.candidate.provenance.background_id not in gone
    ]
    if not candidates:
        raise DataError(f"no candidate of {recipe.recipe_id} is accepted yet; review some first")
    for background in store.backgrounds(recipe.recipe_id, Split.LEARN):
        _go_on(cancelled)
        yield from _channels(background.background_id, store.read_image(background.image).pixels, recipe, ())
    for candidate in candidates:
        _go_on(cancelled)
        pixels, defects = store.read_image(candidate.image).pixels, store.candidates.defects(candidate)
        yield from _channels(candidate.candidate_id, pixels, recipe, defects)


def _go_on(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise StateError("the trainer stops; export again when it is up")


def _channels(
    name: str, stack: NDArray[Any], recipe: Recipe, defects: tuple[tuple[str, Mask], ...]
) -> Iterator[_Picture]:
    for channel, pixels in zip(recipe.channel_names, stack, strict=True):
        yield _Picture(name if len(stack) == 1 else f"{name}_{channel}", pixels, defects)


def _write_mvtec(folder: Path, recipe: Recipe, pictures: Iterator[_Picture]) -> int:
    files = 0
    for name in ("train/good", *(f"{side}/{kind}" for side in ("test", "ground_truth") for kind in recipe.class_names)):
        (folder / name).mkdir(parents=True)
    for picture in pictures:
        if not picture.defects:
            _write_png(folder / "train" / "good" / f"{picture.name}.png", picture.pixels)
            files += 1
            continue
        classes = {defect_class for defect_class, _ in picture.defects}
        kind = classes.pop() if len(classes) == 1 else _COMBINED
        for side in ("test", "ground_truth"):
            (folder / side / kind).mkdir(exist_ok=True)
        _write_png(folder / "test" / kind / f"{picture.name}.png", picture.pixels)
        mask = np.logical_or.reduce([own for _, own in picture.defects])
        truth = folder / "ground_truth" / kind / f"{picture.name}_mask.png"
        _write_png(truth, np.where(mask, np.uint8(255), np.uint8(0)))
        files += 2
    return files


def _write_coco(folder: Path, recipe: Recipe, pictures: Iterator[_Picture]) -> int:
    (folder / "images").mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    categories = {name: number for number, name in enumerate(recipe.class_names, start=1)}
    for number, picture in enumerate(pictures, start=1):
        file = f"{picture.name}.png"
        _write_png(folder / "images" / file, picture.pixels)
        height, width = picture.pixels.shape
        images.append({"id": number, "file_name": file, "height": height, "width": width})
        for defect_class, mask in picture.defects:
            annotations.append(_annotation(len(annotations) + 1, number, categories[defect_class], mask))
    document = {
        "info": {"description": f"accepted candidates of {recipe.recipe_id}, synthetic, and good parts, real"},
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
        "images": images,
        "annotations": annotations,
    }
    (folder / "annotations.json").write_text(json.dumps(document), encoding="utf-8")
    return len(images) + 1


def _annotation(number: int, image: int, category: int, mask: Mask) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1],
        "area": int(mask.sum()),
        "segmentation": {"size": list(mask.shape), "counts": run_lengths(mask)},
        "iscrowd": 0,
    }


def run_lengths(mask: Mask) -> list[int]:
    """Return COCO's uncompressed run lengths: column by column, beginning with the number of zeros."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    bounds = np.concatenate([[0], edges, [flat.size]])
    lengths: list[int] = np.diff(bounds).tolist()
    return [0, *lengths] if flat[0] else lengths


def _write_yolo(folder: Path, recipe: Recipe, pictures: Iterator[_Picture]) -> int:
    """Write Ultralytics' layout for segmentation; training tools split off their own part for validation."""
    # Here and not above: it needs SciPy, which the service does without.
    from trainer.outlines import outlines

    images, labels = folder / "images" / "train", folder / "labels" / "train"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    files = 1
    for picture in pictures:
        _write_png(images / f"{picture.name}.png", picture.pixels)
        lines = []
        for defect_class, mask in picture.defects:
            number = recipe.class_names.index(defect_class)
            size = np.array(mask.shape[::-1], np.float64)
            for corners in outlines(mask):
                lines.append(" ".join([str(number), *(f"{share:.6f}" for share in (np.array(corners) / size).ravel())]))
        (labels / f"{picture.name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        files += 2
    names = dict(enumerate(recipe.class_names))
    document = {"path": ".", "train": "images/train", "val": "images/train", "names": names}
    (folder / "data.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return files


def _write_png(path: Path, pixels: NDArray[Any]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    path.write_bytes(buffer.getvalue())
