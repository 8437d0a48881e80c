from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from cell import digest
from cell.errors import DataError, StoreError
from cell.frames import StoredStack
from cell.store.images import (
    Compression,
    encode_stack,
    mask_to_label,
    read_label,
    read_stack,
    write_label,
    write_stack,
)
from tests.store.helpers import mask_of, stack_of

NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)


@st.composite
def stacks(draw: st.DrawFn) -> StoredStack:
    channels = draw(st.integers(1, 6))
    shape = (channels, draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    pixels = draw(hnp.arrays(dtype, shape))
    numbers = st.floats(0, 1e6, allow_nan=False)
    per_channel = st.lists(numbers, min_size=channels, max_size=channels).map(tuple)
    return StoredStack(
        pixels=pixels,
        channels=tuple(draw(st.lists(NAMES, min_size=channels, max_size=channels))),
        bit_depth=draw(st.sampled_from([8, 10, 12, 16])),
        exposure_us=draw(per_channel),
        gain_db=draw(per_channel),
        metadata=draw(st.dictionaries(st.text(max_size=8), st.one_of(st.text(), st.integers(), st.booleans()))),
    )


@given(stack=stacks(), compression=st.sampled_from(["deflate", "none"]), predictor=st.booleans())
@settings(max_examples=120, deadline=None)
def test_whatever_is_written_is_read_back(stack: StoredStack, compression: Compression, predictor: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a" / "stack.tif"
        written = write_stack(path, stack, compression=compression, predictor=predictor)
        again = read_stack(path, written)
        assert written == digest.of_array(stack.pixels)
        assert again.pixels.dtype == stack.pixels.dtype
        assert np.array_equal(again.pixels, stack.pixels)
        for field in ("channels", "bit_depth", "exposure_us", "gain_db", "metadata"):
            assert getattr(again, field) == getattr(stack, field)
        assert [file.name for file in path.parent.iterdir()] == ["stack.tif"]


@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_a_damaged_file_is_one_error_or_the_same_picture(where: float, flip: int) -> None:
    stack = stack_of(1)
    data = bytearray(encode_stack(stack)[0])
    data[int(where * len(data))] ^= flip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stack.tif"
        path.write_bytes(data)
        try:
            again = read_stack(path)
        except DataError as error:
            message, intact = str(error), True
        else:
            message, intact = str(path), np.array_equal(again.pixels, stack.pixels)
        assert intact
        assert str(path) in message
        assert "\n" not in message


@given(share=st.floats(0, 0.999))
@settings(max_examples=60, deadline=None)
def test_a_truncated_file_is_refused(share: float) -> None:
    stack = stack_of(2)
    data, _ = encode_stack(stack)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stack.tif"
        path.write_bytes(data[: int(share * len(data))])
        try:
            again = read_stack(path)
        except DataError:
            return
        assert np.array_equal(again.pixels, stack.pixels)  # only what a TIFF reader never looks at was cut off


def test_other_pixels_than_recorded_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    first = write_stack(path, stack_of(1))
    write_stack(path, stack_of(2))
    with pytest.raises(DataError, match="other pixels than the store recorded"):
        read_stack(path, first)


def test_a_foreign_tiff_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.tif"
    tifffile.imwrite(foreign, stack_of(1).pixels, imagej=True)
    with pytest.raises(DataError, match="not a whole stack of inspectd"):
        read_stack(foreign)
    with pytest.raises(DataError, match="missing"):
        read_stack(tmp_path / "none.tif")
    (tmp_path / "text.tif").write_text("this is no picture")
    with pytest.raises(DataError, match="not a whole stack"):
        read_stack(tmp_path / "text.tif")


def test_imagej_finds_the_channel_names_and_the_exposures(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    write_stack(path, stack_of(1))
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_imagej
        assert tiff.imagej_metadata is not None
        assert tiff.imagej_metadata["Labels"] == ["left", "right"]
        assert tiff.imagej_metadata["channels"] == 2
        assert '"exposure_us": [1000.0, 1500.0]' in tiff.imagej_metadata["Info"]
        assert tiff.series[0].axes == "CYX"


@pytest.mark.parametrize(
    ("pixels", "channels"),
    [
        (np.zeros((2, 3, 3), np.float32), ("a", "b")),
        (np.zeros((3, 3), np.uint8), ("a",)),
        (np.zeros((2, 3, 3), np.uint8), ("a",)),
        (np.zeros((1, 0, 3), np.uint8), ("a",)),
    ],
)
def test_an_inconsistent_stack_is_not_written(pixels: np.ndarray, channels: tuple[str, ...], tmp_path: Path) -> None:
    numbers = (1.0,) * len(channels)
    with pytest.raises(DataError):
        write_stack(tmp_path / "x.tif", StoredStack(pixels, channels, 8, numbers, numbers))
    assert not list(tmp_path.iterdir())


def test_metadata_that_is_not_json_is_not_written(tmp_path: Path) -> None:
    stack = StoredStack(np.zeros((1, 2, 2), np.uint8), ("a",), 8, (1.0,), (0.0,), {"at": object()})
    with pytest.raises(DataError, match="plain JSON"):
        write_stack(tmp_path / "x.tif", stack)


@given(labels=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
@settings(max_examples=60, deadline=None)
def test_labels_round_trip(labels: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.png"
        written = write_label(path, labels)
        assert np.array_equal(read_label(path, written), labels)


def test_a_label_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.new("RGB", (4, 4)).save(path)
    with pytest.raises(DataError, match="8-bit grey"):
        read_label(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="not a whole PNG"):
        read_label(path)
    write_label(path, mask_to_label(mask_of()))
    with pytest.raises(DataError, match="another mask"):
        read_label(path, "0" * 64)
    with pytest.raises(DataError):
        write_label(path, np.zeros((2, 2, 2), np.uint8))


FULL = """
import resource, sys
from pathlib import Path
from cell.errors import DiskFull
from cell.store.images import read_stack, write_stack
from tests.store.helpers import stack_of
folder = Path(sys.argv[1])
before = write_stack(folder / "a.tif", stack_of(1), compression="none")
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
try:
    write_stack(folder / "a.tif", stack_of(2), compression="none")
except DiskFull as error:
    print(error)
read_stack(folder / "a.tif", before)
"""


def test_no_room_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    assert resource.RLIMIT_FSIZE is not None
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, check=True)
    assert "no room to write a.tif" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_a_folder_that_is_a_file_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreError, match="can't write"):
        write_stack(tmp_path / "taken" / "a.tif", stack_of(1))
