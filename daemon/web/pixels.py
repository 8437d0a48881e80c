"""Pictures of the store, as a browser can show them: one channel as an 8-bit PNG, and masks as outlines.

What is shown is what is decided about: the digest that the record names is checked against the pixels read, the
stretch from digital numbers (DN) to grey is linear between two DN that stand in the address of the picture, and a
picture is only ever made smaller by averaging.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cell import digest
from cell.defects import ImageRef, LabelMap
from cell.errors import DataError, NotFound
from cell.frames import Pixels
from cell.imaging import figures
from cell.recipes import Rect
from cell.store import images
from cell.store.layout import StateDir
from cell.store.stack_file import StackFile

#: Longest side of a shown picture, pixels; larger parts are averaged down.
WHOLE_PX = 1280
#: Pixels that are kept; what one request works with comes on top: one channel twice, and as much again of 8 bit.
_CACHE_BYTES = 192 << 20
#: Stacks whose digest need not be computed again, and the size from which on a channel is large, bytes.
_KNOWN, _LARGE_BYTES = 256, 8 << 20
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


@dataclass(frozen=True, slots=True)
class _Verified:
    """A stack whose pixels were found to be those of its digest; `identity` tells when its file is another."""

    file: StackFile
    identity: tuple[int, ...]
    stretches: tuple[tuple[int, int], ...]


class Picture:
    """A stored stack whose channels are read when they are asked for; see :meth:`Gallery.stack`."""

    def __init__(
        self, verified: _Verified, channel: Callable[[int], Pixels], patch: Callable[[int, Rect], Pixels]
    ) -> None:
        facts = verified.file.facts
        self.channels = facts.channels
        self.exposure_us = facts.exposure_us
        self.bit_depth = facts.bit_depth
        self.height, self.width = facts.shape[1:]
        self.channel_bytes = self.height * self.width * facts.dtype.itemsize
        self._stretches = verified.stretches
        self._channel = channel
        self._patch = patch

    def channel(self, index: int) -> Pixels:
        """Return a channel's pixels, (H, W) uint8 or uint16. Raises `DataError` when the file is another by now."""
        if not 0 <= index < len(self.channels):
            raise DataError(f"the picture has {len(self.channels)} channels; there is no channel {index}")
        return self._channel(index)

    def patch(self, index: int, box: Rect) -> Pixels:
        """Return the pixels of a box, which must lie inside, without reading the others where that can be."""
        return self._patch(index, box)

    def stretch(self, index: int) -> tuple[int, int]:
        """Return the channel's range of digital numbers, see :func:`stretch`."""
        return self._stretches[index]


class Gallery:
    """Reads pictures below the state directory, and nothing else there. Safe for threads; memory is bounded.

    A stack is read channel by channel, and no more channels are kept than `cache_bytes` allow, but one: a part of eight
    channels of 50 MP and 12 bit has 800 MB, which no page needs at once and the service's MemoryMax would not hold.
    """

    def __init__(self, state: StateDir, cache_bytes: int = _CACHE_BYTES) -> None:
        self._state = state
        self._most = cache_bytes
        self._lock = threading.Lock()
        self._large = threading.Lock()
        self._known: OrderedDict[tuple[str, str], _Verified] = OrderedDict()
        self._channels: OrderedDict[tuple[str, str, int], Pixels] = OrderedDict()

    def stack(self, path: str, expected: str) -> Picture:
        """Return the stack at a relative path whose pixels have that digest.

        Raises `NotFound` for a path that names no picture of the store, `DataError` for a damaged or another one.
        """
        key = (path, expected)
        # One at a time: the K channels of one part are asked for together, and should be read once.
        with self._lock:
            verified = self._known.get(key)
            if verified is None or _identity(self._locate(path, ".tif")) != verified.identity:
                verified = self._verify(key)
                self._known[key] = verified
                while len(self._known) > _KNOWN:
                    self._known.popitem(last=False)
            self._known.move_to_end(key)
        return Picture(verified, partial(self._channel, key, verified), partial(self._patch, key, verified))

    def label(self, ref: ImageRef) -> LabelMap:
        """Return a mask's label image. Raises as :meth:`stack`."""
        label = images.read_label(self._locate(ref.path, ".png"))
        _same(digest.of_array(label), ref.digest, ref.path)
        return label

    def png(self, path: str, expected: str, view: View) -> bytes:
        """Return one channel of a stack as an 8-bit grey PNG. Raises as :meth:`stack`; `DataError` for a bad view."""
        picture = self.stack(path, expected)
        with self.turn(picture):
            return render(picture.channel(view.channel), view)

    @contextlib.contextmanager
    def turn(self, picture: Picture) -> Iterator[None]:
        """Let one thread at a time work on the pixels of large pictures: a browser asks for all channels at once."""
        if picture.channel_bytes < _LARGE_BYTES:
            yield
        else:
            with self._large:
                yield

    def _verify(self, key: tuple[str, str]) -> _Verified:
        path = self._locate(key[0], ".tif")
        identity = _identity(path)
        file = StackFile(path)
        _same(file.facts.digest, key[1], key[0])  # what the file says of itself; below, that it says so rightly
        self._make_room(min(self._most, file.facts.dtype.itemsize * math.prod(file.facts.shape)))
        stretches = []
        read: list[Pixels] = []  # that may be kept once all were seen
        for pixels in file.verified():
            stretches.append(stretch(pixels, file.facts.bit_depth))
            read.append(pixels)
            while sum(channel.nbytes for channel in read) > self._most:
                read.pop(0)
        verified = _Verified(file, identity, tuple(stretches))
        self._require_same(key, verified)
        for back, pixels in enumerate(reversed(read), 1):
            self._keep((*key, len(stretches) - back), pixels)
        return verified

    def _require_same(self, key: tuple[str, str], verified: _Verified) -> None:
        if _identity(self._locate(key[0], ".tif")) != verified.identity:
            raise DataError(f"the picture {key[0]} changed while it was read; look at it again")

    def _channel(self, key: tuple[str, str], verified: _Verified, index: int) -> Pixels:
        with self._lock:
            kept = self._channels.get((*key, index))
            if kept is not None:
                self._channels.move_to_end((*key, index))
                return kept
            facts = verified.file.facts
            self._make_room(facts.dtype.itemsize * math.prod(facts.shape[1:]))
            pixels = verified.file.channel(index)
            self._require_same(key, verified)
            self._keep((*key, index), pixels)
        return pixels

    def _patch(self, key: tuple[str, str], verified: _Verified, index: int, box: Rect) -> Pixels:
        with self._lock:
            kept = self._channels.get((*key, index))
        pixels = _cut(kept, box) if kept is not None else verified.file.patch(index, box)
        self._require_same(key, verified)
        return pixels

    def _locate(self, path: str, suffix: str) -> Path:
        if len(path) > _LONGEST_PATH or not _PATH.fullmatch(path) or not path.endswith(suffix):
            raise NotFound(f"there is no picture {path[:80]!r} in the store; open it from its page")
        root = self._state.root.resolve()
        found = (root / path).resolve()
        # A link that leads out of the state directory is not followed.
        if not found.is_relative_to(root) or not found.is_file():
            raise NotFound(f"there is no picture {path[:80]!r} in the store; it may have been archived away")
        return found

    def _keep(self, key: tuple[str, str, int], pixels: Pixels) -> None:
        self._make_room(pixels.nbytes)
        self._channels[key] = pixels

    def _make_room(self, needed: int) -> None:
        held = sum(kept.nbytes for kept in self._channels.values())
        while self._channels and held + needed > self._most:
            held -= self._channels.popitem(last=False)[1].nbytes


