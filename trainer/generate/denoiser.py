"""The denoiser: one compact network for any number of channels, and what it is told.

Every channel is one image of the batch; a channel sees the others through their mean, so that one base serves any K and
the channels of one defect agree. The network is diffusers' `UNet2DModel` without attention and with two levels: its
receptive field of about 60 pixels is too small to memorise a whole seed.

Inputs of a channel, (5, h, w) float32: its noisy contrast, the mean over channels of the noisy contrast, the
background's own contrast, the procedural render of the defect, the signed distance to the outline. The network predicts
the clean contrast (x0-prediction, as Defect-Gen does).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DModel
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cell.errors import ModelError

INPUTS = 5
BLOCKS = (24, 48)
STEPS = 1000
#: Log contrast that becomes 1 inside the network, and where it is cut.
UNIT, LIMIT = 0.5, 4.0
#: Pixels of signed distance that become 1.
DISTANCE_UNIT = 16.0
#: Sides are padded to a multiple of this.
MULTIPLE = 4
#: Share of the noise variance that all channels have in common.
SHARED_NOISE = 0.5

SHIPPED = Path(__file__).parents[1] / "base" / "denoiser.safetensors"


def build() -> nn.Module:
    """Return the network with fresh weights."""
    network: nn.Module = UNet2DModel(
        in_channels=INPUTS,
        out_channels=1,
        block_out_channels=BLOCKS,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        add_attention=False,
    )
    return network


def load(path: Path) -> nn.Module:
    """Return the network with the weights of a safetensors file. Raises `ModelError` when they are not its weights."""
    network = build()
    try:
        network.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"the generator base {path} can't be used: {str(error).splitlines()[0]}; "
            "reinstall it or train one with python -m trainer.base.train"
        ) from error
    return network


def save(network: nn.Module, path: Path, facts: dict[str, str] | None = None) -> None:
    """Write the weights as half precision safetensors with `facts` in the header, atomically."""
    temporary = path.with_suffix(".partial")
    weights = {name: value.detach().half().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, temporary, metadata=facts)
    temporary.replace(path)


def digest(network: nn.Module) -> str:
    """Return the SHA-256 over all weights in name order."""
    sha = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        sha.update(name.encode())
        sha.update(value.detach().cpu().numpy().tobytes())
    return sha.hexdigest()


def scheduler() -> DDIMScheduler:
    """Return the noise schedule: squared cosine, x0-prediction, no clipping of our unbounded contrast."""
    return DDIMScheduler(
        num_train_timesteps=STEPS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        clip_sample=False,
        timestep_spacing="trailing",
    )


def inputs(noisy: Tensor, condition: Tensor) -> Tensor:
    """Return the network's input.

    :param noisy: (B, K, h, w); :param condition: (B, K, 3, h, w): background, render, distance.
    :returns: (B * K, 5, h, w).
    """
    batch, channels, height, width = noisy.shape
    mean = noisy.mean(dim=1, keepdim=True).expand_as(noisy)
    stacked = torch.cat([noisy[:, :, None], mean[:, :, None], condition], dim=2)
    return stacked.reshape(batch * channels, INPUTS, height, width)


def predict(network: nn.Module, noisy: Tensor, condition: Tensor, step: Tensor) -> Tensor:
    """Return the clean contrast (B, K, h, w) in network units; `step` (B,) int64."""
    batch, channels, height, width = noisy.shape
    steps = step.repeat_interleave(channels)
    prediction: Tensor = network(inputs(noisy, condition), steps).sample
    return prediction.reshape(batch, channels, height, width)


def joint_noise(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return unit noise (B, K, h, w) of which the channels share a part: one defect, K views."""
    batch, channels, height, width = shape
    own = torch.randn((batch, channels, height, width), generator=generator)
    shared = torch.randn((batch, 1, height, width), generator=generator)
    return SHARED_NOISE**0.5 * shared + (1 - SHARED_NOISE) ** 0.5 * own


def loss(prediction: Tensor, target: Tensor, distance: Tensor) -> Tensor:
    """Return the Huber loss, weighted 5 inside the outline, 2 in a ring of 5 pixels, 1 outside.

    :param prediction: (B, K, h, w), as is `target`; :param distance: (B, K, h, w) in network units.
    """
    pixels = distance * DISTANCE_UNIT
    weight = 1.0 + 4.0 * (pixels > 0).float() + 1.0 * ((pixels <= 0) & (pixels > -5)).float()
    error = nn.functional.huber_loss(prediction, target, reduction="none", delta=0.5)
    return (weight * error).sum() / weight.sum()


def condition_of(
    background: NDArray[np.float32], render: NDArray[np.float32], distance: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the condition (K, 3, h, w) in network units.

    :param background: (K, h, w) log contrast of the background's own texture; :param render: (K, h, w) log contrast;
    :param distance: (h, w) pixels, positive inside.
    """
    spread = np.broadcast_to(distance / DISTANCE_UNIT, background.shape)
    stacked = np.stack([background / UNIT, render / UNIT, np.clip(spread, -1, 1)], axis=1)
    clipped: NDArray[np.float32] = np.clip(stacked, -LIMIT, LIMIT).astype(np.float32)
    return clipped
