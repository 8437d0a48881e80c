"""``inspectctl camera``: which cameras there are, what they are set to, and single frames with their figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from cell.clock import utc_now
from cell.errors import ConfigurationError, HardwareError, InspectdError
from cell.recipes import Rect
from daemon.ctl import bench, pictures, render
from daemon.ctl.session import Session, session_of

group = typer.Typer(help="Cameras: list, info, snap, focus, stream, conformance.", no_args_is_help=True)
Facts = dict[str, Any]

Name = Annotated[str, typer.Argument(help="Name in the settings, serial number or user id; default the first camera.")]
RecipeOption = Annotated[str, typer.Option("--recipe", help="Whose channels; needed when there are several.")]
ChannelOption = Annotated[list[str] | None, typer.Option("--channel", help="Only this channel; may be repeated.")]
ExposureOption = Annotated[float | None, typer.Option("--exposure", min=0.1, help="Microseconds, for this time.")]
GainOption = Annotated[float | None, typer.Option("--gain", min=0.0, help="dB, for this time.")]
PartOption = Annotated[str, typer.Option("--part", help="Which part an emulated cell presents.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(group, name="camera")


@group.command("list")
def list_cameras(context: typer.Context) -> None:
    """List the cell's cameras and, without a daemon, every camera that the drivers find."""
    session = session_of(context)
    reachable, problems = ([], []) if bench.daemon_answers(session) else _reachable(session)
    failure: InspectdError | None = None
    found: list[Facts] = []
    try:
        with bench.opened(session) as hardware:
            found = hardware.cameras()
    except (HardwareError, ConfigurationError) as error:
        failure = error  # told last: what was found may show the way out
    if session.as_json:
        problem = "" if failure is None else str(failure)
        render.as_json(
            {"cameras": found, "reachable": reachable, "problems": [*problems, *([problem] if problem else [])]}
        )
    else:
        _show_list(found, reachable, problems)
    if failure is not None:
        raise failure


def _reachable(session: Session) -> tuple[list[Facts], list[str]]:
    # Not above: see `daemon.ctl.bench.opened`.
    from daemon.ctl import direct

    return direct.reachable(session.settings)


def _show_list(found: list[Facts], reachable: list[Facts], problems: list[str]) -> None:
    rows = [
        (
            camera["camera"],
            camera["name"],
            " ".join(str(camera[key]) for key in ("vendor", "model") if camera[key]),
            camera["driver"],
            camera["trigger"],
            celsius(camera["temperature_c"]),
            link(camera["link_bytes_per_s"]),
            "emulated" if camera["emulated"] else "real",
            camera["state"],
        )
        for camera in found
    ]
    headers = ("CAMERA", "SERIAL OR ID", "MODEL", "DRIVER", "TRIGGER", "TEMP", "LINK", "", "STATE")
    if rows:
        render.table(headers, rows, "")
    if reachable:
        keys = ("name", "user_id", "vendor", "model", "driver", "transport", "address")
        if rows:
            render.line("")
        render.table(
            ("FOUND", "USER ID", "VENDOR", "MODEL", "DRIVER", "TRANSPORT", "ADDRESS"),
            [render.pick(device, *keys) for device in reachable],
            "",
        )
    elif not rows:
        render.line("no cameras")
    for problem in problems:
        render.line(f"  ! {problem}")


@group.command()
def info(context: typer.Context, name: Name = "") -> None:
    """Show a camera's features and their values."""
    session = session_of(context)
    with bench.opened(session) as hardware:
        found = hardware.info(name)
    if session.as_json:
        render.as_json(found)
        return
    told = ("name", "vendor", "model", "serial", "user_id", "firmware", "driver", "trigger", "address")
    render.facts([(key.replace("_", " "), found[key]) for key in told])
    render.facts([("temperature", celsius(found["temperature_c"])), ("link", link(found["link_bytes_per_s"]))])
    rows = [(row["name"], row["value"] if row["value"] is not None else "- (not now)") for row in found["features"]]
    render.table(("FEATURE", "VALUE"), [(name, _plain(value)) for name, value in rows], "no features")


@group.command()
def snap(
    context: typer.Context,
    name: Name = "",
    out: Annotated[Path | None, typer.Option(help=".tif (one stack) or .png (a file each channel).")] = None,
    recipe: RecipeOption = "",
    channel: ChannelOption = None,
    exposure: ExposureOption = None,
    gain: GainOption = None,
    part: PartOption = "",
) -> None:
    """Take one frame of each channel and keep it, lossless, with what the camera says of it."""
    session = session_of(context)
    target = pictures.target(out, f"snap-{name or 'camera'}-{utc_now():%Y%m%dT%H%M%S}.tif")
    asked = request(name, recipe, channel, exposure, gain, part)
    with bench.opened(session) as hardware, pictures.beside(target) as folder:
        taken = hardware.take(asked | {"save": "stack"}, folder)
        taken["paths"] = [str(path) for path in pictures.kept([Path(path) for path in taken["paths"]], target)]
    if session.as_json:
        render.as_json(taken)
        return
    show_frames(taken["frames"])
    for sentence in taken["failures"]:
        render.line(f"  ! {sentence}")
    for path in taken["paths"]:
        render.line(f"written to {path}")


