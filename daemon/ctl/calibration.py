"""``inspectctl calibrate``: take series of still scenes, calibrate from them, and look at what came out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter

from cell.calibration import Calibration, ChannelCalibration, Illumination, SeriesKind
from cell.errors import NotFound
from cell.wire.answers import parsed
from daemon.ctl import render
from daemon.ctl.jobs import Wait, started
from daemon.ctl.session import WORK_S, Session, session_of

group = typer.Typer(help="Measure the cell's noise, light and sharpness.", invoke_without_command=True)
RecipeOption = Annotated[str, typer.Option("--recipe", help="Default: the only or the prepared one.")]
PitchOption = Annotated[float | None, typer.Option("--dot-pitch-mm", help="Distance of the target's dots.")]
BallOption = Annotated[float | None, typer.Option("--ball-radius-mm", help="Radius of the ball.")]
LengthOption = Annotated[float | None, typer.Option("--part-length-mm", help="How long the part is, at its longest.")]
Factors = Annotated[
    list[float] | None, typer.Option("--exposure", help="Factor on the recipe's exposures; repeat it for more levels.")
]
LightLevels = Annotated[
    list[float] | None, typer.Option("--light", help="Factor on the recipe's lights, up to 1; repeat it.")
]
_CALIBRATIONS: TypeAdapter[list[Calibration]] = TypeAdapter(list[Calibration])


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(group, name="calibrate")


@group.callback()
def calibrate(
    context: typer.Context,
    recipe: RecipeOption = "",
    dot_pitch_mm: PitchOption = None,
    ball_radius_mm: BallOption = None,
    part_length_mm: LengthOption = None,
    wait: Wait = False,
) -> None:
    """Measure noise, light and sharpness from the series that were taken and from the backgrounds.

    Series are taken with `inspectctl calibrate take`: repeats of a good part that lies still, dark with the lights off,
    flat of an even matt target, target with slanted edges and dots, ball of a matt ball on the flat target. Without
    repeats the calibration is a degraded one, and says what it does not know.
    """
    if context.invoked_subcommand is not None:
        return
    session = session_of(context)
    known = {"dot_pitch_mm": dot_pitch_mm, "ball_radius_mm": ball_radius_mm, "part_length_mm": part_length_mm}
    arguments = {
        "recipe_id": session.recipe(recipe),
        **{key: value for key, value in known.items() if value is not None},
    }
    started(session, "inspectd.calibrate", arguments, wait)


@group.command()
def take(  # noqa: PLR0913, PLR0917 (an option each)
    context: typer.Context,
    kind: Annotated[SeriesKind, typer.Argument(help="What lies before the camera; dark: the lights off.")],
    recipe: RecipeOption = "",
    count: Annotated[int, typer.Option("-n", "--count", min=2, max=64, help="Repeats of each level.")] = 16,
    exposure: Factors = None,
    light: LightLevels = None,
    height_mm: Annotated[
        float, typer.Option("--height-mm", help="Target above its usual place: depth of field.")
    ] = 0.0,
    dot_pitch_mm: PitchOption = None,
    ball_radius_mm: BallOption = None,
    part: Annotated[str, typer.Option("--part", help="What an emulated cell presents.")] = "",
    add: Annotated[bool, typer.Option("--add", help="Beside the series that is there, not in its place.")] = False,
) -> None:
    """Take a series between two parts, under the recipe's light sequence; nothing may move meanwhile.

    Several exposures (`--exposure 1 --exposure 0.5 --exposure 0.25`) or light levels widen the photon transfer and
    show whether the camera's answer is straight. A series that does not serve is told and not kept.
    """
    session = session_of(context)
    arguments: dict[str, Any] = {"kind": kind.value, "recipe_id": session.recipe(recipe), "count": count, "add": add}
    given: dict[str, Any] = {
        "exposures": exposure,
        "lights": light,
        "height_mm": height_mm,
        "dot_pitch_mm": dot_pitch_mm,
        "ball_radius_mm": ball_radius_mm,
        "part_id": part,
    }
    arguments |= {key: value for key, value in given.items() if value not in (None, [], "", 0.0)}
    result = session.daemon("inspectd.calibration.take", arguments, WORK_S)
    if session.as_json:
        render.as_json(result)
        return
    _levels(result["levels"])
    _sentences(result["findings"])
    render.line(f"{result['frame_sets']} frame sets in {session.settings.state_dir / result['folder']}")


@group.command("list")
def list_calibrations(context: typer.Context, recipe: RecipeOption = "") -> None:
    """List a recipe's calibrations and the series that the next one would be made from."""
    session, answer = _answer(context, recipe)
    if session.as_json:
        render.as_json(answer)
        return
    _standing(answer)
    rows = [
        (
            one.calibration_id,
            one.version,
            one.kind,
            len(one.channels),
            render.when(one.created_at),
            render.when(one.valid_until),
            render.short(one.record_digest()),
        )
        for one in parsed(_CALIBRATIONS, _plain(answer), "calibrations")
    ]
    headers = ("CALIBRATION", "VERSION", "KIND", "CHANNELS", "MADE", "NEXT", "HASH")
    render.table(headers, rows, "no calibration; run inspectctl calibrate")
    series = [(kind, told["frame_sets"], render.when(told["taken_at"])) for kind, told in answer["series"].items()]
    render.line("")
    render.table(("SERIES", "FRAME SETS", "TAKEN"), series, "no series; run inspectctl calibrate take repeats")


