"""``inspectctl sim``: look at the emulated cell, products by lights by defects on one sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cell.store.files import disk_errors
from daemon.ctl import render
from daemon.ctl.session import session_of


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(sim)


def sim(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(help="The PNG file to write.")] = Path("sheet.png"),
    lights: Annotated[int, typer.Option(min=1, max=32, help="How many light channels.")] = 4,
    each: Annotated[int, typer.Option(min=1, max=50, help="Parts of each class.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 1,
) -> None:
    """Render a contact sheet of the emulated cell."""
    session = session_of(context)
    # Not above: commands that only speak to the daemon must not wait for the renderer to load.
    from daemon.ctl import direct

    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        direct.sheet()(out, lights, each, seed)
    if session.as_json:
        render.as_json({"path": str(out)})
    else:
        render.line(f"written to {out}")
