"""What a suspicious region looks like, in few numbers, and which regions look alike.

A region is described by its shape and by how each light shows it: pits are dark under every light, scratches bright
under one, stains wide and faint. Regions are grouped as they come, each into the nearest group or a new one (leader
clustering: Hartigan, "Clustering Algorithms", 1975), so that a group keeps its name however many come after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask, SeedRegion
from cell.recipes import Rect

Maps = NDArray[np.float32]
Look = tuple[float, ...]

#: Distance of two looks up to which regions belong to one group.
NEAR = 1.0
#: Robust deviations of the surroundings from which a light shows a region.
SHOWN = 3.0
_SURROUNDINGS_PX = 8
_SHAPE = 3  # numbers of a look that describe shape: size, elongation, fill; then strength, then the lights
_MOST_GROUPS = 64
_EVERYWHERE = np.ones((3, 3), np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """One connected region: its pixels in its box, look, and the channels (indices) on which it shows."""

    box: Rect
    area_px: int
    look: Look
    shown: tuple[int, ...]


def regions_of(mask: Mask, maps: Maps, part: Mask) -> list[Region]:
    """Describe the connected regions of a mask (H, W), largest first.

    :param maps: (K, H, W) float32 log contrast, less what good parts show where that is known.
    """
    labels, count = ndimage.label(mask, structure=_EVERYWHERE)
    found = []
    for index, place in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = (slice(max(0, side.start - _SURROUNDINGS_PX), side.stop + _SURROUNDINGS_PX) for side in place)
        inside = labels[rows, columns] == index
        around = part[rows, columns] & ~ndimage.binary_dilation(mask[rows, columns], iterations=2)
        look, shown = _look(inside, around, maps[:, rows, columns])
        box = Rect(
            x=place[1].start, y=place[0].start,
            width=place[1].stop - place[1].start, height=place[0].stop - place[0].start,
        )  # fmt: skip
        found.append(Region(box, int(inside.sum()), look, shown))
    del count
    return sorted(found, key=lambda region: region.area_px, reverse=True)


@dataclass(slots=True)
class Groups:
    """Groups of looks, by name: the mean look of each and how many made it; at most `_MOST_GROUPS`."""

    means: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    classes: dict[str, dict[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, seeds: Iterable[tuple[Sequence[SeedRegion], str]]) -> Groups:
        """Return the groups of regions that have one, each with the class that somebody gave it ("" for none)."""
        made = cls()
        for regions, defect_class in seeds:
            for region in regions:
                if region.group:
                    made._join(region.group, np.array(region.look))
                    made.name(region.group, defect_class)
        return made

    def place(self, look: Look) -> str:
        """Return the group of a look, a new one when it is unlike all."""
        vector = np.array(look)
        near = {name: distance(vector, mean) for name, mean in self.means.items() if mean.shape == vector.shape}
        nearest = min(near, key=lambda name: near[name], default="")
        if nearest and (near[nearest] <= NEAR or len(self.means) >= _MOST_GROUPS):
            self._join(nearest, vector)
            return nearest
        name = f"g{1 + max((int(known[1:]) for known in self.means), default=0)}"
        self._join(name, vector)
        return name

    def name(self, group: str, defect_class: str) -> None:
        """Remember that somebody called a region of the group that."""
        if defect_class:
            known = self.classes.setdefault(group, {})
            known[defect_class] = known.get(defect_class, 0) + 1

    def suggested(self, group: str) -> str:
        """Return the class that most of the group's regions were given; empty while nobody said."""
        known = self.classes.get(group, {})
        return max(known, key=lambda name: known[name], default="")

    def _join(self, name: str, look: NDArray[np.float64]) -> None:
        count = self.counts.get(name, 0)
        if count and self.means[name].shape != look.shape:
            return
        self.means[name] = (self.means[name] * count + look) / (count + 1) if count else look
        self.counts[name] = count + 1


def distance(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Return how unlike two looks are: 1 is a difference that a person would call another kind."""
    shape = one[:_SHAPE] - two[:_SHAPE]
    strength = one[_SHAPE] - two[_SHAPE]
    lights = one[_SHAPE + 1 :] - two[_SHAPE + 1 :]
    return float(np.sqrt((shape * shape).sum() + strength * strength + (lights * lights).sum()))


def _look(inside: Mask, around: Mask, maps: Maps) -> tuple[Look, tuple[int, ...]]:
    rows, columns = np.nonzero(inside)
    spread = np.cov(np.stack([rows, columns])) if rows.size > 2 else np.zeros((2, 2))
    small, large = np.sqrt(np.maximum(np.linalg.eigvalsh(spread), 0) + 1 / 12)
    # A scale of 3 in length, of 3 in elongation, and half the ellipse's area are a distance of 1 each.
    shape = (
        np.log(rows.size) / np.log(9),
        np.log(large / small) / np.log(3),
        2 * rows.size / (4 * np.pi * small * large),
    )
    contrast, shown = [], []
    for index, channel in enumerate(maps):
        surroundings = channel[around] if around.sum() >= 8 else channel.ravel()
        middle = float(np.median(surroundings))
        noise = 1.4826 * float(np.median(np.abs(surroundings - middle))) + 1e-3
        difference = channel[inside] - middle
        # What is dark on one side and bright on the other has no mean; its larger half counts.
        low, high = (float(np.quantile(difference, q)) for q in (0.1, 0.9))
        value = high if high > -low else low
        contrast.append(value)
        if abs(value) > SHOWN * noise:
            shown.append(index)
    lights = np.array(contrast) / max(float(np.abs(contrast).max()), 1e-6) / np.sqrt(len(contrast))
    strength = float(np.log1p(np.abs(contrast).max()))
    return (*(float(value) for value in shape), strength, *(float(value) for value in lights)), tuple(shown)