@group.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Id or hash of a calibration; default the newest.")] = "",
    recipe: RecipeOption = "",
) -> None:
    """Show one calibration: noise, light and sharpness of every channel, and what could not be known."""
    session, answer = _answer(context, recipe)
    found: list[Calibration] = parsed(_CALIBRATIONS, _plain(answer), "calibrations")
    chosen = [one for one in found if not name or one.calibration_id == name or one.record_digest().startswith(name)]
    if not chosen:
        raise NotFound(f"there is no calibration {name or 'yet'}; inspectctl calibrate list shows them")
    one = chosen[0]
    if session.as_json:
        render.as_json(one.model_dump(mode="json") | {"digest": one.record_digest()})
        return
    scale = f"{one.px_per_mm:.3f} px/mm from {one.px_per_mm_source}" if one.px_per_mm else "unknown"
    depth = f"{one.depth.range_mm:.2f} mm about {one.depth.focus_mm:+.2f} mm" if one.depth else ""
    render.facts(
        [
            ("calibration", f"{one.calibration_id}, version {one.version}, {one.kind}"),
            ("hash", one.record_digest()),
            ("made", render.when(one.created_at)),
            ("next", render.when(one.valid_until)),
            ("frames", one.frames_used),
            ("scale", scale),
            ("depth of field", depth),
            *((picture.name, session.settings.state_dir / picture.path) for picture in one.pictures),
        ]
    )
    _channels(one)
    _sentences(one.findings)


def _levels(levels: Sequence[dict[str, Any]]) -> None:
    rows = [
        (
            channel["channel"],
            f"{level['exposure']:g}",
            f"{level['light']:g}",
            level["repeats"],
            level["still"],
            f"{channel['mean']:.1f}",
            f"{100 * channel['saturated_share']:.2f} %",
            "yes" if channel["usable"] else "no",
        )
        for level in levels
        for channel in level["channels"]
    ]
    headers = ("CHANNEL", "EXPOSURE", "LIGHT", "REPEATS", "STILL", "MEAN", "SATURATED", "USABLE")
    render.table(headers, rows, "nothing was taken")


def _channels(one: Calibration) -> None:
    noise = [_noise_row(channel) for channel in one.channels]
    headers = (
        "CHANNEL",
        "K DN/E",
        "+-",
        "READ DN",
        "DARK DN",
        "FULL E",
        "PRNU",
        "DSNU DN",
        "LINEARITY",
        "LAG 1",
        "FROM",
    )
    render.table(headers, noise, "")
    render.line("")
    lights = ("CHANNEL", "MEAN DN", "FALL-OFF", "LIGHT", "FLICKER", "DRIFT", "FROM", "MTF50", "PSF PX", "DIRECTION")
    render.table(lights, [_light_row(channel) for channel in one.channels], "")


def _noise_row(channel: ChannelCalibration) -> tuple[object, ...]:
    model, known = channel.noise, channel.transfer
    return (
        channel.channel,
        f"{model.gain_dn_per_e:.5f}" if model.gain_dn_per_e else "-",
        _share(known.gain_error),
        f"{model.read_noise_dn:.3f}",
        f"{model.offset_dn:.2f}",
        f"{known.saturation_e:.0f}" if known.saturation_e else "-",
        _share(known.prnu, 2),
        render.figure(known.dsnu_dn),
        _share(known.linearity_error, 2),
        f"{model.lag1_correlation:+.3f}",
        known.source,
    )


def _light_row(channel: ChannelCalibration) -> tuple[object, ...]:
    light, sharp, direction = channel.illumination, channel.sharpness, channel.direction
    return (
        channel.channel,
        f"{light.mean_dn:.1f}",
        _share(light.falloff, 0),
        _share(light.relative_intensity, 0),
        _share(light.flicker, 2),
        _drift(light),
        light.source,
        f"{sharp.mtf50:.3f}" if sharp else "-",
        f"{channel.psf_sigma_px:.2f}" if channel.psf_sigma_px else "-",
        f"({direction.x:+.2f}, {direction.y:+.2f}, {direction.z:+.2f})" if direction else "-",
    )


def _drift(light: Illumination) -> str:
    """Say how the light changes: over the good parts' days where they tell, or within the repeats."""
    for value, unit in ((light.drift_per_day, "day"), (light.drift_per_hour, "hour")):
        if value is not None:
            return f"{100 * value:+.2f} % a {unit}"
    return "-"


def _answer(context: typer.Context, recipe: str) -> tuple[Session, dict[str, Any]]:
    session = session_of(context)
    return session, session.trainer("inspectd.calibrations", {"recipe_id": session.recipe(recipe)})


def _plain(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [{key: value for key, value in one.items() if key != "digest"} for one in answer["calibrations"]]


def _standing(answer: dict[str, Any]) -> None:
    render.facts(
        [
            ("calibration needed", bool(answer["CalibrationNeeded"])),
            ("why", answer["Reason"]),
            ("last", render.when(answer["LastCalibration"])),
            ("next", render.when(answer["NextCalibration"])),
        ]
    )


def _sentences(findings: Any) -> None:
    for sentence in findings:
        render.line(f"  ! {sentence}")


def _share(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"
