"""What the pages' scripts are told about a picture: addresses of its channels, stretches, outline, scale."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from cell.defects import Candidate, ImageRef, Seed
from cell.recipes import Rect
from daemon.web import pixels
from daemon.web.pixels import Gallery, Picture

#: Crops about a defect: margin as a share of its longer side, and the shortest side in pixels.
_NEAR = (0.6, 48)
_WIDE = (2.0, 128)
#: The region in which a seed's mask is corrected.
_EDIT = (1.0, 192)


def address(image: ImageRef, channel: int, low: int, high: int, box: Rect | None = None, longest: int = 0) -> str:
    """Return the address under which the pages get one channel of a picture."""
    query: dict[str, str | int] = {"d": image.digest, "c": channel, "lo": low, "hi": high}
    if box is not None:
        query["box"] = f"{box.x},{box.y},{box.width},{box.height}"
    if longest:
        query["max"] = longest
    return f"/pixels/{image.path}?{urlencode(query, safe=',')}"


def candidate_view(gallery: Gallery, candidate: Candidate, background: ImageRef) -> dict[str, Any]:
    """Return all that the review page shows of a candidate, and nothing of what it must not tell the reviewer.

    Whether it was planted to test him and by which arm it was made stay out. Raises `DataError` and `NotFound` when its
    pictures can't be shown.
    """
    stack = gallery.stack(candidate.image.path, candidate.image.digest)
    clean = gallery.stack(background.path, background.digest)
    crops = crops_of(candidate.box, stack)
    return {
        "candidate_id": candidate.candidate_id,
        "job_id": candidate.job_id,
        "defect_class": candidate.defect_class,
        "classes": list(candidate.classes),
        "regions": [
            {"defect_class": region.defect_class, "box": region.box.model_dump()} for region in candidate.regions
        ],
        "severity": candidate.severity,
        "scores": candidate.scores,
        "background_id": candidate.provenance.background_id,
        "seed_ids": list(candidate.provenance.seed_ids),
        "randomised": candidate.provenance.randomised,
        "box": candidate.box.model_dump(),
        "outline": pixels.outline(gallery.label(candidate.mask)),
        **_facts(stack),
        "crops": {name: box.model_dump() for name, box in crops.items()},
        "channels": [
            _channel(stack, index, crops, candidate.image, clean, background) for index in range(len(stack.channels))
        ],
    }


def seed_view(gallery: Gallery, seed: Seed) -> dict[str, Any]:
    """Return what the pages show of a seed: the crop about it on every channel, its outline, and its whole part.

    Raises `DataError` and `NotFound` when its pictures can't be shown.
    """
    stack = gallery.stack(seed.image.path, seed.image.digest)
    crops = crops_of(seed.box, stack) | {"edit": pixels.around(seed.box, stack.height, stack.width, *_EDIT)}
    return {
        "seed_id": seed.seed_id,
        "part_id": seed.part_id,
        "lot": seed.lot,
        "defect_class": seed.defect_class,
        "state": seed.state,
        "split": seed.split,
        "confirmed_by": seed.confirmed_by,
        "reason": seed.reason,
        "taken_at": seed.taken_at.isoformat(),
        "box": seed.box.model_dump(),
        "outline": pixels.outline(gallery.label(seed.mask)),
        **_facts(stack),
        "crops": {name: box.model_dump() for name, box in crops.items()},
        "channels": [_channel(stack, index, crops, seed.image, stack, None) for index in range(len(stack.channels))],
    }


def part_view(image: ImageRef, stack: Picture) -> dict[str, Any]:
    """Return the channels of a whole part."""
    return {
        **_facts(stack),
        "channels": [_channel(stack, index, {}, image, stack, None) for index in range(len(stack.channels))],
    }


def crops_of(box: Rect, stack: Picture) -> dict[str, Rect]:
    """Return the regions that are shown about a defect: `near` and `wide`."""
    return {
        name: pixels.around(box, stack.height, stack.width, margin, least)
        for name, (margin, least) in {"near": _NEAR, "wide": _WIDE}.items()
    }


def _facts(stack: Picture) -> dict[str, Any]:
    return {
        "width": stack.width,
        "height": stack.height,
        "bit_depth": stack.bit_depth,
    }


def _channel(
    stack: Picture,
    index: int,
    crops: dict[str, Rect],
    image: ImageRef,
    reference: Picture,
    background: ImageRef | None,
) -> dict[str, Any]:
    ranges = {"stretched": reference.stretch(index), "full": (0, (1 << stack.bit_depth) - 1)}
    view: dict[str, Any] = {
        "name": stack.channels[index],
        "index": index,
        "exposure_us": stack.exposure_us[index],
        "ranges": {},
    }
    for mode, (low, high) in ranges.items():
        shown = {"low": low, "high": high, "whole": address(image, index, low, high)}
        shown |= {name: address(image, index, low, high, box) for name, box in crops.items()}
        if background is not None:
            clean = {"whole": address(background, index, low, high)}
            clean |= {name: address(background, index, low, high, box) for name, box in crops.items()}
            shown["background"] = clean
        view["ranges"][mode] = shown
    return view