@group.command()
def conformance(context: typer.Context, name: Name = "", recipe: RecipeOption = "") -> None:
    """Hold a camera and its driver to the contract of every camera. Takes a minute or so.

    The daemon must be stopped. Ends with 1 when a rule is broken; what can't be brought about here is skipped.
    """
    session = session_of(context)
    bench.require_no_daemon(session, "the suite")
    from daemon.ctl import direct  # not above: see `daemon.ctl.bench.opened`

    show_report(session, direct.camera_conformance(session.settings, name, recipe or None))


def request(
    name: str,
    recipe: str,
    channels: list[str] | None,
    exposure_us: float | None,
    gain_db: float | None,
    part_id: str,
    region: Rect | None = None,
) -> Facts:
    """Return the arguments of ``inspectd.camera.take``; what was not given is left out."""
    given = {
        "camera": name,
        "recipe_id": recipe,
        "channels": channels,
        "exposure_us": exposure_us,
        "gain_db": gain_db,
        "part_id": part_id,
        "region": region.model_dump() if region is not None else None,
    }
    return {key: value for key, value in given.items() if value not in ("", None, [])}


def show_frames(frames: list[Facts]) -> None:
    """Write the figures of frames as a table."""
    rows = [
        (
            frame["channel"],
            f"{frame['width']}x{frame['height']}",
            frame["pixel_format"] or f"{frame['bit_depth']} bit",
            f"{frame['exposure_us']:g}",
            f"{frame['gain_db']:g}",
            frame["low"],
            f"{frame['mean']:.1f}",
            frame["high"],
            percent(frame["dark_share"]),
            clipped(frame),
            f"{frame['sharpness']:.2e}",
            frame["frame_id"],
        )
        for frame in frames
    ]
    headers = ("CHANNEL", "SIZE", "FORMAT", "US", "DB", "MIN", "MEAN", "MAX", "AT 0", "SATURATED", "SHARPNESS", "FRAME")
    render.table(headers, rows, "no frames")


class Result(Protocol):
    """One check of a conformance report; `outcome` is passed, failed or skipped."""

    @property
    def name(self) -> str:
        """What was checked."""

    @property
    def outcome(self) -> str:
        """How it ended."""

    @property
    def detail(self) -> str:
        """What was wrong, or why it was skipped."""


class Report(Protocol):
    """A conformance report of `drivers.conformance`, whose types the faces don't import."""

    @property
    def device(self) -> str:
        """What was tested."""

    @property
    def passed(self) -> bool:
        """False when a check failed."""

    @property
    def results(self) -> Sequence[Result]:
        """Every check."""


def show_report(session: Session, report: Report) -> None:
    """Write a conformance report; ends the command with 1 when a check failed."""
    rows = [(result.name, str(result.outcome), result.detail) for result in report.results]
    if session.as_json:
        checks = [{"check": name, "outcome": outcome, "detail": detail} for name, outcome, detail in rows]
        render.as_json({"device": report.device, "passed": report.passed, "checks": checks})
    else:
        counts = {kind: sum(row[1] == kind for row in rows) for kind in ("passed", "failed", "skipped")}
        render.table(("CHECK", "", "DETAIL"), rows, "no checks")
        render.line(f"{report.device}: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))
    raise typer.Exit(0 if report.passed else 1)


def percent(value: float) -> str:
    """Return a share in per cent; what is not nothing never reads as nothing."""
    if value == 0:
        return "0 %"
    return "<0.01 %" if value < 1e-4 else f"{100 * value:.2f} %"


def clipped(frame: Facts) -> str:
    """Return a frame's saturated share, and where it saturates when that is below full scale."""
    if frame["ceiling"] is not None:
        return f"{percent(frame['clipped_share'] - frame['dark_share'])} at {frame['ceiling']}"
    return percent(frame["saturated_share"])


def celsius(value: object) -> str:
    """Return a temperature, nothing when it is not told."""
    return f"{value:.1f} C" if isinstance(value, int | float) else ""


def link(value: object) -> str:
    """Return a link's speed, nothing when it is not told."""
    return f"{value * 8 / 1e6:.0f} Mbit/s" if isinstance(value, int | float) and value else ""


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
