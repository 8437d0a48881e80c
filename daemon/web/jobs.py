"""The jobs page: what the trainer does, how far it is, a way to stop it or go on, and to ask for candidates."""

from __future__ import annotations

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.routing import Route

from cell.asking import plan_of, targets_of
from cell.jobs import RESUMABLE, Job, JobState
from cell.wire.answers import parsed
from daemon.web.site import Answer, Site, action, page, query, text_of

_JOBS: TypeAdapter[list[Job]] = TypeAdapter(list[Job])
_SHOWN = 40
#: What of a generation is handed on as the browser sent it, and what is read as a person wrote it.
_AS_SENT = ("arm", "classes", "per_class", "random_seed", "planted_bad", "stale")
_WRITTEN = ("severity", "size", "orientation", "count", "zones")
_AT_WORK = frozenset({JobState.QUEUED, JobState.RUNNING})


def listed(site: Site, _request: Request) -> Answer:
    """Answer the newest jobs."""
    found = parsed(_JOBS, site.trainer.call("inspectd.jobs", {"limit": _SHOWN}).get("jobs"), "jobs")
    return {
        "jobs": [
            job.model_dump(mode="json")
            | {
                "can_resume": job.state in RESUMABLE,
                "can_pause": job.state in _AT_WORK,
                "can_cancel": job.state in _AT_WORK | {JobState.PAUSED},
            }
            for job in found
        ]
    }


def classes(site: Site, request: Request) -> Answer:
    """Answer the defect classes of a recipe, for the form that asks for candidates."""
    found = site.recipe(request.query_params.get("recipe", "")).defect_classes
    return {"classes": [{"name": one.name, "subsurface": one.subsurface} for one in found]}


def generate(site: Site, _reviewer: str, body: Answer) -> Answer:
    """Ask for candidates as ``inspectctl generate`` does; the trainer judges what is asked."""
    text = text_of(body, "plan", 20_000).strip()
    plan = plan_of(text, is_json=text.startswith("{")) if text else {}
    written = {name: text_of(body, name, 2000) for name in _WRITTEN}
    asked = {
        "control": plan.get("control", {}) | targets_of(written),
        "class_control": plan.get("class_control", {}),
    }
    return site.trainer.call(
        "inspectd.generate",
        {"recipe_id": text_of(body, "recipe")}
        | {name: body[name] for name in _AS_SENT if name in body}
        | {name: value for name, value in asked.items() if value},
    )


def cancel(site: Site, _reviewer: str, body: Answer) -> Answer:
    """Cancel a job; what it has written stays and it can be resumed."""
    return site.trainer.call("inspectd.job.cancel", {"job_id": text_of(body, "job_id")})


def pause(site: Site, _reviewer: str, body: Answer) -> Answer:
    """Let a job wait until somebody lets it go on; others run meanwhile."""
    return site.trainer.call("inspectd.job.pause", {"job_id": text_of(body, "job_id")})


def resume(site: Site, _reviewer: str, body: Answer) -> Answer:
    """Queue a stopped job again."""
    return site.trainer.call("inspectd.job.resume", {"job_id": text_of(body, "job_id")})


ROUTES = [
    Route("/jobs", page("jobs.html")),
    Route("/api/jobs", query(listed)),
    Route("/api/jobs/classes", query(classes)),
    Route("/api/jobs/generate", action(generate), methods=["POST"]),
    Route("/api/jobs/cancel", action(cancel), methods=["POST"]),
    Route("/api/jobs/pause", action(pause), methods=["POST"]),
    Route("/api/jobs/resume", action(resume), methods=["POST"]),
]
