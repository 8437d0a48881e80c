"""Which model judges: models, deploy, promote, rollback."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

from daemon.ctl import render
from daemon.ctl.harvest import RecipeOption
from daemon.ctl.session import WORK_S, Result, session_of

By = Annotated[str, typer.Option(help="Who does it, for the record; default the user's name here.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(models)
    app.command()(deploy)
    app.command()(promote)
    app.command()(rollback)


def models(context: typer.Context, recipe: Annotated[str, typer.Option(help="Only of this recipe.")] = "") -> None:
    """List the models in the store, newest first, and where they are deployed."""
    session = session_of(context)
    found = session.daemon("inspectd.models", {"recipe_id": recipe} if recipe else {})["models"]
    if session.as_json:
        render.as_json({"models": found})
        return
    rows = [
        (
            model["model_id"],
            render.short(model["model_digest"]),
            f"{model['recipe_id']} v{model['recipe_version']}",
            render.when(model["created_at"]),
            model["threshold"],
            "validated" if model["validated"] else "not validated",
            "people" if model["reviewed_by_people"] else "script",
            ", ".join(word for word in ("active", "stale") if model[word]),
        )
        for model in found
    ]
    headers = ("MODEL", "DIGEST", "RECIPE", "MADE", "THRESHOLD", "EVALUATION", "REVIEW", "")
    render.table(headers, rows, "no models; inspectctl train makes one")
    for why in sorted({model["stale"] for model in found if model["stale"]}):
        render.line(f"! stale ones learned from before {why}; train and deploy a new one, see inspectctl process")


def deploy(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Id, digest or unique beginning of it, or a model's folder.")],
    now: Annotated[bool, typer.Option("--promote", help="Let it judge at once when its checks are passed.")] = False,
    by: By = "",
) -> None:
    """Load a model beside the running one and put it through its checks."""
    # The daemon's working directory is another one: a folder is named whole.
    named = str(Path(model).absolute()) if Path(model).is_dir() else model
    result = _tell(context, "inspectd.deploy", {"model": named, "promote": now, "by": by or getpass.getuser()})
    if result is not None:
        where = (
            "judges from the next part on" if result["promoted"] else "stands beside; inspectctl promote lets it judge"
        )
        render.line(f"{result['model_id']} {render.short(result['model_digest'])} {where}")


def promote(context: typer.Context, by: By = "") -> None:
    """Let the model that stands beside judge from the next part on."""
    _changed(_tell(context, "inspectd.promote", {"by": by or getpass.getuser()}))


def rollback(context: typer.Context, recipe: RecipeOption = "", by: By = "") -> None:
    """Go back to the model before."""
    arguments = {"by": by or getpass.getuser()} | ({"recipe_id": recipe} if recipe else {})
    _changed(_tell(context, "inspectd.rollback", arguments))


def _tell(context: typer.Context, command: str, arguments: Result) -> Result | None:
    session = session_of(context)
    result = session.daemon(command, arguments, WORK_S)
    if session.as_json:
        render.as_json(result)
        return None
    return result


def _changed(result: Result | None) -> None:
    if result is not None:
        before = render.short(result["previous_digest"]) or "none"
        render.line(f"{result['recipe_id']}: {before} -> {render.short(result['model_digest'])}")
