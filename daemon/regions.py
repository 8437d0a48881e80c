"""Probability maps to regions: the connected areas that the model calls defective."""

from __future__ import annotations

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
    found: list[Region] = []
    for name, probability in zip(classes, maps, strict=True):
        if float(probability.max(initial=0.0)) < pixel_threshold:
            continue
        above = probability >= pixel_threshold
        if part_area is not None:
            above &= part_area
        found += _of_class(name, probability, above, smallest.get(name, 1))
    found.sort(key=lambda region: region.score, reverse=True)
    return tuple(found[:MOST_REGIONS])


def _of_class(name: str, probability: NDArray[np.float32], above: NDArray[np.bool_], smallest: int) -> list[Region]:
    labels, count = ndimage.label(above, structure=_EIGHT_NEIGHBOURS)
    if count == 0:
        return []
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    boxes = ndimage.find_objects(labels)
    largest_first = np.argsort(areas, kind="stable")[::-1][:MOST_REGIONS]
    regions: list[Region] = []
    for index in largest_first:
        if areas[index] < smallest:
            break
        rows, columns = boxes[index]
        inside = labels[rows, columns] == index + 1
        regions.append(
            Region(
                defect_class=name,
                box=Rect(
                    x=columns.start, y=rows.start, width=columns.stop - columns.start, height=rows.stop - rows.start
                ),
                area_px=int(areas[index]),
                score=min(1.0, float(probability[rows, columns][inside].max())),
            )
        )
    return regions


def _part_area(stack: Stack, recipe: Recipe) -> NDArray[np.bool_] | None:
    if recipe.carrier_max_dn is None:
        return None
    area: NDArray[np.bool_] = np.asarray(np.any(stack > recipe.carrier_max_dn, axis=0))
    return area
