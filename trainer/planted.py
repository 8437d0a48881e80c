"""Known-bad candidates: they are hidden among the others and show whether a reviewer looks.

Each is a genuine draft that was spoilt in its pixels alone, so that neither its severity nor its provenance gives it
away: one has to look. Its scores are measured on what it shows, like all others', and reviewers see ranks instead of
them, in an order with chance in it (:mod:`trainer.doubt`). Whoever accepts one can't have a training set issued (see
:mod:`cell.store.gate`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cell.defects import Draft, Mask
from cell.frames import Stack

#: Half the edge of the smallest spoilt area, pixels: large enough to be seen at a glance.
_LEAST_REACH = 10
#: Radius of a blob beside the part, pixels; narrower margins than that hold none.
_BLOB_RADIUS = 8


def choose(total: int, count: int, spared: int, random_seed: int) -> frozenset[int]:
    """Choose which of `total` candidates to spoil: `count` of them, the first `spared` only when there are no others.

    A review begins with good ones, so that the reviewer sees first what the class looks like.
    """
    rng = np.random.default_rng(random_seed)
    count = min(count, total)
    pool = np.arange(min(spared, total - count), total)
    return frozenset(rng.choice(pool, size=count, replace=False).tolist())


def spoil(draft: Draft, background: Stack, allowed: Mask, bit_depth: int, rng: np.random.Generator) -> Draft:
    """Return a known-bad candidate with everything of `draft` but its pixels.

    It is a checkerboard or stripes of single pixels, at full contrast, or, where the frame shows something beside the
    part, a blob there.

    :param background: (K, H, W) DN, the draft's background.
    :param allowed: (H, W) bool, where a defect may lie on it.
    """
    kind = ("checkerboard", "stripes", "beside")[int(rng.integers(3))]
    if draft.provenance.randomised and kind == "beside":
        # The good part was never taken that way, so the genuine defect can't be taken out: it goes under a pattern.
        kind = "stripes"
    mask = _beside(allowed, rng) if kind == "beside" else None
    stack, others = _without_first(draft, background)
    if mask is not None:
        # As bright as the part is: on the empty carrier nothing looks less like a defect of the part.
        levels = np.median(background[:, allowed], axis=1) if allowed.any() else np.median(background, axis=(1, 2))
        stack[:, mask] = np.maximum(levels, (1 << bit_depth) // 4).astype(stack.dtype)[:, None]
    else:
        mask = _square(draft.mask & ~others)
        stack[:, mask] = np.where(_pattern(mask.shape, stripes=kind == "stripes")[mask], (1 << bit_depth) - 1, 0)
    if not draft.regions:
        return replace(draft, stack=stack, mask=mask, support=mask, planted_bad=True)
    # Whatever else lies on the part stays, so that their number gives nothing away.
    first = replace(draft.regions[0], window=(slice(None), slice(None)), mask=mask & ~others, support=mask)
    support = mask.copy()
    for region in draft.regions[1:]:
        support[region.window] |= region.support
    regions = (first, *draft.regions[1:])
    return replace(draft, stack=stack, mask=mask | others, support=support, planted_bad=True, regions=regions)


def _without_first(draft: Draft, background: Stack) -> tuple[Stack, Mask]:
    """Return the picture without the defect that a draft is named for, and the mask of its others."""
    others = np.zeros_like(draft.mask)
    if draft.provenance.randomised and not draft.regions:
        return draft.stack.copy(), others
    if not draft.regions:
        return background.copy(), others
    stack = draft.stack.copy()
    rows, columns = draft.regions[0].window
    near = draft.regions[0].support
    if not draft.provenance.randomised:
        stack[:, rows, columns] = np.where(near, background[:, rows, columns], stack[:, rows, columns])
    for region in draft.regions[1:]:
        others[region.window] |= region.mask
    return stack, others


def _square(mask: Mask) -> Mask:
    """Return a square around the middle of a mask, half as wide again as the mask and inside the frame."""
    rows, columns = np.nonzero(mask)
    reach = max(_LEAST_REACH, round(0.75 * float(np.sqrt(rows.size))))
    y, x = round(float(rows.mean())), round(float(columns.mean()))
    square = np.zeros_like(mask)
    square[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = True
    return square


def _pattern(shape: tuple[int, ...], *, stripes: bool) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    pattern: NDArray[np.bool_] = ((rows + (0 if stripes else columns)) % 2).astype(np.bool_)
    return np.broadcast_to(pattern, shape)


def _beside(allowed: Mask, rng: np.random.Generator) -> Mask | None:
    """Return a disc where no defect can lie, or None when there is no room for one."""
    rows, columns = np.nonzero(~allowed)
    if rows.size == 0:
        return None
    pick = int(rng.integers(rows.size))
    height, width = allowed.shape
    y, x = np.ogrid[:height, :width]
    disc: Mask = ((y - rows[pick]) ** 2 + (x - columns[pick]) ** 2 <= _BLOB_RADIUS**2) & ~allowed
    # A sliver at the edge of the part could pass for a defect there.
    return disc if disc.sum() >= np.pi * _BLOB_RADIUS**2 / 2 else None
