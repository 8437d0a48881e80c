"""How light usually falls on a good part: what lies in the middle of a wide defect can't be told from its surroundings.

Outside of a wide outline the surface says little about the light 50 pixels further in, and a part that is lit brighter
in its middle would lend that to every defect there. The good parts know: the median of their smoothed logarithms at the
same relative place, as strongly as the seed's own surroundings show it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask
from cell.frames import Stack
from cell.imaging import contrast
from cell.imaging.contrast import Maps
from trainer.generate.base import BackgroundSample
from trainer.generate.outlines import spans_of

#: Places across a part and down it at which light is known, good parts that are asked, and the longest side that is
#: looked at, pixels: larger pictures are thinned out.
_PLACES, _PARTS, _SIDE = 24, 24, 256
_LEAST_PARTS = 3
#: The usual course of the light counts so many times as strongly at most.
_MOST = 1.5
_Field = NDArray[np.float32]


def usual_light(backgrounds: Sequence[BackgroundSample], bit_depth: int) -> _Field | None:
    """Return the log of the light (K, 24, 24) over relative places of a part, of mean 0; None of too few parts."""
    asked = backgrounds[:: max(1, len(backgrounds) // _PARTS)][:_PARTS]
    fields = [_field(one.stack, one.allowed, bit_depth) for one in asked if one.allowed.any()]
    if len({one.part_id for one in asked}) < _LEAST_PARTS:
        return None
    field: _Field = np.median(np.stack(fields), axis=0).astype(np.float32)
    return field


def light_under(stack: Stack, marked: Mask, part: Mask, field: _Field, bit_depth: int) -> Maps:
    """Return by what factor (K, H, W) light differs over a seed's picture, as far as its own surroundings show it.

    :param marked: (H, W) bool, the defect; :param part: (H, W) bool, the part.
    """
    usual = _at(field, part)
    known = part & ~ndimage.binary_dilation(marked, iterations=4)
    if not known.any():
        return np.ones(stack.shape, np.float32)
    log = _log(stack, bit_depth)
    factors = []
    for own, expected in zip(log, usual, strict=True):
        seen, told = own[known] - own[known].mean(), expected[known] - expected[known].mean()
        strength = float(np.clip((seen * told).sum() / max(float((told**2).sum()), 1e-9), 0.0, _MOST))
        factors.append(np.exp(strength * expected))
    return np.stack(factors).astype(np.float32)


def _field(stack: Stack, part: Mask, bit_depth: int) -> _Field:
    (top, bottom), (left, right) = spans_of(part)
    step = max(1, max(bottom - top, right - left) // _SIDE)
    cut = slice(top, bottom + 1, step), slice(left, right + 1, step)
    log, weight = _log(stack[:, cut[0], cut[1]], bit_depth), part[cut].astype(np.float32)
    sigma = (0, *(0.5 * length / _PLACES for length in weight.shape))
    smooth = ndimage.gaussian_filter(log * weight, sigma, mode="constant")
    smooth /= ndimage.gaussian_filter(weight, sigma[1:], mode="constant") + 1e-6
    rows, columns = (((np.arange(_PLACES) + 0.5) / _PLACES * length).astype(np.intp) for length in weight.shape)
    field = smooth[:, rows[:, None], columns]
    level: _Field = (field - field.mean(axis=(1, 2), keepdims=True)).astype(np.float32)
    return level


def _at(field: _Field, part: Mask) -> Maps:
    (top, bottom), (left, right) = spans_of(part)
    rows = (np.arange(part.shape[0]) - top + 0.5) / (bottom - top + 1) * _PLACES - 0.5
    columns = (np.arange(part.shape[1]) - left + 0.5) / (right - left + 1) * _PLACES - 0.5
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    found = [ndimage.map_coordinates(one, places, order=1, mode="nearest") for one in field]
    return np.stack(found).astype(np.float32)


def _log(stack: Stack, bit_depth: int) -> Maps:
    logarithm: Maps = np.log(stack.astype(np.float32) + np.float32(contrast.black_offset_dn(bit_depth)))
    return logarithm
