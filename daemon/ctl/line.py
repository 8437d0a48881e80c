"""Commands of production: status, state, one part."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import typer

from cell.errors import InspectdError
from cell.verdicts import Outcome
from daemon.ctl import render
from daemon.ctl.session import QUICK_S, WORK_S, Result, Session, session_of

#: `trigger` ends with 0 for OK alone, so that `inspectctl trigger X && ...` never passes a bad part on.
EXIT_OF = {Outcome.OK: 0, Outcome.NG: 3, Outcome.FAULT: 4}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(status)
    app.command()(trigger)
    app.command()(mode)
    app.command()(halt)
    app.command()(reset)
    app.command()(confirm)


def status(context: typer.Context) -> None:
    """Show the cell at a glance."""
    session = session_of(context)
    found = session.daemon("inspectd.status")
    try:
        trainer: Result = session.trainer("inspectd.trainer.status", patience_s=1.0)
    except InspectdError as error:
        trainer = {"error": str(error)}
    if session.as_json:
        render.as_json(found | {"trainer": trainer})
        return
    kind = "emulated cell" if found["emulated"] else "real cell"
    render.line(f"inspectd {found['version']} - {found['cell_name']} ({kind})")
    render.facts(_facts(found, trainer))
    for condition in found["conditions"]:
        render.line(_told(condition))


def _told(condition: dict[str, Any]) -> str:
    """Return a condition's line: what is over and only waits to be confirmed must not look like what is wrong now."""
    over = condition["resolved_at"]
    mark, end = ("-", f" (over since {render.when(over)}; inspectctl confirm)") if over else ("!", "")
    return f"  {mark} {condition['name']}: {condition['message']}{end}"


def trigger(
    context: typer.Context,
    part_id: Annotated[str, typer.Argument(help="Id of the part.")],
    product: Annotated[str, typer.Option(help="ProductId; default the prepared recipe's.")] = "",
    meas: Annotated[str, typer.Option(help="MeasId of the environment.")] = "",
) -> None:
    """Inspect one part now. Ends with 0 for OK, 3 for NG, 4 for FAULT."""
    session = session_of(context)
    arguments = {"PartId": part_id, "ProductId": product, "MeasId": meas}
    result = session.daemon("StartSingleJob", arguments, 3 * QUICK_S)["Result"]
    if session.as_json:
        render.as_json(result)
    else:
        show_verdict(result["ResultContent"])
    raise typer.Exit(EXIT_OF[Outcome(result["ResultContent"]["outcome"])])


def mode(context: typer.Context, name: Annotated[str, typer.Argument(help="automatic")] = "automatic") -> None:
    """Select the operating mode: Preoperational -> Operational."""
    if name != "automatic":
        raise typer.BadParameter(f"there is no mode {name}; the only one is automatic")
    _moved(session_of(context), "SelectModeAutomatic", {})


def halt(context: typer.Context, cause: Annotated[str, typer.Option(help="Why, for the record.")] = "") -> None:
    """Stop everything and switch the light off."""
    _moved(session_of(context), "Halt", {"CauseDescription": cause})


def reset(context: typer.Context, cause: Annotated[str, typer.Option(help="Why, for the record.")] = "") -> None:
    """Go to Preoperational, from any state."""
    _moved(session_of(context), "Reset", {"CauseDescription": cause})


def confirm(
    context: typer.Context, comment: Annotated[str, typer.Argument(help="Remark for the record.")] = ""
) -> None:
    """Confirm all conditions."""
    session = session_of(context)
    result = session.daemon("ConfirmAll", {"Comment": comment})
    if session.as_json:
        render.as_json(result)
    else:
        render.line(f"confirmed {result['Confirmed']}")


