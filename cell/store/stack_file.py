"""A stack on disk, one channel in memory at a time: for readers that may not take what a whole large stack takes."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from cell.digest import ArrayDigest
from cell.errors import DataError
from cell.recipes import Rect

FORMAT = "inspectd-stack-1"
#: What tifffile, imagecodecs and numpy raise for files that are not what they claim to be.
FOREIGN = (
    tifffile.TiffFileError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


@dataclass(frozen=True, slots=True)
class StackFacts:
    """What a stack's file says of itself. `digest` is that of its pixels, as it claims."""

    shape: tuple[int, int, int]  # (K, H, W)
    dtype: np.dtype[Any]
    channels: tuple[str, ...]
    bit_depth: int
    exposure_us: tuple[float, ...]
    digest: str


class StackFile:
    """A file that `cell.store.images.write_stack` wrote. The constructor reads what it says of itself, no pixels.

    Everything raises `DataError` when the file is missing, truncated or foreign.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._opened() as (_, facts):
            shape = tuple(int(length) for length in facts["shape"])
            names = tuple(str(name) for name in facts["channels"])
            exposures = tuple(float(value) for value in facts["exposure_us"])
            if len(shape) != 3 or len(names) != shape[0] or len(exposures) != shape[0]:
                raise ValueError(f"it has {shape[0]} channels and names {len(names)}")
            self.facts = StackFacts(
                shape=(shape[0], shape[1], shape[2]),
                dtype=np.dtype(str(facts["dtype"])),
                channels=names,
                bit_depth=int(facts["bit_depth"]),
                exposure_us=exposures,
                digest=str(facts["digest"]),
            )

    def channel(self, index: int) -> NDArray[Any]:
        """Return the pixels of one channel, (H, W) uint8 or uint16, as they are on disk: nothing is verified."""
        with self._opened() as (pages, _):
            pixels: NDArray[Any] = np.asarray(pages[index].asarray(maxworkers=1))
            return pixels

    def patch(self, index: int, box: Rect) -> NDArray[Any]:
        """Return the pixels of a box inside a channel; reads no others when the file is not compressed."""
        rows, columns = slice(box.y, box.y + box.height), slice(box.x, box.x + box.width)
        with self._opened() as (pages, _):
            page = pages[index]
            if not page.is_memmappable:
                return np.asarray(page.asarray(maxworkers=1)[rows, columns])
            dtype = self.facts.dtype.newbyteorder(page.parent.byteorder)
            whole = np.memmap(self._path, dtype, "r", page.dataoffsets[0], self.facts.shape[1:])
            return np.array(whole[rows, columns], self.facts.dtype)

    def verified(self) -> Iterator[NDArray[Any]]:
        """Yield the channels in turn. At the end raises `DataError` unless their digest is the one of the facts."""
        growing = ArrayDigest(self.facts.dtype, self.facts.shape)
        for index in range(self.facts.shape[0]):
            pixels = self.channel(index)
            growing.add(pixels)
            yield pixels
        if growing.hexdigest() != self.facts.digest:
            raise DataError(f"the pixels of {self._path} are not those that were written; restore it from the backup")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[list[Any], dict[str, Any]]]:
        try:
            with tifffile.TiffFile(self._path) as tiff:
                yield described(tiff)
        except FOREIGN as error:
            raise DataError(
                f"{self._path} is not a whole stack of inspectd: {one_line(error)}; restore or remove it"
            ) from error


def described(tiff: tifffile.TiffFile) -> tuple[list[Any], dict[str, Any]]:
    """Return a stack's pages and what it says of itself. Raises one of :data:`FOREIGN` where the two don't agree.

    Compared before any pixel is decoded, so that a damaged header can't ask for more memory than the picture it claims
    to be.
    """
    facts = json.loads((tiff.imagej_metadata or {}).get("Info", ""))
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise ValueError("it was not written by inspectd")
    shape = tuple(int(length) for length in facts["shape"])
    # Page by page: as a series, tifffile misreads ImageJ stacks of one-pixel images.
    pages = [tiff.pages[index] for index in range(len(tiff.pages))]
    found = [(tuple(page.shape), str(page.dtype)) for page in pages]
    if found != [(shape[1:], str(facts["dtype"]))] * shape[0]:
        raise ValueError(f"its pages are {found[:2]}, its description says {shape}")
    return pages, facts


def one_line(error: BaseException) -> str:
    """Return what an error says as one short line."""
    return " ".join(str(error).split())[:160] or type(error).__name__
