"""The denoiser's adapter for one defect class: LoRA on its convolutions, fitted to a handful of seeds."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trainer.generate import denoiser, lora
from trainer.generate.base import Cancelled, ReportProgress
from trainer.generate.lessons import Lesson, crops

RANK, ALPHA = 8, 16
TARGETS = ["conv1", "conv2", "conv_shortcut", "time_emb_proj", "conv_in", "conv"]
RATE = 2e-3
#: Channels of all crops of a step together, as in the base's training: more lights do not make a step longer.
_CHANNELS_A_STEP = 8
_CHECK_CROPS = 8


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
    count = max(2, _CHANNELS_A_STEP // lessons[0].target.shape[0])
    lora.learn(
        adapted,
        lambda: _loss(adapted, *crops(learned, count, rng), generator),
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
    lora.merge(adapted)
    return adapted.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _loss(network: nn.Module, target: Tensor, condition: Tensor, generator: torch.Generator) -> Tensor:
    steps = torch.randint(0, denoiser.STEPS, (target.shape[0],), generator=generator)
    noisy = denoiser.scheduler().add_noise(target, denoiser.joint_noise(target.shape, generator), steps)
    return denoiser.loss(denoiser.predict(network, noisy, condition, steps), target, condition[:, :, 2])


def _checks(lessons: list[Lesson], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    return crops(lessons, _CHECK_CROPS, rng)


@torch.no_grad()
def _check(network: nn.Module, checked: tuple[Tensor, Tensor]) -> float:
    """Return the loss on crops of the left-out part at fixed noise."""
    target, condition = checked
    generator = torch.Generator().manual_seed(1)
    steps = torch.linspace(50, denoiser.STEPS - 50, target.shape[0]).long()
    noisy = denoiser.scheduler().add_noise(target, denoiser.joint_noise(target.shape, generator), steps)
    return float(denoiser.loss(denoiser.predict(network, noisy, condition, steps), target, condition[:, :, 2]))
