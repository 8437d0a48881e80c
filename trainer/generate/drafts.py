"""A defect that was made, and the candidates that come of one or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from cell.defects import Draft, DraftRegion, Mask, Provenance
from cell.frames import Stack
from cell.imaging.compositor import Composite
from trainer.generate.base import BackgroundSample, Shape

#: Pixels that stay free between two defects of a part.
_APART = 6


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """One defect on a part: its window's pixels, and what is said of it."""

    shape: Shape
    composite: Composite
    provenance: Provenance
    relative: float

    def size(self) -> float:
        """Return the label's longest extent in the unit that was asked for."""
        return self.provenance.parameters.made["size"]

    def size_error(self) -> float:
        """Return by how much the label's extent misses what was asked, in the logarithm."""
        return abs(float(np.log(self.size() / self.provenance.parameters.asked["size"])))

    def asked_size(self, size: float) -> Made:
        """Return it with the size that was asked for, whatever outline it was made from."""
        parameters = self.provenance.parameters
        parameters = parameters.model_copy(update={"asked": parameters.asked | {"size": size}})
        return replace(self, provenance=self.provenance.model_copy(update={"parameters": parameters}))

    def region(self) -> DraftRegion:
        """Return it as one of several."""
        made = self.composite
        return DraftRegion(self.shape.window, made.mask, made.support, made.d_prime, self.provenance)


def put(one: Made, stack: Stack, taken: Mask) -> None:
    """Put a defect on a part, and mark where no other may lie."""
    rows, columns = one.shape.window
    stack[:, rows, columns] = one.composite.pixels
    top, left = max(0, rows.start - _APART), max(0, columns.start - _APART)
    near = slice(top, rows.stop + _APART), slice(left, columns.stop + _APART)
    own = np.zeros(taken[near].shape, np.bool_)
    own[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = one.composite.support
    taken[near] |= ndimage.binary_dilation(own, iterations=_APART)


def draft_of(background: BackgroundSample, one: Made) -> Draft:
    """Return the candidate with one defect."""
    stack = background.stack.copy()
    made, shape = one.composite, one.shape
    stack[:, shape.window[0], shape.window[1]] = made.pixels
    mask, support = np.zeros((2, *stack.shape[1:]), np.bool_)
    mask[shape.window] = made.mask
    support[shape.window] = made.support
    return Draft(
        stack=stack,
        mask=mask,
        support=support,
        defect_class=one.provenance.parameters.defect_class,
        severity=made.d_prime,
        scores=_scores(one, len(stack)),
        provenance=one.provenance,
    )


def draft_of_several(background: BackgroundSample, stack: Stack, several: Sequence[Made]) -> Draft:
    """Return the candidate with several defects, the one it is named for first; `stack` (K, H, W) has them all."""
    mask: Mask = np.zeros(background.allowed.shape, np.bool_)
    support = mask.copy()
    for one in several:
        mask[one.shape.window] |= one.composite.mask
        support[one.shape.window] |= one.composite.support
    first = several[0]
    seeds = tuple(dict.fromkeys(seed for one in several for seed in one.provenance.seed_ids))
    return Draft(
        stack=stack,
        mask=mask,
        support=support,
        defect_class=first.provenance.parameters.defect_class,
        severity=first.composite.d_prime,
        scores=_scores(first, len(stack)),
        provenance=first.provenance.model_copy(update={"seed_ids": seeds}),
        regions=tuple(one.region() for one in several),
    )


def _scores(one: Made, channels: int) -> dict[str, float]:
    made, area = one.composite, float(one.composite.mask.sum())
    return {
        "visibility": made.d_prime / np.sqrt(area * channels),  # mean change a pixel, in noise sigmas
        "relative_severity": one.relative,
        "clipped": made.clipped_share,
        "kept_of_plan": area / max(float(one.shape.mask.sum()), 1.0),
    }
