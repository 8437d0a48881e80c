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
from cell.errors import DataError, InspectdError, NotFound
from cell.recipes import Rect
from cell.settings import Settings
from cell.store.layout import StateDir
from daemon.web import jobs, live, peers, review, seeds
from daemon.web.pixels import WHOLE_PX, Gallery, View
from daemon.web.security import Guard, Tokens, check_host, checked_name, reviewer_cookie
from daemon.web.site import Site, read_body, refused, site_of, text_of

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
_A_YEAR = "private, max-age=31536000, immutable"


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
            Route("/pixels/{path:path}", _pixels),
            Route("/api/reviewer", _name_reviewer, methods=["POST"]),
            *review.ROUTES,
            *seeds.ROUTES,
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
    return _tagged(request, data, _TYPES[suffix], digest.of_bytes(data)[:32], "no-cache")


def _pixels(request: Request) -> Response:
    """Answer one channel of a stored picture; its address holds the digest of the pixels, so it never changes."""
    tag = digest.of_bytes(str(request.url.query).encode() + request.url.path.encode())[:32]
    view = _view(request)
    data = site_of(request).gallery.png(request.path_params["path"], request.query_params.get("d", ""), view)
    response = _tagged(request, data, "image/png", tag, _A_YEAR)
    response.headers["x-display-stretch"] = f"{view.low}..{view.high} DN to 0..255"
    return response


def _view(request: Request) -> View:
    values = request.query_params
    try:
        box = None
        if "box" in values:
            x, y, width, height = (int(number) for number in values["box"].split(","))
            box = Rect(x=x, y=y, width=width, height=height)
        longest = min(max(int(values.get("max", WHOLE_PX)), 16), WHOLE_PX)
        return View(int(values.get("c", "0")), int(values["lo"]), int(values["hi"]), box, longest)
    except (KeyError, ValueError) as error:
        raise DataError("a picture's address needs lo and hi in DN, and box as x,y,width,height") from error


def _tagged(request: Request, data: bytes, kind: str, tag: str, caching: str) -> Response:
    headers = {"etag": f'"{tag}"', "cache-control": caching}
    if request.headers.get("if-none-match") == f'"{tag}"':
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)


async def _name_reviewer(request: Request) -> Response:
    body = await read_body(request)
    name = await run_in_threadpool(checked_name, text_of(body, "name"))
    response = JSONResponse({"reviewer": name})
    response.set_cookie(**reviewer_cookie(name))  # type: ignore[arg-type]
    return response
