"""Whether a picture is fit to be learned from, and as what."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask
from cell.frames import StoredStack
from cell.imaging.background import BackgroundModel, View
from cell.imaging.channels import ChannelBook
from cell.imaging.registration import LEAST_AGREEMENT, PartPlace, locate
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
_EXPOSURE_TOLERANCE, _GAIN_TOLERANCE_DB = 0.1, 0.3
#: Robust deviations from the good parts' anomaly: up to which a part that was reported good is believed, up to which
#: one that nobody spoke of counts as good (a bad part among the backgrounds costs more than a good part that waits),
#: and above which it counts as bad.
GOOD_SPREAD, UNKNOWN_SPREAD, BAD_SPREAD = 8.0, 0.8, 3.0
#: A part lies elsewhere when it is further from the others' median place than this many robust deviations, and than
#: this share of the frame's shorter side.
_ELSEWHERE_SPREAD, _ELSEWHERE_SHARE = 8.0, 0.04
_LEAST_PLACES = 8
#: Robust deviations of the mean surprise above which a picture is strange all over.
_STRANGE_SPREAD = 12.0


@dataclass(slots=True)
class Quality:
    """What earlier good parts were like; medians over the last ones."""

    book: ChannelBook
    sharpness: deque[float] = field(default_factory=lambda: deque(maxlen=_MEMORY))
    cover: deque[float] = field(default_factory=lambda: deque(maxlen=_MEMORY))
    places: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_MEMORY))
    strangeness: deque[float] = field(default_factory=lambda: deque(maxlen=_MEMORY))

    def state(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        return {
            "book": self.book.state(),
            "sharpness": list(self.sharpness),
            "cover": list(self.cover),
            "places": [list(place) for place in self.places],
            "strangeness": list(self.strangeness),
        }

    def recall(self, state: dict[str, Any]) -> None:
        """Take in what :meth:`state` gave. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        self.book.recall(state["book"])
        self.sharpness.extend(float(value) for value in state["sharpness"])
        self.cover.extend(float(value) for value in state["cover"])
        self.places.extend((float(down), float(across)) for down, across in state["places"])
        self.strangeness.extend(float(value) for value in state["strangeness"])


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """What becomes of a picture: "background", "seed", "refused" with a reason, or "wait" until somebody knows.

    A picture that waits because the model knows too little yet is `young`.
    """

    kind: str
    reason: str = ""
    mask: Mask | None = None  # the part of a background, the defect of a seed
    defect_class: str = ""
    quality: dict[str, float] = field(default_factory=dict)
    conditions: dict[str, float] = field(default_factory=dict)  # what coverage goes by
    view: View | None = None
    proposed_by: str = ""
    young: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A picture with all that is known of its part."""

    stack: StoredStack
    part_id: str
    outcome: Outcome
    report: PartReport | None
    #: Deviation of a picture that the model has learned, by what it would know without; None for any other.
    learned: float | None = None
    #: Deviation by the network that learned good parts alone; None where the trainer has made none.
    odd: float | None = None

    @property
    def good(self) -> bool:
        """True when another station said so."""
        return self.report is not None and self.report.outcome is Outcome.OK


def examine(subject: Subject, recipe: Recipe, quality: Quality, model: BackgroundModel) -> Finding:
    """Look at one picture. What a report says goes before what the anomaly says, and that before nothing at all."""
    stack = subject.stack
    reason = _foreign(stack, recipe) or quality.book.fault(stack.pixels, subject.part_id)
    place = None if reason else locate(stack.pixels, recipe.carrier_max_dn)
    if place is None:
        return Finding("refused", reason or "no part on the carrier")
    if subject.report is not None and subject.report.outcome is Outcome.NG:
        return _reported_bad(stack, place, model, subject.report)
    figures = _figures(stack, place)
    reason = _unfit(figures, place, quality)
    if reason:
        return Finding("refused", reason)
    return _compared(subject, place, figures, quality, model) if model.ready else _unknown(subject, place, figures)


def _reported_bad(stack: StoredStack, place: PartPlace, model: BackgroundModel, report: PartReport) -> Finding:
    if not model.ready:
        return Finding("wait")
    view = model.view(stack.pixels, place.mask)
    mask = model.mask_of(view)
    return Finding("seed", mask=mask, defect_class=report.defect_class, view=view, proposed_by=report.source)


def _unknown(subject: Subject, place: PartPlace, figures: dict[str, float]) -> Finding:
    """Decide while there is nothing to compare with."""
    if not subject.good:
        return Finding("wait", mask=place.mask, young=True)
    conditions = _conditions(subject.stack, place, None)
    return Finding("background", mask=place.mask, quality=figures, conditions=conditions)


def _compared(
    subject: Subject, place: PartPlace, figures: dict[str, float], quality: Quality, model: BackgroundModel
) -> Finding:
    """Decide by how the part compares with the others."""
    view = model.view(subject.stack.pixels, place.mask)
    reason = _out_of_place(view, quality)
    if reason:
        return Finding("refused", reason)
    figures["deviations"] = _oddness(subject, view, aligns=model.aligns)
    found = _by_anomaly(subject, figures["deviations"])
    if found == "seed":
        return Finding("seed", mask=model.mask_of(view), view=view, proposed_by="anomaly")
    if found == "background":
        conditions = _conditions(subject.stack, place, view if model.aligns else None)
        return Finding("background", mask=place.mask, quality=figures, conditions=conditions, view=view)
    return Finding("wait", view=view) if found == "wait" else Finding("refused", found, view=view)


def _oddness(subject: Subject, view: View, *, aligns: bool) -> float:
    """Return by how many robust deviations the part lies above good ones.

    Where parts have a picture in common, by the odder of the background model and the learned network. On a texture by
    the mean of both: each has false alarms of its own there, and finds other defects (docs/notes/harvest.md).
    """
    deviations = view.deviations if subject.learned is None else subject.learned
    if subject.odd is None:
        return deviations
    return max(deviations, subject.odd) if aligns else (deviations + subject.odd) / 2


def remember(finding: Finding, stack: StoredStack, quality: Quality) -> None:
    """Let a background be one of those that later pictures are compared with."""
    quality.sharpness.append(finding.quality["sharpness"])
    if finding.mask is not None:
        quality.cover.append(float(finding.mask.mean()))
    quality.book.learn(stack.pixels)
    if finding.view is not None:
        quality.strangeness.append(_strangeness(finding.view))
        if finding.view.pose.agreement >= LEAST_AGREEMENT and "down" in finding.conditions:
            quality.places.append((finding.view.pose.down, finding.view.pose.across))


def _by_anomaly(subject: Subject, deviations: float) -> str:
    """Return "background", "seed", "wait", or why the part is refused."""
    if deviations <= (GOOD_SPREAD if subject.good else UNKNOWN_SPREAD):
        # Our own verdict alone makes no seed, but it keeps a part from being called good.
        return "wait" if subject.outcome is Outcome.NG and not subject.good else "background"
    if subject.good:
        return "unlike the other good parts"
    return "seed" if deviations > BAD_SPREAD else "wait"


def _foreign(stack: StoredStack, recipe: Recipe) -> str:
    """Return why the picture was not taken as the recipe says, or nothing."""
    if stack.channels != recipe.channel_names:
        return "other channels than the recipe's"
    if stack.pixels.shape[1:] != (recipe.height, recipe.width) or stack.bit_depth != recipe.bit_depth:
        return "other size or bit depth than the recipe's"
    for used, gain_db, channel in zip(stack.exposure_us, stack.gain_db, recipe.channels, strict=True):
        if used > 0 and abs(used / channel.exposure_us - 1) > _EXPOSURE_TOLERANCE:
            return "other exposure than the recipe's"
        if used > 0 and abs(gain_db - channel.gain_db) > _GAIN_TOLERANCE_DB:
            return "other gain than the recipe's"
    return ""


def _figures(stack: StoredStack, place: PartPlace) -> dict[str, float]:
    """Return sharpness (rms of the Laplacian over the mean level, least channel) and the clipped share (worst one)."""
    top = (1 << stack.bit_depth) - 1
    sharpness, clipped = [], []
    inner = ndimage.binary_erosion(place.mask, iterations=2)
    for channel in stack.pixels:
        inside = channel[place.mask].astype(np.float32)
        edges = ndimage.laplace(channel.astype(np.float32))[inner]
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


def _conditions(stack: StoredStack, place: PartPlace, view: View | None) -> dict[str, float]:
    """Return a good part's conditions: place in pixels and degrees, light and texture in logarithms."""
    found: dict[str, float] = {}
    if view is not None and view.pose.agreement >= LEAST_AGREEMENT:
        found |= {"down": view.pose.down, "across": view.pose.across, "turn": view.pose.turn_deg}
    for name, channel in zip(stack.channels, stack.pixels, strict=True):
        pixels = channel.astype(np.float32)
        fine = (pixels - ndimage.uniform_filter(pixels, 5))[place.mask]
        level = float(np.log(pixels[place.mask].mean() + 1.0))
        found[f"level {name}"] = level
        found[f"texture {name}"] = float(np.log(np.median(np.abs(fine)) + 0.1)) - level
    return found


