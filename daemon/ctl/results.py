"""Verdicts of the past, what other stations say of parts, and events as they come."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cell.errors import NotFound
from cell.events import ErrorRaised, Event, JobChanged, ModelPromoted, ResultReady, StateChanged
from cell.verdicts import Outcome
from cell.wire.client import Subscriber, parse_events
from daemon.ctl import render
from daemon.ctl.line import show_verdict
from daemon.ctl.session import Session, session_of

_NOT_KEPT = "not kept by the archive rule"

group = typer.Typer(help="Verdicts of the past: list, show.", no_args_is_help=True)
events = typer.Typer(help="What happens on the line: list, follow.", no_args_is_help=True)
#: Part reports in words a person types.
_REPORTS = {"good": Outcome.OK, "bad": Outcome.NG}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(group, name="results")
    app.add_typer(events, name="events")
    app.command()(report)


@group.command("list")
def list_results(
    context: typer.Context,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=1000, help="At most this many.")] = 20,
    outcome: Annotated[Outcome | None, typer.Option(help="Only these.")] = None,
    part: Annotated[str, typer.Option(help="Only of this part.")] = "",
    recipe: Annotated[str, typer.Option(help="Only of this recipe.")] = "",
) -> None:
    """List results, newest first."""
    session = session_of(context)
    arguments: dict[str, Any] = {"MaxResults": limit, "PartId": part}
    if outcome is not None:
        arguments["Outcome"] = outcome.value
    if recipe:
        arguments["RecipeId"] = recipe
    found = session.daemon("GetResultListFiltered", arguments)["Results"]
    if session.as_json:
        render.as_json({"results": found})
        return
    rows = [_row(result["ResultContent"]) for result in found]
    render.table(("JOB", "AT", "PART", "VERDICT", "SCORE", "MS", "WHY"), rows, "no results")


@group.command()
def show(context: typer.Context, result_id: Annotated[str, typer.Argument(help="Its job's id.")]) -> None:
    """Show one result and where its pictures lie."""
    session = session_of(context)
    result = session.daemon("GetResultById", {"ResultId": result_id})["Result"]
    try:
        components = session.daemon("GetResultComponentsById", {"ResultId": result_id})["Components"]
    except NotFound:
        components = []  # the archive rule kept none
    if session.as_json:
        render.as_json(result | {"components": components})
        return
    show_verdict(result["ResultContent"])
    render.facts([("pictures", ", ".join(sorted({_place(session, one) for one in components})) or _NOT_KEPT)])


def _place(session: Session, component: dict[str, Any]) -> str:
    if component["Path"] is None:
        return f"given up on {component['RemovedAt'][:16]}: {component['RemovedBecause']}"
    return str(session.settings.state_dir / component["Path"])


def report(
    context: typer.Context,
    part_id: Annotated[str, typer.Argument(help="Id of the part.")],
    finding: Annotated[str, typer.Argument(help="good or bad")],
    defect_class: Annotated[str, typer.Option("--class", help="Which defect, when known.")] = "",
    source: Annotated[str, typer.Option(help="Who found it.")] = "operator",
) -> None:
    """Tell what another station or a person found about a part; harvest goes by it."""
    if finding not in _REPORTS:
        raise typer.BadParameter(f"a part is good or bad, not {finding}")
    session = session_of(context)
    arguments = {"part_id": part_id, "outcome": _REPORTS[finding].value, "source": source}
    if defect_class:
        arguments["defect_class"] = defect_class
    result = session.daemon("inspectd.report_part", arguments)
    if session.as_json:
        render.as_json(result)
    else:
        render.line(f"{result['part_id']}: {finding}")


@events.command("list")
def list_events(
    context: typer.Context,
    since: Annotated[int, typer.Option(min=0, help="After this sequence number.")] = 0,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=1000)] = 50,
) -> None:
    """List stored events, oldest first; without --since the last ones."""
    session = session_of(context)
    if not since:
        last = session.daemon("inspectd.events", {"since": 0, "limit": 1})["last_sequence"]
        since = max(0, last - limit)
    result = session.daemon("inspectd.events", {"since": since, "limit": limit})
    if session.as_json:
        render.as_json(result)
        return
    for event in parse_events(result):
        _tell(event)


@events.command()
def follow(
    context: typer.Context,
    since: Annotated[int | None, typer.Option(min=0, help="Stored ones after this number first.")] = None,
    count: Annotated[int, typer.Option(min=0, help="End after so many; 0: never.")] = 0,
    jobs: Annotated[bool, typer.Option("--jobs", help="Of the trainer instead of the line.")] = False,
) -> None:
    """Show events as they come, none left out, until stopped. With --json one document a line."""
    session = session_of(context)
    wire = session.settings.wire
    address = wire.trainer_events if jobs else wire.events
    told = 0
    with Subscriber(address, wire.keys, None if jobs else _refill(session), since) as subscriber:
        while True:
            event = subscriber.next(1.0)
            if event is None:
                continue
            if session.as_json:
                render.json_line(event.model_dump(mode="json"))
            else:
                _tell(event)
            told += 1
            if told == count:
                return


def _refill(session: Session) -> Any:
    return lambda since: parse_events(session.daemon("inspectd.events", {"since": since}))


def _tell(event: Event) -> None:
    number = f"{event.sequence:>7}" if event.sequence else " " * 7
    render.line(f"{number}  {render.when(event.at)}  {event.event:<22} {_words(event)}".rstrip())


def _words(event: Event) -> str:
    match event:
        case ResultReady(verdict=verdict):
            return f"{verdict.outcome} {verdict.part_id} {render.figure(verdict.score)} {'; '.join(verdict.reasons)}"
        case StateChanged():
            return f"{event.previous} -> {event.state} {event.cause}"
        case ErrorRaised():
            return f"{event.condition}: {event.message}"
        case ModelPromoted():
            return f"{render.short(event.previous_digest) or 'none'} -> {render.short(event.model_digest)}"
        case JobChanged(job=job):
            progress = job.progress
            done = f"{progress.stage} {progress.done}/{progress.total}" if progress else ""
            return f"{job.job_id} {job.kind} {job.state} {done}{job.error}"
        case _:
            stated = event.model_dump(mode="json", exclude={"event", "sequence", "at", "request_id"})
            return " ".join(f"{key}={value}" for key, value in stated.items())


def _row(verdict: dict[str, Any]) -> tuple[object, ...]:
    return (
        verdict["job_id"],
        render.when(verdict["created_at"]),
        verdict["part_id"],
        verdict["outcome"],
        render.figure(verdict["score"]),
        f"{verdict['timings']['total_ms']:.0f}",
        "; ".join(verdict["reasons"])[:80],
    )
