"""Which parts the held-out set has, in which order they are rendered, and from which random numbers."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from benchmarks.heldout.model import Counts, ProductKind, Random
from benchmarks.heldout.products import flange, gear, insulator, lid, solder

PRODUCTS: Mapping[str, ProductKind] = MappingProxyType(
    {kind.name: kind for kind in (gear.KIND, insulator.KIND, solder.KIND, flange.KIND, lid.KIND)}
)
#: The products whose pictures are committed; of the others the manifest is, and they are rendered where needed.
COMMITTED = ("gear", "insulator", "solder")
#: Parts of a pilot: for choosing how hard a product is, by other random numbers than any part of the set.
PILOT = Counts(seeds=3, test=6, backgrounds=20, test_good=16)


@dataclass(frozen=True, slots=True)
class Planned:
    """One part: its product, its name (unique in the product), its folder, its class (empty: good)."""

    product: str
    name: str
    folder: str
    defect_class: str

    def random(self, stream: str, attempt: int = 0) -> Random:
        """Return the generator of one use of one part: no two share numbers, and no order of rendering matters."""
        key = zlib.crc32(f"{self.product}/{self.name}/{stream}/{attempt}".encode())
        return np.random.default_rng([key, len(self.product), attempt])

    @property
    def path_seed(self) -> int:
        """Return the seed of this part's paths."""
        return zlib.crc32(f"{self.product}/{self.name}/paths".encode()) % 2**24


def plan(products: tuple[str, ...], *, pilot: bool = False) -> list[Planned]:
    """Return all parts of some products, so ordered that a run cut short has every folder filled in proportion."""
    ranked: list[tuple[float, int, Planned]] = []
    for place, product in enumerate(products):
        number = 0
        for folder, count in _folders(PRODUCTS[product], PILOT if pilot else PRODUCTS[product].counts):
            for index in range(count):
                label = folder.rsplit("/", 1)[-1]
                name = f"{'t' if pilot else 'p'}{number:03d}"
                part = Planned(product, name, folder, "" if label == "good" else label)
                ranked.append(((index + 0.5) / count, place, part))
                number += 1
    return [part for _, _, part in sorted(ranked, key=lambda entry: (entry[0], entry[1], entry[2].name))]


def _folders(kind: ProductKind, counts: Counts) -> list[tuple[str, int]]:
    folders = [(f"seeds/{name}", counts.seeds) for name in kind.defect_classes]
    folders += [(f"test/{name}", counts.test) for name in kind.defect_classes]
    return [*folders, ("backgrounds/good", counts.backgrounds), ("test/good", counts.test_good)]
