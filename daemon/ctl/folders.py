"""``inspectctl import`` and ``inspectctl split``: labelled folders, and what each part may be used for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cell.defects import Split
from cell.errors import DataError
from cell.store.splits import SplitState
from daemon.ctl import render
from daemon.ctl.harvest import RecipeOption
from daemon.ctl.seeds import Reviewer
from daemon.ctl.session import WORK_S, require_person, session_of

split = typer.Typer(help="What each part is for: to learn from, or held out to measure.", no_args_is_help=True)
Layouts = Literal["auto", "folder", "mvtec", "coco", "yolo", "voc", "label-studio", "datumaro"]
#: Parts, misfits and attempts that a person is shown; --json has them all.
_SHOWN = 40


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("import")(import_folder)
    app.add_typer(split, name="split")


def import_folder(  # noqa: PLR0913, PLR0917 (an option each)
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A folder of labelled pictures that the trainer may read.")],
    recipe: RecipeOption = "",
    layout: Annotated[Layouts, typer.Option(help="How it is laid out.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what fits and what does not.")] = False,
    skip_misfits: Annotated[bool, typer.Option("--skip-misfits", help="Take in what fits.")] = False,
    held_out: Annotated[list[str] | None, typer.Option(help="Subset that is held out; repeat it.")] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", metavar="FOLDERS=RECIPES", help="A class's other name; repeat it.")
    ] = None,
    part: Annotated[str, typer.Option(help="Pattern whose (group) in the file's path names the part.")] = "",
    lot: Annotated[str, typer.Option(help="Pattern whose (group) names the lot.")] = "",
    real: Annotated[bool, typer.Option("--real", help="You vouch that a real camera took them; needs --as.")] = False,
    reviewer: Reviewer = "",
) -> None:
    """Take in a folder: MVTec, COCO, YOLO, VOC, Label Studio, datumaro, or the project's own. All of it or nothing.

    Good parts become backgrounds, defects become proposals that a person confirms one by one. Ends with 65 when
    something does not fit.
    """
    session = session_of(context)
    arguments: dict[str, Any] = {
        "recipe_id": session.recipe(recipe),
        "directory": str(folder.absolute()),
        "layout": layout,
        "dry_run": dry_run,
        "skip_misfits": skip_misfits,
        "classes": dict(_pair(text) for text in classes or ()),
        "part_pattern": part,
        "lot_pattern": lot,
        "vouched_by": require_person(reviewer, "vouching for pictures") if real else "",
    }
    if held_out is not None:
        arguments["held_out"] = held_out
    answer = session.trainer("inspectd.import", arguments, WORK_S)
    if session.as_json:
        render.as_json(answer)
    else:
        _show(answer)
    if dry_run and answer["survey"]["misfit_count"]:
        raise typer.Exit(DataError.exit_code)


@split.command("show")
def show_split(
    context: typer.Context,
    recipe: RecipeOption = "",
    twins: Annotated[bool, typer.Option("--twins", help="Compare all pictures for parts with two names.")] = False,
) -> None:
    """Show the plan, the sides, the digest of both, and who tried to change them. Ends with 1 when twins are apart."""
    session = session_of(context)
    arguments: dict[str, Any] = {"recipe_id": session.recipe(recipe)} | ({"twins": True} if twins else {})
    answer = session.trainer("inspectd.split", arguments, WORK_S)
    if session.as_json:
        render.as_json(answer)
    else:
        _show_split(answer)
    if answer.get("twins"):
        raise typer.Exit(1)


@split.command()
def plan(
    context: typer.Context,
    by: Annotated[Literal["part", "lot"], typer.Option(help="What stays whole.")] = "part",
    held_out: Annotated[float, typer.Option(min=0, max=0.9, help="Share that is held out.")] = 0.2,
    recipe: RecipeOption = "",
    reviewer: Reviewer = "",
) -> None:
    """Say how parts are divided that nobody sets aside: before the first one is, once."""
    session = session_of(context)
    who = require_person(reviewer, "planning the split")
    arguments = {"recipe_id": session.recipe(recipe), "by": by, "held_out_share": held_out, "reviewer": who}
    found = session.trainer("inspectd.split.plan", arguments)
    if session.as_json:
        render.as_json(found)
    else:
        render.line(f"by {found['plan']['by']}, {found['plan']['held_out_share']:.0%} held out")


@split.command()
def assign(
    context: typer.Context,
    part_id: Annotated[str, typer.Argument(help="The physical part.")],
    use: Annotated[Split, typer.Argument(help="learn or held-out.")],
    lot: Annotated[str, typer.Option(help="Its lot.")] = "",
    recipe: RecipeOption = "",
    reviewer: Reviewer = "",
) -> None:
    """Set one part aside, before it is seen: for ever."""
    session = session_of(context)
    who = require_person(reviewer, "setting a part aside")
    arguments = {
        "recipe_id": session.recipe(recipe),
        "part_id": part_id,
        "split": use.value,
        "lot": lot,
        "reviewer": who,
    }
    found = session.trainer("inspectd.split.assign", arguments)
    if session.as_json:
        render.as_json(found)
    else:
        render.line(f"{part_id}: {found['split']}")


def _show(answer: dict[str, Any]) -> None:
    survey, taken = answer["survey"], answer["taken"]
    regions = ", ".join(f"{count} {name}" for name, count in survey["regions"].items())
    render.facts(
        [
            ("folder", answer["directory"]),
            ("layout", survey["layout"]),
            ("good", survey["good"]),
            ("defective", f"{survey['defective']}{f' ({regions})' if regions else ''}"),
            ("parts", f"{survey['parts']}, {survey['held_out_parts']} of them held out"),
            ("misfits", survey["misfit_count"]),
        ]
    )
    if survey["misfits"]:
        rows = [(one["file"], one["reason"]) for one in survey["misfits"][:_SHOWN]]
        render.table(("DOES NOT FIT", "WHY"), rows, "")
        if survey["misfit_count"] > _SHOWN:
            render.line(f"and {survey['misfit_count'] - _SHOWN} more; --json tells them")
    for remark in survey["remarks"]:
        render.line(f"- {remark}")
    if taken is None:
        render.line("nothing was taken in: this was a dry run")
    else:
        render.line(f"taken in: {taken['backgrounds']} backgrounds, {taken['seeds']} proposed seeds")


def _show_split(answer: dict[str, Any]) -> None:
    state = SplitState.model_validate(answer["split"])
    plan, counts = state.plan, state.parts_by_side
    who = f", set by {plan.set_by} at {render.when(plan.at)}" if plan.set_by else ", the default"
    render.facts(
        [
            ("recipe", state.recipe_id),
            ("plan", f"by {plan.by}, {plan.held_out_share:.0%} held out{who}"),
            ("learned from", f"{counts.get(Split.LEARN, 0)} parts"),
            ("held out", f"{counts.get(Split.HELD_OUT, 0)} parts"),
            ("digest", state.digest),
            ("lots on both", ", ".join(state.lots_on_both_sides)),
        ]
    )
    rows = [(part.part_id, part.split, part.lot) for part in state.parts[:_SHOWN]]
    render.table(("PART", "USE", "LOT"), rows, "no part stands on a side yet")
    if len(state.parts) > _SHOWN:
        render.line(f"and {len(state.parts) - _SHOWN} more; --json tells them")
    if state.refused:
        attempts = [(render.when(one.at), one.part_id or "(plan)", one.wanted, one.why) for one in state.refused]
        render.table(("REFUSED AT", "PART", "WANTED", "WHY"), attempts[-_SHOWN:], "")
    for twin in answer.get("twins", ()):
        render.line(
            f"! {' and '.join(twin['parts'])} are one part ({twin['correlation']:.2f}) on two sides: refuse one's"
        )


def _pair(text: str) -> tuple[str, str]:
    theirs, sign, ours = text.partition("=")
    if not (theirs and sign and ours):
        raise typer.BadParameter(f"--class is FOLDERS=RECIPES, not {text}")
    return theirs, ours
