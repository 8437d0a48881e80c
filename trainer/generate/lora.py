"""LoRA adapters (Hu et al. 2021) on any network: put in, fitted until the left-out part gets worse, kept as a file.

With three parts and more one physical part is left out; the adapter is kept from the step at which the left-out part's
loss was least, so that it stops before it copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from trainer.generate import weights
from trainer.generate.base import Cancelled, ReportProgress
from trainer.generate.fitting import descend
from trainer.generate.weights import State, path_of

__all__ = ["State", "inject", "learn", "left_out", "merge", "path_of", "put", "restore", "save", "state_of"]

_CHECK_EVERY = 20


def inject(network: nn.Module, targets: Sequence[str], rank: int, alpha: int, random_seed: int = 0) -> nn.Module:
    """Put fresh, trainable adapters into `network` and return it; its own weights are frozen.

    :param targets: names of the layers, or ends of them, as peft takes them.
    """
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), init_lora_weights=True)
    # peft draws from torch's global stream; the adapter has to follow from the seed alone.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_seed)
        adapted: nn.Module = inject_adapter_in_model(config, network, adapter_name="default")
    for name, parameter in adapted.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return adapted


def left_out(part_ids: Iterable[str], random_seed: int) -> str | None:
    """Return the part that stops the fit; None where there are fewer than three."""
    parts = sorted(set(part_ids))
    return parts[random_seed % len(parts)] if len(parts) >= 3 else None


def learn(
    adapted: nn.Module,
    loss: Callable[[], Tensor],
    check: Callable[[], float] | None,
    *,
    steps: int,
    rate: float,
    stage: str,
    progress: ReportProgress,
    cancelled: Cancelled,
) -> None:
    """Fit the adapters of `adapted` in place.

    :param loss: draws a batch and returns its loss, once a step.
    :param check: the loss on the left-out part; the step at which it was least is kept. None keeps the last step.
    :raises JobCancelled: between two steps.
    """
    own = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    best, best_state = check() if check else float("inf"), state_of(adapted)

    def keep_best(done: int) -> None:
        nonlocal best, best_state
        if check and done % _CHECK_EVERY == 0 and (left := check()) < best:
            best, best_state = left, state_of(adapted)

    descend(own, loss, steps=steps, rate=rate, stage=stage, progress=progress, cancelled=cancelled, after=keep_best)
    if check:
        put(adapted, best_state)


def merge(adapted: nn.Module) -> None:
    """Add the adapters to the layers' own weights, in place: what learns no more needs one layer, not three."""
    for module in adapted.modules():
        if isinstance(module, BaseTunerLayer):
            module.merge()


def state_of(adapted: nn.Module) -> State:
    """Return a copy of the adapters' weights."""
    return {name: value.detach().clone() for name, value in get_peft_model_state_dict(adapted).items()}


def put(adapted: nn.Module, state: State) -> None:
    """Give the adapters these weights."""
    set_peft_model_state_dict(adapted, state)


def save(adapted: nn.Module, path: Path, base_digest: str) -> str:
    """Write the adapters with the digest of their base, atomically; return the file's digest."""
    return weights.save(state_of(adapted), path, base_digest)


def restore(adapted: nn.Module, path: Path, base_digest: str) -> None:
    """Give the adapters the weights of a file. Raises `ModelError` when it is damaged or belongs to another base."""
    put(adapted, weights.read(path, base_digest, state_of(adapted)))
