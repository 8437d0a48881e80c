"""``inspectctl sim``: look at the emulated cell, products by lights by defects on one sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daemon.ctl import render
from daemon.ctl.session import session_of


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(sim)


def sim(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(help="The PNG file to write.")] = Path("sheet.png"),
    product: Annotated[list[str] | None, typer.Option(help="Only this product (also plate); may be repeated.")] = None,
    lights: Annotated[str, typer.Option(help="The lamps, e.g. 4, 8low, 4+ring+coax+dome.")] = "4+ring",
    each: Annotated[int, typer.Option(min=1, max=20, help="Parts of each class.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 1,
) -> None:
    """Render a contact sheet of the emulated cell: products and defects down, lights across, the true mask at the end.

    Takes about a second for each part.
    """
    session = session_of(context)
    # Not above: commands that only speak to the daemon must not wait for the renderer to load.
    from daemon.ctl import direct

    def on_part(name: str, done: int, total: int) -> None:
        if not session.as_json:
            render.hint(f"{done + 1}/{total} {name}")

    parts = direct.product_sheet(out, product or (), lights, each, seed, on_part)
    if session.as_json:
        render.as_json({"path": str(out), "parts": parts})
    else:
        render.line(f"{parts} parts written to {out}")
