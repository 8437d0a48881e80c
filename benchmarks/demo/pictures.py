"""Pictures for the report: crops and sheets as PNG data URIs, so that the report is one file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cell.defects import Mask
from cell.frames import Stack

Grey = NDArray[np.uint8]
#: Edge of a crop in pixels of the report.
TILE = 132
_OUTLINE = (255, 176, 0)


@dataclass(frozen=True, slots=True)
class Picture:
    """One captioned picture of the report; `uri` is a ``data:image/png`` address."""

    uri: str
    caption: str
    tone: str = ""  # ok, bad or empty: the colour of its frame


def to_8_bit(channel: NDArray[np.generic], low: float, high: float) -> Grey:
    """Stretch DN linearly from [`low`, `high`] to 8 bit for display."""
    span = max(high - low, 1.0)
    stretched = (channel.astype(np.float64) - low) / span * 255.0
    return np.clip(stretched, 0, 255).astype(np.uint8)


def stretch_of(stack: Stack) -> tuple[float, float]:
    """Return the DN between which a stack is displayed: its 0.5 % and 99.5 % quantiles, the same for all channels."""
    low, high = np.percentile(stack, [0.5, 99.5])
    return float(low), float(high)


def crop_box(mask: Mask, margin: float = 0.8, least: int = 48) -> tuple[slice, slice]:
    """Return a square window around a mask, `margin` of its size wider on each side, inside the picture."""
    rows, columns = np.nonzero(mask)
    centre = (int(rows.min() + rows.max()) // 2, int(columns.min() + columns.max()) // 2)
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    size = min(max(int(extent * (1 + 2 * margin)), least), *mask.shape)
    starts = [min(max(c - size // 2, 0), length - size) for c, length in zip(centre, mask.shape, strict=True)]
    return slice(starts[0], starts[0] + size), slice(starts[1], starts[1] + size)


def crop(stack: Stack, channel: int, mask: Mask, caption: str, *, outline: bool = False, tone: str = "") -> Picture:
    """Return the neighbourhood of a mask in one channel, stretched as the whole stack is, `TILE` pixels wide."""
    window = crop_box(mask)
    grey = to_8_bit(stack[channel][window], *stretch_of(stack))
    image = Image.fromarray(grey).convert("RGB").resize((TILE, TILE), Image.Resampling.BICUBIC)
    if outline:
        image = _outlined(image, mask[window])
    return Picture(uri=data_uri(image), caption=caption, tone=tone)


def whole(stack: Stack, channel: int, caption: str, *, width: int = 220, mask: Mask | None = None) -> Picture:
    """Return a whole part in one channel, with the outline of `mask` when given."""
    grey = to_8_bit(stack[channel], *stretch_of(stack))
    height = max(1, round(width * grey.shape[0] / grey.shape[1]))
    image = Image.fromarray(grey).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    if mask is not None and mask.any():
        image = _outlined(image, mask)
    return Picture(uri=data_uri(image), caption=caption)


def data_uri(image: Image.Image) -> str:
    """Return an image as a PNG data URI."""
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _outlined(image: Image.Image, mask: Mask) -> Image.Image:
    scaled = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(image.size)) > 127
    edge = ndimage.binary_dilation(scaled) & ~scaled
    pixels = np.asarray(image).copy()
    pixels[edge] = _OUTLINE
    return Image.fromarray(pixels)
