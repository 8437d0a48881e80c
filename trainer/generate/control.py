"""What a person can ask of the candidates of a class, and how it is shared out among them.

Everything that is left out is as the seeds are. A *target* is a range, drawn evenly, or a histogram that is followed:
rare variants come as often as asked, not as often as they occur. Candidate number i of n gets the i-th of n shuffled
strata of each target, so even few candidates follow it, and an attempt that was refused changes nothing about what the
next one is asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cell.base import Record
from cell.errors import DataError
from cell.recipes import Name, Recipe, Rect

#: seeds: 1 is the contrast of the class's median seed. contrast: root mean square of the logarithm of lit over unlit,
#: over the outline and all lights (0.1 is about 10 %). sigma: root mean square of the change of a pixel over the
#: sensor's noise. d-prime: root of the summed squared change over the noise, an ideal observer's d'.
SeverityUnit = Literal["seeds", "contrast", "sigma", "d-prime"]
#: seeds: 1 is the longest extent of the very seed whose outline it is; px and mm: the longest extent itself.
SizeUnit = Literal["seeds", "px", "mm"]
Share = Annotated[float, Field(ge=0, le=1)]


class Histogram(Record):
    """Shares of the candidates: `weights[i]` of them lie between `edges[i]` and `edges[i + 1]`."""

    edges: tuple[float, ...] = Field(min_length=2, max_length=101)
    weights: tuple[float, ...] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.edges) != len(self.weights) + 1:
            raise ValueError(f"{len(self.weights)} weights need {len(self.weights) + 1} edges, not {len(self.edges)}")
        if not all(a < b for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("the edges of a histogram must grow")
        if min(self.weights) < 0 or not 0 < sum(self.weights) < math.inf:
            raise ValueError("the weights of a histogram can't be negative, and not all may be 0")
        return self


Range = tuple[float, float]
Target = Range | Histogram

#: Least and greatest that may be asked of each target; factors are relative to the seed.
BOUNDS: dict[str, Range] = {
    "severity": (1e-3, 1e4),
    "size": (1e-2, 1e5),
    "orientation": (-180.0, 180.0),
    "mix": (-1.0, 2.0),
    "width": (0.2, 5.0),
    "elongation": (0.2, 5.0),
    "branches": (0.0, 12.0),
}
#: Drawn evenly in the logarithm: half and double are equally far from 1.
_LOGARITHMIC = frozenset({"severity", "size", "width", "elongation"})
_WHOLE = frozenset({"branches"})


class Control(Record):
    """What is asked of the candidates of a class; see docs/trainer.md."""

    severity: Target | None = None
    severity_unit: SeverityUnit = "seeds"
    size: Target | None = None
    size_unit: SizeUnit = "seeds"
    #: Degrees from the lay of the surface, clockwise as the picture is seen; a line and its opposite are one.
    orientation: Target | Literal["as-seeds"] | None = None
    #: Between the outlines of two seeds: 0 the one, 1 the other, beyond both an extrapolation.
    mix: Target | None = None
    #: Factors on the outline's thickness at equal length, and on length over width at equal area.
    width: Target | None = None
    elongation: Target | None = None
    #: Limbs that grow out of the outline.
    branches: Target | None = None
    #: Defects of the class on one part, and shares of its candidates that carry one of another class too.
    count: tuple[int, int] = (1, 1)
    together: dict[Name, Share] = Field(default_factory=dict)
    #: Where: only in these zones; where the surface is so bright or so rough, by quantiles of the part's own.
    zones: tuple[Rect, ...] = ()
    level: tuple[Share, Share] | None = None
    roughness: tuple[Share, Share] | None = None
    uniform_share: Share | None = None

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        for name, (least, greatest) in BOUNDS.items():
            target = getattr(self, name)
            if target is None or isinstance(target, str):
                continue
            low, high = _ends(target)
            if low > high:
                raise ValueError(f"the range of {name} must be given as [low, high]")
            if low < least or high > greatest:
                raise ValueError(f"{name} must lie between {least:g} and {greatest:g}")
        if not 1 <= self.count[0] <= self.count[1] <= 50:
            raise ValueError("count must be given as [low, high] between 1 and 50")
        for name in ("level", "roughness"):
            span = getattr(self, name)
            if span is not None and span[0] >= span[1]:
                raise ValueError(f"{name} must be given as [low, high], shares of the part's surface")
        return self

    def over(self, general: Control) -> Control:
        """Return this control with what it leaves at its default taken from a more general one."""
        asked = {
            name: getattr(self, name)
            for name, known in type(self).model_fields.items()
            if getattr(self, name) != known.get_default(call_default_factory=True)
        }
        return type(self).model_validate({name: getattr(general, name) for name in type(self).model_fields} | asked)


#: Nothing asked.
AS_SEEDS = Control()


@dataclass(frozen=True, slots=True)
class Asked:
    """What one defect is asked to be; None is as the seeds are."""

    severity: float | None = None
    size: float | None = None
    orientation: float | None = None
    mix: float | None = None
    width: float | None = None
    elongation: float | None = None
    branches: float | None = None

    def told(self) -> dict[str, float]:
        """Return what was asked, by name."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: float(value) for name, value in values.items() if value is not None}


