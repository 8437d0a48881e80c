"""``inspectctl light``: which lines there are, one or several of them on for a while, and what each of them does."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from cell.errors import HardwareError, LightError
from daemon.ctl import bench, camera, render
from daemon.ctl.bench import Bench
from daemon.ctl.camera import ExposureOption, PartOption, RecipeOption
from daemon.ctl.session import session_of

group = typer.Typer(help="Lights: list, set, off, sweep, conformance.", no_args_is_help=True)
Facts = dict[str, Any]

#: Continuous light goes off when nobody tends it; it is tended this often while a person looks.
_TEND_S = 1.0
#: A line must raise the frame's mean by this share of full scale, or it counts as dark.
_SEEN = 0.004


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(group, name="light")


@group.command("list")
def list_lines(context: typer.Context) -> None:
    """List the light's lines and how brightly each shines."""
    session = session_of(context)
    with bench.opened(session) as hardware:
        found = hardware.lights()
    if session.as_json:
        render.as_json(found)
        return
    kind = "emulated" if found["emulated"] else "real"
    render.facts([("driver", f"{found['driver']} ({kind})"), ("mode", found["mode"])])
    render.table(("LINE", "LEVEL"), [(line["line"], float(line["level"])) for line in found["lines"]], "no lines")


@group.command("set")
def set_lines(
    context: typer.Context,
    levels: Annotated[list[str], typer.Argument(metavar="LINE=LEVEL...", help="Relative intensities from 0 to 1.")],
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="How long; Ctrl-C ends it.")] = 10.0,
) -> None:
    """Let lines shine for a while, all others off; dark afterwards."""
    session = session_of(context)
    wanted = dict(_level(word) for word in levels)
    with bench.opened(session) as hardware:
        shown = hardware.shine(wanted)
        try:
            if session.as_json:
                render.as_json(shown)
            else:
                lit = ", ".join(f"{line} at {level:g}" for line, level in wanted.items())
                render.hint(f"{lit}, for {seconds:g} s; Ctrl-C ends it")
            _tend(hardware, wanted, seconds)
        except KeyboardInterrupt:
            pass  # how a person ends it
        finally:
            hardware.shine({})


@group.command()
def off(context: typer.Context) -> None:
    """Switch every line off."""
    session = session_of(context)
    with bench.opened(session) as hardware:
        found = hardware.shine({})
    if session.as_json:
        render.as_json(found)
    else:
        render.line(f"{len(found['lines'])} lines off")


@group.command()
def sweep(
    context: typer.Context,
    name: Annotated[str, typer.Option("--camera", help="Which camera looks; default the first.")] = "",
    recipe: RecipeOption = "",
    level: Annotated[float, typer.Option(min=0.01, max=1.0, help="Relative intensity of each line in turn.")] = 1.0,
    exposure: ExposureOption = None,
    part: PartOption = "",
) -> None:
    """Light one line after the other and let a camera look: finds lamps that are dead or on another's wire.

    Ends with 74 when a line is not to be seen.
    """
    session = session_of(context)
    rows: list[Facts] = []
    with bench.opened(session) as hardware:
        asked = camera.request(name, recipe, None, exposure, None, part)
        dark = _look(hardware, asked, {})
        for line in hardware.lights()["lines"]:
            seen = _look(hardware, asked, {line["line"]: level})
            rise = seen["mean"] - dark["mean"]
            full_scale = (1 << seen["bit_depth"]) - 1
            rows.append(
                {
                    "line": line["line"],
                    "mean": seen["mean"],
                    "rise": round(rise, 3),
                    "high": seen["high"],
                    "clipped_share": seen["clipped_share"],
                    "seen": rise > _SEEN * full_scale,
                }
            )
    unseen = [row["line"] for row in rows if not row["seen"]]
    if session.as_json:
        render.as_json({"dark_mean": dark["mean"], "lines": rows, "unseen": unseen})
    else:
        table = [
            (
                row["line"],
                f"{row['mean']:.1f}",
                f"{row['rise']:+.1f}",
                row["high"],
                camera.percent(row["clipped_share"]),
                "" if row["seen"] else "NOT SEEN: lamp, wire, exposure",
            )
            for row in rows
        ]
        render.table(("LINE", "MEAN", "ABOVE DARK", "MAX", "CLIPPED", ""), table, "no lines")
        render.facts([("dark", f"mean {dark['mean']:.1f}")])
    if unseen:
        raise typer.Exit(HardwareError.exit_code)


@group.command()
def conformance(context: typer.Context) -> None:
    """Hold the light to the contract of every light, faults included. Its lamps flash for some seconds.

    The daemon must be stopped. Ends with 1 when the light breaks a rule.
    """
    session = session_of(context)
    bench.require_no_daemon(session, "the suite")
    from daemon.ctl import direct  # not above: see `daemon.ctl.bench.opened`

    camera.show_report(session, direct.light_conformance(session.settings))


def _look(hardware: Bench, asked: Facts, lights: dict[str, float]) -> Facts:
    """Return the figures of one frame under these lights; the first channel's exposure serves for all."""
    taken = hardware.take(asked | {"lights": lights})
    if not taken["frames"]:
        raise LightError(f"no frame came: {taken['failures'][-1]}")
    frame: Facts = taken["frames"][0]
    return frame


def _tend(hardware: Bench, wanted: dict[str, float], seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _TEND_S))
        if until - time.monotonic() > 0:
            hardware.shine(wanted)


def _level(word: str) -> tuple[str, float]:
    line, _, text = word.partition("=")
    try:
        level = float(text)
    except ValueError as error:
        raise typer.BadParameter(f"{word} must be LINE=LEVEL, e.g. ring=0.5") from error
    if not 0.0 <= level <= 1.0:
        raise typer.BadParameter(f"{word}: a relative intensity is from 0 to 1")
    return line, level
