"""Pixels on disk: lossless TIFF stacks that ImageJ opens, and label images; never half-written.

A file appears under its name complete or not at all: it is written to a temporary name in the same folder, synchronised,
renamed, and the folder is synchronised, so that a row that names it may be committed afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from cell import digest
from cell.defects import LabelMap, Mask
from cell.errors import DataError, DiskFull, StoreError
from cell.frames import FrameSet, Stack, StoredStack

#: Lossless codecs. Deflate is the default; `none` is for disks that are faster than the processor.
Compression = Literal["deflate", "none"]

_FORMAT = "inspectd-stack-1"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_bytes(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write `data` to `path` atomically and durably, replacing what was there; the folder is made if it is missing.

    Raises `DiskFull` when there is no room and `StoreError` for any other reason; then nothing was changed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` durable. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stored(frames: FrameSet, **metadata: Any) -> StoredStack:
    """Return a frame set as it is kept on disk; part, recipe, trigger, camera, time and `emulated` go to its metadata."""
    facts: dict[str, Any] = {
        "part_id": frames.part_id,
        "recipe_id": frames.recipe_id,
        "trigger_id": frames.trigger_id,
        "captured_at": frames.captured_at.isoformat(),
        "camera": frames.frames[0].camera,
        "emulated": frames.emulated,
    }
    return StoredStack(
        pixels=frames.stack(),
        channels=frames.channels,
        bit_depth=frames.bit_depth,
        exposure_us=tuple(frame.exposure_us for frame in frames.frames),
        gain_db=tuple(frame.gain_db for frame in frames.frames),
        metadata=facts | metadata,
    )


def encode_stack(stack: StoredStack, *, compression: Compression = "deflate", predictor: bool = False) -> bytes:
    """Return the TIFF file of a stack, complete in memory.

    The channel names become ImageJ's slice labels; exposures (us), gains (dB), bit depth and the JSON metadata stand in
    its `Info` text. Raises `DataError` when pixels and lists don't fit together.
    """
    _check_stack(stack)
    information = {
        "format": _FORMAT,
        "channels": list(stack.channels),
        "bit_depth": stack.bit_depth,
        "exposure_us": list(stack.exposure_us),
        "gain_db": list(stack.gain_db),
        "metadata": stack.metadata,
    }
    try:
        text = json.dumps(information, ensure_ascii=True, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise DataError(f"the metadata of a picture must be plain JSON: {error}") from error
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        np.ascontiguousarray(stack.pixels),
        imagej=True,
        compression="zlib" if compression == "deflate" else None,
        compressionargs={"level": 1} if compression == "deflate" else None,
        predictor=predictor and compression != "none",
        metadata={"axes": "CYX", "mode": "grayscale", "Labels": list(stack.channels), "Info": text},
    )
    return buffer.getvalue()


def write_stack(
    path: Path, stack: StoredStack, *, compression: Compression = "deflate", predictor: bool = False
) -> str:
    """Write a stack atomically and durably as a TIFF that ImageJ opens; return the digest of its pixels.

    Raises `DataError` for an inconsistent stack, `DiskFull` and `StoreError` when it can't be written.
    """
    write_bytes(path, encode_stack(stack, compression=compression, predictor=predictor))
    return digest.of_array(stack.pixels)


def read_stack(path: Path) -> StoredStack:
    """Read a stack that :func:`write_stack` wrote.

    Raises `DataError` when the file is missing, truncated, corrupted, or was not written by this project.
    """
    return decode_stack(_read(path), path)


def decode_stack(data: bytes, source: Path) -> StoredStack:
    """Read a stack from the bytes of its file; `source` is named in errors. Raises `DataError`."""
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            pixels = tiff.asarray()
            imagej = tiff.imagej_metadata or {}
    except _FOREIGN as error:
        raise DataError(f"{source} is not a whole TIFF picture: {_one_line(error)}; take it again or remove it") from error
    return _assemble(pixels, imagej.get("Info"), source)


def write_label(path: Path, labels: LabelMap) -> str:
    """Write a label map (H, W) uint8 as a lossless PNG, atomically and durably; return the digest of its pixels.

    Raises `DataError` for another shape or dtype, `DiskFull` and `StoreError` when it can't be written.
    """
    if labels.ndim != 2 or labels.dtype != np.uint8 or labels.size == 0:
        raise DataError(f"a label map must be (H, W) uint8, got {labels.shape} {labels.dtype}")
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(labels)).save(buffer, format="PNG", compress_level=1)
    write_bytes(path, buffer.getvalue())
    return digest.of_array(labels)


def read_label(path: Path) -> LabelMap:
    """Read a label map (H, W) uint8 from PNG. Raises `DataError` when it is missing, damaged or of another kind."""
    data = _read(path)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            if picture.mode != "L":
                raise DataError(f"{path} is a PNG of mode {picture.mode}, not 8-bit grey; save the mask as 8-bit grey")
            labels: LabelMap = np.asarray(picture).astype(np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not a whole PNG picture: {_one_line(error)}; draw it again or remove it") from error
    return labels


def mask_to_label(mask: Mask) -> LabelMap:
    """Return a mask as the label image it is stored as: 255 inside, 0 outside."""
    return np.where(mask, np.uint8(255), np.uint8(0)).astype(np.uint8)


_FOREIGN = (tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError, OSError, RuntimeError, MemoryError, AttributeError, ArithmeticError)


def _assemble(pixels: np.ndarray[Any, Any], info: object, source: Path) -> StoredStack:
    try:
        facts = json.loads(info) if isinstance(info, str) else None
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or facts.get("format") != _FORMAT:
        raise DataError(f"{source} was not written by inspectd; import foreign pictures as a folder instead")
    if pixels.ndim == 2:
        pixels = pixels[np.newaxis]
    try:
        stack = StoredStack(
            pixels=pixels,
            channels=tuple(str(name) for name in facts["channels"]),
            bit_depth=int(facts["bit_depth"]),
            exposure_us=tuple(float(value) for value in facts["exposure_us"]),
            gain_db=tuple(float(value) for value in facts["gain_db"]),
            metadata=dict(facts["metadata"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{source} lacks what a stack must say of itself: {_one_line(error)}") from error
    _check_stack(stack)
    return stack


def _check_stack(stack: StoredStack) -> None:
    pixels: Stack = stack.pixels
    if pixels.ndim != 3 or pixels.dtype not in (np.uint8, np.uint16) or pixels.size == 0:
        raise DataError(f"a stack must be (K, H, W) uint8 or uint16, got {pixels.shape} {pixels.dtype}")
    lengths = {len(stack.channels), len(stack.exposure_us), len(stack.gain_db), int(pixels.shape[0])}
    if len(lengths) != 1:
        raise DataError(
            f"a stack of {pixels.shape[0]} channels needs as many names, exposures and gains, got "
            f"{len(stack.channels)}, {len(stack.exposure_us)} and {len(stack.gain_db)}"
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"the picture {path} is missing; restore it from the backup") from error
    except OSError as error:
        raise StoreError(f"can't read {path}: {error.strerror}; check the disk and its permissions") from error


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(f"no room to write {path.name} in {path.parent}; free space on that disk") from error
        raise StoreError(f"can't write {path}: {error.strerror}; check the disk and its permissions") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