def _identity(path: Path) -> tuple[int, ...]:
    """Return what changes with whatever is done to a file: no program can set the time of its last change."""
    try:
        found = path.stat()
    except OSError as error:
        raise NotFound(f"the picture {path.name} is gone: {error.strerror}; open it from its page") from error
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def render(pixels: Pixels, view: View) -> bytes:
    """Return a PNG of `view` of a channel (H, W). Raises `DataError` when its box or stretch is not there."""
    if not 0 <= view.low < view.high <= 65535:
        raise DataError(f"a stretch from {view.low} to {view.high} DN shows nothing; give low below high")
    values = np.arange(np.iinfo(pixels.dtype).max + 1, dtype=np.float64)
    table = np.clip(np.rint((values - view.low) * 255.0 / (view.high - view.low)), 0, 255).astype(np.uint8)
    picture = Image.fromarray(table[_cut(pixels, view.box)])
    size = _fitting(picture.size, view.longest)
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.BOX)
    out = io.BytesIO()
    picture.save(out, format="PNG", compress_level=1)
    return out.getvalue()


def clipping_marks(pixels: Pixels, bit_depth: int, box: Rect | None, longest: int) -> bytes:
    """Return a PNG of `longest` at most that is `UNDER` where a pixel of a channel (H, W) is 0, `OVER` where one is at
    full scale or at the value below it where the sensor's own saturation piles up, transparent elsewhere.

    A pixel of a smaller picture is marked when any that it stands for is. Raises `DataError` for a box outside.
    """
    cut = _cut(pixels, box)
    found = figures.levels(pixels, bit_depth)
    limit = found.full_scale if found.ceiling is None else found.ceiling
    size = _fitting((cut.shape[1], cut.shape[0]), longest)
    picture = np.zeros((size[1], size[0]), np.uint8)
    picture[_any_of(cut == 0, size)] = 1
    picture[_any_of(cut >= limit, size)] = 2
    shown = Image.fromarray(picture, "P")
    shown.putpalette([0, 0, 0, *UNDER, *OVER])
    out = io.BytesIO()
    shown.save(out, format="PNG", transparency=0, compress_level=1)
    return out.getvalue()


def _any_of(marked: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return (height, width) of `size`: where any pixel is marked of those that fall on one of the smaller picture."""
    for axis, length in ((0, size[1]), (1, size[0])):
        # The first pixel of each group: pixel i falls on i * length // whole.
        starts = -(-np.arange(length) * marked.shape[axis] // length)
        marked = np.logical_or.reduceat(marked, starts, axis=axis)
    return marked


def stretch(pixels: Pixels, bit_depth: int) -> tuple[int, int]:
    """Return the DN (low, high) between which all but the darkest and brightest 0.1 % of a channel lie, with a margin.

    Taken from the background of a candidate and used for both, so that the two are comparable pixel by pixel.
    """
    step = max(1, int(np.sqrt(pixels.size / _SAMPLES)))
    low, high = np.percentile(pixels[::step, ::step], (0.1, 99.9))
    largest = (1 << bit_depth) - 1
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


def _cut(pixels: Pixels, box: Rect | None) -> Pixels:
    height, width = pixels.shape
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
