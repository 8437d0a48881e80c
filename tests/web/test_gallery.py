"""The pages' pictures: verified, bounded in memory, and what is shown of them is what is on disk."""

from __future__ import annotations

import io
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cell.errors import DataError, NotFound
from cell.recipes import Rect
from cell.store.images import write_stack
from cell.store.layout import StateDir
from daemon.web.pixels import OVER, UNDER, Gallery, View, clipping_marks
from tests.web import product

CHANNELS, HEIGHT, WIDTH = 8, 1800, 2400


def stored(state: StateDir, name: str, seed: int) -> tuple[str, str, np.ndarray]:
    """Store a stack of 12 bit; return its path, its digest and its pixels."""
    pixels = np.random.default_rng(seed).integers(0, 4096, (CHANNELS, HEIGHT, WIDTH), np.uint16)
    stack = replace(
        product.part(3),
        pixels=pixels,
        channels=tuple(f"c{index}" for index in range(CHANNELS)),
        exposure_us=(100.0,) * CHANNELS,
        gain_db=(0.0,) * CHANNELS,
        bit_depth=12,
    )
    path = state.archive / "20260101" / name
    return state.relative(path), write_stack(path, stack, compression="none"), pixels


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir.create(tmp_path / "state")


def test_a_large_part_is_never_in_memory_as_a_whole(state: StateDir) -> None:
    path, expected, pixels = stored(state, "large.tif", 1)
    channel_bytes = pixels[0].nbytes
    gallery = Gallery(state, cache_bytes=2 * channel_bytes)
    wanted = [Image.fromarray((channel >> 4).astype(np.uint8)).getpixel((5, 7)) for channel in pixels]
    del pixels
    shown: dict[int, bytes] = {}

    def show(index: int) -> None:
        shown[index] = gallery.png(path, expected, View(index, 0, 4095, Rect(x=0, y=0, width=40, height=40)))
        gallery.png(path, expected, View(index, 0, 4095))
        picture = gallery.stack(path, expected)
        with gallery.turn(picture):
            clipping_marks(picture.channel(index), 12, None, 400)

    tracemalloc.start()
    try:
        # As a browser asks: all at once.
        threads = [threading.Thread(target=show, args=(index,)) for index in range(CHANNELS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sorted(shown) == list(range(CHANNELS))
    # Two kept, and what it takes to read one more; eight have been shown.
    assert peak < 6 * channel_bytes, f"{peak / channel_bytes:.1f} channels"
    for index, data in shown.items():
        assert Image.open(io.BytesIO(data)).getpixel((5, 7)) == pytest.approx(wanted[index], abs=1)


def test_channels_patches_and_facts_are_those_on_disk(state: StateDir) -> None:
    path, expected, pixels = stored(state, "part.tif", 2)
    box = Rect(x=2390, y=3, width=10, height=20)
    for cache_bytes in (0, 1 << 30):
        picture = Gallery(state, cache_bytes).stack(path, expected)
        assert (picture.height, picture.width, picture.bit_depth) == (HEIGHT, WIDTH, 12)
        for index in (0, CHANNELS - 1, 3):
            assert np.array_equal(picture.channel(index), pixels[index])
            assert np.array_equal(picture.patch(index, box), pixels[index, 3:23, 2390:])
            low, high = picture.stretch(index)
            assert 0 <= low < high <= 4095
        with pytest.raises(DataError, match="8 channels; there is no channel 8"):
            picture.channel(8)


def test_a_picture_that_is_exchanged_is_not_shown_under_the_old_digest(state: StateDir) -> None:
    path, expected, _ = stored(state, "part.tif", 3)
    gallery = Gallery(state, cache_bytes=1)
    held = gallery.stack(path, expected)
    held.channel(0)
    other = stored(state, "part.tif", 4)[1]
    with pytest.raises(DataError, match="changed while it was read"):
        held.channel(1)
    with pytest.raises(DataError, match="changed while it was read"):
        held.patch(1, Rect(x=0, y=0, width=4, height=4))
    with pytest.raises(DataError, match="not the one that was stored"):
        gallery.stack(path, expected)
    assert gallery.stack(path, other).channel(1).shape == (HEIGHT, WIDTH)
    (state.root / path).unlink()
    with pytest.raises(NotFound):
        gallery.stack(path, other)


def test_a_mark_stands_where_any_pixel_that_it_stands_for_is_clipped() -> None:
    pixels = np.full((90, 130), 100, np.uint8)
    pixels[89, 129], pixels[0, 0], pixels[44, 60] = 0, 255, 0
    marks = np.asarray(Image.open(io.BytesIO(clipping_marks(pixels, 8, None, 13))).convert("RGBA"))
    assert marks.shape == (9, 13, 4)
    marked = {(int(y), int(x)): tuple(marks[y, x, :3]) for y, x in zip(*np.nonzero(marks[:, :, 3]), strict=True)}
    assert marked == {(8, 12): UNDER, (0, 0): OVER, (4, 6): UNDER}
    cut = np.asarray(
        Image.open(io.BytesIO(clipping_marks(pixels, 8, Rect(x=60, y=44, width=3, height=2), 400))).convert("RGBA")
    )
    assert np.argwhere(cut[:, :, 3] > 0).tolist() == [[0, 0]]
