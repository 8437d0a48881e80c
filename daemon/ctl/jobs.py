"""``inspectctl jobs``: what the trainer does, and how far it is."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from cell.errors import JobCancelled, JobError
from cell.jobs import Job, JobState
from cell.jobs import Progress as JobProgress
from cell.wire.answers import parsed
from daemon.ctl import render
from daemon.ctl.session import WORK_S, Session, session_of

group = typer.Typer(help="Work of the trainer: list, show, follow, pause, resume, cancel.", no_args_is_help=True)
Wait = Annotated[bool, typer.Option("--wait", help="Show progress and end with the job.")]
JobId = Annotated[str, typer.Argument(help="Id of the job.")]
_JOB: TypeAdapter[Job] = TypeAdapter(Job)
_JOBS: TypeAdapter[list[Job]] = TypeAdapter(list[Job])
_OVER = frozenset(JobState) - {JobState.QUEUED, JobState.RUNNING}
_EVERY_S = 0.5


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(group, name="jobs")


@group.command("list")
def list_jobs(
    context: typer.Context,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=1000, help="At most this many.")] = 20,
) -> None:
    """List jobs, newest first."""
    session = session_of(context)
    found = session.trainer("inspectd.jobs", {"limit": limit})["jobs"]
    if session.as_json:
        render.as_json({"jobs": found})
        return
    rows = [
        (job.job_id, job.kind, job.recipe_id, job.state, _progress(job), render.when(job.created_at), job.error[:60])
        for job in parsed(_JOBS, found, "jobs")
    ]
    render.table(("JOB", "KIND", "RECIPE", "STATE", "PROGRESS", "ASKED", "ERROR"), rows, "no jobs")


@group.command()
def show(context: typer.Context, job_id: JobId) -> None:
    """Show one job: parameters, result, and the end of its log."""
    session = session_of(context)
    result = session.trainer("inspectd.job", {"job_id": job_id})
    if session.as_json:
        render.as_json(result)
        return
    job: Job = parsed(_JOB, result["job"], "job")
    render.facts(
        [
            ("job", job.job_id),
            ("kind", job.kind),
            ("recipe", job.recipe_id),
            ("state", job.state),
            ("progress", _progress(job)),
            ("error", job.error),
            ("parameters", _pairs(job.parameters)),
            *_result(job),
            ("asked", render.when(job.created_at)),
            ("changed", render.when(job.updated_at)),
        ]
    )
    log = result.get("log") or ""
    for text in log if isinstance(log, list) else str(log).splitlines():
        render.line(f"  | {text}")


@group.command()
def follow(context: typer.Context, job_id: JobId) -> None:
    """Show a job's progress until it ends; ends with an error when the job does."""
    session = session_of(context)
    _finish(session, watch(session, job_id))


@group.command()
def cancel(context: typer.Context, job_id: JobId) -> None:
    """Stop a job; what it wrote stays and it can go on."""
    _moved(context, "inspectd.job.cancel", job_id)


@group.command()
def pause(context: typer.Context, job_id: JobId) -> None:
    """Let a job wait until it is resumed: it frees processor and memory, and others run meanwhile."""
    _moved(context, "inspectd.job.pause", job_id)


@group.command()
def resume(context: typer.Context, job_id: JobId, wait: Wait = False) -> None:
    """Let a stopped job go on where it was."""
    session = session_of(context)
    if wait:
        session.trainer("inspectd.job.resume", {"job_id": job_id})
        _finish(session, watch(session, job_id))
    else:
        _moved(context, "inspectd.job.resume", job_id)


def started(session: Session, command: str, arguments: dict[str, Any], wait: bool) -> None:
    """Ask for a job, and wait for its end when told to."""
    result = session.trainer(command, arguments, WORK_S)
    job_id = str(result["job_id"])
    for warning in result.get("warnings") or ():
        render.hint(str(warning))
    if wait:
        _finish(session, watch(session, job_id))
    elif session.as_json:
        render.as_json(result)
    else:
        render.line(job_id)
        render.hint(f"queued; inspectctl jobs follow {job_id} shows its progress")


def watch(session: Session, job_id: str) -> Job:
    """Show a bar on stderr until the job is over; return it. Ctrl-C leaves the job alone."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=40),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=render.console(stderr=True), transient=True) as bar:
        task = bar.add_task(job_id, total=None, left="")
        try:
            while True:
                job: Job = parsed(_JOB, session.trainer("inspectd.job", {"job_id": job_id})["job"], "job")
                if job.state in _OVER:
                    return job
                progress = job.progress
                bar.update(
                    task,
                    description=f"{job_id} {progress.stage if progress else job.state}",
                    total=(progress.total or None) if progress else None,
                    completed=progress.done if progress else 0,
                    left=_pace(progress),
                )
                time.sleep(_EVERY_S)
        except KeyboardInterrupt:
            render.hint(f"the job goes on; inspectctl jobs follow {job_id} shows it again")
            raise


def _finish(session: Session, job: Job) -> None:
    if session.as_json:
        render.as_json({"job": job.model_dump(mode="json")})
    if job.state is JobState.CANCELLED:
        raise JobCancelled(f"the job {job.job_id} was cancelled; inspectctl jobs resume {job.job_id} lets it go on")
    if job.state is JobState.PAUSED:
        raise JobCancelled(f"the job {job.job_id} is paused; inspectctl jobs resume {job.job_id} lets it go on")
    if job.state is not JobState.DONE:
        way = f"inspectctl jobs show {job.job_id} tells more, jobs resume lets it go on"
        how = "failed" if job.state is JobState.FAILED else "was interrupted"
        raise JobError(f"the job {job.job_id} {how}: {job.error or 'its process ended'}; {way}")
    if not session.as_json:
        render.facts([("job", job.job_id), ("state", job.state), *_result(job)])


def _moved(context: typer.Context, command: str, job_id: str) -> None:
    session = session_of(context)
    result = session.trainer(command, {"job_id": job_id})
    if session.as_json:
        render.as_json(result)
    else:
        render.line(f"{job_id}: {result['state']}")


def _progress(job: Job) -> str:
    progress = job.progress
    if progress is None or job.state is JobState.DONE:
        return ""
    counted = (
        f"{progress.done}/{progress.total} {render.share(progress.done, progress.total)}" if progress.total else ""
    )
    return f"{progress.stage} {counted} {_pace(progress)}".strip()


def _pace(progress: JobProgress | None) -> str:
    """Return how fast it goes and how long it still takes, as far as that is known."""
    if progress is None:
        return ""
    fast = progress.per_second
    pace = "" if not fast else f"{fast:.2g}/s" if fast >= 1 else f"{1 / fast:.2g} s each"
    return " ".join(filter(None, (pace, _left(progress.seconds_left))))


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.0f} s left" if seconds < 120 else f"{seconds / 60:.0f} min left"


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_text(value)}" for key, value in values.items() if value not in (None, [], ""))


def _result(job: Job) -> list[tuple[str, str]]:
    """Return the facts of a result, sentences on lines of their own."""
    facts: list[tuple[str, str]] = []
    for key, value in job.result.items():
        if isinstance(value, list):
            facts += [(key if not index else "", _text(item)) for index, item in enumerate(value)]
        else:
            facts.append((key, _text(value)))
    return facts


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(one)}" for key, one in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
