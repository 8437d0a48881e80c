"""Files of what an arm learned from a class's seeds: named by the facts that it follows from, and checked when read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from cell import digest
from cell.errors import ModelError
from trainer.generate.looks import Look

#: Weights by their names.
State = dict[str, Tensor]


def path_of(folder: Path, base: str, looks: Sequence[Look], steps: int, random_seed: int) -> Path:
    """Return where the weights lie that follow from a base, one class's seeds and the way of fitting."""
    facts = {
        "base": base,
        "seeds": sorted(
            (s.seed_id, digest.of_array(s.stack), digest.of_array(s.mask)) for s in (look.seed for look in looks)
        ),
        "steps": steps,
        "random_seed": random_seed,
    }
    return folder / f"{looks[0].seed.defect_class}-{digest.of_record(facts)[:16]}.safetensors"


def save(state: Mapping[str, Tensor], path: Path, base: str) -> str:
    """Write weights with the digest or name of their base, atomically; return the file's digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, temporary, metadata={"base": base})
    temporary.replace(path)
    return digest.of_file(path)


def read(path: Path, base: str, expected: Mapping[str, Tensor]) -> State:
    """Return the weights of a file. Raises `ModelError` when it is damaged, of another base, or not like `expected`."""
    try:
        with safe_open(path, framework="pt") as opened:
            found = (opened.metadata() or {}).get("base", "")
        state: State = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the adapter {path} is damaged ({error}); remove it and generate again") from error
    if found != base:
        raise ModelError(f"the adapter {path} belongs to another base; remove it and generate again")
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in expected.items()}:
        raise ModelError(f"the adapter {path} is not one of this generator; remove it and generate again")
    return state
