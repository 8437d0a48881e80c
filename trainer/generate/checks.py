"""What can't be generated from or on, told before anything is fitted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cell.errors import DataError
from cell.frames import Stack
from cell.recipes import Recipe
from trainer.generate.base import BackgroundSample, GenerateRequest, Scene
from trainer.generate.ground import zoned
from trainer.generate.looks import part_mask

#: Share of the part that a seed's mask may cover: the rest has to show what the part is like without the defect.
MOST_COVERED = 0.85


def check_pictures(scene: Scene) -> None:
    """Refuse seeds and backgrounds of another layout, and masks that leave nothing of the part. Raises `DataError`."""
    for background in scene.backgrounds:
        _check_stack(f"background {background.background_id}", background.stack, scene.recipe)
        if background.allowed.shape != background.stack.shape[1:]:
            raise DataError(
                f"background {background.background_id} has {_size(background.stack)} pixels, its map of allowed "
                f"places {background.allowed.shape[1]}x{background.allowed.shape[0]}; make the map for this picture"
            )
    for members in scene.seeds.values():
        for seed in members:
            _check_stack(f"seed {seed.seed_id}", seed.stack, scene.recipe)
            part = part_mask(seed, scene)
            covered = float((seed.mask & part).sum() / max(int(part.sum()), 1))
            if covered > MOST_COVERED:
                raise DataError(
                    f"the mask of seed {seed.seed_id} covers {100 * covered:.0f} % of its part, and nothing shows the "
                    "part without the defect; mark the defect alone or refuse the seed"
                )


def check_grounds(request: GenerateRequest, classes: Sequence[str], backgrounds: Sequence[BackgroundSample]) -> None:
    """Refuse zones that leave a class no place on any background. Raises `DataError`."""
    for name in classes:
        zones = request.control_of(name).zones
        if zones and not any(zoned(background.allowed, zones).any() for background in backgrounds):
            raise DataError(
                f"the zones of {name} leave no place where a defect may lie on any background; correct the plan"
            )


def _check_stack(what: str, stack: Stack, recipe: Recipe) -> None:
    if len(stack) != len(recipe.channels):
        raise DataError(
            f"{what} has {len(stack)} channels, the recipe {recipe.recipe_id} has {len(recipe.channels)}; take it "
            "again with this recipe"
        )
    if stack.shape[1] > recipe.height or stack.shape[2] > recipe.width:
        raise DataError(
            f"{what} has {_size(stack)} pixels, the recipe {recipe.recipe_id} has {recipe.width}x{recipe.height}; take "
            "it again with this recipe"
        )
    dtype = np.dtype(np.uint8 if recipe.bit_depth <= 8 else np.uint16)
    if stack.dtype != dtype or int(stack.max(initial=0)) >= 1 << recipe.bit_depth:
        raise DataError(
            f"{what} has {stack.dtype} values up to {int(stack.max(initial=0))}, the recipe {recipe.recipe_id} has "
            f"{recipe.bit_depth} bits; take it again with this recipe"
        )


def _size(stack: Stack) -> str:
    return f"{stack.shape[2]}x{stack.shape[1]}"
