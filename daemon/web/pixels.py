"""Pictures of the store, as a browser can show them: one channel as an 8-bit PNG, and masks as outlines.

What is shown is what is decided about: the digest that the record names is checked against the pixels read, the
stretch from digital numbers (DN) to grey is linear between two DN that stand in the address of the picture, and a
picture is only ever made smaller by averaging.
"""

from __future__ import annotations

import io
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cell import digest
from cell.defects import ImageRef, LabelMap
from cell.errors import DataError, NotFound
from cell.frames import StoredStack
from cell.imaging import figures
from cell.recipes import Rect
from cell.store import images
from cell.store.layout import StateDir

#: Longest side of a shown picture, pixels; larger parts are averaged down.
WHOLE_PX = 1280
_CACHE_BYTES = 256 << 20
_PATH = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*\.(?:tif|png)")
_LONGEST_PATH = 250
_SAMPLES = 250_000
#: Colours (RGB) of clipped pixels, as cameras' viewers have them: blue at 0, red at saturation.
UNDER, OVER = (40, 120, 255), (255, 32, 48)


@dataclass(frozen=True, slots=True)
class View:
    """One picture of one channel: which part of it and how digital numbers become grey (`low` black, `high` white)."""

    channel: int
    low: int
    high: int
    box: Rect | None = None
    longest: int = WHOLE_PX


class Gallery:
    """Reads pictures below the state directory, and nothing else there. Safe for threads; memory is bounded."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._stacks: OrderedDict[tuple[str, str], StoredStack] = OrderedDict()

    def stack(self, path: str, expected: str) -> StoredStack:
        """Return the stack at a relative path whose pixels have that digest.

        Raises `NotFound` for a path that names no picture of the store, `DataError` for a damaged or another one.
        """
        key = (path, expected)
        # One at a time: the K channels of one part are asked for together, and should be read once.
        with self._lock:
            known = self._stacks.get(key)
            if known is not None:
                self._stacks.move_to_end(key)
                return known
            if self._held() > _CACHE_BYTES:
                self._stacks.clear()  # a large one has been shown: two would not fit what the service may take
            stack = images.read_stack(self._locate(path, ".tif"))
            _same(digest.of_array(stack.pixels), expected, path)
            self._keep(key, stack)
        return stack

    def label(self, ref: ImageRef) -> LabelMap:
        """Return a mask's label image. Raises as :meth:`stack`."""
        label = images.read_label(self._locate(ref.path, ".png"))
        _same(digest.of_array(label), ref.digest, ref.path)
        return label

    def png(self, path: str, expected: str, view: View) -> bytes:
        """Return one channel of a stack as an 8-bit grey PNG. Raises as :meth:`stack`; `DataError` for a bad view."""
        return render(self.stack(path, expected), view)

    def _locate(self, path: str, suffix: str) -> Path:
        if len(path) > _LONGEST_PATH or not _PATH.fullmatch(path) or not path.endswith(suffix):
            raise NotFound(f"there is no picture {path[:80]!r} in the store; open it from its page")
        root = self._state.root.resolve()
        found = (root / path).resolve()
        # A link that leads out of the state directory is not followed.
        if not found.is_relative_to(root) or not found.is_file():
            raise NotFound(f"there is no picture {path[:80]!r} in the store; it may have been archived away")
        return found

    def _keep(self, key: tuple[str, str], stack: StoredStack) -> None:
        self._stacks[key] = stack
        while len(self._stacks) > 1 and self._held() > _CACHE_BYTES:
            self._stacks.popitem(last=False)

    def _held(self) -> int:
        return sum(kept.pixels.nbytes for kept in self._stacks.values())


def render(stack: StoredStack, view: View) -> bytes:
    """Return a PNG of `view`. Raises `DataError` when it names a channel, box or stretch that is not there."""
    channels = stack.pixels.shape[0]
    if not 0 <= view.channel < channels:
        raise DataError(f"the picture has {channels} channels; there is no channel {view.channel}")
    if not 0 <= view.low < view.high <= 65535:
        raise DataError(f"a stretch from {view.low} to {view.high} DN shows nothing; give low below high")
    pixels = _cut(stack, view.channel, view.box)
    values = np.arange(np.iinfo(stack.pixels.dtype).max + 1, dtype=np.float64)
    table = np.clip(np.rint((values - view.low) * 255.0 / (view.high - view.low)), 0, 255).astype(np.uint8)
    picture = Image.fromarray(table[pixels])
    size = _fitting(picture.size, view.longest)
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.BOX)
    out = io.BytesIO()
    picture.save(out, format="PNG", compress_level=1)
    return out.getvalue()


