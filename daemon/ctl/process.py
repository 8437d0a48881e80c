"""``inspectctl process``: whether the process is what it was, and what a person says of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cell.process import Cause
from daemon.ctl import render
from daemon.ctl.session import WORK_S, Result, session_of

group = typer.Typer(help="Changes of material, tools, light, lens or camera.", invoke_without_command=True)
RecipeOption = Annotated[str, typer.Option("--recipe", help="Default: the only or the prepared one.")]
By = Annotated[str, typer.Option("--as", help="Your name; it is recorded.")]
Note = Annotated[str, typer.Option(help="What is to be remembered of it.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(group, name="process")


@group.callback()
def standing(context: typer.Context, recipe: RecipeOption = "") -> None:
    """Show whether the process is what it was, and what has to be made anew; ends with 3 while a change is open."""
    if context.invoked_subcommand is not None:
        return
    session = session_of(context)
    found = session.daemon("inspectd.process", {"recipe_id": session.recipe(recipe)}, WORK_S)
    if session.as_json:
        render.as_json(found)
    else:
        _show(found)
    if any(change["state"] == "suspected" for change in found["changes"]):
        raise typer.Exit(3)


@group.command()
def changed(
    context: typer.Context,
    what: Annotated[Cause, typer.Option(help="What is different from now on.")],
    recipe: RecipeOption = "",
    by: By = "operator",
    note: Note = "",
) -> None:
    """Say that the process changed: what rests on the old state is marked, and the monitor learns the new one."""
    session = session_of(context)
    arguments = {"recipe_id": session.recipe(recipe), "what": what.value, "by": by, "note": note}
    result = session.daemon("inspectd.process.changed", arguments, WORK_S)
    if session.as_json:
        render.as_json(result)
        return
    change = result["change"]
    render.line(f"{change['change_id']}: {change['what']} changed since {render.when(change['since'])}")
    _stale(result)


@group.command()
def ordinary(context: typer.Context, recipe: RecipeOption = "", by: By = "operator", note: Note = "") -> None:
    """Say that the change which the monitor found is ordinary: nothing is stale, and it is learned as such."""
    session = session_of(context)
    arguments = {"recipe_id": session.recipe(recipe), "by": by, "note": note}
    result = session.daemon("inspectd.process.ordinary", arguments, WORK_S)
    if session.as_json:
        render.as_json(result)
    else:
        render.line(f"{result['change']['change_id']}: withdrawn; the monitor learns anew")


def _show(found: Result) -> None:
    monitor = found["monitor"]
    learned = f" ({monitor['learned']} of {monitor['to_learn']} parts)" if monitor["state"] == "learning" else ""
    passed = f", {monitor['passed_over']} passed over" if monitor["passed_over"] else ""
    render.facts(
        [
            ("process", monitor["state"] + learned if monitor["running"] else "not watched (process.watch is false)"),
            ("looked at", f"{monitor['parts']} parts{passed}"),
            ("since", render.when(monitor["since"])),
            ("likely", (monitor["likely"] or {}).get("sentence", "")),
        ]
    )
    if monitor["nearest"]:
        near = [
            (one["feature"], f"{one['change']:+.4f}", f"{one['deviation']:.4f}", f"{100 * one['level']:.0f} %")
            for one in monitor["nearest"]
        ]
        render.table(("FEATURE", "CHANGE", "PART TO PART", "OF ITS LIMIT"), near, "")
    rows = [
        (
            one["change_id"],
            one["state"],
            one["what"],
            render.when(one["since"]),
            one["by"],
            one["sentence"] or one["note"],
        )
        for one in found["changes"]
    ]
    render.table(("CHANGE", "STATE", "WHAT", "SINCE", "BY", "SEEN"), rows, "no changes")
    _stale(found)


def _stale(found: dict[str, Any]) -> None:
    for kind, names in found["stale"].items():
        few = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        render.line(f"  ! {len(names)} {kind} of before: {few}")
    for ask in found["asks"]:
        render.line(f"  > {ask}")
