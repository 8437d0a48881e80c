"""How doubtful a candidate is, from its scores, and in which order a reviewer meets them.

The scores are those of :mod:`trainer.generate.plausibility`. None of them refuses anything: doubt is for the order of
the review, and what is provably broken was never written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cell import digest
from cell.defects import Candidate

DOUBT = "doubt"
#: Share of the candidates over which chance may lift one in the order of a review.
_CHANCE = 0.6
#: Of each score, where doubt begins, where it is whole, and how much of it the score can cause alone.
LIMITS: Mapping[str, tuple[float, float, float]] = {
    "visibility": (2.0, 0.5, 0.9),
    "beyond_seeds": (0.7, 2.0, 0.8),
    "seam": (2.0, 10.0, 0.9),
    "outside": (0.02, 0.3, 1.0),
    "placement": (1.0, 5.0, 0.3),
    "memorised": (0.5, 0.15, 0.9),
    "gap": (3.0, 8.0, 0.8),
    "clipped": (0.1, 0.6, 0.6),
}


def parts(scores: Mapping[str, float]) -> dict[str, float]:
    """Return how much doubt each score causes alone, in [0, 1]; of the scores that there are."""
    found = {}
    for name, (begins, whole, most) in LIMITS.items():
        if name in scores:
            found[name] = most * float(np.clip((scores[name] - begins) / (whole - begins), 0.0, 1.0))
    return found


def combined(scores: Mapping[str, float]) -> float:
    """Return a candidate's doubt in [0, 1]: 0 where no score causes any; each that does takes from what is left."""
    return 1.0 - float(np.prod([1.0 - part for part in parts(scores).values()]))


def ordered(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return candidates with the doubtful ones earlier.

    A share of chance, fixed by the id, is mixed in: else the planted ones, which stand out of all, would be known by
    their place at the very front.
    """
    doubts = np.asarray([one.scores.get(DOUBT, 0.0) for one in candidates])
    less = np.searchsorted(np.sort(doubts), doubts, side="left") / max(len(doubts), 1)
    keys = [share + _CHANCE * _chance(one) for share, one in zip(less, candidates, strict=True)]
    return [candidates[index] for index in np.argsort(-np.asarray(keys), kind="stable")]


def _chance(candidate: Candidate) -> float:
    return int(digest.of_bytes(candidate.candidate_id.encode())[:8], 16) / 0xFFFFFFFF


def ranks(candidate: Candidate, others: Sequence[Candidate]) -> dict[str, float]:
    """Return, for each score and the doubt of all, the share of the others of its class that are less doubtful.

    This is what a reviewer is shown. The scores themselves would tell the planted ones, which stand out of all, without
    a look at them; in every class some genuine one is the most doubtful but for those.
    """
    peers = [one.scores for one in others if one.defect_class == candidate.defect_class]
    own = parts(candidate.scores) | {DOUBT: candidate.scores.get(DOUBT, 0.0)}
    shown = {}
    for name, value in own.items():
        known = [scores for scores in peers if name in scores]
        less = sum((scores[DOUBT] if name == DOUBT else parts(scores)[name]) < value for scores in known)
        shown[name] = round(less / max(len(known), 1), 2)
    return shown
