"""What the magic wand of the seeds page follows: how unlike good parts each pixel of a picture is."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cell.defects import Mask
from cell.errors import DataError
from cell.frames import Stack
from cell.imaging.background import BackgroundModel
from cell.imaging.registration import locate
from cell.recipes import Rect
from cell.store.layout import StateDir
from daemon.web.pixels import Picture
from daemon.web.site import Site, site_of

#: Pixels of all channels up to which the whole picture is looked at; of a larger one the part that is shown.
_WHOLE = 8 << 20
#: Longest side of a part of a larger picture, pixels.
_LONGEST = 1024

Map = NDArray[np.float32]


def anomaly(request: Request) -> Response:
    """Answer a region's anomaly as an 8-bit PNG, 255 its peak, square roots between; `x-map` says what was measured."""
    site = site_of(request)
    path, expected = request.path_params["path"], request.query_params.get("d", "")
    picture = site.gallery.stack(path, expected)
    box = _box(request, picture)
    with site.gallery.turn(picture):
        found, kind = _map_of(site, picture, request.query_params.get("recipe", ""), box)
    peak = max(float(found.max()), 1e-6)
    grey = np.rint(255 * np.sqrt(np.clip(found / peak, 0, 1))).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(grey).save(out, format="PNG", compress_level=1)
    # Not kept: the model goes on learning.
    return Response(out.getvalue(), media_type="image/png", headers={"cache-control": "no-store", "x-map": kind})


def contrast(pictures: NDArray[Any]) -> Map:
    """Return how far each pixel is off its surroundings on the channel where it is farthest, in robust deviations.

    :param pictures: (K, H, W), of any number type.
    """
    found: Map = np.zeros(pictures.shape[1:], np.float32)
    for channel in pictures:
        smooth = channel.astype(np.float32)
        off = np.abs(ndimage.gaussian_filter(smooth, 0.7) - ndimage.gaussian_filter(smooth, 12.0, mode="nearest"))
        found = np.maximum(found, off / np.float32(1.4826 * np.median(off) + 1e-3))
    return found


def _sharpened(anomaly: Map, edges: Map) -> Map:
    """Return the anomaly where the picture itself stands out: by itself it is as wide as its filters."""
    sharp: Map = anomaly * np.minimum(edges / np.float32(max(float(np.quantile(edges, 0.999)), 1e-6)), 1)
    smooth: Map = ndimage.gaussian_filter(sharp, 0.7)
    return smooth


def _map_of(site: Site, picture: Picture, recipe_id: str, box: Rect) -> tuple[Map, str]:
    recipe = site.recipe(recipe_id)
    whole = picture.height * picture.width * len(picture.channels) <= _WHOLE
    area = Rect(x=0, y=0, width=picture.width, height=picture.height) if whole else box
    model = _model(StateDir(site.settings.state_dir).backgrounds / f"{recipe.recipe_id}.model.npz")
    stack: Stack = np.stack([picture.patch(index, area) for index in range(len(picture.channels))])  # type: ignore[assignment]
    if model is None or model.channels != len(stack) or model.bit_depth != picture.bit_depth:
        found, kind = contrast(stack), "contrast"
    else:
        place = locate(stack, recipe.carrier_max_dn)
        part: Mask = np.ones(stack.shape[1:], np.bool_) if place is None else place.mask
        view = model.view(stack, part)
        found, kind = _sharpened(view.anomaly, contrast(view.residual)), "anomaly"
    if whole:
        found = found[box.y : box.y + box.height, box.x : box.x + box.width]
    return found, kind


def _model(path: Path) -> BackgroundModel | None:
    try:
        return _loaded(path, path.stat().st_mtime_ns)
    except (OSError, DataError):
        return None


@lru_cache(maxsize=2)
def _loaded(path: Path, _changed: int) -> BackgroundModel:
    return BackgroundModel.load(path)


def _box(request: Request, picture: Picture) -> Rect:
    try:
        x, y, width, height = (int(number) for number in request.query_params["box"].split(","))
        box = Rect(x=x, y=y, width=width, height=height)
    except (KeyError, ValueError) as error:
        raise DataError("an anomaly's address needs box as x,y,width,height") from error
    longest = max(width, height)
    if not box.inside(picture.height, picture.width):
        raise DataError("the region of the anomaly lies outside the picture; load the page again")
    if longest > _LONGEST and picture.height * picture.width * len(picture.channels) > _WHOLE:
        raise DataError(f"the wand works on {_LONGEST} pixels at most; zoom in")
    return box


ROUTES = [Route("/anomaly/{path:path}", anomaly)]
