"""Where a learned arm paints: the window of a planned outline at working scale, and the way back.

Thick outlines are painted at a coarser scale, like the lessons. What a network adds there is taken back to the window's
own pixels without what is coarse inside of the outline: no network sees across a wide outline, so what is coarse there
is the course's alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cell.imaging.contrast import Maps
from trainer.generate import denoiser
from trainer.generate.lessons import resized, scale_of
from trainer.generate.looks import without_structure

#: Coarsest texture (Gaussian sigma, working pixels) that is taken from a network inside wide outlines.
_COARSEST = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """A window at working scale.

    `condition` (1, K, 3, H, W) float32 in network units: background, render, distance; its sides are padded at bottom
    and right. `distance` (h, w) working pixels, not padded; `full` the window's own height and width.
    """

    condition: Tensor
    distance: NDArray[np.float32]
    scale: float
    full: tuple[int, int]

    @property
    def render(self) -> Tensor:
        """The procedural render, (1, K, H, W) in network units."""
        return self.condition[:, :, 1]

    def scaled(self, maps: Maps) -> NDArray[np.float32]:
        """Return log contrast (K, h, w) of the window's own pixels in network units on the canvas, (K, H, W)."""
        height, width = self.distance.shape
        small = resized(maps / denoiser.UNIT, height, width)
        padded: NDArray[np.float32] = np.pad(small, [(0, 0), *self._padding()], mode="edge")
        return padded

    def back(self, added: Tensor) -> Maps:
        """Return what a network added to the render, (1, K, H, W), as log contrast (K, h, w) of the window's pixels."""
        height, width = self.distance.shape
        painted = added[0, :, :height, :width].numpy() * np.float32(denoiser.UNIT)
        if self.scale < 1.0:
            painted = without_structure(painted, self.distance > 0, _COARSEST)[0]
        return resized(painted, *self.full)

    def _padding(self) -> list[tuple[int, int]]:
        return [(0, to - own) for own, to in zip(self.distance.shape, self.condition.shape[3:], strict=True)]


def canvas_of(background: Maps, smooth: Maps, distance: NDArray[np.float32], multiple: int) -> Canvas:
    """Return the canvas of a window.

    :param background: (K, h, w) log contrast of the background's own texture; :param smooth: (K, h, w) the render;
    :param distance: (h, w) pixels to the outline; :param multiple: of which the canvas' sides are.
    """
    scale = scale_of(distance)
    height, width = (max(8, round(length * scale)) for length in distance.shape)
    small = resized(distance[None], height, width)[0] * scale
    condition = denoiser.condition_of(resized(background, height, width), resized(smooth, height, width), small)
    grow = [(0, 0), (0, 0), (0, -height % multiple), (0, -width % multiple)]
    padded = torch.from_numpy(np.pad(condition, grow, mode="edge"))[None]
    return Canvas(padded, small, scale, (distance.shape[0], distance.shape[1]))
