"""Frames as files for people: a stack as TIFF, or a PNG of each channel; lossless, 8 or 16 bit, with metadata."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, PngImagePlugin

from cell.errors import ConfigurationError
from cell.frames import StoredStack
from cell.store import images
from cell.store.files import disk_errors, write_bytes

_SUFFIXES = (".tif", ".tiff", ".png")


def target(out: Path | None, default: str) -> Path:
    """Return where a picture goes. Raises `ConfigurationError` for a format that is not lossless."""
    path = out or Path(default)
    if path.is_dir():
        return path / default
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigurationError(f"{path.name} must end with .tif or .png: pictures of parts are kept without loss")
    return path


@contextlib.contextmanager
def beside(file: Path) -> Iterator[Path]:
    """Give a folder for the time being on the disk of `file`, whose own folder is made."""
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".snap-", dir=file.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def kept(stacks: list[Path], file: Path) -> list[Path]:
    """Put the one stack that was taken under its name, or its channels as PNG; return what there is now."""
    if not stacks:
        return []
    if file.suffix.lower() != ".png":
        with disk_errors(file):
            stacks[0].replace(file)
        return [file]
    stack = images.read_stack(stacks[0])
    several = len(stack.channels) > 1
    written = []
    for index, name in enumerate(stack.channels):
        path = file.with_name(f"{file.stem}-{name}{file.suffix}") if several else file
        write_bytes(path, png(stack, index))
        written.append(path)
    return written


def png(stack: StoredStack, channel: int) -> bytes:
    """Return one channel as a grey PNG of 8 or 16 bit, digital numbers unchanged, the facts as JSON in its text."""
    facts = {
        "channel": stack.channels[channel],
        "bit_depth": stack.bit_depth,
        "exposure_us": stack.exposure_us[channel],
        "gain_db": stack.gain_db[channel],
        **stack.metadata,
    }
    told = PngImagePlugin.PngInfo()
    told.add_text("Description", json.dumps(facts, ensure_ascii=True, sort_keys=True))
    out = io.BytesIO()
    Image.fromarray(stack.pixels[channel]).save(out, format="PNG", compress_level=1, pnginfo=told)
    return out.getvalue()
