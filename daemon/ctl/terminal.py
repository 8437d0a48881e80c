"""A candidate in a terminal: every channel about the defect, two pixels a character, with the mask's corners marked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.color import Color
from rich.style import Style
from rich.text import Text

from cell.defects import LabelMap
from cell.frames import StoredStack
from cell.recipes import Rect

#: Shades that every terminal with 256 colours has: 232 (near black) to 255 (near white).
_FIRST, _SHADES = 232, 24
_MASK_COLOUR = 214
_UPPER_HALF = "▀"
_GAP = 2


def picture(stack: StoredStack, label: LabelMap, box: Rect, columns: int) -> list[Text]:
    """Return lines that show the region about `box` on as many channels as fit side by side, in `columns` characters.

    The outline of the mask is drawn on every second copy only: each channel is shown bare first, then with it.
    """
    region = _around(box, stack.pixels.shape[1], stack.pixels.shape[2])
    rows, cols = slice(region.y, region.y + region.height), slice(region.x, region.x + region.width)
    edge = _edge(label[rows, cols] > 0)
    panels: list[tuple[str, NDArray[np.uint8], NDArray[np.bool_]]] = []
    width = min(48, max(16, columns // 2 - _GAP))
    size = (width, 2 * max(1, round(width * region.height / region.width / 2)))
    for name, channel in zip(stack.channels, stack.pixels, strict=True):
        shades = _shades(channel[rows, cols], size)
        marked = np.asarray(Image.fromarray(edge.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)) > 40
        panels += [(name, shades, np.zeros_like(marked)), (f"{name}, mask", shades, marked)]
    lines: list[Text] = []
    for start in range(0, len(panels), 2):
        lines += _beside(panels[start : start + 2], width)
    return lines


def _beside(panels: list[tuple[str, NDArray[np.uint8], NDArray[np.bool_]]], width: int) -> list[Text]:
    gap = " " * _GAP
    lines = [Text(gap.join(f"{name[:width]:<{width}}" for name, _, _ in panels), style="dim")]
    for row in range(0, panels[0][1].shape[0], 2):
        line = Text()
        for _, shades, marked in panels:
            for column in range(width):
                upper = _colour(shades[row, column], marked[row, column])
                lower = _colour(shades[row + 1, column], marked[row + 1, column])
                line.append(_UPPER_HALF, Style(color=upper, bgcolor=lower))
            line.append(gap)
        lines.append(line)
    return lines


def _colour(shade: Any, marked: Any) -> Color:
    return Color.from_ansi(_MASK_COLOUR if marked else _FIRST + int(shade))


def _shades(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[np.uint8]:
    low, high = np.percentile(pixels, (0.5, 99.5))
    scaled = np.clip((pixels - low) / max(1.0, high - low) * 255, 0, 255).astype(np.uint8)
    small = np.asarray(Image.fromarray(scaled).resize(size, Image.Resampling.BOX))
    shades: NDArray[np.uint8] = (small.astype(np.uint16) * (_SHADES - 1) // 255).astype(np.uint8)
    return shades


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _around(box: Rect, height: int, width: int) -> Rect:
    side = max(40, round(2.2 * max(box.width, box.height)))
    wide, tall = min(side, width), min(side, height)
    x = min(max(0, box.x + box.width // 2 - wide // 2), width - wide)
    y = min(max(0, box.y + box.height // 2 - tall // 2), height - tall)
    return Rect(x=x, y=y, width=wide, height=tall)
