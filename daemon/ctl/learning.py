"""From parts to candidates: harvest, backgrounds, seeds, calibrate, generate, train, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import TypeAdapter

from cell.asking import plan_of, targets_of
from cell.defects import Background
from cell.errors import ProtocolError
from cell.wire.answers import parsed
from daemon.ctl import render
from daemon.ctl.harvest import RecipeOption, harvest
from daemon.ctl.jobs import Wait, started
from daemon.ctl.session import WORK_S, session_of

_BACKGROUNDS: TypeAdapter[list[Background]] = TypeAdapter(list[Background])


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(harvest, name="harvest")
    app.command()(backgrounds)
    app.command()(generate)
    app.command()(oddity)
    app.command()(train)
    app.command()(export)


def backgrounds(context: typer.Context, recipe: RecipeOption = "") -> None:
    """List the good parts that candidates are made on."""
    session = session_of(context)
    found = session.trainer("inspectd.backgrounds", {"recipe_id": session.recipe(recipe)})
    if session.as_json:
        render.as_json(found)
        return
    withdrawn, stale = found["withdrawn"], found["stale"]
    rows = [
        (
            b.background_id,
            b.part_id,
            b.lot,
            "withdrawn" if b.background_id in withdrawn else f"{b.split}{', stale' * (b.background_id in stale)}",
            render.when(b.taken_at),
            session.settings.state_dir / b.image.path,
            withdrawn.get(b.background_id, ""),
        )
        for b in parsed(_BACKGROUNDS, found["backgrounds"], "backgrounds")
    ]
    headers = ("BACKGROUND", "PART", "LOT", "USE", "TAKEN", "PICTURE", "WHY")
    render.table(headers, rows, "no backgrounds; run harvest first")
    for why in sorted(set(stale.values())):
        count = sum(one == why for one in stale.values())
        render.line(f"! {count} of them {why}: nothing is generated on them; gather new ones with inspectctl harvest")


def generate(  # noqa: PLR0913, PLR0917 (an option each)
    context: typer.Context,
    recipe: RecipeOption = "",
    arm: Annotated[
        str, typer.Option(help="diffusion, procedural, copypaste, vae, gan or stable-diffusion.")
    ] = "diffusion",
    classes: Annotated[list[str] | None, typer.Option("--class", help="Only these; repeat it. Default all.")] = None,
    per_class: Annotated[int, typer.Option("--per-class", min=1, help="Candidates of each class.")] = 40,
    severity: Annotated[str, typer.Option(help="LOW:HIGH; 1 is the class's median seed. Units: docs/plan.md.")] = "",
    size: Annotated[str, typer.Option(help="LOW:HIGH, longest extent; 1 is the seed's own. Or LOW:HIGH px, mm.")] = "",
    orientation: Annotated[str, typer.Option(help="LOW:HIGH, degrees from the surface's lay, or as-seeds.")] = "",
    count: Annotated[str, typer.Option(help="LOW:HIGH, defects of the class on one part.")] = "",
    zones: Annotated[
        list[str] | None, typer.Option("--zone", help="X,Y,WIDTHxHEIGHT in pixels: only in these; repeat it.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(help="TOML or JSON file with all that can be asked; see docs/plan.md.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    planted_bad: Annotated[int, typer.Option(min=0, help="Known-bad ones among them, to test the reviewer.")] = 0,
    stale: Annotated[bool, typer.Option(help="Also on backgrounds from before a change of the process.")] = False,
    randomise: Annotated[
        list[str] | None,
        typer.Option(help="light=, profile= (1: as from part to part), noise=, focus_px=; alters whole pictures."),
    ] = None,
    adapters_from: Annotated[
        str, typer.Option("--adapters-from", help="Recipe of the same process whose seeds and adapters are used.")
    ] = "",
    wait: Wait = False,
) -> None:
    """Make candidates for review."""
    session = session_of(context)
    texts = {"severity": severity, "size": size, "orientation": orientation, "count": count}
    arguments: dict[str, Any] = {
        "recipe_id": session.recipe(recipe),
        "arm": arm,
        "classes": classes or [],
        "per_class": per_class,
        "random_seed": seed,
        "planted_bad": planted_bad,
        "stale": stale,
        **_asked(texts | {"zones": ";".join(zones or ())}, plan),
    }
    if adapters_from:
        arguments["adapters_from"] = adapters_from
    if randomise:
        arguments["randomise"] = _numbers("randomise", randomise)
    started(session, "inspectd.generate", arguments, wait)


def oddity(
    context: typer.Context,
    recipe: RecipeOption = "",
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    updates: Annotated[int | None, typer.Option(min=1, help="Steps of the fit; default the trainer's.")] = None,
    wait: Wait = False,
) -> None:
    """Learn from the backgrounds alone what does not belong on them; harvest goes by it from then on."""
    session = session_of(context)
    arguments: dict[str, Any] = {"recipe_id": session.recipe(recipe), "random_seed": seed}
    if updates is not None:
        arguments["updates"] = updates
    started(session, "inspectd.oddity", arguments, wait)


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
    layout: Annotated[
        Literal["mvtec", "coco", "yolo"], typer.Option("--format", help="Layout of the folder.")
    ] = "mvtec",
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


def _numbers(name: str, texts: list[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        key, _, value = text.partition("=")
        try:
            found[key] = float(value)
        except ValueError as error:
            raise typer.BadParameter(f"{name} takes NAME=NUMBER, not {text}") from error
    return found


def _asked(texts: dict[str, str], path: Path | None) -> dict[str, Any]:
    """Return what options and a plan's file ask for, options before the file; the trainer checks it."""
    try:
        written = path.read_text(encoding="utf-8") if path is not None else ""
        plan = plan_of(written, is_json=path.suffix == ".json", name=str(path)) if path is not None else {}
        control = plan.get("control", {}) | targets_of(texts)
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{path} can't be read as a plan: {error}") from error
    except ProtocolError as error:
        raise typer.BadParameter(str(error)) from error
    asked = {"control": control, "class_control": plan.get("class_control", {})}
    return {name: value for name, value in asked.items() if value}
