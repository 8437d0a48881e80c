"""Folders in every layout that an import knows, with the same pictures and the same labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cell.recipes import Channel, DefectClass, Recipe
from trainer.exporting import run_lengths

HEIGHT, WIDTH = 40, 56
RECIPE = Recipe(
    recipe_id="tile",
    product="tile",
    height=HEIGHT,
    width=WIDTH,
    channels=(Channel(name="grey", exposure_us=1000, lights={"a": 1.0}),),
    defect_classes=(DefectClass(name="pit"), DefectClass(name="crack")),
)
TWO = RECIPE.model_copy(
    update={"channels": tuple(Channel(name=name, exposure_us=1000, lights={name: 1.0}) for name in ("left", "right"))}
)
#: Where the defect of every labelled picture is: x, y, width, height.
BOX = (8, 10, 12, 6)
TRUTH = np.zeros((HEIGHT, WIDTH), np.bool_)
TRUTH[10:16, 8:20] = True

Build = Callable[[Path], None]


def grey(number: int, *, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    return np.random.default_rng(number).integers(80, 170, size, dtype=np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))


def corners() -> list[tuple[float, float]]:
    x, y, wide, tall = BOX
    return [(x, y), (x + wide, y), (x + wide, y + tall), (x, y + tall)]


def own(root: Path) -> None:
    for index in range(3):
        save(root / "backgrounds/good" / f"g{index}.png", grey(index))
    save(root / "seeds/pit/p0.png", grey(10))
    save(root / "seeds/pit/p0_mask.png", TRUTH.astype(np.uint8) * 255)
    save(root / "test/good/t0.png", grey(11))


def mvtec(root: Path) -> None:
    for index in range(3):
        save(root / "train/good" / f"{index:03d}.png", grey(index))
    save(root / "test/good/000g.png", grey(11))
    save(root / "test/pit/000p.png", grey(10))
    save(root / "ground_truth/pit/000p_mask.png", TRUTH.astype(np.uint8) * 255)


def coco(root: Path) -> None:
    images = [{"id": index, "file_name": f"{index}.png", "height": HEIGHT, "width": WIDTH} for index in range(1, 5)]
    for index in range(1, 5):
        save(root / "images" / f"{index}.png", grey(index))
    flat, runs = [value for point in corners() for value in point], run_lengths(TRUTH)
    marks: list[dict[str, Any]] = [
        {"id": 1, "image_id": 1, "category_id": 7, "segmentation": [flat], "bbox": list(BOX)},
        {"id": 2, "image_id": 2, "category_id": 7, "segmentation": {"size": [HEIGHT, WIDTH], "counts": runs}},
        {"id": 3, "image_id": 3, "category_id": 7, "bbox": list(BOX)},
    ]  # fmt: skip
    categories = [{"id": 7, "name": "pit"}]
    write(root / "annotations/instances_train.json", {"images": images, "annotations": marks, "categories": categories})


def yolo(root: Path) -> None:
    write(root / "data.yaml", "names: {0: pit, 1: crack}\ntrain: images/train\n")
    x, y, wide, tall = BOX
    box = f"0 {(x + wide / 2) / WIDTH} {(y + tall / 2) / HEIGHT} {wide / WIDTH} {tall / HEIGHT}\n"
    outline = "0 " + " ".join(f"{px / WIDTH} {py / HEIGHT}" for px, py in corners()) + "\n"
    for index, line in enumerate((box, outline, "", "")):
        subset = "test" if index == 3 else "train"
        save(root / "images" / subset / f"{index}.png", grey(index))
        write(root / "labels" / subset / f"{index}.txt", line)


def voc(root: Path) -> None:
    x, y, wide, tall = BOX
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>1</depth></size>"
    box = f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + wide}</xmax><ymax>{y + tall}</ymax>"
    thing = f"<object><name>pit</name><bndbox>{box}</bndbox></object>"
    for index in range(3):
        save(root / "JPEGImages" / f"{index}.png", grey(index))
        inside = thing if index < 2 else ""
        write(
            root / "Annotations" / f"{index}.xml",
            f"<annotation><filename>{index}.png</filename>{size}{inside}</annotation>",
        )
    write(root / "labelmap.txt", "background:0,0,0::\npit:128,0,0::\n")
    save(
        root / "SegmentationClass/1.png",
        np.stack([TRUTH * np.uint8(128), TRUTH * np.uint8(0), TRUTH * np.uint8(0)], -1),
    )
    write(root / "ImageSets/Main/test.txt", "2\n")


def voc_masks(root: Path) -> None:
    """Without boxes, and with VOC's own colours, as datumaro writes it."""
    for index in range(3):
        save(root / "JPEGImages" / f"{index}.png", np.stack([grey(index)] * 3, -1))
    write(root / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:::\ncrack:::\npit:::\n")
    black = np.zeros((HEIGHT, WIDTH), np.uint8)
    for index in range(2):
        save(root / "SegmentationClass" / f"{index}.png", np.stack([black, TRUTH * np.uint8(128), black], -1))
    write(root / "ImageSets/Segmentation/train.txt", "0\n1\n2\n")


def label_studio(root: Path) -> None:
    x, y, wide, tall = (100 * value / length for value, length in zip(BOX, (WIDTH, HEIGHT) * 2, strict=True))
    frame = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    outline = [[100 * px / WIDTH, 100 * py / HEIGHT] for px, py in corners()]
    values: list[tuple[str, dict[str, Any]]] = [
        ("rectanglelabels", {"x": x, "y": y, "width": wide, "height": tall, "rotation": 0}),
        ("polygonlabels", {"points": outline}),
        ("brushlabels", {"format": "rle", "rle": brush(TRUTH)}),
    ]
    results = [[{**frame, "type": kind, "value": {**value, kind: ["pit"]}}] for kind, value in values]
    results.append([])
    tasks = []
    for index, result in enumerate(results):
        save(root / "images" / f"{index}.png", grey(index))
        address = f"/data/local-files/?d=images%2F{index}.png" if index else f"/data/upload/1/0a1b2c3d-{index}.png"
        tasks.append({"id": index, "data": {"image": address, "lot": "l7"}, "annotations": [{"result": result}]})
    write(root / "export.json", tasks)


def brush(mask: np.ndarray) -> list[int]:
    """Pack as Label Studio's front end does: every run by itself, 16-bit run lengths."""
    alpha = np.repeat(mask.ravel().astype(np.uint8) * 255, 4)
    bits = f"{alpha.size:032b}{7:05b}" + f"{15:04b}" * 4
    edges = np.flatnonzero(np.diff(alpha)) + 1
    for run in np.split(alpha, edges):
        for start in range(0, run.size, 65536):
            bits += f"1{0:02b}{min(65536, run.size - start) - 1:016b}{run[0]:08b}"
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def datumaro(root: Path) -> None:
    flat = [value for point in corners() for value in point]
    marks: list[list[dict[str, Any]]] = [
        [{"type": "polygon", "label_id": 0, "points": flat, "group": 0}],
        [{"type": "mask", "label_id": 0, "rle": {"counts": run_lengths(TRUTH), "size": [HEIGHT, WIDTH]}}],
        [{"type": "bbox", "label_id": 0, "bbox": list(BOX), "group": 0}],
        [],
    ]
    items = []
    for index, found in enumerate(marks):
        save(root / "images/train" / f"{index}.png", grey(index))
        image = {"path": f"{index}.png", "size": [HEIGHT, WIDTH]}
        items.append({"id": str(index), "annotations": found, "image": image, "attr": {"part": f"part-{index}"}})
    labels = {"label": {"labels": [{"name": "pit", "parent": "", "attributes": []}]}}
    write(root / "annotations/train.json", {"info": {}, "categories": labels, "items": items})


def project(root: Path) -> None:
    (root / ".datumaro").mkdir(parents=True)
    coco(root / "first")
    (root / "empty").mkdir()


LAYOUTS: dict[str, tuple[Build, str, int, int, int]] = {
    # folder, name that is found, good ones, seeds, of them only boxes
    "own": (own, "folder", 4, 1, 0),
    "mvtec": (mvtec, "mvtec", 4, 1, 0),
    "coco": (coco, "coco", 1, 3, 1),
    "yolo": (yolo, "yolo", 2, 2, 1),
    "voc": (voc, "voc", 1, 2, 1),
    "voc masks": (voc_masks, "voc", 1, 2, 0),
    "label-studio": (label_studio, "label-studio", 1, 3, 1),
    "datumaro": (datumaro, "datumaro", 1, 3, 1),
    "project": (project, "datumaro project", 1, 3, 1),
}
