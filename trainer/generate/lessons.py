"""What the networks of all learning arms are taught by: seeds at working scale in network units, and crops of them.

Seeds of thick outlines are brought to a coarser scale, so that a small network sees across them; crops lie around the
outlines, parts equally often, flipped, turned and scaled in strength.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.generate import denoiser
from trainer.generate.flank import flank_of, lit
from trainer.generate.looks import Look, render

#: Side of a crop, working pixels.
SIDE = 48
#: Thicker outlines than this (radius, pixels) are learned and made at a coarser scale.
THICKEST = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """One seed at working scale: target and condition in network units, (K, h, w) and (K, 3, h, w)."""

    part_id: str
    target: NDArray[np.float32]
    condition: NDArray[np.float32]


def scale_of(distance: NDArray[np.float32]) -> float:
    """Return the working scale, at most 1, at which an outline is thin enough for the network's receptive field."""
    return min(1.0, THICKEST / max(float(distance.max()), 1.0))


def resized(maps: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Return (C, h, w) maps at another size, averaging when they shrink."""
    tensor = torch.from_numpy(np.ascontiguousarray(maps))[None]
    scaled = nn.functional.interpolate(tensor, (height, width), mode="bilinear", antialias=True, align_corners=False)
    result: NDArray[np.float32] = scaled[0].numpy()
    return result


def lesson(look: Look) -> Lesson:
    """Bring a seed to working scale and network units. Outside the outline the target is no change."""
    scale = scale_of(look.distance)
    height, width = (max(8, round(length * scale)) for length in look.distance.shape)
    distance = resized(look.distance[None], height, width)[0] * scale
    soft = np.clip(distance + 0.5, 0, 1)
    # What somebody wrote on a seed is no look of its class.
    expected = render(look.course, look.distance) + lit(flank_of(look.slopes), look.distance)
    contrast = np.where(look.usual | (look.distance <= 0), look.contrast, expected)
    target = resized(contrast, height, width) * soft / denoiser.UNIT
    smooth = render(look.course, distance) + lit(flank_of(look.slopes), distance)
    background = resized(look.background, height, width)
    return Lesson(
        part_id=look.seed.part_id,
        target=np.clip(target, -denoiser.LIMIT, denoiser.LIMIT).astype(np.float32),
        condition=denoiser.condition_of(background, smooth, distance),
    )


def crops(lessons: list[Lesson], count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draw targets (count, K, SIDE, SIDE) and their conditions (count, K, 3, SIDE, SIDE)."""
    parts = sorted({item.part_id for item in lessons})
    targets, conditions = [], []
    for _ in range(count):
        part = parts[int(rng.integers(len(parts)))]
        mine = [item for item in lessons if item.part_id == part]
        item = mine[int(rng.integers(len(mine)))]
        maps = np.concatenate([item.target[:, None], item.condition], axis=1)
        inside = np.argwhere(item.condition[0, 2] > 0)
        row, column = inside[int(rng.integers(len(inside)))] if len(inside) else (0, 0)
        crop = _cut(maps, int(row), int(column), rng)
        gain = np.float32(np.exp(rng.normal(0, 0.25)))
        crop[:, 0] *= gain
        crop[:, 2] *= gain
        turned = np.rot90(crop, int(rng.integers(4)), axes=(2, 3))
        flipped = np.flip(turned, 3) if rng.integers(2) else turned
        targets.append(np.ascontiguousarray(flipped[:, 0]))
        conditions.append(np.ascontiguousarray(flipped[:, 1:]))
    return torch.from_numpy(np.stack(targets)), torch.from_numpy(np.stack(conditions))


def _cut(maps: NDArray[np.float32], row: int, column: int, rng: np.random.Generator) -> NDArray[np.float32]:
    height, width = maps.shape[2:]
    grow = [(0, 0), (0, 0), (0, max(0, SIDE - height)), (0, max(0, SIDE - width))]
    padded = np.pad(maps, grow)
    if height < SIDE or width < SIDE:
        # Padding is far outside every outline.
        padded[:, 3, height:] = -1
        padded[:, 3, :, width:] = -1
    top = int(np.clip(row - rng.integers(8, SIDE - 8), 0, padded.shape[2] - SIDE))
    left = int(np.clip(column - rng.integers(8, SIDE - 8), 0, padded.shape[3] - SIDE))
    return padded[:, :, top : top + SIDE, left : left + SIDE].copy()
