"""``python -m trainer.base.train``: train the generator's base on rendered surfaces; resumes from its checkpoint.

The checkpoint (weights, their running average, optimiser, step) lies beside the output as ``*.checkpoint.pt``; it is
our own file and is read with `weights_only`.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trainer.base.surfaces import Example, example
from trainer.generate import denoiser

#: Sides of the examples, which take turns with the numbers of lights: small ones are cheap, large ones hold the middle
#: of wide outlines. A step holds `--batch` channels in all, half as many on large sides.
SIDES = (48, 48, 48, 96)
CHANNELS = (1, 2, 4, 8)
_POOL = 256
_EMA = 0.999


def batch_of(examples: list[Example]) -> tuple[Tensor, Tensor]:
    """Return targets (B, K, h, w) and conditions (B, K, 3, h, w) in network units."""
    targets = np.stack([np.clip(e.contrast / denoiser.UNIT, -denoiser.LIMIT, denoiser.LIMIT) for e in examples])
    conditions = np.stack([denoiser.condition_of(e.background, e.render, e.distance) for e in examples])
    return torch.from_numpy(targets.astype(np.float32)), torch.from_numpy(conditions)


def update(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    target: Tensor,
    condition: Tensor,
    generator: torch.Generator,
) -> float:
    """Take one training step at random noise levels and return the loss."""
    schedule = denoiser.scheduler()
    steps = torch.randint(0, denoiser.STEPS, (target.shape[0],), generator=generator)
    noisy = schedule.add_noise(target, denoiser.joint_noise(target.shape, generator), steps)
    prediction = denoiser.predict(network, noisy, condition, steps)
    value = denoiser.loss(prediction, target, condition[:, :, 2])
    optimiser.zero_grad(set_to_none=True)
    value.backward()
    nn.utils.clip_grad_norm_([p for p in network.parameters() if p.requires_grad], 1.0)
    optimiser.step()
    return float(value.detach())


def average(into: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the running average of the weights towards `network`."""
    with torch.no_grad():
        for slow, fast in zip(into.parameters(), network.parameters(), strict=True):
            slow.lerp_(fast, 1 - decay)


def main() -> int:
    """Train until the time or the steps are used up."""
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    network = denoiser.build().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    slow = denoiser.build()
    slow.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), lr=options.rate, weight_decay=1e-4)
    checkpoint = options.output.with_suffix(".checkpoint.pt")
    step, spent = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(saved["network"])
        slow.load_state_dict(saved["slow"])
        optimiser.load_state_dict(saved["optimiser"])
        step, spent = saved["step"], saved["seconds"]
    generator = torch.Generator().manual_seed(options.seed + step)
    rng = np.random.default_rng([options.seed, step])
    started, losses = time.monotonic(), list[float]()
    pools: dict[tuple[int, int], list[Example]] = {(k, side): [] for k in CHANNELS for side in SIDES}
    while step < options.steps and time.monotonic() - started < options.minutes * 60:
        channels, side = CHANNELS[step % len(CHANNELS)], SIDES[step // len(CHANNELS) % len(SIDES)]
        pool = _renewed(pools[channels, side], channels, side, rng)
        picked = rng.integers(len(pool), size=max(1, options.batch * min(SIDES) // side // channels))
        target, condition = batch_of([pool[int(index)] for index in picked])
        for group in optimiser.param_groups:
            group["lr"] = options.rate * min(1.0, (step + 1) / 200) * max(0.1, 1 - step / options.steps)
        losses.append(update(network, optimiser, target, condition, generator))
        average(slow, network, min(_EMA, (step + 1) / (step + 10)))
        step += 1
        if step % 200 == 0:
            seconds = spent + time.monotonic() - started
            sys.stdout.write(f"step {step} loss {np.mean(losses[-200:]):.5f} seconds {seconds:.0f}\n")
            sys.stdout.flush()
            _save(options.output, checkpoint, network, slow, optimiser, step, seconds)
    _save(options.output, checkpoint, network, slow, optimiser, step, spent + time.monotonic() - started)
    return 0


def _renewed(pool: list[Example], channels: int, side: int, rng: np.random.Generator) -> list[Example]:
    """Fill a pool, or exchange a few of its oldest: rendering takes a tenth of a step that way."""
    count = _POOL if not pool else 4
    del pool[: len(pool) + count - _POOL]
    pool.extend(example(side, channels, rng) for _ in range(count))
    return pool


def _save(
    output: Path,
    checkpoint: Path,
    network: nn.Module,
    slow: nn.Module,
    optimiser: torch.optim.Optimizer,
    step: int,
    seconds: float,
) -> None:
    state = {
        "network": network.state_dict(),
        "slow": slow.state_dict(),
        "optimiser": copy.deepcopy(optimiser.state_dict()),
        "step": step,
        "seconds": seconds,
    }
    temporary = checkpoint.with_suffix(".partial")
    torch.save(state, temporary)
    temporary.replace(checkpoint)
    denoiser.save(slow, output, {"steps": str(step), "seconds": f"{seconds:.0f}"})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer.base.train", description=__doc__)
    parser.add_argument("--output", type=Path, default=denoiser.SHIPPED)
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--minutes", type=float, default=120.0, help="stop after this long; run again to go on")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    sys.exit(main())
