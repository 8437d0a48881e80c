"""Recipes as the trainer reads them: one JSON file each in the recipes folder, written by the daemon or by hand."""

from __future__ import annotations

import re
from pathlib import Path

from cell.errors import ConfigurationError, NotFound
from cell.recipe_files import read_recipe
from cell.recipes import Recipe

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


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
