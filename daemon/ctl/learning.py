"""From parts to candidates: harvest, backgrounds, seeds, calibrate, generate, train, export."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import TypeAdapter

from cell.defects import Background, Seed, SeedState
from cell.errors import DataError
from daemon.ctl import render
from daemon.ctl.harvest import RecipeOption, harvest
from daemon.ctl.jobs import Wait, started
from daemon.ctl.session import WORK_S, records, require_person, session_of

seeds = typer.Typer(help="Real defects: list, confirm, refuse.", no_args_is_help=True)
Reviewer = Annotated[str, typer.Option("--as", help="Your name; it is recorded.")]
_SEEDS: TypeAdapter[list[Seed]] = TypeAdapter(list[Seed])
_BACKGROUNDS: TypeAdapter[list[Background]] = TypeAdapter(list[Background])


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(harvest, name="harvest")
    app.command()(backgrounds)
    app.add_typer(seeds, name="seeds")
    app.command()(generate)
    app.command()(train)
    app.command()(export)


def backgrounds(context: typer.Context, recipe: RecipeOption = "") -> None:
    """List the good parts that candidates are made on."""
    session = session_of(context)
    found = session.trainer("inspectd.backgrounds", {"recipe_id": session.recipe(recipe)})["backgrounds"]
    if session.as_json:
        render.as_json({"backgrounds": found})
        return
    rows = [
        (b.background_id, b.part_id, b.lot, b.split, render.when(b.taken_at), session.settings.state_dir / b.image.path)
        for b in records(_BACKGROUNDS, found, "backgrounds")
    ]
    render.table(("BACKGROUND", "PART", "LOT", "USE", "TAKEN", "PICTURE"), rows, "no backgrounds; run harvest first")


@seeds.command("list")
def list_seeds(
    context: typer.Context,
    recipe: RecipeOption = "",
    state: Annotated[SeedState | None, typer.Option(help="Only these.")] = None,
) -> None:
    """List real defects, proposed ones too."""
    session = session_of(context)
    arguments = {"recipe_id": session.recipe(recipe)} | ({"state": state.value} if state is not None else {})
    found = session.trainer("inspectd.seeds", arguments)["seeds"]
    if session.as_json:
        render.as_json({"seeds": found})
        return
    root = session.settings.state_dir
    rows = [
        (s.seed_id, s.state, s.defect_class, s.part_id, s.split, s.confirmed_by, s.reason, root / s.image.path)
        for s in records(_SEEDS, found, "seeds")
    ]
    headers = ("SEED", "STATE", "CLASS", "PART", "USE", "BY", "WHY REFUSED", "PICTURE")
    render.table(headers, rows, "no seeds; run harvest, or report bad parts first")


@seeds.command()
def confirm(
    context: typer.Context,
    seed_id: Annotated[str, typer.Argument(help="Which proposal.")],
    defect_class: Annotated[str, typer.Argument(help="Class of the defect, as the recipe names it.")],
    reviewer: Reviewer = "",
    mask: Annotated[Path | None, typer.Option(help="PNG of the mask; default as proposed.")] = None,
) -> None:
    """Confirm one proposal: it is a defect of that class, with that mask."""
    session = session_of(context)
    arguments: dict[str, Any] = {
        "seed_id": seed_id,
        "defect_class": defect_class,
        "reviewer": require_person(reviewer, "confirming a seed"),
        "is_person": True,
    }
    if mask is not None:
        try:
            arguments["mask_png_base64"] = base64.b64encode(mask.read_bytes()).decode()
        except OSError as error:
            raise DataError(f"can't read the mask {mask}: {error.strerror}; check the path") from error
    _seed(context, session.trainer("inspectd.seed.confirm", arguments))


@seeds.command()
def refuse(
    context: typer.Context,
    seed_id: Annotated[str, typer.Argument(help="Which proposal.")],
    reviewer: Reviewer = "",
    reason: Annotated[str, typer.Option(help="Why.")] = "not a defect",
) -> None:
    """Refuse one proposal: it is no defect that should be learned."""
    who = require_person(reviewer, "refusing a seed")
    arguments = {"seed_id": seed_id, "reviewer": who, "reason": reason}
    _seed(context, session_of(context).trainer("inspectd.seed.refuse", arguments))


def generate(  # noqa: PLR0913, PLR0917 (an option each)
    context: typer.Context,
    recipe: RecipeOption = "",
    arm: Annotated[str, typer.Option(help="diffusion, procedural or copypaste.")] = "diffusion",
    classes: Annotated[list[str] | None, typer.Option("--class", help="Only these; repeat it. Default all.")] = None,
    per_class: Annotated[int, typer.Option("--per-class", min=1, help="Candidates of each class.")] = 40,
    severity: Annotated[str, typer.Option(help="LOW:HIGH, in units of the noise sigma.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    planted_bad: Annotated[int, typer.Option(min=0, help="Known-bad ones among them, to test the reviewer.")] = 0,
    wait: Wait = False,
) -> None:
    """Make candidates for review."""
    session = session_of(context)
    arguments: dict[str, Any] = {
        "recipe_id": session.recipe(recipe),
        "arm": arm,
        "classes": classes or [],
        "per_class": per_class,
        "random_seed": seed,
        "planted_bad": planted_bad,
    }
    if severity:
        arguments["severity"] = _range(severity)
    started(session, "inspectd.generate", arguments, wait)


def train(
    context: typer.Context,
    recipe: RecipeOption = "",
    ratio: Annotated[float, typer.Option(min=0, help="Accepted candidates for each real seed, at most.")] = 5.0,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    updates: Annotated[int | None, typer.Option(min=1, help="Steps of the fit; default the trainer's.")] = None,
    wait: Wait = False,
) -> None:
    """Fit, evaluate and export a model from seeds, backgrounds and accepted candidates."""
    session = session_of(context)
    arguments: dict[str, Any] = {"recipe_id": session.recipe(recipe), "synthetic_ratio": ratio, "random_seed": seed}
    if updates is not None:
        arguments["updates"] = updates
    started(session, "inspectd.train", arguments, wait)


def export(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="New folder.")],
    layout: Annotated[Literal["mvtec", "coco"], typer.Option("--format", help="Layout of the folder.")] = "mvtec",
    recipe: RecipeOption = "",
) -> None:
    """Write accepted candidates and good parts for other tools."""
    session = session_of(context)
    arguments = {"recipe_id": session.recipe(recipe), "format": layout, "directory": str(directory.absolute())}
    result = session.trainer("inspectd.export", arguments, WORK_S)
    if session.as_json:
        render.as_json(result)
    else:
        files = result["files"]
        render.line(f"{len(files) if isinstance(files, list) else files} files in {directory}")


def _seed(context: typer.Context, result: dict[str, Any]) -> None:
    session = session_of(context)
    if session.as_json:
        render.as_json(result)
    else:
        seed = result["seed"]
        render.line(f"{seed['seed_id']}: {seed['state']} {seed['defect_class']}")


def _range(text: str) -> list[float]:
    try:
        low, high = (float(number) for number in text.split(":"))
    except ValueError as error:
        raise typer.BadParameter(f"a severity is LOW:HIGH, not {text}") from error
    return [low, high]
