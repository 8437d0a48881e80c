"""Whether a picture is fit to be learned from, and as what."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from cell.defects import Mask
from cell.frames import StoredStack
from cell.imaging.background import BackgroundModel
from cell.imaging.registration import PartPlace, locate
from cell.recipes import Recipe
from cell.store.line_records import PartReport
from cell.verdicts import Outcome

#: A picture is blurred when its sharpness is below this share of its predecessors' median.
_SHARP_SHARE = 0.25
#: Largest share of a part's pixels that may be black or white.
_MOST_CLIPPED = 0.2
#: Least share of the frame that a part covers, against its predecessors' median.
_LEAST_COVER = 0.3
_MEMORY = 200
_EXPOSURE_TOLERANCE = 0.1
#: Robust deviations from the good parts' anomaly: up to which a part that was reported good is believed, up to which
#: one that nobody spoke of counts as good (a bad part among the backgrounds costs more than a good part that waits),
#: and above which it counts as bad.
GOOD_SPREAD, UNKNOWN_SPREAD, BAD_SPREAD = 8.0, 1.5, 6.0


@dataclass(slots=True)
class Quality:
    """What earlier good parts were like; medians over the last ones."""

    sharpness: deque[float] = field(default_factory=lambda: deque(maxlen=_MEMORY))
    cover: deque[float] = field(default_factory=lambda: deque(maxlen=_MEMORY))


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """What becomes of a picture: "background", "seed", "refused" with a reason, or "wait" until somebody knows."""

    kind: str
    reason: str = ""
    mask: Mask | None = None  # the part of a background, the defect of a seed
    defect_class: str = ""
    quality: dict[str, float] = field(default_factory=dict)


def examine(
    stack: StoredStack,
    recipe: Recipe,
    quality: Quality,
    model: BackgroundModel,
    report: PartReport | None,
    outcome: Outcome,
) -> Finding:
    """Look at one picture. What a report says goes before what the anomaly says, and that before nothing at all."""
    foreign = _foreign(stack, recipe)
    if foreign:
        return Finding("refused", foreign)
    place = locate(stack.pixels, recipe.carrier_max_dn)
    if place is None:
        return Finding("refused", "no part on the carrier")
    if report is not None and report.outcome is Outcome.NG:
        return _seed(stack, place, model, report.defect_class)
    figures = _figures(stack, place)
    reason = _unfit(figures, place, quality)
    if reason:
        return Finding("refused", reason)
    good = report is not None and report.outcome is Outcome.OK
    if not model.ready:
        return _background(place, figures, quality) if good else Finding("wait")
    figures["anomaly"] = model.score(stack.pixels, place.mask)
    return _by_anomaly(stack, place, figures, quality, model, good=good, doubted=outcome is Outcome.NG)


def _by_anomaly(
    stack: StoredStack,
    place: PartPlace,
    figures: dict[str, float],
    quality: Quality,
    model: BackgroundModel,
    *,
    good: bool,
    doubted: bool,
) -> Finding:
    anomaly = figures["anomaly"]
    if model.is_typical(anomaly, spread=GOOD_SPREAD if good else UNKNOWN_SPREAD):
        return Finding("wait") if doubted and not good else _background(place, figures, quality)
    if good:
        return Finding("refused", "unlike the other good parts")
    if model.is_typical(anomaly, spread=BAD_SPREAD):
        return Finding("wait")
    return _seed(stack, place, model, "")


def _foreign(stack: StoredStack, recipe: Recipe) -> str:
    """Return why the picture was not taken as the recipe says, or nothing."""
    if stack.channels != recipe.channel_names:
        return "other channels than the recipe's"
    if stack.pixels.shape[1:] != (recipe.height, recipe.width) or stack.bit_depth != recipe.bit_depth:
        return "other size or bit depth than the recipe's"
    for used, channel in zip(stack.exposure_us, recipe.channels, strict=True):
        if used > 0 and abs(used / channel.exposure_us - 1) > _EXPOSURE_TOLERANCE:
            return "other exposure than the recipe's"
    return ""


def _seed(stack: StoredStack, place: PartPlace, model: BackgroundModel, defect_class: str) -> Finding:
    if not model.ready:
        return Finding("wait")
    return Finding("seed", mask=model.propose_mask(stack.pixels, place.mask), defect_class=defect_class)


def _background(place: PartPlace, figures: dict[str, float], quality: Quality) -> Finding:
    quality.sharpness.append(figures["sharpness"])
    quality.cover.append(place.share)
    return Finding("background", mask=place.mask, quality=figures)


def _figures(stack: StoredStack, place: PartPlace) -> dict[str, float]:
    """Return sharpness (rms of the Laplacian over the mean level, least channel) and the clipped share (worst one)."""
    top = (1 << stack.bit_depth) - 1
    sharpness, clipped = [], []
    for channel in stack.pixels:
        inside = channel[place.mask].astype(np.float32)
        edges = ndimage.laplace(channel.astype(np.float32))[ndimage.binary_erosion(place.mask, iterations=2)]
        sharpness.append(float(edges.std()) / max(float(inside.mean()), 1.0) if edges.size else 0.0)
        clipped.append(float(((inside >= top) | (inside <= 0)).mean()))
    return {"sharpness": min(sharpness), "clipped": max(clipped)}


def _unfit(figures: dict[str, float], place: PartPlace, quality: Quality) -> str:
    if figures["clipped"] > _MOST_CLIPPED:
        return "clipped"
    if quality.cover and place.share < _LEAST_COVER * float(np.median(quality.cover)):
        return "part cut off"
    if quality.sharpness and figures["sharpness"] < _SHARP_SHARE * float(np.median(quality.sharpness)):
        return "blurred"
    return ""
