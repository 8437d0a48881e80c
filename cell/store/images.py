"""Pixels on disk: lossless TIFF stacks that ImageJ opens, and label images as PNG; never half-written."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from cell import digest
from cell.defects import LabelMap, Mask
from cell.errors import DataError
from cell.frames import FrameSet, StoredStack
from cell.store.files import read_bytes, write_bytes
from cell.store.stack_file import FOREIGN, FORMAT, described, one_line

#: Lossless codecs. Deflate (zlib level 1) is the default; `none` is for disks that are faster than the processor.
Compression = Literal["deflate", "none"]


def stored(frames: FrameSet, **metadata: Any) -> StoredStack:
    """Return a frame set as it is kept on disk.

    Part, recipe, trigger, camera, time, lights and `emulated` go to its metadata, and so does what is given here (JSON
    types).
    """
    facts: dict[str, Any] = {
        "part_id": frames.part_id,
        "recipe_id": frames.recipe_id,
        "trigger_id": frames.trigger_id,
        "captured_at": frames.captured_at.isoformat(),
        "camera": frames.frames[0].camera,
        "emulated": frames.emulated,
    }
    if frames.lights:
        facts["lights"] = {channel: dict(lines) for channel, lines in frames.lights.items()}
    return StoredStack(
        pixels=frames.stack(),
        channels=frames.channels,
        bit_depth=frames.bit_depth,
        exposure_us=tuple(frame.exposure_us for frame in frames.frames),
        gain_db=tuple(frame.gain_db for frame in frames.frames),
        metadata=facts | metadata,
    )


def encode_stack(
    stack: StoredStack, *, compression: Compression = "deflate", predictor: bool = False
) -> tuple[bytes, str]:
    """Return the TIFF file of a stack, complete in memory, and the digest of its pixels.

    The channel names become ImageJ's slice labels; exposures (us), gains (dB), bit depth, the pixels' digest and the
    JSON metadata stand in its `Info` text. Raises `DataError` when pixels and lists don't fit together.
    """
    _check_stack(stack)
    pixels = np.ascontiguousarray(stack.pixels)
    pixel_digest = digest.of_array(pixels)
    information = {
        "format": FORMAT,
        "shape": list(pixels.shape),
        "dtype": str(pixels.dtype),
        "digest": pixel_digest,
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
    deflate = compression == "deflate"
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        pixels[np.newaxis, np.newaxis, ..., np.newaxis],  # TZCYXS in full: tifffile takes a width of 1 for samples
        imagej=True,
        photometric="minisblack",
        compression="zlib" if deflate else None,
        compressionargs={"level": 1} if deflate else None,
        predictor=predictor and deflate,
        maxworkers=1,
        metadata={"axes": "TZCYXS", "mode": "grayscale", "Labels": list(stack.channels), "Info": text},
    )
    return buffer.getvalue(), pixel_digest


def write_stack(
    path: Path, stack: StoredStack, *, compression: Compression = "deflate", predictor: bool = False
) -> str:
    """Write a stack atomically and durably as a TIFF that ImageJ opens; return the digest of its pixels.

    Raises `DataError` for an inconsistent stack, `DiskFull` and `StoreError` when it can't be written.
    """
    data, pixel_digest = encode_stack(stack, compression=compression, predictor=predictor)
    write_bytes(path, data)
    return pixel_digest


def read_stack(path: Path, expected_digest: str | None = None) -> StoredStack:
    """Read a stack that :func:`write_stack` wrote and verify its pixels against the digest it carries.

    With `expected_digest` the pixels must also be those: a whole file that was exchanged for another is refused.
    Raises `DataError` when the file is missing, truncated, corrupted, exchanged or foreign; `StoreError` when the disk
    fails.
    """
    data = read_bytes(path)
    try:
        pixels, facts = _decode(data)
    except FOREIGN as error:
        raise DataError(f"{path} is not a whole stack of inspectd: {one_line(error)}; restore or remove it") from error
    actual = digest.of_array(pixels)
    if actual != facts.get("digest"):
        raise DataError(f"the pixels of {path} are not those that were written; restore it from the backup")
    if expected_digest is not None and actual != expected_digest:
        raise DataError(f"{path} holds other pixels than the store recorded; restore it from the backup")
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
        raise DataError(f"{path} lacks what a stack must say of itself: {one_line(error)}; remove it") from error
    _check_stack(stack)
    return stack


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


def read_label(path: Path, expected_digest: str | None = None) -> LabelMap:
    """Read a label map (H, W) uint8 from PNG.

    Raises `DataError` when it is missing, damaged, of another kind or holds other pixels than `expected_digest` says.
    """
    data = read_bytes(path)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            mode = picture.mode
            labels: LabelMap = np.asarray(picture).astype(np.uint8)
    except (*FOREIGN, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not a whole PNG picture: {one_line(error)}; restore or remove it") from error
    if mode != "L":
        raise DataError(f"{path} is a PNG of mode {mode}, not 8-bit grey; save the mask as 8-bit grey")
    if expected_digest is not None and digest.of_array(labels) != expected_digest:
        raise DataError(f"{path} holds another mask than the store recorded; restore it from the backup")
    return labels


def mask_to_label(mask: Mask) -> LabelMap:
    """Return a mask as the label image it is stored as: 255 inside, 0 outside."""
    return np.where(mask, np.uint8(255), np.uint8(0)).astype(np.uint8)


def _decode(data: bytes) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        pages, facts = described(tiff)
        # Into its place page by page: a large stack must not be in memory twice.
        stack = np.empty(tuple(facts["shape"]), str(facts["dtype"]))
        for index, page in enumerate(pages):
            stack[index] = page.asarray(maxworkers=1)
        return stack, facts


def _check_stack(stack: StoredStack) -> None:
    pixels = stack.pixels
    if pixels.ndim != 3 or pixels.dtype not in (np.uint8, np.uint16) or pixels.size == 0:
        raise DataError(f"a stack must be (K, H, W) uint8 or uint16, got {pixels.shape} {pixels.dtype}")
    lengths = {len(stack.channels), len(stack.exposure_us), len(stack.gain_db), int(pixels.shape[0])}
    if len(lengths) != 1:
        raise DataError(
            f"a stack of {pixels.shape[0]} channels needs as many names, exposures and gains, got "
            f"{len(stack.channels)}, {len(stack.exposure_us)} and {len(stack.gain_db)}"
        )
