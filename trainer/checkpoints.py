"""Checkpoints of a training run: safetensors with a JSON header, written beside and renamed; nothing is unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cell import digest
from cell.defects import Sample
from cell.imaging.preprocess import Preprocessing


class Run(Protocol):
    """What of a training run is saved: everything that the next update depends on."""

    identity: str
    done: int
    running: float
    losses: list[float]

    @property
    def network(self) -> torch.nn.Module:
        """The weights that are trained."""

    @property
    def average(self) -> torch.nn.Module:
        """The weights that are kept."""

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """The optimiser, with a state for every parameter of `network`."""

    @property
    def sampler(self) -> Stateful:
        """Where the batches come from."""


class Stateful(Protocol):
    """Something whose state is made of JSON types."""

    def state(self) -> dict[str, Any]:
        """Return the state."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""


def identity(samples: Sequence[Sample], preprocessing: Preprocessing, classes: Sequence[str], settings: str) -> str:
    """Return a digest of all that shapes a run: a checkpoint of another run is never resumed."""
    pixels = [
        [
            digest.of_array(sample.stack),
            digest.of_array(sample.labels),
            sample.group,
            sample.synthetic,
            str(sample.weight),
        ]
        for sample in samples
    ]
    return digest.of_record([pixels, preprocessing.record_digest(), list(classes), settings])


def save(path: Path, run: Run) -> None:
    """Write the run's state; the file is whole or absent. Raises `OSError` when the disk refuses."""
    tensors: dict[str, torch.Tensor] = {"rng": torch.get_rng_state()}
    for prefix, network in (("network", run.network), ("average", run.average)):
        tensors |= {f"{prefix}.{name}": value.contiguous() for name, value in network.state_dict().items()}
    for index, parameter in enumerate(run.network.parameters()):
        for name, value in run.optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser.{index}.{name}"] = value.contiguous()
    header: dict[str, Any] = {
        "identity": run.identity,
        "done": run.done,
        "running": run.running,
        "losses": run.losses,
        "sampler": run.sampler.state(),
    }
    beside = path.with_suffix(".part")
    save_file(tensors, beside, {"state": json.dumps(header)})
    with beside.open("rb") as stream:
        os.fsync(stream.fileno())
    beside.replace(path)


def restore(path: Path, run: Run) -> bool:
    """Put the run back to where the file left it; return False, changing nothing, when it is another run's file."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("state", "{}"))
            if header.get("identity") != run.identity:
                return False
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError):
        return False
    for prefix, network in (("network", run.network), ("average", run.average)):
        network.load_state_dict({name: tensors[f"{prefix}.{name}"] for name in network.state_dict()})
    for index, parameter in enumerate(run.network.parameters()):
        start = f"optimiser.{index}."
        state = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
        if state:
            run.optimiser.state[parameter] = state
    torch.set_rng_state(tensors["rng"])
    run.sampler.restore(header["sampler"])
    run.done, run.running, run.losses = header["done"], header["running"], header["losses"]
    return True
