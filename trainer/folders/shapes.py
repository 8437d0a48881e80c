"""Outlines of defects as label programs write them, and the pixels that they mean.

Each shape gives a mask (H, W) bool for a picture of that size. Sources: run lengths of COCO
(https://cocodataset.org/#format-data, ``maskApi.c``), brush strokes of Label Studio (``@thi.ng/rle-pack``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cell.defects import Mask
from cell.errors import DataError
from cell.imaging.folders import read_label_picture, read_mask

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, (x, y) of its centre, turned clockwise about it; only a rough outline of a defect."""

    x: float
    y: float
    width: float
    height: float
    turn_deg: float = 0.0
    rough: ClassVar[bool] = True

    def offset(self) -> tuple[float, float]:
        """Return (x, y) from its upper left corner to its centre."""
        turn = math.radians(self.turn_deg)
        wide, tall = self.width / 2, self.height / 2
        return wide * math.cos(turn) - tall * math.sin(turn), wide * math.sin(turn) + tall * math.cos(turn)

    def mask(self, shape: tuple[int, int]) -> Mask:
        """Return its pixels."""
        turn = math.radians(self.turn_deg)
        half = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        corners = [
            (
                self.x + a * self.width / 2 * math.cos(turn) - b * self.height / 2 * math.sin(turn),
                self.y + a * self.width / 2 * math.sin(turn) + b * self.height / 2 * math.cos(turn),
            )
            for a, b in half
        ]
        return Polygons((tuple(corners),)).mask(shape)


@dataclass(frozen=True, slots=True)
class Polygons:
    """Polygons in pixels, (x, y) of their corners; what any of them encloses."""

    outlines: tuple[Points, ...]
    rough: ClassVar[bool] = False

    def mask(self, shape: tuple[int, int]) -> Mask:
        """Return the pixels whose centres the polygons enclose. Raises `DataError` for one that lies outside."""
        drawn: Mask = np.zeros(shape, np.bool_)
        for outline in self.outlines:
            drawn |= _filled(outline, shape)
        return drawn


@dataclass(frozen=True, slots=True)
class Ellipse:
    """An ellipse, (x, y) of its centre and its radii, turned clockwise."""

    x: float
    y: float
    radius_x: float
    radius_y: float
    turn_deg: float = 0.0
    rough: ClassVar[bool] = True

    def mask(self, shape: tuple[int, int]) -> Mask:
        """Return its pixels."""
        turn = math.radians(self.turn_deg)
        points = []
        for step in range(72):
            a, b = self.radius_x * math.cos(step * math.pi / 36), self.radius_y * math.sin(step * math.pi / 36)
            points.append(
                (self.x + a * math.cos(turn) - b * math.sin(turn), self.y + a * math.sin(turn) + b * math.cos(turn))
            )
        return Polygons((tuple(points),)).mask(shape)


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A picture of the mask's own. `value` is the label's in it, or its colour 0xRRGGBB; None: whatever is not 0."""

    path: Path
    value: int | None = None
    coloured: bool = False
    within: Box | None = None
    rough: ClassVar[bool] = False

    def mask(self, shape: tuple[int, int]) -> Mask:
        """Read it. Raises `DataError` when it is unreadable, empty or of another size."""
        if self.value is None:
            drawn = read_mask(self.path, shape)
        else:
            drawn = read_label_picture(self.path, shape, coloured=self.coloured) == self.value
        if self.within is not None:
            drawn = drawn & self.within.mask(shape)
        return drawn


@dataclass(frozen=True, slots=True)
class Decoded:
    """A mask that a label file holds as run lengths; `read` decodes it."""

    read: Callable[[], Mask]
    rough: ClassVar[bool] = False

    def mask(self, shape: tuple[int, int]) -> Mask:
        """Decode it. Raises `DataError` when it is of another size."""
        drawn = self.read()
        if drawn.shape != shape:
            raise DataError(
                f"its mask is {drawn.shape[1]}x{drawn.shape[0]}, the picture {shape[1]}x{shape[0]}; label it again"
            )
        return drawn


class Shape(Protocol):
    """An outline of a defect. A `rough` one is a box or an ellipse about it, which a person has to narrow."""

    @property
    def rough(self) -> bool:
        """Tell whether it only says where the defect is."""

    def mask(self, shape: tuple[int, int]) -> Mask:
        """Return its pixels, (H, W) bool. Raises `DataError` when it does not fit the picture."""


def coco_run_lengths(counts: Any, size: Any) -> Mask:
    """Decode COCO's run lengths, plain or compressed, column by column. Raises `DataError`."""
    try:
        height, width = (int(length) for length in size)
        runs = _unpacked(counts) if isinstance(counts, str) else [int(run) for run in counts]
    except (TypeError, ValueError) as error:
        raise DataError("its run lengths can't be read; export the labels again") from error
    if min(height, width) <= 0 or any(run < 0 for run in runs) or sum(runs) != height * width:
        raise DataError("its run lengths don't fill its picture; export the labels again")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape((width, height)).T.copy()


