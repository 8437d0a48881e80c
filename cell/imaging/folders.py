"""Reads folder data sets: real pictures of parts, sorted by people before inspectd was there.

Layout::

    ROOT/seeds/<class>/NAME.jpg   with NAME_mask.png    real defects that may be learned from
    ROOT/backgrounds/good/NAME.jpg                      good parts
    ROOT/test/<class>/..., ROOT/test/good/...           held-out parts, for reports alone

A name up to its first ``_e`` names the physical part (``t012_e3`` is the third exposure of part ``t012``), so that
splits keep parts whole. Pictures are 8- or 16-bit grey in any format Pillow reads; a mask is nonzero in the defect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cell.defects import LabelMap, Sample
from cell.errors import DataError
from cell.frames import Stack

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
_MASK_MARK = "_mask"
_EXPOSURE = re.compile(r"_e\d.*$")
_CLASS_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")

PartRule = Callable[[str], str]


def physical_part(name: str) -> str:
    """Return the physical part that a picture's name or a part id speaks of: no folders, nothing from ``_e<digit>``."""
    last = name.rsplit("/", 1)[-1]
    return _EXPOSURE.sub("", last) or last


@dataclass(frozen=True, slots=True)
class Misfit:
    """One thing that does not fit, in a sentence."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True, slots=True)
class FolderItem:
    """One picture on disk. `defect_class` is empty for a good part; `mask` then is None."""

    name: str
    part: str
    defect_class: str
    picture: Path
    mask: Path | None


@dataclass(frozen=True, slots=True)
class FolderDataset:
    """What a folder holds, checked but not loaded. Classes are label 1, 2, ... in `classes`' order."""

    root: Path
    classes: tuple[str, ...]
    seeds: tuple[FolderItem, ...]
    backgrounds: tuple[FolderItem, ...]
    test: tuple[FolderItem, ...]
    misfits: tuple[Misfit, ...]

    def shots(self, count: int) -> tuple[FolderItem, ...]:
        """Return the seeds of the first `count` physical parts of every class, in name order."""
        chosen: list[FolderItem] = []
        for defect_class in self.classes:
            items = [item for item in self.seeds if item.defect_class == defect_class]
            parts = sorted({item.part for item in items})[:count]
            chosen += [item for item in items if item.part in parts]
        return tuple(chosen)

    def load(self, item: FolderItem) -> Sample:
        """Read one picture with its labels. Raises `DataError` when either can't be read or they differ in size."""
        stack = read_picture(item.picture)[np.newaxis]
        labels: LabelMap = np.zeros(stack.shape[1:], np.uint8)
        if item.mask is not None:
            labels[read_mask(item.mask, (stack.shape[1], stack.shape[2]))] = self.classes.index(item.defect_class) + 1
        tags = {"class": item.defect_class or "good", "picture": str(item.picture.relative_to(self.root))}
        return Sample(stack, labels, item.part, sample_id=f"{item.defect_class or 'good'}/{item.name}", tags=tags)

    def load_all(self, items: Iterable[FolderItem]) -> list[Sample]:
        """Read several. Raises `DataError` at the first that can't be used."""
        return [self.load(item) for item in items]

    def stacked(self, items: Iterable[FolderItem], count: int) -> list[Stack]:
        """Return one stack of `count` channels for each physical part that has as many pictures, cut to common size.

        Channels are the part's pictures in name order, centred on each other; they are not registered.
        """
        parts: dict[str, list[FolderItem]] = {}
        for item in items:
            parts.setdefault(item.part, []).append(item)
        stacks: list[Stack] = []
        for members in parts.values():
            if len(members) >= count:
                pictures = [read_picture(item.picture) for item in sorted(members, key=lambda item: item.name)[:count]]
                height, width = (min(picture.shape[axis] for picture in pictures) for axis in (0, 1))
                stacks.append(np.stack([_centre(picture, height, width) for picture in pictures]))
        return stacks


def read_folder(root: Path, *, part_of: PartRule = physical_part) -> FolderDataset:
    """Take stock of a folder data set; every picture and mask is opened, what does not fit is listed and left out.

    :raises DataError: when `root`, ``seeds`` or ``backgrounds/good`` is missing, or nothing in one of them is usable.
    """
    for needed in (root, root / "seeds", root / "backgrounds" / "good"):
        if not needed.is_dir():
            raise DataError(
                f"the folder {needed} is missing; the layout is seeds/<class>, backgrounds/good, test/<class>"
            )
    misfits: list[Misfit] = []
    seeds = _scan(root / "seeds", part_of, misfits)
    backgrounds = tuple(item for item in _scan(root / "backgrounds", part_of, misfits) if not item.defect_class)
    test = _scan(root / "test", part_of, misfits) if (root / "test").is_dir() else ()
    for items, what in ((seeds, "seeds"), (backgrounds, "backgrounds/good")):
        if not items:
            first = f" ({misfits[0]})" if misfits else ""
            raise DataError(f"{root / what} holds no usable picture{first}; run the dry run to see what does not fit")
    classes = tuple(sorted({item.defect_class for item in seeds}))
    for item in [item for item in test if item.defect_class and item.defect_class not in classes]:
        misfits.append(Misfit(item.picture, f"class {item.defect_class} has no seeds"))
    test = tuple(item for item in test if not item.defect_class or item.defect_class in classes)
    misfits += _shared_parts(seeds + backgrounds, test)
    return FolderDataset(root, classes, seeds, backgrounds, test, tuple(misfits))


