"""From which features moved to what likely changed: a short list of rules, each a physical one.

Every change counts in units of what matters (`cell.imaging.process_features.relevant_changes`), and not
at all where it is small against the part-to-part spread.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cell.process import Cause

#: Changes below this share of the part-to-part deviation say nothing about the cause; and, of the median of few parts,
#: below three of its standard errors.
_VISIBLE, _SURE = 0.35, 3.75
#: Relevant changes from which a kind of feature counts as moved.
_MOVED = 1.5
#: A lens spreads fine detail more than coarse; material changes all of it. Ratio of coarse to fine.
_LENS_RATIO = 0.6
#: Share of the level's change that the profile's must be where the surface and not the light changed.
_RESHAPED = 0.45
#: A camera's gain takes its noise along: least share of the level's change that the noise shows.
_GAIN_SHARE = 0.6
#: Standard error of a mean of medians, in part-to-part deviations over the root of parts; noise goes together a little.
_ROUGHNESS = 1.6

_WORDS = {
    "level": "brightness",
    "balance": "light",
    "tilt-x": "light from left to right",
    "tilt-y": "light from top to bottom",
    "bow": "light towards the edge",
    "noise": "noise",
    "detail-1": "finest detail",
    "detail-2": "fine detail",
    "detail-4": "detail",
    "detail-8": "coarse detail",
    "shift-x": "place across",
    "shift-y": "place down",
    "turn": "turn",
    "size": "size",
    "score": "anomaly score",
}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The likely cause, a sentence for people, and the changes that speak for it in their own units."""

    cause: Cause
    sentence: str
    evidence: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Moves:
    """Changes in relevant units; those that can't be seen against the spread are 0."""

    level: float
    balance: float  # the one that moved most, with its sign
    even: bool  # every channel's light moved alike
    profile: float  # of the light that moved most
    alike: float  # of all lights together
    noise: float  # mean over the channels
    gained: float  # the noise's change as a share of the level's, both as logarithms
    rough: float  # its standard error
    lights: int
    detail: tuple[float, ...]  # mean over the channels, fine to coarse
    place: float


def diagnose(
    changes: Mapping[str, float], relevant: Mapping[str, float], deviation: Mapping[str, float], parts: int = 1000
) -> Diagnosis:
    """Return the likely cause of changes of features, by name, in their own units, seen in the median of `parts`."""
    visible = max(_VISIBLE, _SURE / math.sqrt(max(parts, 1)))
    counted = {
        name: change / relevant[name] if abs(change) >= visible * deviation[name] else 0.0
        for name, change in changes.items()
    }
    # A change that is found while it is small has the shape of a large one.
    strongest = max((abs(value) for value in counted.values()), default=0.0)
    if 0 < strongest < 2 * _MOVED:
        counted = {name: value * 2 * _MOVED / strongest for name, value in counted.items()}
    moves = _moves(counted, changes, deviation, parts)
    cause = _cause(moves)
    order = sorted(counted, key=lambda name: -abs(counted[name]))
    told = [name for name in order if counted[name]][:4] or order[:1]
    evidence = {name: changes[name] for name in told}
    what = "; ".join(_words(name, changes[name]) for name in told[:3])
    return Diagnosis(cause, f"{_NAMED[cause]}: {what}", evidence)


_NAMED = {
    Cause.MATERIAL: "the surface looks different, as with another batch of material, tool or finish",
    Cause.LAMP: "a light gives more or less than before",
    Cause.LENS: "the pictures are less or more sharp, as with a lens out of focus or dirty",
    Cause.CAMERA: "brightness or noise changed alike under every light, as with the camera's gain or exposure",
    Cause.FIXTURE: "the parts lie elsewhere, as with a moved fixture or camera",
    Cause.UNKNOWN: "something changed that has no single likely cause",
    Cause.TOOLING: "the tools changed",
    Cause.FINISH: "the finish changed",
}


