"""Addresses of pixels: a channel as the eye sees it, where it is clipped, its levels, and its digital numbers.

Each address holds the digest of the picture that it is about, so that what it gives never changes and a browser may
keep it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cell import digest
from cell.errors import DataError
from cell.imaging import figures
from cell.recipes import Rect
from daemon.web.pixels import WHOLE_PX, View, clipping_marks
from daemon.web.site import site_of

#: Ranges of a histogram, and the longest side of a patch of digital numbers, pixels.
_BINS = 256
_PATCH_PX = 64
_A_YEAR = "private, max-age=31536000, immutable"


def pixels(request: Request) -> Response:
    """Answer one channel of a stored picture as an 8-bit PNG."""
    view = _view(request)
    data = site_of(request).gallery.png(*_named(request), view)
    response = _lasting(request, data, "image/png")
    response.headers["x-display-stretch"] = f"{view.low}..{view.high} DN to 0..255"
    return response


def marks(request: Request) -> Response:
    """Answer where a channel is clipped: a PNG to lay over it, transparent elsewhere."""
    gallery = site_of(request).gallery
    stack = gallery.stack(*_named(request))
    channel = _number(request, "c", len(stack.channels))
    with gallery.turn(stack):
        data = clipping_marks(stack.channel(channel), stack.bit_depth, _box(request), _longest(request))
    return _lasting(request, data, "image/png")


def levels(request: Request) -> Response:
    """Answer the histogram of one channel and what of it is clipped."""
    gallery = site_of(request).gallery
    stack = gallery.stack(*_named(request))
    channel = _number(request, "c", len(stack.channels))
    with gallery.turn(stack):
        found = figures.levels(stack.channel(channel), stack.bit_depth)
    body: dict[str, Any] = {
        "bins": found.binned(_BINS).tolist(),
        "full_scale": found.full_scale,
        "low": found.low,
        "high": found.high,
        "mean": round(found.mean, 3),
        "dark_share": found.dark_share,
        "saturated_share": found.saturated_share,
        "ceiling": found.ceiling,
        "ceiling_share": found.ceiling_share,
    }
    return JSONResponse(body, headers={"cache-control": _A_YEAR})


def values(request: Request) -> Response:
    """Answer the digital numbers of a patch on every channel, (K, height, width) little-endian uint16."""
    stack = site_of(request).gallery.stack(*_named(request))
    box = _box(request)
    if box is None or max(box.width, box.height) > _PATCH_PX or not box.inside(stack.height, stack.width):
        raise DataError(f"digital numbers come in patches of at most {_PATCH_PX} pixels inside the picture")
    patches = (stack.patch(index, box) for index in range(len(stack.channels)))
    data = b"".join(np.ascontiguousarray(patch, "<u2").tobytes() for patch in patches)
    return _lasting(request, data, "application/octet-stream")


def tagged(request: Request, data: bytes, kind: str, tag: str, caching: str) -> Response:
    """Answer bytes with an entity tag, or that the browser has them already."""
    headers = {"etag": f'"{tag}"', "cache-control": caching}
    if request.headers.get("if-none-match") == f'"{tag}"':
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)


def _lasting(request: Request, data: bytes, kind: str) -> Response:
    tag = digest.of_bytes(str(request.url.query).encode() + request.url.path.encode())[:32]
    return tagged(request, data, kind, tag, _A_YEAR)


def _named(request: Request) -> tuple[str, str]:
    return request.path_params["path"], request.query_params.get("d", "")


def _view(request: Request) -> View:
    asked = request.query_params
    try:
        channel, low, high = int(asked.get("c", "0")), int(asked["lo"]), int(asked["hi"])
    except (KeyError, ValueError) as error:
        raise DataError("a picture's address needs lo and hi in DN, and box as x,y,width,height") from error
    return View(channel, low, high, _box(request), _longest(request))


def _box(request: Request) -> Rect | None:
    text = request.query_params.get("box")
    if text is None:
        return None
    try:
        x, y, width, height = (int(number) for number in text.split(","))
        return Rect(x=x, y=y, width=width, height=height)
    except ValueError as error:
        raise DataError("a picture's address needs lo and hi in DN, and box as x,y,width,height") from error


def _longest(request: Request) -> int:
    return min(max(_number(request, "max", 1 << 24, WHOLE_PX), 16), WHOLE_PX)


def _number(request: Request, key: str, below: int, default: int = 0) -> int:
    text = request.query_params.get(key, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 11) or int(text) >= below:
        raise DataError(f"a picture's address says {key}={text[:20]!r}, which must be a number below {below}")
    return int(text)


ROUTES = [
    Route("/pixels/{path:path}", pixels),
    Route("/marks/{path:path}", marks),
    Route("/levels/{path:path}", levels),
    Route("/values/{path:path}", values),
]
