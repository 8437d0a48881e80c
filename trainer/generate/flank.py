"""How a defect's contrast depends on which way its flanks look: dark away from a lamp, bright towards it.

To first order in the slope a matt flank under a lamp changes by slope times the lamp's direction (Horn, "Obtaining
shape from shading information", 1975), so the log contrast of a channel is

    course(depth) + flank(depth) . n

with the outward normal n of the outline in the picture. The two numbers of each channel and depth are a regression over
the seed's pixels. One straight scratch knows only the direction across itself; what it can't tell comes from the
class's other seeds, so that a stroke turned by a right angle is lit as theirs are. No lamp's place need be known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.imaging.contrast import Maps

BINS = 6
#: A wide outline's middle line is no feature of the defect: few pixels lie there, and they would draw a slit.
_DEEPEST_PX = 24.0
#: Pixels below the outline beyond which a surface's slope need not be that of a flank any more: from there on, and
#: wholly from the second on, a flank has to explain its pixels to be believed.
_FLANK_PX, _FLANK_END_PX = 6.0, 10.0
#: Unexplained over explained variance at which nothing is left of a deep flank.
_UNEXPLAINED = 3.0
#: Smoothing of the distance before its gradient is taken, pixels: share of the radius, least and most. The rays of a
#: jagged outline cross in its middle.
_SMOOTH_SHARE, _SMOOTH_PX = 0.2, (0.6, 4.0)
#: Pixels' worth of doubt about an estimate: of fewer pixels than that next to nothing is believed.
_DOUBT_PX = 6.0
#: Share of a seed's pixels that its class counts as much as.
_CLASS_SHARE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Slopes:
    """Sums over a seed's pixels: `squares` (BINS, 2, 2) of n n', `products` (K, BINS, 2) of contrast times n.

    `energy` (BINS,) is the sum of the squared contrast of all channels, `deep` (BINS,) the share of a bin's pixels that
    lie deeper than a flank need reach.
    """

    squares: NDArray[np.float64]
    products: NDArray[np.float64]
    energy: NDArray[np.float64]
    deep: NDArray[np.float64]


def normals(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the outward normals (2, h, w) of an outline, rows and columns; shorter than 1 about its middle line."""
    smoothing = float(np.clip(_SMOOTH_SHARE * float(distance.max()), *_SMOOTH_PX))
    gradient = np.stack(np.gradient(ndimage.gaussian_filter(distance, smoothing, mode="nearest")))
    length = np.maximum(np.sqrt((gradient**2).sum(axis=0)), 1.0)
    outward: NDArray[np.float32] = (-gradient / length).astype(np.float32)
    return outward


def depth_of(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the relative depth below the outline, 0 to 1, (h, w); what is deeper than `_DEEPEST_PX` is all middle."""
    depth: NDArray[np.float32] = np.clip(distance / np.clip(float(distance.max()), 1.0, _DEEPEST_PX), 0, 1)
    return depth


def slopes_of(rest: Maps, distance: NDArray[np.float32]) -> Slopes:
    """Measure what a course leaves over, (K, h, w), against the normals."""
    inside = distance > 0
    index = np.minimum((depth_of(distance)[inside] * BINS).astype(np.intp), BINS - 1)
    n = normals(distance)[:, inside].astype(np.float64)
    squares, products = np.zeros((BINS, 2, 2)), np.zeros((len(rest), BINS, 2))
    for row in range(2):
        for column in range(2):
            squares[:, row, column] = np.bincount(index, weights=n[row] * n[column], minlength=BINS)
        for channel, values in enumerate(rest):
            products[channel, :, row] = np.bincount(index, weights=values[inside] * n[row], minlength=BINS)
    count = np.maximum(np.bincount(index, minlength=BINS), 1)
    squared = (rest[:, inside].astype(np.float64) ** 2).sum(axis=0)
    energy = np.asarray(np.bincount(index, weights=squared, minlength=BINS), np.float64)
    beyond = np.clip((distance[inside] - _FLANK_PX) / (_FLANK_END_PX - _FLANK_PX), 0.0, 1.0)
    return Slopes(squares, products, energy, np.bincount(index, weights=beyond, minlength=BINS) / count)


def flank_of(own: Slopes, others: Sequence[Slopes] = ()) -> NDArray[np.float32]:
    """Return the flank (K, BINS, 2) of a seed, from itself and, where it can't tell, from its class.

    A bowl slopes down to its middle, and there its flanks explain nearly all that the lights differ by. A wide ragged
    outline has a middle that lies level, where the normals of its outline mean nothing: there they explain nothing.
    """
    squares = own.squares + _CLASS_SHARE * sum((one.squares for one in others), np.zeros_like(own.squares))
    products = own.products + _CLASS_SHARE * sum((one.products for one in others), np.zeros_like(own.products))
    solved = np.linalg.solve(squares + _DOUBT_PX * np.eye(2), np.moveaxis(products, 0, -1))
    believed = 1.0 - own.deep * (1.0 - _explains(own))
    flank: NDArray[np.float32] = (np.moveaxis(solved, -1, 0) * believed[:, None]).astype(np.float32)
    return flank


def _explains(own: Slopes) -> NDArray[np.float64]:
    """Return in [0, 1] how far the flanks of each bin (BINS,) explain its pixels."""
    solved = np.linalg.solve(own.squares + 1e-6 * np.eye(2), np.moveaxis(own.products, 0, -1))
    explained = np.einsum("bik,kbi->b", solved, own.products)
    left = np.maximum(own.energy - explained, 0.0)
    believed: NDArray[np.float64] = np.clip(1.0 - left / np.maximum(_UNEXPLAINED * explained, 1e-12), 0.0, 1.0)
    return believed


def lit(flank: NDArray[np.float32], distance: NDArray[np.float32]) -> Maps:
    """Return the contrast (K, h, w) that the flanks of an outline add; 0 outside."""
    knots = (np.arange(BINS) + 0.5) / BINS
    depth, n = depth_of(distance), normals(distance)
    shaded = [sum(np.interp(depth, knots, channel[:, axis]) * n[axis] for axis in range(2)) for channel in flank]
    added: Maps = (np.stack(shaded) * np.clip(distance + 0.5, 0, 1)).astype(np.float32)
    return added
