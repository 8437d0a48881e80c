"""What every page needs, made once by :mod:`daemon.web.app`, and how a page answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from cell.errors import ConfigurationError, DataError, GateError, InspectdError, NotFound, ProtocolError
from cell.recipe_files import read_recipe
from cell.recipes import Recipe
from cell.settings import Settings
from daemon.web.peers import Peer
from daemon.web.pixels import Gallery
from daemon.web.security import SESSION_COOKIE, Tokens, reviewer_of, session_of

#: Largest body of a POST, bytes: a hand-drawn mask of a crop and little else.
MAX_BODY = 4 << 20
Answer = dict[str, Any]


@dataclass(frozen=True)
class Site:
    """The process's parts: settings, the two servers, the pictures, the templates."""

    settings: Settings
    daemon: Peer
    trainer: Peer
    gallery: Gallery
    templates: Environment
    tokens: Tokens

    def recipes(self) -> list[Recipe]:
        """Return the cell's recipes by name. Raises `ConfigurationError` when a file is not a recipe."""
        return [read_recipe(file) for file in sorted(self.settings.recipes_dir.glob("*.json"))]

    def recipe(self, recipe_id: str) -> Recipe:
        """Return one recipe. Raises `NotFound`."""
        for recipe in self.recipes():
            if recipe.recipe_id == recipe_id:
                return recipe
        raise NotFound(f"there is no recipe {recipe_id[:64]!r}; see inspectctl recipe list")


def site_of(request: Request) -> Site:
    """Return the site that serves a request."""
    site: Site = request.app.state.site
    return site


def page(template: str, **values: Any) -> Callable[[Request], Response]:
    """Return an endpoint that shows a template with the recipe list, the reviewer's name and the session's token."""

    def endpoint(request: Request) -> Response:
        site = site_of(request)
        session = session_of(request)
        try:
            recipes, problem = [recipe.recipe_id for recipe in site.recipes()], ""
        except ConfigurationError as error:
            recipes, problem = [], str(error)
        text = site.templates.get_template(template).render(
            token=site.tokens.of(session),
            cell_name=site.settings.cell_name,
            reviewer=reviewer_of(request),
            recipes=recipes,
            problem=problem or ("" if recipes else f"there is no recipe in {site.settings.recipes_dir}"),
            **values,
        )
        response = HTMLResponse(text)
        response.set_cookie(SESSION_COOKIE, session, samesite="strict", httponly=True)
        return response

    return endpoint


def query(handler: Callable[[Site, Request], Answer]) -> Callable[[Request], Response]:
    """Return a GET endpoint that answers with the handler's JSON. It runs in a worker thread."""

    def endpoint(request: Request) -> Response:
        return JSONResponse(handler(site_of(request), request))

    return endpoint


def action(handler: Callable[[Site, str, Answer], Answer]) -> Callable[[Request], Any]:
    """Return a POST endpoint: `handler(site, reviewer, body)` runs in a worker thread under a person's name.

    Without a name it answers 401; nothing is done anonymously.
    """

    async def endpoint(request: Request) -> Response:
        body = await read_body(request)
        reviewer = reviewer_of(request)
        if not reviewer:
            return JSONResponse({"error": "name", "message": "type your name first"}, status_code=401)
        return JSONResponse(await run_in_threadpool(handler, site_of(request), reviewer, body))

    return endpoint


async def read_body(request: Request) -> Answer:
    """Return the JSON object of a POST. Raises `ProtocolError` for anything else or too much of it."""
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_BODY:
            raise ProtocolError(f"the request has more than {MAX_BODY} bytes; send less")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("the request's body is not JSON") from error
    if not isinstance(body, dict):
        raise ProtocolError("the request's body is not a JSON object")
    return body


def text_of(body: Answer, key: str, longest: int = 200) -> str:
    """Return a string of a body, empty when absent. Raises `ProtocolError` for another type or a longer one."""
    value = body.get(key, "")
    if not isinstance(value, str) or len(value) > longest:
        raise ProtocolError(f"{key} must be a text of at most {longest} characters")
    return value


_STATUS: tuple[tuple[type[InspectdError], int], ...] = (
    (NotFound, 404),
    (GateError, 409),
    (DataError, 422),
    (ProtocolError, 400),
)


async def refused(_request: Request, error: Exception) -> Response:
    """Answer an error of the tree with its sentence; whatever is silent or broken behind the pages is a 503."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 503)
    return JSONResponse({"error": type(error).__name__, "message": str(error)}, status_code=status)
