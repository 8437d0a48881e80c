"""The live page: the last part on every channel, its verdict, and how the last fifty went."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.routing import Route

from cell.defects import ImageRef
from cell.errors import DataError, NotFound
from cell.recipes import Recipe
from cell.verdicts import Outcome, Verdict
from cell.wire.answers import parsed
from daemon.web import views
from daemon.web.site import Answer, Site, page, query

_SHOWN = 50
#: Conditions under which the daemon keeps no pictures.
_ARCHIVE_TROUBLE = {"archive", "archive-behind", "disk-full"}
_VERDICT: TypeAdapter[Verdict] = TypeAdapter(Verdict)
_RECIPE: TypeAdapter[Recipe] = TypeAdapter(Recipe)


def now(site: Site, request: Request) -> Answer:
    """Answer the state of the cell and, when it is another than the page shows (`job`, `picture`), the last parts.

    `absence` says why the last part has no picture, as long as it has none.
    """
    status = site.daemon.call("inspectd.status")
    answer: Answer = {"status": _status(status)}
    newest = [_verdict(found) for found in _results(site, 1)]
    job_id = newest[0].job_id if newest else ""
    shown, has_picture = request.query_params.get("job", ""), bool(request.query_params.get("picture"))
    if job_id and job_id == shown and has_picture:
        return answer
    picture = _picture(site, job_id) if job_id else None
    if job_id and job_id == shown and picture is None:
        return answer | {"absence": _absence(site, newest[0], status)}
    verdicts = [_verdict(found) for found in _results(site, _SHOWN)]
    if verdicts and verdicts[0].job_id != job_id:
        picture = _picture(site, verdicts[0].job_id)
    answer["results"] = [{"verdict": verdict.model_dump(mode="json")} for verdict in verdicts]
    answer["picture"] = picture
    if verdicts and picture is None:
        answer["absence"] = _absence(site, verdicts[0], status)
    return answer


def _results(site: Site, most: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.daemon.call("GetResultListFiltered", {"MaxResults": most}).get("Results", [])
    return found


def _absence(site: Site, verdict: Verdict, status: dict[str, Any]) -> str:
    """Return why a part has no picture, and what would give it one."""
    for condition in _open(status):
        if condition.get("name") in _ARCHIVE_TROUBLE:
            return f"No picture of this part is kept: {condition.get('message', '')}."
    if (status.get("archive") or {}).get("waiting"):
        return "The pictures of this part are being written; they will stand here in a moment."
    if verdict.outcome is not Outcome.OK:
        return "There is no picture of this part: none was taken whole, as its reasons say, or it is not written yet."
    # The daemon's, not the file's: a file may have been changed and not been added.
    listed = site.daemon.call("GetRecipeListFiltered", {"MaxResults": 1000}).get("Recipes", [])
    known = (parsed(_RECIPE, entry.get("Recipe"), "recipe") for entry in listed)
    rule = next((recipe.archive for recipe in known if recipe.recipe_id == verdict.recipe_id), None)
    if rule is None:
        return f"No picture of this part is kept: its recipe {verdict.recipe_id} is no longer there."
    if rule.ring:
        return "The pictures of this part are not written yet, or were given up for newer ones."
    return (
        f"The recipe {verdict.recipe_id} keeps pictures of NG and FAULT parts and {rule.ok_share:.0%} of the OK ones; "
        "this part is none of them. Give it an archive.ring of 1 or more (inspectctl recipe add) to see every part."
    )


def _picture(site: Site, job_id: str) -> Answer | None:
    """Return the archived frames of a part, None while there are none: pixels follow the verdict or are not kept."""
    try:
        components = site.daemon.call("GetResultComponentsById", {"ResultId": job_id}).get("Components", [])
        image = next((image for image in map(_image, components) if image is not None), None)
        if image is None:
            return None
        stack = site.gallery.stack(image.path, image.digest)
    except (NotFound, DataError):
        return None
    return {"address": image.path, "digest": image.digest, **views.part_view(image, stack)}


def _image(component: dict[str, Any]) -> ImageRef | None:
    path, digest = component.get("Path"), component.get("Hash")
    return ImageRef(path=path, digest=digest) if isinstance(path, str) and isinstance(digest, str) else None


def _verdict(result: dict[str, Any]) -> Verdict:
    return parsed(_VERDICT, result.get("ResultContent"), "verdict")


def _status(status: dict[str, Any]) -> Answer:
    model = status.get("model") or {}
    latency = status.get("latency_ms") or {}
    facts = [
        ("state", _named(status.get("state"))),
        ("recipe", _named(status.get("recipe"))),
        ("model", _named(model) if model else "none: every verdict is FAULT"),
        ("stands beside", _named(status.get("standby"))),
        ("median", f"{latency['p50']:.0f} ms" if latency.get("p50") is not None else ""),
        ("99 of 100 below", f"{latency['p99']:.0f} ms" if latency.get("p99") is not None else ""),
        ("cell", "emulated" if status.get("emulated") else "real"),
        ("version", str(status.get("version", ""))),
    ]
    return {
        "counts": status.get("counts", {}),
        "facts": [fact for fact in facts if fact[1]],
        "conditions": [str(condition.get("message", "")) for condition in _open(status)],
    }


def _named(value: object) -> str:
    if isinstance(value, dict):
        return str(value.get("model_id") or value.get("recipe_id") or value.get("name") or "")
    return str(value or "")


def _open(status: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is wrong now; what is over and waits to be confirmed is for ``inspectctl status``."""
    found = [condition for condition in status.get("conditions", []) if isinstance(condition, dict)]
    return [condition for condition in found if not condition.get("resolved_at")]


ROUTES = [
    Route("/live", page("live.html")),
    Route("/api/live", query(now)),
]
