"""The seeds page: proposals become seeds when a person confirms class and mask, and says what else a part shows."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.routing import Route

from cell.defects import LabelMap, Mask, Seed, SeedState
from cell.errors import DataError, NotFound
from cell.recipes import Rect
from cell.store import images
from cell.wire.answers import parsed
from daemon.web import views
from daemon.web.pixels import outline
from daemon.web.site import Answer, Site, action, page, query, text_of

#: Longest side of a drawn mask, pixels: what a browser's canvas and a request hold.
_LONGEST = 8192
_SEEDS: TypeAdapter[list[Seed]] = TypeAdapter(list[Seed])


def listed(site: Site, request: Request) -> Answer:
    """Answer the seeds of a recipe in one state, each with its pictures; one that can't be shown says why."""
    recipe_id = request.query_params.get("recipe", "")
    arguments = {"recipe_id": recipe_id}
    if request.query_params.get("state"):
        arguments["state"] = request.query_params["state"]
    found = parsed(_SEEDS, site.trainer.call("inspectd.seeds", arguments).get("seeds"), "seeds")
    shown, broken = [], []
    everything = found
    if "state" in arguments:
        everything = parsed(_SEEDS, site.trainer.call("inspectd.seeds", {"recipe_id": recipe_id}).get("seeds"), "seeds")
    for seed in found:
        try:
            shown.append(_shown(site, seed, everything))
        except (DataError, NotFound) as error:
            broken.append({"seed_id": seed.seed_id, "message": str(error)})
    classes = [defect.name for defect in site.recipe(recipe_id).defect_classes]
    return {"seeds": shown, "broken": broken, "classes": classes}


def lacks(site: Site, request: Request) -> Answer:
    """Answer where the seeds of each class stand and what the set lacks."""
    return site.trainer.call("inspectd.seeds.lacks", {"recipe_id": request.query_params.get("recipe", "")})


def also(site: Site, reviewer: str, body: Answer) -> Answer:
    """Add another defect on the same picture: another region, of any class."""
    seed = _seed(site, text_of(body, "recipe"), text_of(body, "seed_id"))
    label = site.gallery.label(seed.mask)
    mask = merged(np.zeros_like(label), _box(body.get("box")), decode_mask(body.get("mask")))
    arguments = {
        "seed_id": seed.seed_id,
        "defect_class": text_of(body, "defect_class"),
        "reviewer": reviewer,
        "is_person": True,
        "mask_png_base64": encode_mask(mask),
    }
    return site.trainer.call("inspectd.seed.also", arguments)


def confirm(site: Site, reviewer: str, body: Answer) -> Answer:
    """Confirm a proposal, with the mask as proposed or as drawn in the region about it."""
    recipe_id, seed_id = text_of(body, "recipe"), text_of(body, "seed_id")
    arguments = {
        "seed_id": seed_id,
        "defect_class": text_of(body, "defect_class"),
        "reviewer": reviewer,
        "is_person": True,
    }
    drawn = body.get("mask")
    if drawn is not None:
        seed = _seed(site, recipe_id, seed_id)
        mask = merged(site.gallery.label(seed.mask), _box(body.get("box")), decode_mask(drawn))
        arguments["mask_png_base64"] = encode_mask(mask)
    return site.trainer.call("inspectd.seed.confirm", arguments)


def refuse(site: Site, reviewer: str, body: Answer) -> Answer:
    """Refuse a proposal: it is no defect, or none that should be learned."""
    reason = " ".join(text_of(body, "reason").split()) or "not a defect"
    return site.trainer.call(
        "inspectd.seed.refuse", {"seed_id": text_of(body, "seed_id"), "reviewer": reviewer, "reason": reason}
    )


def merged(label: LabelMap, box: Rect, drawn: Mask) -> Mask:
    """Return the proposed mask with the region `box` replaced by what was drawn.

    Raises `DataError` when the drawing is not of the region's size or leaves no defect at all.
    """
    height, width = label.shape
    if not box.inside(height, width) or drawn.shape != (box.height, box.width):
        raise DataError(f"the drawn mask is {drawn.shape[1]}x{drawn.shape[0]} and does not fit its region; load again")
    mask: Mask = label > 0
    mask[box.y : box.y + box.height, box.x : box.x + box.width] = drawn
    if not mask.any():
        raise DataError("the mask is empty; draw the defect, or refuse the proposal")
    return mask


def decode_mask(data: object) -> Mask:
    """Return the mask of a PNG from the browser's canvas, (H, W) bool. Raises `DataError`."""
    try:
        raw = base64.b64decode(str(data), validate=True)
        with Image.open(io.BytesIO(raw), formats=["PNG"]) as picture:
            if max(picture.size) > _LONGEST:
                raise DataError("the drawn mask is larger than the region that was shown; load the page again")
            mask: Mask = np.asarray(picture.convert("L")) > 127
    except (binascii.Error, UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError("the drawn mask is not a PNG picture; load the page again") from error
    return mask


def encode_mask(mask: Mask) -> str:
    """Return a mask as base64 of an 8-bit grey PNG, 255 inside."""
    out = io.BytesIO()
    Image.fromarray(images.mask_to_label(mask)).save(out, format="PNG", compress_level=9)
    return base64.b64encode(out.getvalue()).decode()


def _shown(site: Site, seed: Seed, everything: list[Seed]) -> Answer:
    """Return a seed's view, what harvest found on it, and the other defects of its picture."""
    siblings = [
        one
        for one in everything
        if one.image.digest == seed.image.digest and one.seed_id != seed.seed_id and one.state is SeedState.CONFIRMED
    ]
    return views.seed_view(site.gallery, seed) | {
        "image": seed.image.model_dump(),
        "proposed_by": seed.proposed_by,
        "anomaly": seed.anomaly,
        "regions": [region.model_dump(exclude={"look"}) for region in seed.regions],
        "siblings": [
            {
                "seed_id": one.seed_id,
                "defect_class": one.defect_class,
                "outline": outline(site.gallery.label(one.mask)),
            }
            for one in siblings
        ],
    }


def _seed(site: Site, recipe_id: str, seed_id: str) -> Seed:
    found = parsed(_SEEDS, site.trainer.call("inspectd.seeds", {"recipe_id": recipe_id}).get("seeds"), "seeds")
    for seed in found:
        if seed.seed_id == seed_id:
            return seed
    raise NotFound(f"there is no seed {seed_id[:64]!r} in recipe {recipe_id[:64]!r}; load the page again")


def _box(value: object) -> Rect:
    try:
        return Rect.model_validate(value)
    except ValidationError as error:
        raise DataError("the region of the drawn mask is missing; load the page again") from error


ROUTES = [
    Route("/seeds", page("seeds.html")),
    Route("/api/seeds", query(listed)),
    Route("/api/seeds/lacks", query(lacks)),
    Route("/api/seeds/also", action(also), methods=["POST"]),
    Route("/api/seeds/confirm", action(confirm), methods=["POST"]),
    Route("/api/seeds/refuse", action(refuse), methods=["POST"]),
]
