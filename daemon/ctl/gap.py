"""``inspectctl gap``: can what the generator makes be told from real defects, and by what."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cell.errors import JobError
from cell.jobs import JobState
from daemon.ctl import jobs, render
from daemon.ctl.process import RecipeOption
from daemon.ctl.session import WORK_S, session_of

#: Ends so when a gap was found, and when it can't be told.
EXIT_DIFFERENT, EXIT_UNKNOWN = 3, 4


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(gap)


def gap(
    context: typer.Context,
    recipe: RecipeOption = "",
    classes: Annotated[list[str] | None, typer.Option("--class", help="Only these; repeat it. Default all.")] = None,
    job: Annotated[str, typer.Option(help="Only candidates of this generation job.")] = "",
    held_out: Annotated[bool, typer.Option("--held-out", help="Also against held-out real defects.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the figures.")] = True,
) -> None:
    """Measure the gap between synthetic and real defects. Ends with 0 when none is left, 3 with one, 4 if unknown."""
    session = session_of(context)
    arguments: dict[str, Any] = {
        "recipe_id": session.recipe(recipe),
        "classes": classes or [],
        "job_id": job or None,
        "held_out": held_out,
        "random_seed": seed,
    }
    if not wait:
        jobs.started(session, "inspectd.gap", arguments, wait=False)
        return
    job_id = str(session.trainer("inspectd.gap", arguments, WORK_S)["job_id"])
    done = jobs.watch(session, job_id)
    if done.state is not JobState.DONE:
        raise JobError(f"the job {job_id} is {done.state}: {done.error or 'it was stopped'}; see inspectctl jobs show")
    result = done.result
    if session.as_json:
        render.as_json({"job_id": job_id, **result})
    else:
        _show(result, str(session.settings.state_dir))
    raise typer.Exit({"alike": 0, "different": EXIT_DIFFERENT}.get(result["conclusion"], EXIT_UNKNOWN))


def _show(result: dict[str, Any], root: str) -> None:
    rows = [
        (one["name"], _number(one["value"]), _interval(one), _number(one["p"]), one["finding"], one["sentence"])
        for one in result["measures"]
    ]
    render.table(("MEASURE", "VALUE", "INTERVAL", "P", "FINDING", "MEANS"), rows, "no measures")
    render.facts(
        [
            ("real", result["real"]),
            ("synthetic", result["synthetic"]),
            ("picture", f"{root}/{result['picture']}"),
            ("conclusion", result["sentence"]),
        ]
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(measure: dict[str, Any]) -> str:
    return "-" if measure["low"] is None else f"{measure['low']:.3f} to {measure['high']:.3f}"
