"""Large canvases in overlapping tiles: memory that does not grow with the defect, and no seams.

At every denoising step each tile is predicted by itself and the predictions are averaged, weighed by a ramp that falls
to nothing at a tile's border (MultiDiffusion, Bar-Tal et al. 2023): the noise is one, so the tiles agree but for what
they see of their surroundings. Tiles overlap by half the network's receptive field. Those that the outline does not
reach are left out: a long scratch across a picture costs its length and not the picture.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from trainer.generate import denoiser

#: Canvases up to this many pixels are predicted whole; beyond, in tiles of this side that overlap by so much.
LARGEST_WHOLE, SIDE, OVERLAP = 160 * 160, 96, 32
#: Pixels about the outline within which tiles are needed.
_REACH = 12.0


def predict(network: nn.Module, noisy: Tensor, condition: Tensor, step: Tensor) -> Tensor:
    """Return the clean contrast (1, K, H, W) in network units, as :func:`denoiser.predict` does, at any size.

    :param noisy: (1, K, H, W); :param condition: (1, K, 3, H, W), of which the last is the distance to the outline.
    """
    height, width = noisy.shape[2:]
    if height * width <= LARGEST_WHOLE:
        return denoiser.predict(network, noisy, condition, step)
    total, weights = torch.zeros_like(noisy), torch.zeros((height, width))
    near = condition[0, 0, 2] * denoiser.DISTANCE_UNIT > -_REACH
    for rows, columns in tiles(height, width):
        if not bool(near[rows, columns].any()):
            continue
        part = denoiser.predict(network, noisy[..., rows, columns], condition[..., rows, columns], step)
        weight = _ramp(rows, height)[:, None] * _ramp(columns, width)[None]
        total[..., rows, columns] += weight * part
        weights[rows, columns] += weight
    # Where no tile lies nothing is painted: the render alone, which is no change there.
    painted = total / weights.clamp_min(1e-6)
    return torch.where(weights > 0, painted, condition[:, :, 1])


def tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Yield windows that cover a canvas, the last of each row and column moved inside."""
    for top in _starts(height):
        for left in _starts(width):
            yield slice(top, top + SIDE), slice(left, left + SIDE)


def _starts(length: int) -> list[int]:
    if length <= SIDE:
        return [0]
    count = int(np.ceil((length - OVERLAP) / (SIDE - OVERLAP)))
    # Evenly, in steps of the network's own stride.
    spread = np.linspace(0, length - SIDE, count) / denoiser.MULTIPLE
    return [int(at) * denoiser.MULTIPLE for at in spread[:-1]] + [length - SIDE]


def _ramp(along: slice, length: int) -> Tensor:
    """Return the weights of a tile's pixels along one side; at the canvas' own border they do not fall."""
    stop = min(along.stop, length)
    place = torch.arange(along.start, stop, dtype=torch.float32)
    before = (place - along.start + 0.5) / OVERLAP if along.start > 0 else torch.ones_like(place)
    after = (stop - place - 0.5) / OVERLAP if stop < length else torch.ones_like(place)
    return torch.minimum(before, after).clamp(max=1.0)
