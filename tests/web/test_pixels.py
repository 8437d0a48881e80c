"""Pictures for the browser: outlines, regions, stretches."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cell.errors import DataError
from cell.recipes import Rect
from daemon.web import pixels
from daemon.web.seeds import merged
from tests.web import product


@given(arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)))
def test_an_outline_encloses_exactly_its_mask(mask: np.ndarray) -> None:
    path = pixels.outline(mask.astype(np.uint8) * 255)
    filled = np.zeros_like(mask)
    for x, y, length in re.findall(r"M(\d+) (\d+)v(\d+)", path):
        # Even-odd: every vertical edge to the left of a pixel turns it over.
        filled[int(y) : int(y) + int(length), int(x) :] ^= True
    np.testing.assert_array_equal(filled, mask)
    turned = np.zeros_like(mask)
    for x, y, length in re.findall(r"M(\d+) (\d+)h(\d+)", path):
        turned[int(y) :, int(x) : int(x) + int(length)] ^= True
    np.testing.assert_array_equal(turned, mask)


@given(st.integers(1, 300), st.integers(1, 300), st.data(), st.floats(0, 3), st.integers(1, 400))
def test_a_region_lies_in_the_picture_and_holds_the_box_when_it_can(
    height: int, width: int, data: st.DataObject, margin: float, least: int
) -> None:
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = Rect(x=x, y=y, width=data.draw(st.integers(1, width - x)), height=data.draw(st.integers(1, height - y)))
    region = pixels.around(box, height, width, margin, least)
    assert region.inside(height, width)
    assert region.x <= box.x
    assert region.y <= box.y
    assert region.x + region.width >= box.x + box.width
    assert region.y + region.height >= box.y + box.height


def test_a_stretch_shows_the_picture_whatever_its_level() -> None:
    stack = product.part(3)
    for index in range(3):
        channel = stack.pixels[index]
        low, high = pixels.stretch(channel, stack.bit_depth)
        assert 0 <= low < high <= 4095
        assert ((channel < low) | (channel > high)).mean() < 0.005
    dark = product.part(3)
    dark.pixels[:] = 0
    low, high = pixels.stretch(dark.pixels[0], dark.bit_depth)
    assert low < high


def test_what_is_drawn_replaces_its_region_and_nothing_else() -> None:
    label = np.zeros((20, 30), np.uint8)
    label[2:5, 2:5] = 255
    label[15:18, 20:25] = 255
    drawn = np.zeros((10, 12), np.bool_)
    drawn[4, 4] = True
    mask = merged(label, Rect(x=0, y=0, width=12, height=10), drawn)
    assert mask[15:18, 20:25].all()
    assert mask.sum() == 15 + 1
    assert mask[4, 4]
    with pytest.raises(DataError, match="does not fit"):
        merged(label, Rect(x=25, y=0, width=12, height=10), drawn)
    with pytest.raises(DataError, match="empty"):
        merged(np.zeros((20, 30), np.uint8), Rect(x=0, y=0, width=12, height=10), np.zeros((10, 12), np.bool_))
