"""Pixel formats: what a camera's buffer holds, and how a frame's pixels come out of it in one pass.

Names and layouts are those of the GenICam Pixel Format Naming Convention (PFNC) 2.x, and for Mono10Packed, Mono12Packed
and their Bayer kin those of GigE Vision 1.x. Pixels keep their bits: 10 bits stay 10 bits in uint16, never scaled.

Colour planes of Bayer buffers are bilinear: at a photosite of the plane's colour its own value, elsewhere the mean of
the two or four nearest photosites of that colour, rounded half up; the picture is mirrored at its edges, which keeps
the pattern (bilinear interpolation in Gunturk et al., "Demosaicking: color filter array interpolation", IEEE Signal
Processing Magazine 22(1), 2005). No white balance, gamma or colour matrix is applied: planes are the sensor's values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cell.errors import CameraError
from cell.frames import AcquisitionFault, Pixels
from cell.recipes import Recipe

Plane = Literal["mono", "red", "green", "blue"]
Bytes = NDArray[np.uint8]

_NAME = re.compile(
    r"(?:(?P<mono>Mono)|Bayer(?P<bayer>RG|GR|GB|BG)|(?P<colour>RGB|BGR)(?P<alpha>[aA])?)"
    r"(?P<bits>8|10|12|16)(?P<packing>p|[Pp]acked)?"
)
#: Formats that a recipe without one is taken in, by its bit depth; the first one that the camera has.
MONO = {
    8: ("Mono8",),
    10: ("Mono10", "Mono10p", "Mono10Packed"),
    12: ("Mono12", "Mono12p", "Mono12Packed"),
    16: ("Mono16",),
}
#: Rows that are unpacked or interpolated at once: what is needed beside the frame stays small.
_STRIP = 64


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """A format that can be read.

    `bayer` are the colours of the first two photosites of the first row, or empty; `colour` the interleaved components
    of a pixel, or empty; `packing` is "" (whole bytes, little endian), "p" (PFNC: the bits of pixel after pixel) or
    "Packed" (GigE Vision 1.x: three bytes hold two pixels).
    """

    name: str
    bits: int
    packing: Literal["", "p", "Packed"] = ""
    bayer: str = ""
    colour: str = ""

    @property
    def mono(self) -> bool:
        """True for one grey value a pixel."""
        return not self.bayer and not self.colour

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a frame in this format."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    def row_bits(self, width: int) -> int:
        """Bits of a row without padding."""
        if self.packing == "Packed":
            return width * 12
        if self.packing == "p":
            return width * self.bits
        return width * max(1, len(self.colour)) * self.dtype.itemsize * 8


def format_of(name: str) -> PixelFormat:
    """Return the format of a PFNC name or an older spelling of it. Raises `CameraError` for one that can't be read."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise CameraError(
            f"the pixel format {name} can't be read here; use a Mono, Bayer, RGB or BGR format of 8, 10, 12 or 16 bits"
        )
    bits = int(match["bits"])
    packing = (match["packing"] or "").replace("packed", "Packed")
    if match["colour"]:
        if packing == "p":
            raise CameraError(f"the pixel format {name} can't be read here; use {name.removesuffix('p')}")
        colour = match["colour"] + ("a" if match["alpha"] else "")
        # "Packed" says here that the components are interleaved, which later names take for granted.
        return PixelFormat(f"{colour}{bits}", bits, colour=colour)
    if packing and bits not in {10, 12}:
        raise CameraError(f"the pixel format {name} can't be read here; packed ones are of 10 or 12 bits")
    bayer = match["bayer"] or ""
    kind: Literal["", "p", "Packed"] = "p" if packing == "p" else "Packed" if packing else ""
    return PixelFormat(f"{'Bayer' + bayer if bayer else 'Mono'}{bits}{kind}", bits, kind, bayer)


def formats_for(recipe: Recipe) -> tuple[PixelFormat, ...]:
    """Return the formats that serve a recipe, the best one first.

    Raises `CameraError`, one sentence, when the recipe's bit depth, format and planes do not fit each other.
    """
    named = recipe.sensor.pixel_format
    if named is None:
        names = MONO.get(recipe.bit_depth)
        if names is None:
            raise CameraError(
                f"recipe {recipe.recipe_id} wants {recipe.bit_depth} bit, cameras have 8, 10, 12 or 16; correct it"
            )
    else:
        names = (named,)
    formats = tuple(format_of(name) for name in names)
    first = formats[0]
    if first.bits != recipe.bit_depth:
        raise CameraError(
            f"recipe {recipe.recipe_id} wants {recipe.bit_depth} bit in the pixel format {first.name}; set bit_depth "
            f"to {first.bits} or correct the format"
        )
    for channel in recipe.channels:
        if first.mono and channel.plane != "mono":
            raise CameraError(
                f"channel {channel.name} wants the {channel.plane} plane of {first.name}, which has none; set "
                "sensor.pixel_format to a Bayer or RGB format or the plane to mono"
            )
        if not first.mono and channel.plane == "mono":
            raise CameraError(
                f"channel {channel.name} wants a mono frame of {first.name}; set its plane to red, green or blue or "
                "sensor.pixel_format to a Mono format"
            )
    return formats


