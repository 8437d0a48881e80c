"""The jobs page: what the trainer does, how far it is, and a way to stop it or go on."""

from __future__ import annotations

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.routing import Route

from cell.jobs import RESUMABLE, Job, JobState
from cell.wire.answers import parsed
from daemon.web.site import Answer, Site, action, page, query, text_of

_JOBS: TypeAdapter[list[Job]] = TypeAdapter(list[Job])
_SHOWN = 40
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
    Route("/api/jobs/cancel", action(cancel), methods=["POST"]),
    Route("/api/jobs/pause", action(pause), methods=["POST"]),
    Route("/api/jobs/resume", action(resume), methods=["POST"]),
]
