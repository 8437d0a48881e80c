"""A mark in the corner of a simulated frame that tells which frame it is, for tests and benchmarks alone.

With the mark a test can prove which exposure of which part under which channel arrived, whatever the buffer around it
says. No code that judges reads it: frames are told apart there by what a vendor's camera tells. Cells that people look
at or learn from have it off (`emulated.mark_frames`).

The upper left 8 x 16 pixels hold 128 bits, row by row, one pixel a bit, 0 or the largest grey value:

====== ====== =============================================================
bits   length content
====== ====== =============================================================
0      16     0xA55A
16     32     CRC-32 of the part's id
48     8      index of the channel under whose lights the pixels were taken
56     40     number of the exposure since the camera was made, from 1
96     32     CRC-32 of the 12 bytes before
====== ====== =============================================================

Most significant bit first. The mark survives copying and nothing else; a frame that was scaled, filtered or cut at the
top has none.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from cell.frames import Pixels

ROWS, COLUMNS = 8, 16
_MAGIC = 0xA55A
_CONTENT_BYTES = 12


@dataclass(frozen=True, slots=True)
class Mark:
    """What the corner says. `part` is the CRC-32 of the part's id, see :func:`part_number`."""

    part: int
    channel: int
    exposure: int


def part_number(part_id: str) -> int:
    """Return what stands in a mark for this part."""
    return zlib.crc32(part_id.encode())


def write(pixels: Pixels, mark: Mark, saturation_dn: int) -> None:
    """Put a mark into `pixels`, (H, W) uint8 or uint16, in place. A frame too small for it stays as it is."""
    if pixels.shape[0] < ROWS or pixels.shape[1] < COLUMNS:
        return
    content = (
        _MAGIC.to_bytes(2, "big")
        + mark.part.to_bytes(4, "big")
        + mark.channel.to_bytes(1, "big")
        + (mark.exposure & ((1 << 40) - 1)).to_bytes(5, "big")
    )
    bits = np.unpackbits(np.frombuffer(content + zlib.crc32(content).to_bytes(4, "big"), np.uint8))
    pixels[:ROWS, :COLUMNS] = np.where(bits.reshape(ROWS, COLUMNS) != 0, saturation_dn, 0)


def read(pixels: Pixels) -> Mark | None:
    """Return the mark of `pixels`, (H, W) uint8 or uint16; None when there is none or it is damaged."""
    if pixels.shape[0] < ROWS or pixels.shape[1] < COLUMNS:
        return None
    corner = pixels[:ROWS, :COLUMNS]
    if not np.isin(corner, (0, corner.max())).all():
        return None
    content = np.packbits(corner.ravel() != 0).tobytes()
    body, check = content[:_CONTENT_BYTES], int.from_bytes(content[_CONTENT_BYTES:], "big")
    if int.from_bytes(body[:2], "big") != _MAGIC or zlib.crc32(body) != check:
        return None
    return Mark(int.from_bytes(body[2:6], "big"), body[6], int.from_bytes(body[7:], "big"))
