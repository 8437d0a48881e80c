"""What is compared: windows around defects, with where the defect is and where its surroundings are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask
from cell.frames import Stack

Maps = NDArray[np.float32]

#: Pixels around a defect that belong to its window, and the largest window; larger defects show their middle.
MARGIN, LARGEST = 20, 192
#: The defect's own rim belongs to it: that is where a paste shows. Surroundings begin where no patch that touches it,
#: and no compositor's feather, reaches.
RIM, GAP, REACH = 1, 8, 18
#: Side of windows without a defect.
PLAIN = 48


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A window: `pixels` (K, h, w) float32 DN, where the defect is and where its surroundings are, (h, w) bool.

    `part` is the physical part that the window lies on.
    """

    pixels: Maps
    inside: Mask
    around: Mask
    part: str
    name: str = ""


def crop_of(stack: Stack, mask: Mask, part: str, *, on_part: Mask | None = None, name: str = "") -> Crop:
    """Cut the window around a defect.

    :param stack: (K, H, W) DN; :param mask: (H, W) bool, not empty; :param on_part: (H, W) bool, where the part is.
    """
    window = _window(mask)
    cut = mask[window]
    inside = ndimage.binary_dilation(cut, iterations=RIM)
    near = ndimage.binary_dilation(cut, iterations=REACH) & ~ndimage.binary_dilation(cut, iterations=GAP)
    if on_part is not None:
        near &= on_part[window]
    return Crop(stack[(slice(None), *window)].astype(np.float32), inside, near, part, name)


def plain_crop(stack: Stack, top: int, left: int, part: str, name: str = "") -> Crop:
    """Cut a window without a defect; its middle disc stands where a defect would be."""
    window = stack[:, top : top + PLAIN, left : left + PLAIN].astype(np.float32)
    disc = middle_disc()
    near = ndimage.binary_dilation(disc, iterations=REACH) & ~ndimage.binary_dilation(disc, iterations=GAP)
    return Crop(window, disc, near, part, name)


def middle_disc(radius: float = 10.0) -> Mask:
    """Return the disc of a window without a defect, (PLAIN, PLAIN) bool."""
    y, x = np.indices((PLAIN, PLAIN)) - (PLAIN - 1) / 2
    disc: Mask = y * y + x * x <= radius * radius
    return disc


def plain_corners(
    allowed: Mask, count: int, rng: np.random.Generator, *, least_share: float = 0.9
) -> list[tuple[int, int]]:
    """Return corners (row, column) of `count` windows at random places where a defect might lie; fewer where there is
    less room."""
    height, width = allowed.shape
    if height < PLAIN or width < PLAIN:
        return []
    share = ndimage.uniform_filter(allowed.astype(np.float32), PLAIN, mode="constant")
    half = PLAIN // 2
    inner = share[half : height - PLAIN + half + 1, half : width - PLAIN + half + 1]
    rows, columns = np.nonzero(inner >= least_share)
    if not rows.size:
        return []
    chosen = rng.choice(rows.size, min(count, rows.size), replace=False)
    return [(int(rows[index]), int(columns[index])) for index in chosen]


def crude_paste(source: Crop, target: Maps, rng: np.random.Generator, part: str) -> Crop:
    """Return the positive control: a real defect, rotated and scaled a little, pasted with a hard outline.

    What an image editor would do: the pixels are interpolated, so their noise is gone, and nothing fits the light of
    the place.

    :param target: (K, H, W) float32 DN, a good part's picture at least as large as the source's window.
    """
    height, width = source.inside.shape
    turn, scale = rng.uniform(-0.5, 0.5), rng.uniform(0.8, 1.2)
    cosine, sine = np.cos(turn) / scale, np.sin(turn) / scale
    matrix = np.array([[cosine, sine], [-sine, cosine]])
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    offset = centre - matrix @ centre
    moved = np.stack(
        [ndimage.affine_transform(channel, matrix, offset, order=1, mode="nearest") for channel in source.pixels]
    )
    core = ndimage.binary_erosion(source.inside, iterations=RIM) if source.inside.sum() > 12 else source.inside
    shape = ndimage.affine_transform(core.astype(np.float32), matrix, offset, order=1) > 0.5
    if not shape.any():
        shape, moved = core, source.pixels
    top = int(rng.integers(0, max(1, target.shape[1] - height + 1)))
    left = int(rng.integers(0, max(1, target.shape[2] - width + 1)))
    window = target[:, top : top + height, left : left + width].copy()
    window[:, shape] = np.rint(moved[:, shape])
    inside = ndimage.binary_dilation(shape, iterations=RIM)
    near = ndimage.binary_dilation(shape, iterations=REACH) & ~ndimage.binary_dilation(shape, iterations=GAP)
    return Crop(window, inside, near, part, f"paste of {source.name}")


def parts_of(crops: Sequence[Crop]) -> tuple[str, ...]:
    """Return the physical parts, each once, in order of appearance."""
    return tuple(dict.fromkeys(crop.part for crop in crops))


def _window(mask: Mask) -> tuple[slice, slice]:
    """Return where a mask lies with a margin; of one that is larger than a window, where most of it is.

    The middle of a bent scratch, or of two spots far apart, may show none of it.
    """
    rows, columns = np.nonzero(mask)
    down, across = (
        _span(int(at.min()), int(at.max()), length) for at, length in ((rows, mask.shape[0]), (columns, mask.shape[1]))
    )
    if max(np.ptp(rows), np.ptp(columns)) < LARGEST - 2 * MARGIN:
        return down, across
    size = (down.stop - down.start, across.stop - across.start)
    share = ndimage.uniform_filter(mask.astype(np.float32), size, mode="constant")
    share[~mask] = 0.0
    row, column = np.unravel_index(int(share.argmax()), share.shape)
    return _about(int(row), size[0], mask.shape[0]), _about(int(column), size[1], mask.shape[1])


def _about(middle: int, size: int, length: int) -> slice:
    low = max(0, min(middle - size // 2, length - size))
    return slice(low, low + size)


def _span(first: int, last: int, length: int) -> slice:
    middle, half = (first + last + 1) // 2, min((last - first + 1) // 2 + MARGIN, LARGEST // 2)
    low = max(0, min(middle - half, length - 2 * half))
    return slice(low, min(length, low + 2 * half))
