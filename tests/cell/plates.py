"""Plates under two lights for the tests of the background model: rendered once, expensive enough to share."""

from __future__ import annotations

import zlib
from functools import cache

import numpy as np

from cell.defects import Mask
from cell.frames import Stack
from drivers.sim.plate import HEIGHT, WIDTH, PlateProduct

WHOLE: Mask = np.ones((HEIGHT, WIDTH), np.bool_)
_PRODUCT = PlateProduct(lights=2)


@cache
def plate(part_id: str) -> Stack:
    """Return a part's stack (2, H, W) uint8."""
    part, rng = _PRODUCT.part(part_id), np.random.default_rng(zlib.crc32(part_id.encode()))
    frames = [part.expose({line: 1.0}, 1000.0, 0.0, rng) for line in _PRODUCT.lines]
    stack: Stack = np.stack(frames).astype(np.uint8)
    return stack


def flaw(part_id: str) -> Mask:
    """Return the part's true mask."""
    return _PRODUCT.place_mask(part_id)
