"""What the networks that are fitted to a class alone have in common: how they are told what is planned, and a block."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from trainer.generate import denoiser
from trainer.generate.lessons import Lesson

Network = TypeVar("Network", bound=nn.Module)

#: Working pixels outside the outline over which a background's texture sets in: inside a seed nobody knows it.
_SETS_IN = 4.0
#: Least spread that counts as one, network units: about the camera's noise.
_LEAST_UNIT = 0.02


class Block(nn.Module):
    """A residual block without normalisation: windows of all sizes are to look alike."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, C, h, w)."""
        changed: Tensor = nn.functional.silu(maps + self.layers(maps))
        return changed


def told_of(condition: Tensor) -> Tensor:
    """Return K renders, K backgrounds around the outline and the distance, (B, 2 K + 1, h, w).

    :param condition: (B, K, 3, h, w), see :func:`trainer.generate.denoiser.condition_of`.
    """
    distance = condition[:, :1, 2]
    around = (-distance * denoiser.DISTANCE_UNIT / _SETS_IN).clamp(0.0, 1.0)
    return torch.cat([condition[:, :, 1], condition[:, :, 0] * around, distance], dim=1)


def inside_of(told: Tensor) -> Tensor:
    """Return the weight of the outline's inside, (B, 1, h, w)."""
    return (told[:, -1:] * denoiser.DISTANCE_UNIT + 0.5).clamp(0.0, 1.0)


def rest_of(target: Tensor, told: Tensor) -> Tensor:
    """Return what defects have beyond their render, (B, K, h, w) in network units; nothing outside."""
    return (target - told[:, : target.shape[1]]) * inside_of(told)


def unit_of(lessons: list[Lesson]) -> float:
    """Return the spread of what the seeds have beyond their render, network units: the networks' own unit."""
    spreads = []
    for one in lessons:
        inside = one.condition[0, 2] > 0
        if inside.any():
            spreads.append(float((one.target - one.condition[:, 1])[:, inside].std()))
    return max(_LEAST_UNIT, float(np.median(spreads))) if spreads else 1.0


def up(maps: Tensor) -> Tensor:
    """Return maps twice as large."""
    return nn.functional.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)


def as_strong(network: Network) -> Network:
    """Draw a network's weights so that what goes in with unit spread comes out with it (He et al. 2015).

    torch's own choice shrinks it at every layer: a generator would begin as silence, and a contest of a few hundred
    steps ends before it speaks.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def channels_last(network: Network) -> Network:
    """Lay a network's weights out so that narrow convolutions run faster on a processor."""
    laid_out: Network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return laid_out
