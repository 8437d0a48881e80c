"""LoRA adapters (Hu et al. 2021) on the denoiser's convolutions, one per defect class, fitted to a handful of seeds.

With three seeds and more one physical part is left out; the adapter is kept from the step at which the left-out part's
loss was least, so that it stops before it copies.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cell import digest
from cell.errors import JobCancelled, ModelError
from cell.jobs import Progress
from trainer.generate import denoiser
from trainer.generate.base import Cancelled, ReportProgress
from trainer.generate.flank import flank_of, lit
from trainer.generate.looks import Look, render

RANK, ALPHA = 8, 16
TARGETS = ["conv1", "conv2", "conv_shortcut", "time_emb_proj", "conv_in", "conv"]
SIDE, RATE = 48, 2e-3
#: Channels of all crops of a step together, as in the base's training: more lights do not make a step longer.
_CHANNELS_A_STEP = 8
_CHECK_EVERY, _CHECK_CROPS = 20, 8
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
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, init_lora_weights=True)
    # peft draws from torch's global stream; the adapter has to follow from the seed alone.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_seed)
        adapted: nn.Module = inject_adapter_in_model(config, copy.deepcopy(network), adapter_name="default")
    for name, parameter in adapted.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return adapted


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
    parts = sorted({item.part_id for item in lessons})
    left_out = parts[random_seed % len(parts)] if len(parts) >= 3 else None
    learned = [item for item in lessons if item.part_id != left_out]
    checked = _checks([item for item in lessons if item.part_id == left_out], rng) if left_out else None
    optimiser = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=RATE, weight_decay=0.0)
    best, best_state = _check(adapted, checked) if checked else float("inf"), _state(adapted)
    for step in range(steps):
        if cancelled():
            raise JobCancelled(f"{stage} was stopped; resume the job to go on")
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 10) * (1 - 0.9 * step / steps)
        target, condition = _crops(learned, max(2, _CHANNELS_A_STEP // lessons[0].target.shape[0]), rng)
        _update(adapted, optimiser, target, condition, generator)
        if checked and (step + 1) % _CHECK_EVERY == 0 and (value := _check(adapted, checked)) < best:
            best, best_state = value, _state(adapted)
        progress(Progress(stage=stage, done=step + 1, total=steps))
    if checked:
        set_peft_model_state_dict(adapted, best_state)
    return adapted.eval()


def save(adapted: nn.Module, path: Path, base_digest: str) -> str:
    """Write the adapter with the digest of its base, atomically; return the file's digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    save_file({k: v.contiguous() for k, v in _state(adapted).items()}, temporary, metadata={"base": base_digest})
    temporary.replace(path)
    return digest.of_file(path)


def load(network: nn.Module, path: Path, base_digest: str) -> nn.Module:
    """Return the network with a saved adapter. Raises `ModelError` when it is damaged or belongs to another base."""
    try:
        with safe_open(path, framework="pt") as opened:
            base = (opened.metadata() or {}).get("base", "")
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the adapter {path} is damaged ({error}); remove it and generate again") from error
    if base != base_digest:
        raise ModelError(f"the adapter {path} belongs to another base; remove it and generate again")
    adapted = attach(network)
    expected = _state(adapted)
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in expected.items()}:
        raise ModelError(f"the adapter {path} is not one of this generator; remove it and generate again")
    set_peft_model_state_dict(adapted, state)
    return adapted.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _state(adapted: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in get_peft_model_state_dict(adapted).items()}


def _update(
    network: nn.Module, optimiser: torch.optim.Optimizer, target: Tensor, condition: Tensor, generator: torch.Generator
) -> None:
    schedule = denoiser.scheduler()
    steps = torch.randint(0, denoiser.STEPS, (target.shape[0],), generator=generator)
    noisy = schedule.add_noise(target, denoiser.joint_noise(target.shape, generator), steps)
    value = denoiser.loss(denoiser.predict(network, noisy, condition, steps), target, condition[:, :, 2])
    optimiser.zero_grad(set_to_none=True)
    value.backward()
    nn.utils.clip_grad_norm_([p for p in network.parameters() if p.requires_grad], 1.0)
    optimiser.step()


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
