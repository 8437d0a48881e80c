"""A stack read channel by channel says what the whole one says, and nothing where it is not whole."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell import digest
from cell.errors import DataError
from cell.frames import StoredStack
from cell.recipes import Rect
from cell.store.images import Compression, encode_stack, write_stack
from cell.store.stack_file import StackFile
from tests.store.helpers import stack_of
from tests.store.test_images import stacks


@given(stack=stacks(), compression=st.sampled_from(["deflate", "none"]), data=st.data())
@settings(max_examples=80, deadline=None)
def test_channel_by_channel_it_is_the_same_stack(
    stack: StoredStack, compression: Compression, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stack.tif"
        written = write_stack(path, stack, compression=compression)
        file = StackFile(path)
        _, height, width = stack.pixels.shape
        assert (file.facts.shape, file.facts.dtype) == (stack.pixels.shape, stack.pixels.dtype)
        assert (file.facts.channels, file.facts.bit_depth) == (stack.channels, stack.bit_depth)
        assert (file.facts.exposure_us, file.facts.digest) == (stack.exposure_us, written)
        for index, channel in enumerate(file.verified()):
            assert channel.dtype == stack.pixels.dtype
            assert np.array_equal(channel, stack.pixels[index])
        x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
        box = Rect(x=x, y=y, width=data.draw(st.integers(1, width - x)), height=data.draw(st.integers(1, height - y)))
        patch = file.patch(0, box)
        assert patch.dtype == stack.pixels.dtype
        assert np.array_equal(patch, stack.pixels[0, y : y + box.height, x : x + box.width])


@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_a_damaged_file_is_one_error_or_the_same_picture(where: float, flip: int) -> None:
    stack = stack_of(1)
    encoded, _ = encode_stack(stack)
    data = bytearray(encoded)
    data[int(where * len(data))] ^= flip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stack.tif"
        path.write_bytes(data)
        try:
            file = StackFile(path)
            again = list(file.verified())
        except DataError as error:
            message, intact = str(error), True
        else:
            message, intact = str(path), digest.of_array(np.stack(again)) == file.facts.digest
        assert intact
        assert str(path) in message
        assert "\n" not in message


def test_other_pixels_than_written_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    stack = stack_of(1)
    write_stack(path, stack, compression="none")
    data = bytearray(path.read_bytes())
    at = data.index(stack.pixels.astype(stack.pixels.dtype.newbyteorder("=")).tobytes()[:16])
    data[at] ^= 1
    path.write_bytes(data)
    file = StackFile(path)
    with pytest.raises(DataError, match="not those that were written"):
        list(file.verified())
    with pytest.raises(DataError, match="not a whole stack"):
        StackFile(tmp_path / "none.tif")