def read_picture(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read a grey picture (H, W) uint8 or uint16, also one that was saved as colour. Raises `DataError` for colour."""
    pixels = _decode(path)
    if pixels.ndim == 3 and pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    if pixels.ndim != 2:
        raise DataError(f"{path} is a colour picture; save the camera's grey channels one by one")
    if pixels.dtype == np.uint8:
        grey: NDArray[np.uint8] = pixels
        return grey
    if pixels.min() >= 0 and pixels.max() <= 65535 and np.issubdtype(pixels.dtype, np.integer):
        return pixels.astype(np.uint16)
    raise DataError(f"{path} holds {pixels.dtype} pixels; save it as 8- or 16-bit grey")


def read_mask(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Read a mask (H, W) bool. Raises `DataError` when it is unreadable, empty, or not of `shape`."""
    pixels = _decode(path)
    flat = pixels if pixels.ndim == 2 else pixels[..., :3].max(axis=-1)
    if flat.shape != shape:
        raise DataError(
            f"the mask {path} is {flat.shape[1]}x{flat.shape[0]}, its picture {shape[1]}x{shape[0]}; draw it again on "
            "that picture"
        )
    mask: NDArray[np.bool_] = flat > 0
    if not mask.any():
        raise DataError(f"the mask {path} marks nothing; draw the defect or put the picture among the good parts")
    return mask


def read_label_picture(path: Path, shape: tuple[int, int], *, coloured: bool = False) -> NDArray[np.int32]:
    """Read a label picture (H, W): palette indices or grey levels, or with `coloured` 0xRRGGBB.

    Raises `DataError` when it is unreadable or not of `shape`.
    """
    picture = _opened(path)
    if coloured:
        red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB"), np.int32), -1, 0)
        values: NDArray[np.int32] = red << 16 | green << 8 | blue
    else:
        values = np.asarray(picture if picture.mode in ("P", "L", "1", "I", "I;16") else picture.convert("L"), np.int32)
    if values.shape != shape:
        raise DataError(f"the labels {path} are {values.shape[1]}x{values.shape[0]}, the picture {shape[1]}x{shape[0]}")
    return values


def _scan(folder: Path, part_of: PartRule, misfits: list[Misfit]) -> tuple[FolderItem, ...]:
    items: list[FolderItem] = []
    for class_folder in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        if not _CLASS_NAME.match(class_folder.name):
            misfits.append(Misfit(class_folder, "not a name for a class: use letters, digits, dot, dash, underscore"))
            continue
        defect_class = "" if class_folder.name == "good" else class_folder.name
        for picture in sorted(class_folder.iterdir()):
            if picture.is_dir() or picture.stem.endswith(_MASK_MARK) or picture.name.startswith("."):
                continue
            item = _item(picture, defect_class, part_of)
            if isinstance(item, Misfit):
                misfits.append(item)
            else:
                items.append(item)
        misfits += _orphans(class_folder)
    return tuple(items)


def _item(picture: Path, defect_class: str, part_of: PartRule) -> FolderItem | Misfit:
    if picture.suffix.lower() not in PICTURES:
        return Misfit(picture, "not a picture")
    mask = picture.with_name(f"{picture.stem}{_MASK_MARK}.png") if defect_class else None
    try:
        shape = read_picture(picture).shape
        if mask is not None:
            if not mask.is_file():
                return Misfit(picture, f"its mask {mask.name} is missing")
            read_mask(mask, (shape[0], shape[1]))
    except DataError as error:
        return Misfit(picture, str(error))
    return FolderItem(picture.stem, part_of(picture.stem), defect_class, picture, mask)


def _orphans(folder: Path) -> list[Misfit]:
    masks = [entry for entry in sorted(folder.iterdir()) if entry.stem.endswith(_MASK_MARK)]
    pictures = {entry.stem for entry in folder.iterdir() if entry.suffix.lower() in PICTURES}
    return [
        Misfit(mask, "a mask without its picture")
        for mask in masks
        if mask.stem.removesuffix(_MASK_MARK) not in pictures
    ]


def _shared_parts(learning: tuple[FolderItem, ...], test: tuple[FolderItem, ...]) -> list[Misfit]:
    learned = {item.part for item in learning}
    shared = sorted({item.part for item in test} & learned)
    return [
        Misfit(Path(part), "this physical part is in test and in the learning folders: results would lie")
        for part in shared
    ]


def _decode(path: Path) -> NDArray[Any]:
    picture = _opened(path)
    return np.asarray(picture.convert("L") if picture.mode in ("1", "P", "LA") else picture)


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture.copy()
    except FileNotFoundError as error:
        raise DataError(f"the picture {path} is missing; restore it or take it out of the folder") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path} is not a whole picture ({reason}); copy it again or remove it") from error


def _centre(picture: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]
