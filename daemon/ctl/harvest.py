"""`inspectctl harvest`: gather backgrounds and seed proposals, and see what was taken, refused and why."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from cell.errors import DataError
from daemon.ctl import render
from daemon.ctl.session import WORK_S, session_of

harvest = typer.Typer(help="Gather backgrounds and seed proposals from the line.", invoke_without_command=True)
RecipeOption = Annotated[str, typer.Option("--recipe", help="Default: the only or the prepared one.")]


@harvest.callback()
def harvest_once(context: typer.Context, recipe: RecipeOption = "") -> None:
    """Look through the archive once; with start and stop, while parts run."""
    if context.invoked_subcommand is None:
        _show(context, _asked(context, "inspectd.harvest.run", recipe))


@harvest.command()
def start(context: typer.Context) -> None:
    """Harvest while parts run."""
    _switch(context, "inspectd.harvest.start")


@harvest.command()
def stop(context: typer.Context) -> None:
    """No longer harvest while parts run."""
    _switch(context, "inspectd.harvest.stop")


@harvest.command()
def summary(context: typer.Context, recipe: RecipeOption = "") -> None:
    """Show what was taken, what was refused and why, and what to see to."""
    _show(context, _asked(context, "inspectd.harvest.summary", recipe))


@harvest.command()
def coverage(context: typer.Context, recipe: RecipeOption = "") -> None:
    """Show which light, places and textures of the line the backgrounds cover."""
    found = _asked(context, "inspectd.harvest.summary", recipe)
    if session_of(context).as_json:
        render.as_json({"coverage": found["coverage"], "complete": found["complete"]})
        return
    rows = [render.pick(row, "quantity", "low", "high", "covered", "bins") for row in found["coverage"]]
    render.table(("QUANTITY", "LOW", "HIGH", "COVERED", "OF"), rows, "nothing yet; 24 good parts are needed to tell")
    render.line(_enough(found))


@harvest.command()
def groups(context: typer.Context, recipe: RecipeOption = "") -> None:
    """Show which proposed regions look alike, and the class that they suggest."""
    found = _asked(context, "inspectd.harvest.summary", recipe)["groups"]
    if session_of(context).as_json:
        render.as_json({"groups": found})
        return
    rows = [
        (row["group"], row["class"], len(row["seeds"]), row["regions"], ", ".join(row["channels"]), _few(row["seeds"]))
        for row in found
    ]
    headers = ("GROUP", "CLASS", "SEEDS", "REGIONS", "SHOWS ON", "WHICH")
    render.table(headers, rows, "no proposals; run harvest first")


@harvest.command()
def sheet(
    context: typer.Context,
    to: Annotated[Path | None, typer.Argument(help="Copy it to this PNG.")] = None,
    recipe: RecipeOption = "",
) -> None:
    """Say where the contact sheet lies of what was taken and refused, by reason; or copy it."""
    found = _asked(context, "inspectd.harvest.summary", recipe)["sheet"]
    if not found:
        raise DataError("there is no contact sheet yet; run inspectctl harvest first")
    if to is not None:
        try:
            shutil.copyfile(found, to)
        except OSError as error:
            raise DataError(
                f"can't copy the sheet to {to}: {error.strerror}; name a file that can be written"
            ) from error
    shown = str(to or found)
    if session_of(context).as_json:
        render.as_json({"sheet": shown})
    else:
        render.line(shown)


def _asked(context: typer.Context, command: str, recipe: str) -> dict[str, Any]:
    session = session_of(context)
    result: dict[str, Any] = session.daemon(command, {"recipe_id": session.recipe(recipe)}, WORK_S)["harvest"]
    return result


def _switch(context: typer.Context, command: str) -> None:
    session = session_of(context)
    goes_on = session.daemon(command, {}, WORK_S)["harvesting"]
    if session.as_json:
        render.as_json({"harvesting": goes_on})
    else:
        render.line("harvests while parts run" if goes_on else "no longer harvests while parts run")


def _show(context: typer.Context, found: dict[str, Any]) -> None:
    if session_of(context).as_json:
        render.as_json(found)
        return
    cost = found["cost"]
    seeds = ", ".join(f"{count} {state}" for state, count in found["seeds"].items()) or "none"
    render.facts(
        [
            ("recipe", found["recipe_id"]),
            ("while parts run", "yes" if found["running"] else "no"),
            ("looked at", f"{found['looked_at']} parts, {found['waiting']} wait for company"),
            (
                "backgrounds",
                f"{found['backgrounds']}, parts held out among them: {found['held_out_parts']}; "
                f"withdrawn: {found['withdrawn']}",
            ),
            ("seeds", seeds),
            ("enough", _enough(found)),
            ("cost to the line", f"{cost['mean_ms']} ms a part, {cost['max_ms']} ms at most, {cost['parts']} parts"),
            ("passed over", f"{found['passed_over']} parts, because the line or the harvest was behind"),
            ("contact sheet", found["sheet"]),
        ]
    )
    rows = [render.pick(row, "what", "why", "parts", "first", "last") for row in found["reasons"]]
    if rows:
        render.line("")
        render.table(("WHAT", "WHY", "PARTS", "FIRST", "LAST"), rows, "")
    for finding in found["findings"]:
        render.line(f"{'!' if finding['goes_on'] else '-'} {finding['sentence']}")


def _enough(found: dict[str, Any]) -> str:
    if found["complete"]:
        return "more backgrounds would no longer help: the last 100 good parts showed nothing new"
    return "not yet: good parts still show light, places or textures that are hardly covered"


def _few(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
