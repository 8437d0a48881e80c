"""The review page: one candidate at a time, displayed, then decided by a named person."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.routing import Route

from cell.defects import Background, Candidate, ReviewVerb, Seed, SeedState, Split
from cell.errors import ProtocolError
from cell.wire.answers import parsed
from daemon.web import views
from daemon.web.security import reviewer_of
from daemon.web.site import Answer, Site, action, page, query, text_of

#: What a candidate may be rejected for, by digit. The last one asks for a text.
REASONS = (
    "not visible",
    "not this class",
    "seam or edge shows",
    "wrong place",
    "wrong strength or size",
    "channels disagree",
    "texture or noise differs",
    "mask does not fit",
    "other",
)
_NEIGHBOURS = 6
_CANDIDATE: TypeAdapter[Candidate] = TypeAdapter(Candidate)
_SEEDS: TypeAdapter[list[Seed]] = TypeAdapter(list[Seed])
_BACKGROUND: TypeAdapter[Background] = TypeAdapter(Background)


def summary(site: Site, request: Request) -> Answer:
    """Answer how many candidates wait and how many were decided, by class."""
    recipe_id = request.query_params.get("recipe", "")
    return site.trainer.call("inspectd.review.summary", {"recipe_id": recipe_id})


def following(site: Site, request: Request) -> Answer:
    """Answer the next candidate that waits, ready to be shown. Asking displays nothing and decides nothing."""
    values = request.query_params
    arguments: dict[str, Any] = {
        "recipe_id": values.get("recipe", ""),
        "reviewer": reviewer_of(request) or "nobody yet",
    }
    for key, name in (("after", "after"), ("class", "defect_class")):
        if values.get(key):
            arguments[name] = values[key]
    if values.get("order") == "doubt":
        arguments["doubtful_first"] = True
    result = site.trainer.call("inspectd.review.next", arguments)
    if result.get("candidate") is None:
        return {"candidate": None, "waiting": result.get("waiting", 0)}
    candidate = parsed(_CANDIDATE, result["candidate"], "candidate")
    background = parsed(_BACKGROUND, result.get("background"), "background")
    return {
        "candidate": views.candidate_view(site.gallery, candidate, background.image)
        | {"withdrawn": result.get("withdrawn") or ""},
        "waiting": result.get("waiting", 0),
    }


def neighbours(site: Site, request: Request) -> Answer:
    """Answer confirmed real seeds of a class for comparison; held-out ones stay out of the reviewer's eye."""
    recipe_id, defect_class = request.query_params.get("recipe", ""), request.query_params.get("class", "")
    result = site.trainer.call("inspectd.seeds", {"recipe_id": recipe_id, "state": SeedState.CONFIRMED})
    seeds = [
        seed
        for seed in parsed(_SEEDS, result.get("seeds"), "seeds")
        if seed.defect_class == defect_class and seed.split is Split.LEARN
    ]
    return {"seeds": [views.seed_view(site.gallery, seed) for seed in seeds[:_NEIGHBOURS]]}


def displayed(site: Site, reviewer: str, body: Answer) -> Answer:
    """Record that the candidate stands on the reviewer's screen; answers the token that one decision needs."""
    return site.trainer.call(
        "inspectd.review.displayed", {"candidate_id": text_of(body, "candidate_id"), "reviewer": reviewer}
    )


def decide(site: Site, reviewer: str, body: Answer) -> Answer:
    """Record one decision about the candidate that is displayed."""
    verb, reason = text_of(body, "verb"), " ".join(text_of(body, "reason").split())
    if verb not in set(ReviewVerb):
        raise ProtocolError(f"a decision is accept or reject, not {verb[:20]!r}")
    if verb == ReviewVerb.REJECT and not reason:
        raise ProtocolError("a rejection needs a reason")
    return site.trainer.call(
        "inspectd.review.decide",
        {
            "candidate_id": text_of(body, "candidate_id"),
            "verb": verb,
            "reviewer": reviewer,
            "is_person": True,
            "reason": reason,
            "token": text_of(body, "token", 500),
        },
    )


ROUTES = [
    Route("/review", page("review.html", reasons=REASONS)),
    Route("/api/review/summary", query(summary)),
    Route("/api/review/next", query(following)),
    Route("/api/review/neighbours", query(neighbours)),
    Route("/api/review/displayed", action(displayed), methods=["POST"]),
    Route("/api/review/decide", action(decide), methods=["POST"]),
]
