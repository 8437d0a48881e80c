"""Probability maps to regions: the connected areas that the model calls defective."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.frames import Stack
from cell.recipes import Recipe, Rect
from cell.verdicts import Region

#: More regions than this say nothing more to a person, and a map of noise must not cost the deadline.
MOST_REGIONS = 50
_EIGHT_NEIGHBOURS = np.ones((3, 3), np.uint8)


def find(
    maps: NDArray[np.float32], classes: tuple[str, ...], stack: Stack, recipe: Recipe, pixel_threshold: float
) -> tuple[Region, ...]:
    """Return the regions of all classes, highest score first, at most `MOST_REGIONS`.

    :param maps: (D, H, W) float32 probabilities on the frame's pixel grid, 0 outside ROI and in exclusions.
    :param classes: names of the D maps.
    :param stack: (K, H, W) raw pixels; where every channel shows the empty carrier there is no part and no region.
    """
    smallest = {defect.name: defect.min_area_px for defect in recipe.defect_classes}
    part_area = _part_area(stack, recipe)
    found: list[_Found] = []
    for name, probability in zip(classes, maps, strict=True):
        if float(probability.max(initial=0.0)) < pixel_threshold:
            continue
        above = probability >= pixel_threshold
        if part_area is not None:
            above &= part_area
        found += _of_class(name, probability, above, smallest.get(name, 1))
    found.sort(key=lambda region: region.score, reverse=True)
    return tuple(region.told() for region in found[:MOST_REGIONS])


@dataclass(frozen=True, slots=True)
class _Found:
    """A region before it is known to be among those that are told; making a `Region` of each would cost more."""

    defect_class: str
    rows: slice
    columns: slice
    area_px: int
    score: float

    def told(self) -> Region:
        rows, columns = self.rows, self.columns
        box = Rect(x=columns.start, y=rows.start, width=columns.stop - columns.start, height=rows.stop - rows.start)
        return Region(defect_class=self.defect_class, box=box, area_px=self.area_px, score=min(1.0, self.score))


def _of_class(name: str, probability: NDArray[np.float32], above: NDArray[np.bool_], smallest: int) -> list[_Found]:
    rows_hit, columns_hit = np.flatnonzero(above.any(axis=1)), np.flatnonzero(above.any(axis=0))
    if not rows_hit.size:
        return []
    # Defects are small: what is labelled is the rectangle that holds them all.
    top, left = int(rows_hit[0]), int(columns_hit[0])
    window = slice(top, int(rows_hit[-1]) + 1), slice(left, int(columns_hit[-1]) + 1)
    above, probability = above[window], probability[window]
    labels, count = ndimage.label(above, structure=_EIGHT_NEIGHBOURS)
    inside = labels[above]
    areas = np.bincount(inside, minlength=count + 1)[1:]
    highest = np.zeros(count + 1, np.float32)
    np.maximum.at(highest, inside, probability[above])
    boxes = ndimage.find_objects(labels)
    largest_first = np.argsort(areas, kind="stable")[::-1][:MOST_REGIONS]
    regions: list[_Found] = []
    for index in largest_first:
        if areas[index] < smallest:
            break
        rows, columns = boxes[index]
        rows, columns = _shifted(rows, top), _shifted(columns, left)
        regions.append(_Found(name, rows, columns, int(areas[index]), float(highest[index + 1])))
    return regions


def _shifted(span: slice, by: int) -> slice:
    return slice(span.start + by, span.stop + by)


def _part_area(stack: Stack, recipe: Recipe) -> NDArray[np.bool_] | None:
    if recipe.carrier_max_dn is None:
        return None
    area: NDArray[np.bool_] = np.asarray(np.any(stack > recipe.carrier_max_dn, axis=0))
    return area