#: As the seeds are in everything.
NOTHING = Asked()


@dataclass(frozen=True, slots=True)
class Order:
    """One candidate: its defect, how many of its class lie on the part, and the other classes there."""

    first: Asked
    count: int = 1
    together: tuple[str, ...] = field(default=())


def order(control: Control, entropy: tuple[int, ...], number: int, total: int) -> Order:
    """Return what candidate `number` of `total` is asked to be; `entropy` tells classes and runs apart."""
    drawn: dict[str, float] = {}
    for axis, name in enumerate(BOUNDS):
        target = getattr(control, name)
        if target is not None and not isinstance(target, str):
            drawn[name] = value_at(target, name, _stratum((*entropy, axis), number, total))
    low, high = control.count
    count = low + min(high - low, int(_stratum((*entropy, 90), number, total) * (high - low + 1)))
    others = tuple(
        name
        for place, (name, share) in enumerate(sorted(control.together.items()))
        if _stratum((*entropy, 100 + place), number, total) < share
    )
    return Order(Asked(**drawn), count, others)


def further(control: Control, rng: np.random.Generator) -> Asked:
    """Return what one more defect on a part is asked to be."""
    targets = {name: getattr(control, name) for name in BOUNDS}
    return Asked(
        **{
            name: value_at(target, name, float(rng.random()))
            for name, target in targets.items()
            if target is not None and not isinstance(target, str)
        }
    )


def value_at(target: Target, name: str, quantile: float) -> float:
    """Return the value of a target at a quantile in [0, 1]."""
    if isinstance(target, Histogram):
        total = np.cumsum(target.weights) / sum(target.weights)
        place = int(np.searchsorted(total, quantile, side="right").clip(0, len(total) - 1))
        before = float(total[place - 1]) if place else 0.0
        low, high = target.edges[place], target.edges[place + 1]
        quantile = (quantile - before) / max(float(total[place]) - before, 1e-12)
    else:
        low, high = target
    if name in _WHOLE:
        first, last = math.ceil(low), math.floor(high)
        return float(min(last, first + int(quantile * (last - first + 1)))) if last >= first else float(round(low))
    if name in _LOGARITHMIC:
        return float(low * (high / low) ** quantile)
    return float(low + quantile * (high - low))


def check_plan(general: Control, special: Mapping[str, Control], recipe: Recipe, px_per_mm: float | None) -> None:
    """Refuse classes and zones that a recipe has not, and lengths that can't be known. Raises `DataError`."""
    classes = recipe.class_names
    named = {*special, *general.together, *(name for one in special.values() for name in one.together)}
    if unknown := sorted(named - set(classes)):
        raise DataError(f"the plan names {', '.join(unknown)}, the classes are {', '.join(classes)}; correct the plan")
    for one in (general, *special.values()):
        if any(not zone.inside(recipe.height, recipe.width) for zone in one.zones):
            raise DataError(f"the plan's zones reach out of the {recipe.width}x{recipe.height} frame; correct the plan")
        if one.size is not None and one.size_unit == "mm" and px_per_mm is None:
            raise DataError(
                "sizes are asked in mm, and the calibration knows no pixels per mm; calibrate with a dot pitch or ask "
                "for sizes in px"
            )


def _ends(target: Target) -> Range:
    return (target.edges[0], target.edges[-1]) if isinstance(target, Histogram) else target


@lru_cache(maxsize=64)
def _shuffled(entropy: tuple[int, ...], total: int) -> tuple[list[int], list[float]]:
    rng = np.random.default_rng(entropy)
    return rng.permutation(total).tolist(), rng.random(total).tolist()


def _stratum(entropy: tuple[int, ...], number: int, total: int) -> float:
    places, within = _shuffled(entropy, total)
    return (places[number] + within[number]) / total
