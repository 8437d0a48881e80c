"""``inspectctl recipe``: what the cell can inspect, and what it is set up for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cell.errors import ConfigurationError, DataError, NotFound
from cell.recipe_files import read_recipe
from cell.recipes import Recipe
from daemon.ctl import render
from daemon.ctl.session import WORK_S, Session, session_of

group = typer.Typer(help="What to inspect: list, show, add, remove, prepare, unprepare.", no_args_is_help=True)
RecipeId = Annotated[str, typer.Argument(help="Id of the recipe.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(group, name="recipe")


@group.command("list")
def list_recipes(context: typer.Context) -> None:
    """List the recipes that the daemon has."""
    session = session_of(context)
    found = _recipes(session)
    if session.as_json:
        render.as_json({"recipes": found})
        return
    rows = [
        (
            entry["RecipeId"],
            f"v{entry['Version']}",
            entry["ProductId"],
            len(entry["Recipe"]["channels"]),
            ", ".join(defect["name"] for defect in entry["Recipe"]["defect_classes"]),
            render.short(entry["ModelDigest"]) or "none",
            "prepared" if entry["IsPrepared"] else "",
        )
        for entry in found
    ]
    headers = ("RECIPE", "VERSION", "PRODUCT", "CHANNELS", "CLASSES", "MODEL", "")
    render.table(headers, rows, "no recipes; add one with inspectctl recipe add FILE")


@group.command()
def show(context: typer.Context, recipe_id: RecipeId) -> None:
    """Show one recipe whole, as JSON that `recipe add` takes."""
    for entry in _recipes(session_of(context)):
        if entry["RecipeId"] == recipe_id:
            render.as_json(entry["Recipe"])
            return
    raise NotFound(f"there is no recipe {recipe_id}; see inspectctl recipe list")


@group.command()
def add(context: typer.Context, file: Annotated[Path, typer.Argument(help="Recipe as JSON.")]) -> None:
    """Hand the daemon a recipe; a changed one needs a higher version."""
    session = session_of(context)
    recipe = _read(file)
    result = session.daemon("AddRecipe", {"Recipe": recipe.model_dump(mode="json")})
    if session.as_json:
        render.as_json(result)
    else:
        render.line(f"added {result['RecipeId']} v{recipe.version}")


@group.command()
def remove(context: typer.Context, recipe_id: RecipeId) -> None:
    """Offer a recipe no longer; its results stay, and `recipe add` brings it back."""
    session = session_of(context)
    result = session.daemon("RemoveRecipe", {"RecipeId": recipe_id})
    if session.as_json:
        render.as_json(result)
    else:
        render.line(f"removed {recipe_id}; its results and pictures stay")


@group.command()
def prepare(context: typer.Context, recipe_id: RecipeId) -> None:
    """Set the camera up for a recipe and load its model."""
    session = session_of(context)
    result = session.daemon("PrepareRecipe", {"RecipeId": recipe_id}, WORK_S)
    if session.as_json:
        render.as_json(result)
    else:
        model = render.short(result["ModelDigest"])
        render.line(f"prepared {recipe_id}, " + (f"model {model}" if model else "no model: every verdict is FAULT"))


@group.command()
def unprepare(context: typer.Context, recipe_id: Annotated[str, typer.Argument()] = "") -> None:
    """Unload the recipe and its model."""
    session = session_of(context)
    result = session.daemon("UnprepareRecipe", {"RecipeId": recipe_id} if recipe_id else {}, WORK_S)
    if session.as_json:
        render.as_json(result)
    else:
        render.line("unprepared")


def _recipes(session: Session) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = session.daemon("GetRecipeListFiltered", {"MaxResults": 1000})["Recipes"]
    return found


def _read(file: Path) -> Recipe:
    try:
        return read_recipe(file)
    except ConfigurationError as error:
        raise DataError(str(error)) from error  # it is what the command was given, not how the cell is set up
