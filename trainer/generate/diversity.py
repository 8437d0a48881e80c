"""How various the candidates of a run are, and whether the generator collapsed or copies.

For each class, on all its defects (the worst of what it finds is said in a sentence):

``apart``            median distance of a candidate to its nearest other, over that of a seed to its nearest other:
                     near 1 candidates differ in outline and look as seeds do, near 0 they are copies of one another
``variety``          median distance between two candidates' appearances (course and texture, whatever the outline and
                     the strength), over that between two seeds': near 0 the generator paints one thing only
``nearest_seed``     median distance of a candidate to the nearest seed, over that of a seed to its nearest
``copies``           share of the candidates that are copies of a seed
``seeds_covered``    share of the seeds that some candidate comes nearer to in appearance than the nearest other seed
``asked_covered``    share of the bins asked for by a plan, for all targets, of which some candidate came out
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.generate.plausibility import ClassJudge, Fingerprint
from trainer.generate.resemblance import between

#: Fewer candidates of a class say nothing.
FEWEST = 6
#: Most candidates that are compared each with each.
_MOST = 150
#: Below these a generator has collapsed, and above that share it copies; a copy is nearer than that to its seed.
_COLLAPSED_APART, _COLLAPSED_VARIETY, _COPIES, COPY = 0.15, 0.5, 0.4, 0.25


def diversity(
    prints: Sequence[Fingerprint], judged: Mapping[str, ClassJudge], told: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Return the figures of each class with enough candidates, and a `finding` where one is bad.

    :param told: what `told.asked_and_made` says of the same candidates.
    """
    by_class: dict[str, list[Fingerprint]] = defaultdict(list)
    for one in prints:
        by_class[one.defect_class].append(one)
    found = []
    for name in sorted(by_class):
        if name in judged and len(by_class[name]) >= FEWEST:
            figures = _figures(by_class[name], judged[name])
            bins = [one for one in told if one["defect_class"] == name]
            if (covered := _asked_covered(bins)) is not None:
                figures["asked_covered"] = covered
            figures = {key: round(value, 3) for key, value in figures.items()}
            finding = _finding(name, figures)
            found.append({"defect_class": name, **figures} | ({"finding": finding} if finding else {}))
    return found


def _figures(members: Sequence[Fingerprint], known: ClassJudge) -> dict[str, float]:
    rng = np.random.default_rng(0)
    some = members
    if len(members) > _MOST:
        some = [members[index] for index in sorted(rng.choice(len(members), _MOST, replace=False))]
    nearest = np.asarray([known.prints.distances(one.print).min() for one in members]) / known.apart
    looks, seeds = np.stack([one.appearance for one in members]), known.appearances
    to_seeds = _apart(seeds, looks)
    among = _apart(seeds, seeds)
    np.fill_diagonal(among, np.inf)
    return {
        "apart": float(np.median(between(np.stack([one.print for one in some])).min(axis=1))) / known.apart,
        "variety": _usual(looks) / max(_usual(seeds), 1e-9),
        "nearest_seed": float(np.median(nearest)),
        "copies": float((nearest < COPY).mean()),
        "seeds_covered": float((to_seeds.min(axis=1) <= among.min(axis=1)).mean()),
    }


def _finding(name: str, figures: Mapping[str, float]) -> str:
    if figures["variety"] < _COLLAPSED_VARIETY:
        return (
            f"the generator has collapsed for {name}: its defects differ {figures['variety']:.2f} times as much as the "
            "seeds do; use another arm, or confirm more seeds"
        )
    if figures["apart"] < _COLLAPSED_APART:
        return (
            f"the generator has collapsed for {name}: a candidate lies {figures['apart']:.2f} times as far from its "
            "nearest as a seed does; use another arm, or ask for more variation"
        )
    if figures["copies"] > _COPIES:
        return (
            f"the generator copies the seeds of {name}: {100 * figures['copies']:.0f} % of the candidates are one of "
            "them again; confirm more seeds, or ask for more variation"
        )
    return ""


def _asked_covered(told: Sequence[Mapping[str, Any]]) -> float | None:
    pairs = [pair for one in told for pair in zip(one["asked"], one["made"], strict=True) if pair[0]]
    return sum(made > 0 for _, made in pairs) / len(pairs) if pairs else None


def _apart(one: NDArray[np.float32], two: NDArray[np.float32]) -> NDArray[np.float64]:
    gaps: NDArray[np.float64] = np.sqrt(((one[:, None, :] - two[None, :, :]) ** 2).sum(axis=-1)).astype(np.float64)
    return gaps


def _usual(rows: NDArray[np.float32]) -> float:
    table = _apart(rows, rows)
    return float(np.median(table[np.triu_indices(len(rows), 1)])) if len(rows) > 1 else 0.0
