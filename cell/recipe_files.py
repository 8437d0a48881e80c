"""A recipe as it lies in a file: read in one way by daemon, trainer, pages and commands."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from cell.errors import ConfigurationError
from cell.recipes import Recipe


def read_recipe(file: Path) -> Recipe:
    """Return the recipe of a JSON file. Raises `ConfigurationError` naming the file, and the field that is wrong."""
    try:
        return Recipe.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"can't read the recipe {file}: {error.strerror}; check the path") from error
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(str(part) for part in detail["loc"]) or "recipe"
        raise ConfigurationError(f"the recipe {file} is wrong: {key}: {detail['msg'].lower()}; correct it") from error