def show_verdict(verdict: dict[str, Any]) -> None:
    """Write one verdict for a person."""
    render.facts(
        [
            ("part", verdict["part_id"]),
            ("verdict", verdict["outcome"]),
            ("score", f"{render.figure(verdict['score'])} (threshold {render.figure(verdict['threshold'])})"),
            ("reasons", "; ".join(verdict["reasons"])),
            ("regions", "; ".join(_region(region) for region in verdict["regions"])),
            ("after", f"{verdict['timings']['total_ms']:.1f} ms"),
            ("recipe", f"{verdict['recipe_id']} v{verdict['recipe_version']}"),
            ("model", render.short(verdict["model_digest"])),
            ("job", verdict["job_id"]),
            ("at", render.when(verdict["created_at"])),
        ]
    )


def _moved(session: Session, command: str, arguments: Result) -> None:
    result = session.daemon(command, arguments, WORK_S if command in {"Halt", "Reset"} else QUICK_S)
    if session.as_json:
        render.as_json(result)
    else:
        state = result.get("State")
        render.line(str(state.get("name", state) if isinstance(state, dict) else state))


def _facts(found: Result, trainer: Result) -> list[tuple[str, object]]:
    recipe, counts, latency, archive = found["recipe"], found["counts"], found["latency_ms"], found["archive"]
    paced = "median {p50} ms, 99 % below {p99} ms, most {max} ms".format(**latency) if latency["parts"] else ""
    kept = f"{archive['written']} written, {archive['waiting']} waiting, {archive['dropped']} dropped"
    return [
        ("state", found["state"]["name"]),
        ("recipe", _recipe(recipe)),
        ("model", _model(found["model"]) or ("none: every verdict is FAULT" if recipe else "")),
        ("beside", _model(found["standby"])),
        ("previous", _model(found["previous"])),
        ("parts", f"OK {counts['OK']}  NG {counts['NG']}  FAULT {counts['FAULT']}"),
        ("latency", paced),
        ("archive", f"{kept}, {archive['free_mb']} MB free"),
        ("process", _process(found.get("process"))),
        ("calibration", _calibration(found.get("calibration"))),
        ("trainer", _trainer(trainer)),
        ("up", str(timedelta(seconds=round(found["uptime_s"])))),
    ]


def _calibration(told: Result | None) -> str:
    if not told:
        return ""
    if told["CalibrationNeeded"] is not False:
        return f"needed: {told['Reason']}"
    return f"{told['Kind']}, of {render.when(told['LastCalibration'])}, next {render.when(told['NextCalibration'])}"


def _recipe(recipe: Result | None) -> str:
    if recipe is None:
        return "none prepared"
    return (
        f"{recipe['recipe_id']} v{recipe['version']} ({len(recipe['channels'])} channels, deadline "
        f"{recipe['deadline_ms']:g} ms)"
    )


def _model(model: Result | None) -> str:
    if model is None:
        return ""
    notes = ["validated" if model["validated"] else "not validated"]
    notes += [] if model["reviewed_by_people"] else ["not reviewed by people"]
    return (
        f"{model['model_id']} {render.short(model['model_digest'])} on {model['engine']}/{model['provider']}, "
        f"threshold {model['threshold']:.3f}, {', '.join(notes)}"
    )


def _process(process: Result | None) -> str:
    if process is None:
        return ""
    passed = f", {process['passed_over']} passed over" if process["passed_over"] else ""
    return (
        f"{process['state']}, {process['looked_at']} parts looked at{passed}" if process["watching"] else "not watched"
    )


def _trainer(trainer: Result) -> str:
    if "error" in trainer:
        return "does not answer"
    job = trainer.get("running")
    waiting = f", {len(trainer['queued'])} waiting" if trainer.get("queued") else ""
    if not job:
        return f"idle{waiting}"
    progress = job.get("progress") or {}
    done = render.share(progress.get("done", 0), progress.get("total", 0))
    return f"{job['kind']} {job['job_id']} {progress.get('stage', '')} {done}".rstrip() + waiting


def _region(region: dict[str, Any]) -> str:
    box = region["box"]
    return f"{region['defect_class']} {region['score']:.2f} at {box['x']},{box['y']} {box['width']}x{box['height']}"
