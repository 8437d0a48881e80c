"""What a seed looks like under another outline, whole or beyond its render."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.imaging.contrast import Maps
from trainer.generate.alignment import aligned
from trainer.generate.base import Shape
from trainer.generate.flank import flank_of, lit
from trainer.generate.looks import Look, render
from trainer.generate.relief import turned


def pasted(look: Look, shape: Shape) -> Maps:
    """Return the log contrast (K, h, w) of the outline's own seed under the outline's own warp.

    Where the seed's lights show one surface it is turned and lit again: gloss and shadows of another turn are left out,
    since with them a turned defect is farther from the truth.
    """
    at = shape.source - np.asarray(look.corner, np.float32)[:, None, None]
    if look.relief is None:
        return _moved(look.contrast, at)
    return look.relief.lamps.shown(turned(_moved(look.relief.parts(look.contrast), at), shape.source), look.level)


def warped(look: Look, shape: Shape, distance: NDArray[np.float32]) -> Maps:
    """Return what the outline's own seed has beyond its render, under the outline's own warp, (K, h, w).

    :param distance: (h, w) pixels to the planned outline; outside of it there is nothing.
    """
    if look.relief is None:
        at = shape.source - np.asarray(look.corner, np.float32)[:, None, None]
        return _moved(beyond_render(look), at, mode="constant")
    smooth = render(look.course, distance) + lit(flank_of(look.slopes), distance)
    rest: Maps = ((pasted(look, shape) - smooth) * np.clip(distance + 0.5, 0, 1)).astype(np.float32)
    return rest


def laid_under(look: Look, distance: NDArray[np.float32], rng: np.random.Generator) -> Maps:
    """Return what another seed has beyond its render, laid under a planned outline, (K, h, w)."""
    return aligned(beyond_render(look), look.distance, distance, rng)


def beyond_render(look: Look) -> Maps:
    """Return what a seed has beyond its render, log contrast (K, h, w); nothing outside of its outline."""
    smooth = render(look.course, look.distance) + lit(flank_of(look.slopes), look.distance)
    rest: Maps = ((look.contrast - smooth) * np.clip(look.distance + 0.5, 0, 1)).astype(np.float32)
    return rest


def _moved(maps: Maps, at: NDArray[np.float32], mode: str = "nearest") -> Maps:
    """Return maps (C, h, w), each pixel taken from its place `at` (2, h, w)."""
    return np.stack([ndimage.map_coordinates(one, at, order=1, mode=mode) for one in maps]).astype(np.float32)
