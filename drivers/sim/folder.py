"""A product made of pictures: ``DIR/<split>/<class>/NAME.(jpg|png|tif)`` with optional ``NAME_mask.png``.

The pictures are presented as they are: their noise is the noise of the camera that took them, so none is added. A
part's id is its path without the suffix, ``test/break/t045_e1``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cell.defects import Mask
from cell.errors import DataError
from cell.frames import Pixels
from cell.recipes import Channel, DefectClass, Recipe
from drivers.sim.scene import place
from drivers.sim.sensor import Sensor

GOOD = "good"
CARRIER_DN = 6
#: Pictures are lifted above this, so that the preprocessing can tell part from carrier.
CARRIER_MAX_DN = 10
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})
_MASK = "_mask"


@dataclass(frozen=True, slots=True, eq=False)
class PicturePart:
    """A part that looks the same under any light, and dark under none."""

    pixels: NDArray[np.uint8]

    def expose(
        self,
        lights: Mapping[str, float],
        exposure_us: float,
        gain_db: float,
        generator: np.random.Generator,
        sensor: Sensor | None = None,
    ) -> Pixels:
        """Return the picture bit for bit when a line is lit at 1, dimmed or brightened by the brightest otherwise."""
        del exposure_us, gain_db, generator, sensor  # of the camera that took the picture, long ago
        level = max(lights.values(), default=0.0)
        if level == 1.0:
            return self.pixels
        changed: Pixels = np.clip(np.rint(self.pixels * level), CARRIER_DN, 255).astype(np.uint8)
        return changed


class FolderProduct:
    """See the module. Reads headers once when made, and pixels when a part is asked for."""

    lines: tuple[str, ...] | None = None
    carrier_dn = CARRIER_DN

    def __init__(self, folder: Path) -> None:
        """Take stock of `folder`. Raises `DataError` when it is missing or holds no pictures."""
        self._files = _files(folder)
        self._folder = folder
        self.height, self.width = _frame_size(self._files.values())

    def list_parts(self) -> tuple[str, ...]:
        """Ids of all pictures, sorted."""
        return tuple(self._files)

    def part(self, part_id: str) -> PicturePart:
        """Return a part. Raises `DataError` for an unknown id or an unreadable picture."""
        return PicturePart(np.maximum(_read(self._file(part_id)), np.uint8(CARRIER_MAX_DN + 1)))

    def defect_class(self, part_id: str) -> str | None:
        """Return the name of the folder that the picture lies in; None for ``good``."""
        name = self._file(part_id).parent.name
        return None if name == GOOD else name

    def place_mask(self, part_id: str) -> Mask:
        """Return the part's mask (H, W) in the recipe's frame; all False without a mask file."""
        file = self._file(part_id)
        mask_file = file.with_name(f"{file.stem}{_MASK}.png")
        if not mask_file.exists():
            return np.zeros((self.height, self.width), np.bool_)
        mask, size = _read(mask_file), _size(file)
        if mask.shape != size:
            raise DataError(
                f"the mask {mask_file} has {mask.shape[1]}x{mask.shape[0]} pixels, its picture {size[1]}x{size[0]}; "
                "draw the mask on the picture itself"
            )
        placed: Mask = place(mask > 127, self.height, self.width, fill=0)
        return placed

    def _file(self, part_id: str) -> Path:
        try:
            return self._files[part_id]
        except KeyError:
            raise DataError(
                f"there is no part {part_id} in {self._folder}; ids look like {next(iter(self._files))}"
            ) from None


def recipe_for_folder(folder: Path, recipe_id: str = "folder") -> Recipe:
    """Return a one-light recipe for the pictures in `folder`.

    Its classes are the folders under ``seeds/``, its frame is the largest picture rounded up to multiples of 16. Raises
    `DataError` when there is no seeds folder.
    """
    product = FolderProduct(folder)
    seeds = sorted(entry.name for entry in (folder / "seeds").glob("*") if entry.is_dir())
    if not seeds:
        raise DataError(f"{folder} has no folder seeds/<class>; see docs/data-layout.md for the layout")
    return Recipe(
        recipe_id=recipe_id,
        product=recipe_id,
        height=product.height,
        width=product.width,
        channels=(Channel(name="grey", exposure_us=1000.0, lights={"light": 1.0}),),
        carrier_max_dn=CARRIER_MAX_DN,
        defect_classes=tuple(DefectClass(name=name) for name in seeds),
    )


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"the data folder {folder} does not exist; see docs/data-layout.md for what it must hold")
    found = {
        file.relative_to(folder).with_suffix("").as_posix(): file
        for file in sorted(folder.glob("*/*/*"))
        if file.suffix.lower() in _SUFFIXES and not file.stem.endswith(_MASK)
    }
    if not found:
        raise DataError(f"{folder} holds no pictures as <split>/<class>/NAME.png; see docs/data-layout.md")
    return found


def _frame_size(files: Iterable[Path]) -> tuple[int, int]:
    sizes = [_size(file) for file in files]
    height, width = max(size[0] for size in sizes), max(size[1] for size in sizes)
    return -(-height // 16) * 16, -(-width // 16) * 16


def _size(file: Path) -> tuple[int, int]:
    """Return (height, width) from the file's header."""
    try:
        with Image.open(file) as image:
            return image.height, image.width
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"can't read the picture {file}: {error}; remove or replace it") from error


def _read(file: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(file) as image:
            if image.mode not in {"L", "1", "P", "RGB", "RGBA"}:
                raise DataError(f"{file} has mode {image.mode}; the emulated cell presents 8-bit pictures only")
            return np.asarray(image.convert("L"))
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"can't read the picture {file}: {error}; remove or replace it") from error