def require_size(data: Bytes, pixel_format: PixelFormat, shape: tuple[int, int], padding: int = 0) -> None:
    """Refuse a buffer that is too short for its picture. Raises `CameraError`.

    :param shape: (height, width) in pixels.
    :param padding: bytes after each row.
    """
    needed = _row_bytes(pixel_format, shape, padding) * shape[0] if padding else _stream_bytes(pixel_format, shape)
    if data.size < needed:
        raise CameraError(
            f"a buffer came with {data.size} of its {needed} bytes; check cable and bandwidth",
            fault=AcquisitionFault.INCOMPLETE,
        )


def read_plane(data: Bytes, pixel_format: PixelFormat, plane: Plane, out: Pixels, padding: int = 0) -> None:
    """Write one plane of a buffer into `out`, the only copy that is made.

    :param data: the buffer, (N,) uint8; see :func:`require_size`.
    :param plane: "mono" for mono formats, a colour for the others.
    :param out: (H, W) of the format's dtype, C order.
    :param padding: bytes after each row.
    """
    if pixel_format.mono != (plane == "mono"):
        raise CameraError(
            f"{pixel_format.name} has no {plane} plane; correct sensor.pixel_format or the channel's plane"
        )
    require_size(data, pixel_format, (out.shape[0], out.shape[1]), padding)
    if pixel_format.colour:
        component = pixel_format.colour.index(plane[0].upper())
        np.copyto(out, _whole(data, pixel_format, (out.shape[0], out.shape[1]), padding)[:, :, component])
    elif pixel_format.bayer:
        _interpolate(data, pixel_format, plane, out, padding)
    elif not pixel_format.packing:
        np.copyto(out, _whole(data, pixel_format, (out.shape[0], out.shape[1]), padding)[:, :, 0])
    else:
        for start in range(0, out.shape[0], _STRIP):
            stop = min(start + _STRIP, out.shape[0])
            _unpack_rows(data, pixel_format, out[start:stop], start, padding)


def _whole(data: Bytes, pixel_format: PixelFormat, shape: tuple[int, int], padding: int) -> NDArray[Any]:
    """Return an unpacked buffer as (H, W, components) without copying."""
    height, width = shape
    components = max(1, len(pixel_format.colour))
    item = pixel_format.dtype.newbyteorder("<")
    row = _row_bytes(pixel_format, shape, padding)
    strides = (row, components * item.itemsize, item.itemsize)
    return np.ndarray((height, width, components), item, data, strides=strides)


