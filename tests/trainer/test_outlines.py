"""Outlines along the pixels' edges: what they enclose is the mask again."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from trainer.folders.shapes import Polygons
from trainer.outlines import outlines

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def filled(mask: np.ndarray) -> np.ndarray:
    """What each region encloses belongs to it; through a gap between two corners one gets out."""
    labels, count = ndimage.label(mask)
    regions = [ndimage.binary_fill_holes(labels == number + 1, np.ones((3, 3))) for number in range(count)]
    return np.any(regions, axis=0) if regions else mask


@given(arrays.arrays(np.bool_, SHAPES))
def test_what_the_outlines_enclose_is_the_mask(mask: np.ndarray) -> None:
    found = outlines(mask)
    assert len(found) == ndimage.label(mask)[1]
    enclosed = Polygons(tuple(tuple(corners) for corners in found)).mask(mask.shape) if found else mask
    assert np.array_equal(enclosed, filled(mask))
    # Only corners: no three in a row lie on one line.
    for corners in found:
        for before, at, after in zip(corners[-1:] + corners[:-1], corners, corners[1:] + corners[:1], strict=True):
            assert (before[0] == at[0]) != (at[0] == after[0])


def test_an_outline_runs_clockwise_along_pixels_edges() -> None:
    mask = np.zeros((4, 5), np.bool_)
    mask[1:3, 2:4] = True
    assert outlines(mask) == [[(2, 1), (4, 1), (4, 3), (2, 3)]]
