"""The weights a judge starts from: what surfaces, lights and defects look like at all, learned from rendered ones.

The shipped network has one channel and knows the kinds of defects of the emulated cell. A cell's own network takes over
all its layers but the last: the first is given to every channel alike, divided by their number, so that lights that see
the same thing say what one of them would say alone; the map of the cell's own classes begins anew.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from cell import digest
from cell.errors import ConfigurationError
from cell.store.files import write_bytes
from trainer.network import DetectorNetwork

#: See trainer/base/README.md.
SHIPPED = Path(__file__).with_name("detector.safetensors")
_STEM = "stem.weight"
_OWN = "kinds."


def begin_from(network: DetectorNetwork, file: Path = SHIPPED) -> None:
    """Put the base's weights into a new network, see the module.

    :raises ConfigurationError: when the file can't be read or its network has other widths.
    """
    known = _read(file)
    state = network.state_dict()
    for name, own in state.items():
        if name.startswith(_OWN):
            continue
        given = known.get(name)
        if given is not None and name == _STEM:
            given = given.expand(-1, own.shape[1], -1, -1) / own.shape[1]
        if given is None or given.shape != own.shape:
            raise ConfigurationError(
                f"{file} holds a network of another shape ({name}); start from random weights (FitConfig.start) or "
                "keep the widths it was trained with"
            )
        state[name] = given.to(own.dtype)
    network.load_state_dict(state)


def write(network: DetectorNetwork, file: Path, facts: dict[str, str]) -> None:
    """Write a base, half precision, durably; `facts` go into the file's header. Raises `OSError`."""
    tensors = {
        name: value.half().contiguous() if value.dtype.is_floating_point else value
        for name, value in network.state_dict().items()
    }
    write_bytes(file, save(tensors, facts))


@lru_cache(maxsize=2)
def digest_of(file: Path = SHIPPED) -> str:
    """Return the SHA-256 of the base's file. Raises `OSError`."""
    return digest.of_file(file)


def _read(file: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(file, framework="pt") as held:
            return {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError) as error:
        raise ConfigurationError(
            f"the detector's base {file} can't be read ({error}); install the package again or train one with "
            "python -m trainer.base.train_detector"
        ) from error
