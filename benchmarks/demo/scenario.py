"""What the demo shows its cell: real pictures of a folder, or the built-in simulated product."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cell.defects import Mask
from cell.errors import DataError
from cell.imaging.folders import physical_part
from cell.recipes import ArchiveRule, Recipe
from cell.settings import EmulatedCellSettings
from drivers.sim.folder import FolderProduct, recipe_for_folder
from drivers.sim.plate import PlateProduct, recipe_for_plate
from drivers.sim.scene import Product

_ROOT = Path(__file__).parents[2]
#: Where real pictures are looked for when no folder is named.
DEFAULT_DATA = _ROOT.parent / "shared" / "data" / "magnetic-tile"
_LIGHTS = 4
_PLATES_GOOD, _PLATES_SEEDS, _PLATES_HELD_OUT = 60, 6, 12
#: Pictures shown of a part that was photographed more often: the demo is to be through in 25 minutes.
_PICTURES_OF_A_PART = 2
_PICTURES_OF_A_SEED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """Parts by use. `learning` parts are reported as they are by a gauge, `held_out` ones by the acceptance test."""

    title: str
    source: str
    recipe: Recipe
    emulated: EmulatedCellSettings
    product: Product
    learning: tuple[str, ...]
    held_out: tuple[str, ...]

    def truth(self, part_id: str) -> tuple[str | None, Mask]:
        """Return a part's defect class, None for a good one, and its mask (H, W) bool."""
        return self.product.defect_class(part_id), self.product.place_mask(part_id)


def choose() -> Scenario:
    """Return the scenario of ``INSPECTD_DEMO_DATA``, of the default data folder, or the simulated product.

    Raises `DataError` when the named folder can't be used.
    """
    named = os.environ.get("INSPECTD_DEMO_DATA")
    if named:
        return of_folder(Path(named))
    return of_folder(DEFAULT_DATA) if DEFAULT_DATA.is_dir() else of_plates()


def of_folder(folder: Path) -> Scenario:
    """Return a scenario of real pictures in the layout of ``docs/data-layout.md``."""
    product = FolderProduct(folder)
    recipe = recipe_for_folder(folder, recipe_id="demo")
    parts = product.list_parts()
    learning = [part for part in parts if part.startswith(("seeds/", "backgrounds/"))]
    held_out = [part for part in parts if part.startswith("test/")]
    if not learning or not held_out:
        raise DataError(f"{folder} must hold seeds/, backgrounds/ and test/; see docs/data-layout.md")
    seeds = {part for part in parts if part.startswith("seeds/")}
    thin = set(_thinned(seeds, _PICTURES_OF_A_SEED))
    thin |= set(_thinned((part for part in parts if part not in seeds), _PICTURES_OF_A_PART))
    return Scenario(
        title=folder.name,
        source=f"real pictures of {folder.name}",
        recipe=_archiving(recipe),
        emulated=EmulatedCellSettings(product="folder", folder=folder.resolve()),
        product=product,
        learning=tuple(part for part in learning if part in thin),
        held_out=_mixed(part for part in held_out if part in thin),
    )


def of_plates() -> Scenario:
    """Return the scenario of machined plates under four lights, rendered by `drivers.sim`."""
    product = PlateProduct(_LIGHTS, 1)
    recipe = recipe_for_plate(_LIGHTS).model_copy(update={"recipe_id": "demo"})
    good = [f"good-{index:06d}" for index in range(_PLATES_GOOD)]
    seeds = [f"{name}-{index:06d}" for name in recipe.class_names for index in range(_PLATES_SEEDS)]
    first = 500_000
    held_out = [f"good-{first + index:06d}" for index in range(_PLATES_GOOD)]
    held_out += [f"{name}-{first + i:06d}" for name in recipe.class_names for i in range(_PLATES_HELD_OUT)]
    return Scenario(
        title="simulated plates",
        source="rendered plates of the emulated cell",
        recipe=_archiving(recipe),
        emulated=EmulatedCellSettings(product=f"plate-{_LIGHTS}", random_seed=1),
        product=product,
        learning=(*good, *seeds),
        held_out=_mixed(held_out),
    )


def _archiving(recipe: Recipe) -> Recipe:
    # Every frame is kept, so that each verdict can be judged again offline.
    return recipe.model_copy(update={"archive": ArchiveRule(ok_share=1.0, ring=0), "deadline_ms": 1000.0})


def _thinned(parts: Iterable[str], most: int) -> list[str]:
    """Return at most `most` pictures of each physical part, evenly from all of its pictures."""
    by_part: dict[str, list[str]] = {}
    for part in sorted(parts):
        by_part.setdefault(physical_part(part), []).append(part)
    chosen = []
    for pictures in by_part.values():
        chosen += pictures[:: max(1, len(pictures) // most)][:most]
    return chosen


def _mixed(parts: Iterable[str]) -> tuple[str, ...]:
    """Return the parts in a fixed random order: both models meet good parts and every class."""
    listed = sorted(parts)
    return tuple(listed[index] for index in np.random.default_rng(7).permutation(len(listed)))