def _unpack_rows(data: Bytes, pixel_format: PixelFormat, out: Pixels, first_row: int, padding: int) -> None:
    """Unpack rows from `first_row` on into `out`, (n, W) uint16, C order."""
    rows, width = out.shape
    row_bits = pixel_format.row_bits(width)
    if row_bits % 8 or padding:
        row = _row_bytes(pixel_format, out.shape, padding)
        for index in range(rows):
            begin = (first_row + index) * row if padding else 0
            if padding:
                out[index] = _unpack(data[begin : begin + row], pixel_format, width)
            else:
                out[index] = _unpack_at(data, pixel_format, (first_row + index) * width, width)
        return
    begin = first_row * row_bits // 8
    out.reshape(-1)[:] = _unpack(data[begin : begin + rows * row_bits // 8], pixel_format, rows * width)


def _unpack_at(data: Bytes, pixel_format: PixelFormat, first: int, count: int) -> NDArray[np.uint16]:
    """Unpack pixels of a stream whose rows begin within a byte."""
    pixels, size = _group(pixel_format)
    begin = first // pixels
    end = -(-(first + count) // pixels)
    skipped = first - begin * pixels
    return _unpack(data[begin * size : end * size], pixel_format, skipped + count)[skipped:]


def _group(pixel_format: PixelFormat) -> tuple[int, int]:
    """Return how many pixels the smallest whole group has, and how many bytes."""
    return (4, 5) if (pixel_format.packing, pixel_format.bits) == ("p", 10) else (2, 3)


def _unpack(data: Bytes, pixel_format: PixelFormat, count: int) -> NDArray[np.uint16]:
    """Unpack the first `count` pixels of a stream; one that ends within a group is as good as one of zeros behind."""
    pixels, size = _group(pixel_format)
    groups = -(-count // pixels)
    # Every pixel lies within two bytes; the last group's are read with a byte behind it.
    if data.size <= groups * size:
        data = np.concatenate([data, np.zeros(groups * size + 1 - data.size, np.uint8)])
    out = np.empty((groups, pixels), np.uint16)
    mask = (1 << pixel_format.bits) - 1

    def pairs(offset: int, order: str = "<") -> NDArray[np.uint16]:
        return np.ndarray((groups,), np.dtype(f"{order}u2"), data, offset=offset, strides=(size,))

    if pixel_format.packing == "Packed":
        low = pixel_format.bits - 8
        high = mask - ((1 << low) - 1)
        first, second = pairs(0, ">").astype(np.uint16), pairs(1).astype(np.uint16)
        out[:, 0] = first >> (8 - low) & high | first & ((1 << low) - 1)
        out[:, 1] = second >> (8 - low) & high | second >> 4 & ((1 << low) - 1)
    else:
        for index in range(pixels):
            begin = index * pixel_format.bits
            out[:, index] = pairs(begin // 8) >> begin % 8 & mask
    return out.reshape(-1)[:count]


def _interpolate(data: Bytes, pixel_format: PixelFormat, plane: Plane, out: Pixels, padding: int) -> None:
    """Write a Bayer buffer's plane into `out`, strip by strip."""
    height, width = out.shape
    if height < 2 or width < 2:
        raise CameraError(f"a frame of {width}x{height} pixels has no {plane} plane; widen the recipe's frame")
    red = divmod({"RG": 0, "GR": 1, "GB": 2, "BG": 3}[pixel_format.bayer], 2)
    site = (1 - red[0], 1 - red[1]) if plane == "blue" else red
    for start, sites in _strips(data, pixel_format, (height, width), padding):
        rows = min(_STRIP, height - start)
        wide = np.pad(sites, ((0, 0), (1, 1)), mode="reflect")
        for y in range(2):
            for x in range(2):
                target = out[start + y : start + rows : 2, x::2]
                around = _Around(wide, y, x, target.shape)
                if plane == "green":
                    own = (y + x) % 2 != (red[0] + red[1]) % 2
                    target[...] = around.at(0, 0) if own else around.cross()
                elif (y, x) == site:
                    target[...] = around.at(0, 0)
                elif y == site[0]:
                    target[...] = around.pair(0, 1)
                elif x == site[1]:
                    target[...] = around.pair(1, 0)
                else:
                    target[...] = around.corners()


def _strips(
    data: Bytes, pixel_format: PixelFormat, shape: tuple[int, int], padding: int
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (first row, photosites of the strip with one more row above and below), mirrored at the picture's edges.

    Photosites are uint16 where four of them add up within 16 bits, else uint32.
    """
    height, width = shape
    kind = np.uint16 if pixel_format.bits <= 12 else np.uint32
    whole = None if pixel_format.packing else _whole(data, pixel_format, shape, padding)[:, :, 0]
    for start in range(0, height, _STRIP):
        rows = min(_STRIP, height - start)
        numbers = np.arange(start - 1, start + rows + 1)
        numbers[0] = 1 if start == 0 else start - 1
        numbers[-1] = height - 2 if start + rows == height else start + rows
        if whole is not None:
            yield start, whole[numbers].astype(kind)
            continue
        low, high = int(numbers.min()), int(numbers.max()) + 1
        unpacked = np.empty((high - low, width), np.uint16)
        _unpack_rows(data, pixel_format, unpacked, low, padding)
        yield start, unpacked[numbers - low].astype(kind)


@dataclass(frozen=True, slots=True)
class _Around:
    """Photosites around every second pixel of a strip that has one more row and column on each side."""

    sites: NDArray[Any]
    y: int
    x: int
    shape: tuple[int, ...]

    def at(self, down: int, right: int) -> NDArray[Any]:
        top, left = 1 + self.y + down, 1 + self.x + right
        return self.sites[top : top + 2 * self.shape[0] : 2, left : left + 2 * self.shape[1] : 2]

    def pair(self, down: int, right: int) -> NDArray[Any]:
        return (self.at(down, right) + self.at(-down, -right) + 1) >> 1

    def cross(self) -> NDArray[Any]:
        return (self.at(-1, 0) + self.at(1, 0) + self.at(0, -1) + self.at(0, 1) + 2) >> 2

    def corners(self) -> NDArray[Any]:
        return (self.at(-1, -1) + self.at(-1, 1) + self.at(1, -1) + self.at(1, 1) + 2) >> 2


def _row_bytes(pixel_format: PixelFormat, shape: tuple[int, ...], padding: int) -> int:
    return -(-pixel_format.row_bits(shape[1]) // 8) + padding


def _stream_bytes(pixel_format: PixelFormat, shape: tuple[int, int]) -> int:
    return -(-pixel_format.row_bits(shape[1]) * shape[0] // 8)
