"""A contact sheet of the emulated cell: parts down, lights across, the true mask outlined in the last column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from drivers.sim.cell import EmulatedCell
from drivers.sim.flaws import FLAWS
from drivers.sim.plate import HEIGHT, WIDTH, PlateProduct, recipe_for_plate

_GAP, _CAPTION = 4, 14


def plate_sheet(file: Path, lights: int = 4, each: int = 2, random_seed: int = 1) -> None:
    """Write a PNG of `each` parts of every class under each of `lights` lights. Raises `OSError`."""
    recipe = recipe_for_plate(lights)
    cell = EmulatedCell(PlateProduct(lights, random_seed), random_seed)
    parts = [f"{name}-{index:06d}" for name in ("good", *FLAWS) for index in range(each)]
    size = ((WIDTH + _GAP) * (lights + 1) + _GAP, (HEIGHT + _CAPTION + _GAP) * len(parts) + _GAP)
    sheet = Image.new("RGB", size, (32, 32, 32))
    draw = ImageDraw.Draw(sheet)
    for row, part_id in enumerate(parts):
        top = _GAP + row * (HEIGHT + _CAPTION + _GAP)
        cell.present(part_id)
        shown: list[tuple[str, NDArray[np.uint8]]] = []
        for channel in recipe.channels:
            cell.illuminate(channel.lights)
            pixels = cell.picture(recipe.height, recipe.width, channel.exposure_us, channel.gain_db)
            shown.append((channel.name, np.repeat(pixels[..., None], 3, axis=2).astype(np.uint8)))
        shown.append(("truth", _outlined(shown[0][1], cell.product.place_mask(part_id))))
        for column, (name, picture) in enumerate(shown):
            left = _GAP + column * (WIDTH + _GAP)
            draw.text((left, top), f"{part_id} {name}", fill=(220, 220, 220))
            sheet.paste(Image.fromarray(picture), (left, top + _CAPTION))
    sheet.save(file)


def _outlined(picture: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    marked = picture.copy()
    marked[ndimage.binary_dilation(mask, iterations=2) & ~mask] = (255, 64, 64)
    return marked
