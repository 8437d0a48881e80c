"""What a class needs before anything is learned of it, and what synthetic pictures can't give it.

A candidate is made of seeds' outlines and contrast. Of a class that lies below the surface or stands out of it
(`DefectClass.subsurface`) these show only a trace, so its real pictures must never be outnumbered by synthetic ones.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from cell.defects import Seed
from cell.errors import GateError
from cell.recipes import DefectClass, Recipe

#: A class is learned from at least that many seeds, and of at least two parts.
MINIMUM_SEEDS = 3


def check_seeds(defect_class: DefectClass, found: Sequence[Seed]) -> None:
    """Refuse a class that has too few real defects. Raises `GateError`."""
    parts = {seed.part_id for seed in found}
    name = defect_class.name
    if len(found) < MINIMUM_SEEDS:
        alone = " and synthetic ones do not stand in for them, for it is marked subsurface" * defect_class.subsurface
        raise GateError(
            f"the class {name} has {len(found)} confirmed seeds to learn from, at least {MINIMUM_SEEDS} "
            f"are needed{alone}; confirm more or leave the class out"
        )
    if len(parts) < 2:
        raise GateError(f"all seeds of the class {name} are of one part; confirm some of another part")


def most_synthetic(defect_class: DefectClass, seeds: int, ratio: float) -> int:
    """Return how many candidates of a class a training set may hold beside its real ones."""
    return math.floor((min(ratio, 1.0) if defect_class.subsurface else ratio) * seeds)


def warnings(recipe: Recipe, classes: Collection[str]) -> list[str]:
    """Return a sentence for each of the classes that synthetic pictures alone can't teach."""
    return [
        f"{one.name} is marked subsurface: a synthetic one shows only what the surface shows of it, so no more of them "
        "than of real ones are learned from, and never they alone; confirm more real ones"
        for one in recipe.defect_classes
        if one.subsurface and one.name in classes
    ]
