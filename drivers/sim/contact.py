"""A contact sheet of the rendered products: parts with their defects down, lights across, what is true at the end."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from cell.errors import ConfigurationError
from cell.recipes import Recipe, Rect
from cell.store.files import write_bytes
from drivers.sim.cell import EmulatedCell
from drivers.sim.flaws import FLAWS
from drivers.sim.plate import PlateProduct, recipe_for_plate
from drivers.sim.products.catalogue import PRODUCTS, named
from drivers.sim.render.lamps import LampKind, rig
from drivers.sim.studio import GOOD, StudioProduct, recipe_for

_PLATE = "plate"
_GAP, _CAPTION = 4, 14
_GROUND, _INK, _TRUE = (24, 24, 24), (220, 220, 220), (255, 64, 64)
#: Least side of the region about a defect that is shown enlarged, pixels.
_NEAR = 56
#: A person's eye tells no finer step than this apart, DN: even ground is not preferred without end.
_LEAST_SPREAD_DN = 2.0

Picture = NDArray[np.uint8]  # (H, W, 3)


def product_sheet(
    file: Path,
    products: Sequence[str] = (),
    lights: str = "4+ring",
    each: int = 1,
    random_seed: int = 1,
    on_part: Callable[[str, int, int], None] = lambda _name, _done, _of: None,
) -> int:
    """Write a PNG: `each` parts of every class of every product, a column for each light; return how many parts.

    The last column shows the defect enlarged, its true mask outlined. `products` are all rendered ones when empty, and
    may name the plate; `lights` is a rig as in ``disc-4+ring``. `on_part` is told what is rendered next. Raises
    `ConfigurationError` for an unknown product or light, and what `write_bytes` raises.
    """
    chosen = [_exhibit(name, lights, random_seed) for name in (products or tuple(PRODUCTS))]
    rows = [(item, f"{kind}-{index:06d}") for item in chosen for kind in item.kinds for index in range(each)]
    width = max(item.recipe.width for item in chosen)
    height = max(item.recipe.height for item in chosen)
    columns = max(len(item.recipe.channels) for item in chosen) + 1
    size = ((width + _GAP) * columns + _GAP, (height + _CAPTION + _GAP) * len(rows) + _GAP)
    sheet = Image.new("RGB", size, _GROUND)
    draw = ImageDraw.Draw(sheet)
    for row, (item, part_id) in enumerate(rows):
        on_part(f"{item.name} {part_id}", row, len(rows))
        top = _GAP + row * (height + _CAPTION + _GAP)
        for column, (name, picture) in enumerate(_pictures(item, part_id, random_seed)):
            left = _GAP + column * (width + _GAP)
            draw.text((left, top), f"{item.name}  {part_id}  {name}", fill=_INK)
            sheet.paste(Image.fromarray(picture), (left, top + _CAPTION))
    held = io.BytesIO()
    sheet.save(held, format="PNG")
    write_bytes(file, held.getvalue())
    return len(rows)


@dataclass(frozen=True, slots=True)
class _Exhibit:
    """A product, how it is taken, and the kinds of its parts."""

    name: str
    product: StudioProduct | PlateProduct
    recipe: Recipe
    kinds: tuple[str, ...]


def _exhibit(name: str, lights: str, random_seed: int) -> _Exhibit:
    if name == _PLATE:
        # The plate knows bars alone.
        bars = sum(lamp.kind is LampKind.BAR for lamp in rig(lights)) or 1
        return _Exhibit(name, PlateProduct(bars, random_seed), recipe_for_plate(bars), (GOOD, *FLAWS))
    if name not in PRODUCTS:
        raise ConfigurationError(f"there is no emulated product {name}; there are {_PLATE}, {', '.join(PRODUCTS)}")
    blueprint, lamps = named(f"{name}-{lights}")
    product = StudioProduct(blueprint, lamps, random_seed)
    return _Exhibit(name, product, recipe_for(product), (GOOD, *blueprint.defects))


def _pictures(item: _Exhibit, part_id: str, random_seed: int) -> list[tuple[str, Picture]]:
    recipe, cell = item.recipe, EmulatedCell(item.product, random_seed)
    cell.present(part_id)
    shown: list[tuple[str, Picture]] = []
    for channel in recipe.channels:
        cell.illuminate(channel.lights)
        grey = cell.picture(recipe.height, recipe.width, channel.exposure_us, channel.gain_db, 8).astype(np.uint8)
        shown.append((channel.name, np.repeat(grey[..., None], 3, axis=2)))
    mask = item.product.place_mask(part_id)
    if mask.any():
        shown.append(("truth", _enlarged(_best(shown, mask), mask)))
    return shown


def _best(shown: Sequence[tuple[str, Picture]], mask: NDArray[np.bool_]) -> Picture:
    """Return the picture in which the defect differs most from what is about it."""
    about = ndimage.binary_dilation(mask, iterations=8) & ~ndimage.binary_dilation(mask, iterations=2)

    def contrast(picture: Picture) -> float:
        # Smoothed, and a high percentile: the mask has a margin, and noise alone must not pass for a difference.
        grey = ndimage.uniform_filter(picture[..., 0].astype(np.float32), 3)
        if not about.any():
            return 0.0
        level, spread = grey[about].mean(), grey[about].std()
        return float(np.percentile(np.abs(grey[mask] - level), 80) / (spread + _LEAST_SPREAD_DN))

    return max((picture for _, picture in shown), key=contrast)


def _enlarged(picture: Picture, mask: NDArray[np.bool_]) -> Picture:
    height, width = mask.shape
    box = _about(mask)
    rows, columns = slice(box.y, box.y + box.height), slice(box.x, box.x + box.width)
    factor = max(1, min(height // box.height, width // box.width))
    large = picture[rows, columns].repeat(factor, axis=0).repeat(factor, axis=1)
    inside = mask[rows, columns].repeat(factor, axis=0).repeat(factor, axis=1)
    large[ndimage.binary_dilation(inside) & ~inside] = _TRUE
    return np.ascontiguousarray(large)


def _about(mask: NDArray[np.bool_]) -> Rect:
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    tall = min(height, max(_NEAR, round(1.6 * (np.ptp(rows) + 1))))
    wide = min(width, max(_NEAR, round(1.6 * (np.ptp(columns) + 1))))
    y = min(max(0, int(rows.min() + rows.max() - tall) // 2), height - tall)
    x = min(max(0, int(columns.min() + columns.max() - wide) // 2), width - wide)
    return Rect(x=x, y=y, width=wide, height=tall)
