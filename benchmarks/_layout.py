"""Read a product's folder: ``seeds/<class>``, ``backgrounds/good``, ``test/<class>``, ``test/good``.

Every image is a part's picture on its own, one channel; pictures named ``PART_eN`` are one physical part at several
exposures, any other name is a part of its own. ``NAME_mask.png`` beside a defective picture is nonzero in the defect.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cell.defects import Sample
from cell.errors import DataError
from cell.frames import Pixels
from trainer.evaluate import DEFECT_CLASS

_IMAGES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})
_EXPOSURE = re.compile(r"(?P<part>.+)_e\d+")
_BIT_DEPTH = {"uint8": 8, "uint16": 16}


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """All that a benchmark may use; `test` only to report."""

    name: str
    classes: tuple[str, ...]
    bit_depth: int
    seeds: tuple[Sample, ...]
    backgrounds: tuple[Sample, ...]
    test: tuple[Sample, ...]


def load(root: Path, shots: int) -> Product:
    """Read a product with the first `shots` parts of every seed class.

    :raises DataError: naming the file or folder that is missing, unreadable or does not fit.
    """
    for folder in ("seeds", "backgrounds/good", "test/good"):
        if not (root / folder).is_dir():
            raise DataError(f"there is no folder {root / folder}; point --data at a product (see docs/data-layout.md)")
    classes = tuple(sorted(folder.name for folder in (root / "seeds").iterdir() if folder.is_dir()))
    if not classes:
        raise DataError(f"{root / 'seeds'} has no class folders; put seeds in seeds/<class>/")
    seeds = [
        sample
        for value, name in enumerate(classes, 1)
        for sample in _first_parts(_read(root / "seeds" / name, value), shots)
        if sample.labels.any()  # nothing can be learned from a defect that nobody marked
    ]
    backgrounds = _read(root / "backgrounds" / "good", 0)
    test = _read(root / "test" / "good", 0)
    for value, name in enumerate(classes, 1):
        if (root / "test" / name).is_dir():
            test += _read(root / "test" / name, value)
    dtypes = {sample.stack.dtype.name for sample in (*seeds, *backgrounds, *test)}
    if len(dtypes) != 1:
        raise DataError(f"{root} mixes bit depths ({', '.join(sorted(dtypes))}); convert the images to one")
    overlap = {sample.group for sample in test} & {sample.group for sample in (*seeds, *backgrounds)}
    if overlap:
        raise DataError(f"part {min(overlap)} stands both in test/ and in the learning folders; split by part")
    return Product(root.name, classes, _BIT_DEPTH[dtypes.pop()], tuple(seeds), tuple(backgrounds), tuple(test))


def part_of(name: str) -> str:
    """Return the physical part of a picture's name."""
    match = _EXPOSURE.fullmatch(name)
    return match["part"] if match else name


def _first_parts(samples: Sequence[Sample], shots: int) -> list[Sample]:
    parts = sorted({sample.group for sample in samples})[:shots]
    return [sample for sample in samples if sample.group in parts]


def _read(folder: Path, value: int) -> list[Sample]:
    files = sorted(
        file for file in folder.iterdir() if file.suffix.lower() in _IMAGES and not file.stem.endswith("_mask")
    )
    if not files:
        raise DataError(f"{folder} holds no images; put them there or remove the folder")
    return [_sample(file, value) for file in files]


def _sample(file: Path, value: int) -> Sample:
    pixels = _grey(file)
    labels = np.zeros(pixels.shape, np.uint8)
    if value:
        mask_file = file.with_name(f"{file.stem}_mask.png")
        if not mask_file.exists():
            raise DataError(f"{file} has no mask {mask_file.name}; draw one or remove the image")
        mask = _grey(mask_file) > 0
        if mask.shape != pixels.shape:
            raise DataError(f"{mask_file} is {mask.shape[::-1]}, its image {pixels.shape[::-1]}; make the mask again")
        labels[mask] = value
    # The folder tells the class: a mask may be empty where this exposure doesn't show the defect.
    tags = {DEFECT_CLASS: file.parent.name} if value else {}
    return Sample(stack=pixels[None], labels=labels, group=part_of(file.stem), sample_id=file.stem, tags=tags)


def _grey(file: Path) -> Pixels:
    try:
        with Image.open(file) as image:
            image.load()
            pixels: NDArray[np.generic] = np.asarray(image if image.mode in ("L", "I;16") else image.convert("L"))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"can't read {file}: {error}; replace or remove it") from error
    return pixels.astype(np.uint16) if pixels.dtype == np.uint16 else pixels.astype(np.uint8)