def _moves(
    counted: Mapping[str, float], changes: Mapping[str, float], deviation: Mapping[str, float], parts: int
) -> _Moves:
    def of(kind: str) -> list[float]:
        return [value for name, value in counted.items() if name.partition(":")[0] == kind]

    def mean(kind: str) -> float:
        values = of(kind)
        return float(np.mean(values)) if values else 0.0

    def most(*kinds: str) -> float:
        return max((abs(value) for kind in kinds for value in of(kind)), default=0.0)

    # The noise of one channel is rough, but the mean of all is not: it is not asked whether each can be seen.
    noises = [name for name in changes if name.startswith("noise:")]
    spread = math.sqrt(sum(deviation[name] ** 2 for name in noises)) / max(len(noises), 1)
    level = changes.get("level", 0.0)
    balance = of("balance")
    strongest = max(balance, key=abs, default=0.0)
    return _Moves(
        level=mean("level"),
        balance=strongest,
        even=abs(strongest) < _MOVED,
        profile=most("tilt-x", "tilt-y", "bow"),
        alike=max(abs(mean(kind)) for kind in ("tilt-x", "tilt-y", "bow")),
        noise=mean("noise"),
        gained=float(np.mean([changes[name] for name in noises])) / level if noises and level else 0.0,
        rough=_ROUGHNESS * spread / math.sqrt(max(parts, 1)) / abs(level) if noises and level else math.inf,
        lights=len(balance),
        detail=tuple(mean(f"detail-{1 << scale}") for scale in range(4)),
        place=most("shift-x", "shift-y", "turn"),
    )


def _cause(moves: _Moves) -> Cause:
    # The finest detail is mostly noise, which follows the light: it is no witness for texture.
    texture = max(abs(value) for value in moves.detail[1:])
    light = max(abs(moves.level), abs(moves.balance), moves.profile)
    brighter = abs(moves.level) >= _MOVED
    # Every light falls otherwise on the part, and all of them alike: it is the part that throws it back otherwise.
    reshaped = moves.even and moves.alike >= max(2 * _MOVED, _RESHAPED * abs(moves.level)) and texture < light
    # The first rule that holds.
    rules = (
        (moves.place >= _MOVED and moves.place >= max(texture, abs(moves.balance), abs(moves.level)), Cause.FIXTURE),
        (_spreads(moves), Cause.LENS),
        (texture >= _MOVED and texture >= 0.5 * light, Cause.MATERIAL),
        (reshaped and abs(moves.level) >= _MOVED, Cause.MATERIAL),
        (not moves.even and abs(moves.balance) >= texture, Cause.LAMP),
        (brighter, Cause.CAMERA if _with_its_noise(moves) else Cause.LAMP),
        (abs(moves.noise) >= _MOVED, Cause.CAMERA),
        (moves.place >= _MOVED, Cause.FIXTURE),
        (moves.profile >= _MOVED, Cause.LAMP),
    )
    return next((cause for holds, cause in rules if holds), Cause.UNKNOWN)


def _with_its_noise(moves: _Moves) -> bool:
    """Tell whether the noise went with the light, as a gain takes it along, or may have where that can't be seen yet.

    That several lamps change alike is the rarer case.
    """
    if moves.lights > 1 and 2 * moves.rough > 1 - _GAIN_SHARE:
        return moves.gained + 2 * moves.rough >= _GAIN_SHARE
    return moves.gained >= _GAIN_SHARE


def _spreads(moves: _Moves) -> bool:
    """Tell whether detail went as a lens out of focus takes it: the finer the more, at the same brightness."""
    fine = min(moves.detail[:2])
    middle, coarse = moves.detail[2:]
    if fine > -_MOVED:
        return False
    fades = abs(coarse) <= _LENS_RATIO * abs(fine) and abs(middle) <= abs(fine)
    return fades and max(moves.detail[:2]) <= 0 and max(abs(moves.level), abs(moves.balance)) <= 0.5 * abs(fine)


def _words(name: str, change: float) -> str:
    kind, _, channel = name.partition(":")
    where = f" of {channel}" if channel else ""
    if kind.startswith("shift"):
        size = f"{change:+.2f} px"
    elif kind == "turn":
        size = f"{change:+.2f} degrees"
    elif kind == "score":
        size = f"{change:+.2f} (logit)"
    else:
        size = f"{100 * (math.exp(change) - 1):+.1f} %"
    return f"{_WORDS[kind]}{where} {size}"
