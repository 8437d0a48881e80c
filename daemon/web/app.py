"""The application: routes, guard and errors of the pages."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from cell import digest
from cell.errors import InspectdError, NotFound
from cell.settings import Settings
from cell.store.layout import StateDir
from daemon.web import anomaly, jobs, live, peers, pictures, review, seeds
from daemon.web.pixels import Gallery
from daemon.web.security import Guard, Tokens, check_host, checked_name, reviewer_cookie
from daemon.web.site import Site, read_body, refused, text_of

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}


def create_app(settings: Settings, timeout_s: float = 5.0) -> Starlette:
    """Return the pages of one cell. Raises `ConfigurationError` when they would be open to other machines.

    :param timeout_s: how long a page waits for the daemon or the trainer before it says that they are silent.
    """
    check_host(settings)
    environment = Environment(
        loader=PackageLoader("daemon.web", "pages"), autoescape=select_autoescape(), undefined=StrictUndefined
    )
    site = Site(
        settings=settings,
        daemon=peers.daemon(settings, timeout_s),
        trainer=peers.trainer(settings, timeout_s),
        gallery=Gallery(StateDir(settings.state_dir)),
        templates=environment,
        tokens=Tokens(),
    )

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        site.daemon.close()
        site.trainer.close()

    app = Starlette(
        routes=[
            Route("/", lambda _request: RedirectResponse("/live")),
            Route("/static/{name}", _static),
            Route("/api/reviewer", _name_reviewer, methods=["POST"]),
            *pictures.ROUTES,
            *review.ROUTES,
            *seeds.ROUTES,
            *anomaly.ROUTES,
            *jobs.ROUTES,
            *live.ROUTES,
        ],
        middleware=[Middleware(Guard, tokens=site.tokens, public_origin=settings.web.public_origin)],
        exception_handlers={InspectdError: refused},
        lifespan=lifespan,
    )
    app.state.site = site
    return app


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    suffix = "." + name.rpartition(".")[2]
    folder = resources.files("daemon.web.pages")
    if suffix not in _TYPES or name not in {entry.name for entry in folder.iterdir()}:
        raise NotFound(f"there is no file {name[:80]!r}")
    data = (folder / name).read_bytes()
    return pictures.tagged(request, data, _TYPES[suffix], digest.of_bytes(data)[:32], "no-cache")


async def _name_reviewer(request: Request) -> Response:
    body = await read_body(request)
    name = await run_in_threadpool(checked_name, text_of(body, "name"))
    response = JSONResponse({"reviewer": name})
    response.set_cookie(**reviewer_cookie(name))  # type: ignore[arg-type]
    return response
