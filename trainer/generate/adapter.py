"""The denoiser's adapter for one defect class: LoRA on its convolutions, fitted to a handful of seeds."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.generate import denoiser, lora
from trainer.generate.base import Cancelled, ReportProgress
from trainer.generate.flank import flank_of, lit
from trainer.generate.looks import Look, render

RANK, ALPHA = 8, 16
TARGETS = ["conv1", "conv2", "conv_shortcut", "time_emb_proj", "conv_in", "conv"]
SIDE, RATE = 48, 2e-3
#: Channels of all crops of a step together, as in the base's training: more lights do not make a step longer.
_CHANNELS_A_STEP = 8
_CHECK_CROPS = 8
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
    target = resized(look.contrast, height, width) * soft / denoiser.UNIT
    smooth = render(look.course, distance) + lit(flank_of(look.slopes), distance)
    background = resized(look.background, height, width)
    return Lesson(
        part_id=look.seed.part_id,
        target=np.clip(target, -denoiser.LIMIT, denoiser.LIMIT).astype(np.float32),
        condition=denoiser.condition_of(background, smooth, distance),
    )


def attach(network: nn.Module, random_seed: int = 0) -> nn.Module:
    """Return a copy of the network with fresh, trainable adapters; its own weights are frozen."""
    return lora.inject(copy.deepcopy(network), TARGETS, RANK, ALPHA, random_seed)


def fit(
    network: nn.Module,
    lessons: list[Lesson],
    steps: int,
    random_seed: int,
    progress: ReportProgress,
    cancelled: Cancelled,
    *,
    stage: str,
) -> nn.Module:
    """Return the network with an adapter fitted to the lessons. Raises `JobCancelled`."""
    adapted = attach(network, random_seed).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rng = np.random.default_rng(random_seed)
    generator = torch.Generator().manual_seed(random_seed)
    left_out = lora.left_out((item.part_id for item in lessons), random_seed)
    learned = [item for item in lessons if item.part_id != left_out]
    checked = _checks([item for item in lessons if item.part_id == left_out], rng) if left_out else None
    crops = max(2, _CHANNELS_A_STEP // lessons[0].target.shape[0])
    lora.learn(
        adapted,
        lambda: _loss(adapted, *_crops(learned, crops, rng), generator),
        (lambda: _check(adapted, checked)) if checked else None,
        steps=steps,
        rate=RATE,
        stage=stage,
        progress=progress,
        cancelled=cancelled,
    )
    return adapted.eval()


def load(network: nn.Module, path: Path, base_digest: str) -> nn.Module:
    """Return the network with a saved adapter. Raises `ModelError` when it is damaged or belongs to another base."""
    adapted = attach(network)
    lora.restore(adapted, path, base_digest)
    return adapted.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _loss(network: nn.Module, target: Tensor, condition: Tensor, generator: torch.Generator) -> Tensor:
    steps = torch.randint(0, denoiser.STEPS, (target.shape[0],), generator=generator)
    noisy = denoiser.scheduler().add_noise(target, denoiser.joint_noise(target.shape, generator), steps)
    return denoiser.loss(denoiser.predict(network, noisy, condition, steps), target, condition[:, :, 2])


def _checks(lessons: list[Lesson], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    return _crops(lessons, _CHECK_CROPS, rng)


@torch.no_grad()
def _check(network: nn.Module, crops: tuple[Tensor, Tensor]) -> float:
    """Return the loss on crops of the left-out part at fixed noise."""
    target, condition = crops
    generator = torch.Generator().manual_seed(1)
    steps = torch.linspace(50, denoiser.STEPS - 50, target.shape[0]).long()
    noisy = denoiser.scheduler().add_noise(target, denoiser.joint_noise(target.shape, generator), steps)
    return float(denoiser.loss(denoiser.predict(network, noisy, condition, steps), target, condition[:, :, 2]))


def _crops(lessons: list[Lesson], count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draw crops around pixels of the outlines: parts equally often, flipped, turned, scaled in strength."""
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
