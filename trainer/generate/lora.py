"""LoRA adapters (Hu et al. 2021) on any network: put in, fitted until the left-out part gets worse, kept as a file.

With three parts and more one physical part is left out; the adapter is kept from the step at which the left-out part's
loss was least, so that it stops before it copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cell import digest
from cell.errors import JobCancelled, ModelError
from cell.jobs import Progress
from trainer.generate.base import Cancelled, ReportProgress
from trainer.generate.looks import Look

#: An adapter's weights by their names.
State = dict[str, Tensor]

_CHECK_EVERY = 20
_MOST_GRADIENT = 1.0


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
    optimiser = torch.optim.AdamW(own, lr=rate, weight_decay=0.0)
    best, best_state = check() if check else float("inf"), state_of(adapted)
    for step in range(steps):
        if cancelled():
            raise JobCancelled(f"{stage} was stopped; resume the job to go on")
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 10) * (1 - 0.9 * step / steps)
        value = loss()
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(own, _MOST_GRADIENT)
        optimiser.step()
        if check and (step + 1) % _CHECK_EVERY == 0 and (left := check()) < best:
            best, best_state = left, state_of(adapted)
        progress(Progress(stage=stage, done=step + 1, total=steps))
    if check:
        put(adapted, best_state)


def state_of(adapted: nn.Module) -> State:
    """Return a copy of the adapters' weights."""
    return {name: value.detach().clone() for name, value in get_peft_model_state_dict(adapted).items()}


def put(adapted: nn.Module, state: State) -> None:
    """Give the adapters these weights."""
    set_peft_model_state_dict(adapted, state)


def save(adapted: nn.Module, path: Path, base_digest: str) -> str:
    """Write the adapters with the digest of their base, atomically; return the file's digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    weights = {name: value.cpu().contiguous() for name, value in state_of(adapted).items()}
    save_file(weights, temporary, metadata={"base": base_digest})
    temporary.replace(path)
    return digest.of_file(path)


def restore(adapted: nn.Module, path: Path, base_digest: str) -> None:
    """Give the adapters the weights of a file. Raises `ModelError` when it is damaged or belongs to another base."""
    try:
        with safe_open(path, framework="pt") as opened:
            base = (opened.metadata() or {}).get("base", "")
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the adapter {path} is damaged ({error}); remove it and generate again") from error
    if base != base_digest:
        raise ModelError(f"the adapter {path} belongs to another base; remove it and generate again")
    expected = state_of(adapted)
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in expected.items()}:
        raise ModelError(f"the adapter {path} is not one of this generator; remove it and generate again")
    put(adapted, state)


def path_of(folder: Path, base_digest: str, looks: Sequence[Look], steps: int, random_seed: int) -> Path:
    """Return where the adapter lies that follows from a base, one class's seeds and the way of fitting."""
    facts = {
        "base": base_digest,
        "seeds": sorted(
            (s.seed_id, digest.of_array(s.stack), digest.of_array(s.mask)) for s in (look.seed for look in looks)
        ),
        "steps": steps,
        "random_seed": random_seed,
    }
    return folder / f"{looks[0].seed.defect_class}-{digest.of_record(facts)[:16]}.safetensors"
