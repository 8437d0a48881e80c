"""Recipes as the trainer reads them: one JSON file each in the recipes folder, written by the daemon or by hand."""

from __future__ import annotations

import re
from pathlib import Path

from cell.errors import ConfigurationError, DataError, NotFound
from cell.recipe_files import read_recipe
from cell.recipes import Recipe

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_relative(recipe: Recipe, other: Recipe) -> Recipe:
    """Return another recipe whose seeds and adapters a recipe can use. Raises `DataError` when it can't use them.

    Both must be taken by the same camera under the same lights: a defect's contrast is one of those channels.
    """
    if other.recipe_id == recipe.recipe_id:
        raise DataError(f"{recipe.recipe_id} can't take adapters from itself; leave --adapters-from out")
    layouts = [(one.channel_names, one.height, one.width, one.bit_depth) for one in (recipe, other)]
    if layouts[0] != layouts[1]:
        told = [f"{', '.join(names)} at {width}x{height} and {depth} bits" for names, height, width, depth in layouts]
        raise DataError(
            f"the adapters of {other.recipe_id} are for {told[1]}, {recipe.recipe_id} has {told[0]}; take those of a "
            "recipe with the same camera and lights"
        )
    if not set(other.class_names) & set(recipe.class_names):
        raise DataError(f"{other.recipe_id} has none of the defect classes of {recipe.recipe_id}; name them alike")
    return other


def load_recipe(folder: Path, recipe_id: str) -> Recipe:
    """Read ``<folder>/<recipe_id>.json``.

    Raises `NotFound` when there is none and `ConfigurationError` when the file is not that recipe.
    """
    if not _NAME.fullmatch(recipe_id):
        raise NotFound(f"{recipe_id!r} is not a recipe's name; names are letters, digits, dots, dashes and underscores")
    file = folder / f"{recipe_id}.json"
    if not file.exists():
        raise NotFound(f"there is no recipe {recipe_id} in {folder}; add it with inspectctl recipe add")
    recipe = read_recipe(file)
    if recipe.recipe_id != recipe_id:
        raise ConfigurationError(f"the recipe {file} is {recipe.recipe_id}; name the file after its recipe_id")
    return recipe