def _out_of_place(view: View, quality: Quality) -> str:
    """Return why a part can't be compared with the others place by place, or nothing."""
    if view.pose.agreement < LEAST_AGREEMENT:
        return "could not be aligned with the other parts: another product?"
    if _deviations(_strangeness(view), np.array(quality.strangeness), least=0.05) > _STRANGE_SPREAD:
        return "unlike the product all over: another product or material?"
    if len(quality.places) < _LEAST_PLACES:
        return ""
    known = np.array(quality.places)
    off = np.array([view.pose.down, view.pose.across]) - np.median(known, axis=0)
    spread = 1.4826 * np.median(np.abs(known - np.median(known, axis=0)), axis=0)
    far = np.maximum(_ELSEWHERE_SPREAD * spread, _ELSEWHERE_SHARE * min(view.part.shape))
    return "the part lies elsewhere than all before" if bool((np.abs(off) > far).any()) else ""


def _strangeness(view: View) -> float:
    """Return the log surprise of the part's calmest fifth: a defect does not move it, another product does."""
    inside = view.surprise[view.part] if view.part.any() else view.surprise.ravel()
    return float(np.log(max(float(np.quantile(inside, 0.2)), 1e-6)))


def _deviations(value: float, known: NDArray[np.float64], least: float) -> float:
    if len(known) < _LEAST_PLACES:
        return 0.0
    middle = float(np.median(known))
    return (value - middle) / max(1.4826 * float(np.median(np.abs(known - middle))), least)
