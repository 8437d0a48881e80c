"""``inspectctl seeds``: real defects, one at a time, and what the set lacks. The seeds page is the faster way."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter

from cell.defects import Seed, SeedState
from cell.errors import DataError, NotFound
from cell.imaging.seed_set import ClassSeeds
from cell.store import images
from cell.store.files import read_bytes, write_bytes
from cell.wire.answers import parsed
from daemon.ctl import render, terminal
from daemon.ctl.harvest import RecipeOption
from daemon.ctl.session import WORK_S, Session, require_person, session_of

group = typer.Typer(help="Real defects: list, show, confirm, refuse; what the set lacks.", no_args_is_help=True)
Reviewer = Annotated[str, typer.Option("--as", help="Your name; it is recorded.")]
SeedId = Annotated[str, typer.Argument(help="Which one; `seeds list` tells.")]
ClassName = Annotated[str, typer.Argument(metavar="CLASS", help="Class of the defect, as the recipe names it.")]
_SEEDS: TypeAdapter[list[Seed]] = TypeAdapter(list[Seed])


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(group, name="seeds")


@group.command("list")
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
    rows = [
        (s.seed_id, s.state, s.defect_class, s.part_id, s.split, s.confirmed_by or s.proposed_by, s.reason)
        for s in parsed(_SEEDS, found, "seeds")
    ]
    headers = ("SEED", "STATE", "CLASS", "PART", "USE", "BY", "WHY REFUSED")
    render.table(headers, rows, "no seeds; run harvest, or report bad parts first")


@group.command()
def show(context: typer.Context, seed_id: SeedId, recipe: RecipeOption = "") -> None:
    """Show one defect: every channel, without and with the mask, and all that is known about it."""
    session = session_of(context)
    seed = _seed(session, recipe, seed_id)
    root = session.settings.state_dir
    if session.as_json:
        render.as_json({"seed": seed.model_dump(mode="json")})
        return
    stack = images.read_stack(root / seed.image.path, seed.image.digest)
    label = images.read_label(root / seed.mask.path)
    out = render.console()
    for text in terminal.picture(stack, label, seed.box, out.width):
        out.print(text, no_wrap=True, overflow="crop")
    box, why = seed.box, f": {seed.reason}" if seed.reason else ""
    facts: list[tuple[str, object]] = [
        ("seed", seed.seed_id),
        ("state", f"{seed.state.value}{f' by {seed.confirmed_by}' if seed.confirmed_by else ''}{why}"),
        ("class", seed.defect_class),
        ("part", f"{seed.part_id}{f', lot {seed.lot}' if seed.lot else ''}"),
        ("use", "measures models, is never learned from" if seed.split == "held-out" else "learned from"),
        ("proposed by", seed.proposed_by),
        ("anomaly", f"{seed.anomaly:.1f} times a good part's" if seed.anomaly else ""),
        ("where", f"{box.x},{box.y} {box.width}x{box.height}, {int((label > 0).sum())} px"),
    ]
    for index, region in enumerate(seed.regions, start=1):
        lights = ", ".join(region.channels) or "any light"
        called = region.suggested_class or region.group or "unknown"
        at = f"{region.box.x},{region.box.y} {region.box.width}x{region.box.height}"
        facts.append((f"region {index}", f"{at}, {region.area_px} px, {called}, seen on {lights}"))
    taken = [
        f"{name} {exposure:g} us {gain:g} dB" if exposure else f"{name} not known"
        for name, exposure, gain in zip(stack.channels, stack.exposure_us, stack.gain_db, strict=True)
    ]
    facts += [("taken", f"{render.when(seed.taken_at)}; {', '.join(taken)}")]
    facts += [("picture", root / seed.image.path), ("mask", root / seed.mask.path)]
    render.facts(facts)


@group.command("mask-file")
def mask_file(
    context: typer.Context,
    seed_id: SeedId,
    out: Annotated[Path, typer.Argument(help="The PNG to write: 255 is defect.")],
    recipe: RecipeOption = "",
) -> None:
    """Write a mask as PNG, to correct it in an editor and give it back with `seeds confirm --mask`."""
    session = session_of(context)
    seed = _seed(session, recipe, seed_id)
    if out.suffix.lower() != ".png":
        raise DataError(f"{out.name} must end with .png: a mask is kept without loss")
    label = images.read_label(session.settings.state_dir / seed.mask.path)
    write_bytes(out.absolute(), read_bytes(session.settings.state_dir / seed.mask.path))
    height, width = label.shape
    if session.as_json:
        render.as_json({"seed_id": seed.seed_id, "path": str(out), "width": width, "height": height})
    else:
        render.line(f"{out}: {width}x{height}, {int((label > 0).sum())} px of {seed.defect_class}")


@group.command()
def confirm(
    context: typer.Context,
    seed_id: SeedId,
    defect_class: ClassName,
    reviewer: Reviewer = "",
    mask: Annotated[Path | None, typer.Option(help="PNG of the mask; default as it stands.")] = None,
) -> None:
    """Confirm one defect: it is of that class, with that mask. Again, it corrects what was confirmed."""
    session = session_of(context)
    arguments: dict[str, Any] = {
        "seed_id": seed_id,
        "defect_class": defect_class,
        "reviewer": require_person(reviewer, "confirming a seed"),
        "is_person": True,
    }
    if mask is not None:
        arguments["mask_png_base64"] = _encoded(mask)
    _told(session, session.trainer("inspectd.seed.confirm", arguments, WORK_S))


@group.command()
def also(
    context: typer.Context,
    seed_id: SeedId,
    defect_class: ClassName,
    mask: Annotated[Path, typer.Option(help="PNG of the other defect's mask.")],
    reviewer: Reviewer = "",
) -> None:
    """Add another defect that is on the same picture."""
    session = session_of(context)
    arguments = {
        "seed_id": seed_id,
        "defect_class": defect_class,
        "reviewer": require_person(reviewer, "adding a seed"),
        "is_person": True,
        "mask_png_base64": _encoded(mask),
    }
    _told(session, session.trainer("inspectd.seed.also", arguments, WORK_S))


@group.command()
def refuse(
    context: typer.Context,
    seed_id: SeedId,
    reviewer: Reviewer = "",
    reason: Annotated[str, typer.Option(help="Why.")] = "not a defect",
) -> None:
    """Refuse one defect: it is none that should be learned, or no longer."""
    session = session_of(context)
    who = require_person(reviewer, "refusing a seed")
    _told(session, session.trainer("inspectd.seed.refuse", {"seed_id": seed_id, "reviewer": who, "reason": reason}))


@group.command()
def lacks(context: typer.Context, recipe: RecipeOption = "") -> None:
    """Say what the set of seeds lacks; ends with 1 while a class can't be learned."""
    session = session_of(context)
    found = session.trainer("inspectd.seeds.lacks", {"recipe_id": session.recipe(recipe)}, WORK_S)
    if session.as_json:
        render.as_json(found)
    else:
        rows = [
            ClassSeeds.model_validate({key: value for key, value in one.items() if key != "ready"})
            for one in found["classes"]
        ]
        table = [(r.defect_class, r.usable, r.parts, r.unusable, r.proposed, r.held_out, r.ready) for r in rows]
        render.table(("CLASS", "SEEDS", "PARTS", "UNUSABLE", "PROPOSED", "HELD OUT", "READY"), table, "no classes")
        for row in rows:
            for lack in row.lacks:
                render.line(f"{'!' if lack.blocking else '-'} {lack.message}")
    if not found["ready"]:
        raise typer.Exit(1)


def _seed(session: Session, recipe: str, seed_id: str) -> Seed:
    found = session.trainer("inspectd.seeds", {"recipe_id": session.recipe(recipe)})["seeds"]
    seeds: list[Seed] = parsed(_SEEDS, found, "seeds")
    for seed in seeds:
        if seed.seed_id == seed_id:
            return seed
    raise NotFound(f"there is no seed {seed_id!r} of that recipe; `inspectctl seeds list` tells them")


def _encoded(mask: Path) -> str:
    try:
        return base64.b64encode(mask.read_bytes()).decode()
    except OSError as error:
        raise DataError(f"can't read the mask {mask}: {error.strerror}; check the path") from error


def _told(session: Session, result: dict[str, Any]) -> None:
    if session.as_json:
        render.as_json(result)
    else:
        seed = result["seed"]
        render.line(f"{seed['seed_id']}: {seed['state']} {seed['defect_class']}")