def brush_strokes(packed: Sequence[int], height: int, width: int) -> Mask:
    """Decode Label Studio's brush strokes: the alpha plane of RGBA pixels. Raises `DataError`."""
    try:
        data = _rle_pack(bytes(packed), height * width * 4)
    except (IndexError, ValueError, TypeError) as error:
        raise DataError(f"its brush strokes can't be read ({error}); export the labels again") from error
    drawn: Mask = data.reshape(height, width, 4)[..., 3] > 0
    return drawn


def _filled(outline: Points, shape: tuple[int, int]) -> Mask:
    if len(outline) < 3:
        raise DataError(f"its outline has {len(outline)} corners, at least 3 are needed; draw it again")
    if not all(math.isfinite(x) and math.isfinite(y) for x, y in outline):
        raise DataError("its outline has a corner that is no number; draw it again")
    height, width = shape
    xs, ys = [x for x, _ in outline], [y for _, y in outline]
    slack = 1.0
    if min(xs) < -slack or min(ys) < -slack or max(xs) > width + slack or max(ys) > height + slack:
        raise DataError(f"its outline leaves the {width}x{height} picture; was the picture scaled after labelling?")
    drawn: Mask = np.zeros(shape, np.bool_)
    corners = np.asarray(outline, np.float64)
    following = np.roll(corners, -1, axis=0)
    for row in range(max(0, math.floor(min(ys))), min(height, math.ceil(max(ys)))):
        centre = row + 0.5
        cuts = (corners[:, 1] <= centre) != (following[:, 1] <= centre)
        (x, y), (on_x, on_y) = corners[cuts].T, following[cuts].T
        # A pixel belongs to the half-open span in which its centre lies, so neighbours share none.
        spans = np.ceil(np.sort(x + (centre - y) / (on_y - y) * (on_x - x)) - 0.5).astype(int).clip(0, width)
        for first, last in zip(spans[::2], spans[1::2], strict=True):
            drawn[row, first:last] = True
    return drawn if drawn.any() else _rim(outline, shape)


def _rim(outline: Points, shape: tuple[int, int]) -> Mask:
    """Return the pixels along an outline so thin that it encloses the centre of none."""
    picture = Image.new("1", (shape[1], shape[0]))
    ImageDraw.Draw(picture).polygon([(math.floor(x), math.floor(y)) for x, y in outline], outline=1)
    drawn: Mask = np.asarray(picture, np.bool_)
    return drawn


def _unpacked(text: str) -> list[int]:
    """Unpack COCO's compressed run lengths (``rleFrString`` of maskApi.c): 5 bits a character, differences from the
    third on."""
    runs: list[int] = []
    at = 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            piece = ord(text[at]) - 48
            value |= (piece & 0x1F) << shift
            more = bool(piece & 0x20)
            at += 1
            shift += 5
            if not more and piece & 0x10:
                value |= -1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs


def _rle_pack(packed: bytes, length: int) -> NDArray[np.uint8]:
    """Unpack `length` bytes from ``@thi.ng/rle-pack``: a header (count, word size, four run sizes), then runs and
    literals, bit by bit. Raises `ValueError` when they are not there."""
    bits = np.unpackbits(np.frombuffer(packed, np.uint8)).astype(np.int64)
    at = 0

    def take(count: int) -> int:
        nonlocal at
        if at + count > bits.size:
            raise ValueError("the stream ends early")
        value = 0
        for bit in bits[at : at + count].tolist():
            value = value << 1 | bit
        at += count
        return value

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    if total != length or word != 8:
        raise ValueError("another picture's pixels")
    out = np.zeros(total, np.uint8)
    done = 0
    while done < total:
        run, size = take(1), sizes[take(2)]
        count = take(size) + 1
        if run:
            out[done : done + count] = take(word)
        else:
            for index in range(done, min(done + count, total)):
                out[index] = take(word)
        done += count
    return out