def clipping_marks(stack: StoredStack, channel: int, box: Rect | None, longest: int) -> bytes:
    """Return a PNG of `longest` at most that is `UNDER` where a pixel of `channel` is 0, `OVER` where one is at full
    scale or at the value below it where the sensor's own saturation piles up, transparent elsewhere.

    A pixel of a smaller picture is marked when any that it stands for is. Raises `DataError` for a box outside.
    """
    pixels = _cut(stack, channel, box)
    found = figures.levels(stack.pixels[channel], stack.bit_depth)
    limit = found.full_scale if found.ceiling is None else found.ceiling
    size = _fitting((pixels.shape[1], pixels.shape[0]), longest)
    picture = np.zeros((size[1], size[0]), np.uint8)
    for index, clipped in ((1, pixels == 0), (2, pixels >= limit)):
        rows, columns = np.nonzero(clipped)
        picture[rows * size[1] // pixels.shape[0], columns * size[0] // pixels.shape[1]] = index
    shown = Image.fromarray(picture, "P")
    shown.putpalette([0, 0, 0, *UNDER, *OVER])
    out = io.BytesIO()
    shown.save(out, format="PNG", transparency=0, compress_level=1)
    return out.getvalue()


def stretch(stack: StoredStack, channel: int) -> tuple[int, int]:
    """Return the DN (low, high) between which all but the darkest and brightest 0.1 % of a channel lie, with a margin.

    Taken from the background of a candidate and used for both, so that the two are comparable pixel by pixel.
    """
    pixels = stack.pixels[channel]
    step = max(1, int(np.sqrt(pixels.size / _SAMPLES)))
    low, high = np.percentile(pixels[::step, ::step], (0.1, 99.9))
    largest = (1 << stack.bit_depth) - 1
    margin = max(1.0, 0.06 * (high - low), largest / 128)
    return max(0, int(low - margin)), min(largest, int(np.ceil(high + margin)))


def around(box: Rect, height: int, width: int, margin: float, least: int) -> Rect:
    """Return a square-ish region about `box`, `margin` of its longer side more on each side and at least `least` px
    long, moved so that it lies in the picture."""
    side = max(least, round(max(box.width, box.height) * (1 + 2 * margin)))
    wide, tall = min(side, width), min(side, height)
    x = min(max(0, box.x + box.width // 2 - wide // 2), width - wide)
    y = min(max(0, box.y + box.height // 2 - tall // 2), height - tall)
    return Rect(x=x, y=y, width=wide, height=tall)


def outline(label: LabelMap) -> str:
    """Return the border of a mask as an SVG path along the pixels' edges, in pixels of the picture."""
    inside = np.pad(label > 0, 1)
    pieces: list[str] = []
    for y, x, length in _runs(inside[1:] != inside[:-1]):
        pieces.append(f"M{x - 1} {y}h{length}")
    for x, y, length in _runs((inside[:, 1:] != inside[:, :-1]).T):
        pieces.append(f"M{x} {y - 1}v{length}")
    return "".join(pieces)


def _runs(edges: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Return (row, first column, length) of each run of True along the rows."""
    padded = np.pad(edges.astype(np.int8), ((0, 0), (1, 1)))
    steps = np.diff(padded, axis=1)
    starts, ends = np.argwhere(steps == 1), np.argwhere(steps == -1)
    return [(int(a[0]), int(a[1]), int(b[1] - a[1])) for a, b in zip(starts, ends, strict=True)]


def _cut(stack: StoredStack, channel: int, box: Rect | None) -> NDArray[Any]:
    height, width = stack.pixels.shape[1:]
    pixels: NDArray[Any] = stack.pixels[channel]
    if box is None:
        return pixels
    if not box.inside(height, width):
        raise DataError(f"the box lies outside the {width}x{height} picture")
    return pixels[box.y : box.y + box.height, box.x : box.x + box.width]


def _fitting(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return (width, height) no longer than `longest`, of the same shape."""
    scale = max(1.0, max(size) / longest)
    return max(1, round(size[0] / scale)), max(1, round(size[1] / scale))


def _same(found: str, expected: str, path: str) -> None:
    if found != expected:
        raise DataError(f"the picture {path} is not the one that was stored; restore it from the backup")
