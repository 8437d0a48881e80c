"""Outlines of masks as polygons along the pixels' edges, so that what a polygon encloses is the mask again."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cell.defects import Mask

#: Corners (x, y) in pixels; pixel (row, column) is the square from (column, row) to (column + 1, row + 1).
Outline = list[tuple[int, int]]

_RIGHT_FIRST = (1, 0, 3, 2)  # turn right, go on, turn left, turn back: quarter turns clockwise
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def outlines(mask: Mask) -> list[Outline]:
    """Return the outer outline of each region, clockwise; regions are joined over pixels' sides, not over corners.

    :param mask: (H, W) bool. What a region encloses is taken as part of it: a polygon knows no holes.
    """
    found = []
    labels, _ = ndimage.label(mask)
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        region = np.pad(labels[rows, columns] == number, 1)
        left, top = columns.start - 1, rows.start - 1
        found.append([(x + left, y + top) for x, y in _around(region)])
    return found


def _around(region: Mask) -> Outline:
    """Walk around one region that does not touch the array's border, the region at the right hand."""
    first = int(np.flatnonzero(region[1])[0])  # of the uppermost row: its upper side is on the outer outline
    start = (first, 1)
    place, heading, corners = start, 0, [start]
    while True:
        place = (place[0] + _STEPS[heading][0], place[1] + _STEPS[heading][1])
        if place == start:
            return corners
        turned = next((heading + turn) % 4 for turn in _RIGHT_FIRST if _is_side(region, place, (heading + turn) % 4))
        if turned != heading:
            corners.append(place)
        heading = turned


def _is_side(region: Mask, place: tuple[int, int], heading: int) -> bool:
    """Tell whether a step from a corner has the region at its right hand and none at its left."""
    x, y = place
    # Around the corner, clockwise from the upper right: between two headings lies the pixel at the first one's right.
    around = (region[y - 1, x], region[y, x], region[y, x - 1], region[y - 1, x - 1])
    return bool(around[(heading + 1) % 4]) and not around[heading]
