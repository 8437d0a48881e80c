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


def listed(site: Site, _request: Request) -> Answer:
    """Answer the newest jobs."""
    found = parsed(_JOBS, site.trainer.call("inspectd.jobs", {"limit": _SHOWN}).get("jobs"), "jobs")
    return {
        "jobs": [
            job.model_dump(mode="json")
            | {"can_resume": job.state in RESUMABLE, "can_cancel": job.state in {JobState.QUEUED, JobState.RUNNING}}
            for job in found
        ]
    }


def cancel(site: Site, _reviewer: str, body: Answer) -> Answer:
    """Cancel a job; what it has written stays and it can be resumed."""
    return site.trainer.call("inspectd.job.cancel", {"job_id": text_of(body, "job_id")})


def resume(site: Site, _reviewer: str, body: Answer) -> Answer:
    """Queue a stopped job again."""
    return site.trainer.call("inspectd.job.resume", {"job_id": text_of(body, "job_id")})


ROUTES = [
    Route("/jobs", page("jobs.html")),
    Route("/api/jobs", query(listed)),
    Route("/api/jobs/cancel", action(cancel), methods=["POST"]),
    Route("/api/jobs/resume", action(resume), methods=["POST"]),
]
