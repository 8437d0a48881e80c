"""The regions of a seed after a person changed its mask: where they are now, and what is still known of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from cell.defects import Mask, SeedRegion
from cell.recipes import Rect

_TOUCHING = np.ones((3, 3), np.bool_)
#: Regions that are described, the largest.
MOST_REGIONS = 16


def regions_of_mask(mask: Mask, before: Mask, known: Sequence[SeedRegion]) -> tuple[SeedRegion, ...]:
    """Return the connected regions of a mask (H, W) bool, largest first.

    Each keeps group, suggested class, lights and look of the region of the mask `before` with which it shares most
    pixels; one that shares none has none of them, since nobody compared it with good parts. Without `known` ones (a
    part that was drawn or taken in, not proposed by harvest) there are none.
    """
    if not known or np.array_equal(mask, before):
        return tuple(known)
    labels, _ = ndimage.label(mask, structure=_TOUCHING)
    found = []
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels == index
        box = Rect(x=columns.start, y=rows.start, width=columns.stop - columns.start, height=rows.stop - rows.start)
        shared = [_shared(inside & before, one.box) for one in known]
        best = int(np.argmax(shared)) if any(shared) else None
        facts: dict[str, Any] = {"box": box, "area_px": int(inside.sum())}
        found.append(SeedRegion(**facts) if best is None else known[best].model_copy(update=facts))
    return tuple(sorted(found, key=lambda region: -region.area_px)[:MOST_REGIONS])


def _shared(pixels: Mask, box: Rect) -> int:
    return int(pixels[box.y : box.y + box.height, box.x : box.x + box.width].sum())
