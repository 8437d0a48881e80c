"""What a set of seeds lacks before a generator can learn from it: number, variety of place, size and direction."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from cell.base import Record
from cell.defects import Mask, Seed, SeedState, Split
from cell.recipes import Recipe

#: Seeds of a class: fewer say too little about it, more cost a person's time and add little.
LEAST_SEEDS, ENOUGH_SEEDS = 3, 10
#: Seeds lie in one place when all are within this share of the frame's diagonal of each other.
_PLACE_SHARE = 0.12
#: They have one size when the largest is at most so many times as long as the smallest.
_SIZE_RATIO = 1.35
#: They lie in one direction when all elongated ones are within this angle of each other, degrees.
_DIRECTION_DEG = 20.0
#: Length over width from which a region has a direction.
_ELONGATED = 2.0


class LackKind(StrEnum):
    """What is wrong with the seeds of a class."""

    TOO_FEW = "too-few"
    ONE_PART = "one-part"
    ONE_LOT = "one-lot"
    ONE_PLACE = "one-place"
    ONE_SIZE = "one-size"
    ONE_DIRECTION = "one-direction"
    UNUSABLE = "unusable"
    DUPLICATE = "duplicate"
    MORE_THAN_ENOUGH = "more-than-enough"
    WAITING = "waiting"
    NOTHING_HELD_OUT = "nothing-held-out"


#: What keeps a class from being learned; the others are advice.
BLOCKING = frozenset({LackKind.TOO_FEW, LackKind.ONE_PART})


class Lack(Record):
    """One finding about the seeds of one class, in a sentence that says what to do."""

    defect_class: str
    kind: LackKind
    message: str
    seed_ids: tuple[str, ...] = ()
    blocking: bool = False


class ClassSeeds(Record):
    """Where the seeds of one class stand; `usable` are confirmed, on the learning side and fit."""

    defect_class: str
    usable: int = 0
    parts: int = 0
    unusable: int = 0
    proposed: int = 0
    held_out: int = 0
    lacks: tuple[Lack, ...] = ()

    @property
    def ready(self) -> bool:
        """True when the class can be learned."""
        return not any(lack.blocking for lack in self.lacks)


@dataclass(frozen=True, slots=True)
class SeedLook:
    """Place, size and direction of one seed: `center` (row, column) px, `size_px` the square root of its area."""

    seed: Seed
    center: tuple[float, float]
    size_px: float
    direction_deg: float  # of the long axis against the rows, in [0, 180)
    elongation: float  # length over width, 1 for round ones


def look_at(seed: Seed, mask: Mask) -> SeedLook:
    """Measure a seed's mask (H, W) bool by its moments (Hu, 1962)."""
    rows, columns = (axis.astype(np.float64) for axis in np.nonzero(mask))
    row, column = float(rows.mean()), float(columns.mean())
    # A pixel is a square, not a point: its own moment of inertia is 1/12.
    down = float(((rows - row) ** 2).mean()) + 1 / 12
    across = float(((columns - column) ** 2).mean()) + 1 / 12
    mixed = float(((rows - row) * (columns - column)).mean())
    half, root = (down + across) / 2, math.hypot((across - down) / 2, mixed)
    direction = math.degrees(0.5 * math.atan2(2 * mixed, across - down)) % 180
    elongation = math.sqrt((half + root) / max(half - root, 1e-9))
    return SeedLook(seed, (row, column), math.sqrt(rows.size), direction, elongation)


def summarise(
    recipe: Recipe, looks: Iterable[SeedLook], problems: dict[str, str], duplicates: dict[str, str]
) -> tuple[ClassSeeds, ...]:
    """Return where the seeds of each class of a recipe stand and what each class lacks.

    :param looks: all seeds that were not refused and whose masks could be read.
    :param problems: why a confirmed seed can't be used, by seed id.
    :param duplicates: of which seed one is a duplicate, by seed id.
    """
    measured = list(looks)
    return tuple(_of_class(recipe, name, measured, problems, duplicates) for name in recipe.class_names)


def _of_class(
    recipe: Recipe, name: str, measured: Sequence[SeedLook], problems: dict[str, str], duplicates: dict[str, str]
) -> ClassSeeds:
    mine = [look for look in measured if look.seed.defect_class == name]
    confirmed = [look for look in mine if look.seed.state is SeedState.CONFIRMED]
    waiting = [look.seed.seed_id for look in mine if look.seed.state is SeedState.PROPOSED]
    learned = [look for look in confirmed if look.seed.split is Split.LEARN]
    bad = {look.seed.seed_id: problems[look.seed.seed_id] for look in learned if look.seed.seed_id in problems}
    again = {
        look.seed.seed_id: duplicates[look.seed.seed_id]
        for look in learned
        if look.seed.seed_id in duplicates and look.seed.seed_id not in bad
    }
    good = [look for look in learned if look.seed.seed_id not in bad and look.seed.seed_id not in again]
    held = sum(look.seed.split is Split.HELD_OUT and look.seed.seed_id not in problems for look in confirmed)
    lacks = [*_unusable(name, len(learned), bad, again), *_number(name, good, waiting)]
    lacks += _variety(name, recipe, good)
    if held == 0:
        text = f"no held-out part with {name} is confirmed; nothing can measure how well it is found"
        lacks.append(Lack(defect_class=name, kind=LackKind.NOTHING_HELD_OUT, message=text))
    return ClassSeeds(
        defect_class=name,
        usable=len(good),
        parts=len({look.seed.part_id for look in good}),
        unusable=len(bad) + len(again),
        proposed=len(waiting),
        held_out=held,
        lacks=tuple(lacks),
    )


def _unusable(name: str, total: int, bad: dict[str, str], again: dict[str, str]) -> list[Lack]:
    lacks = []
    if bad:
        first, why = next(iter(bad.items()))
        text = f"{len(bad)} of {total} seeds of {name} can't be used ({first}: {why}); refuse it and confirm another"
        lacks.append(Lack(defect_class=name, kind=LackKind.UNUSABLE, message=text, seed_ids=tuple(bad)))
    if again:
        first, of = next(iter(again.items()))
        text = f"{len(again)} of {total} seeds of {name} show a part again ({first} that of {of}); they count once"
        lacks.append(Lack(defect_class=name, kind=LackKind.DUPLICATE, message=text, seed_ids=tuple(again)))
    return lacks


def _number(name: str, good: Sequence[SeedLook], waiting: Sequence[str]) -> list[Lack]:
    lacks = []
    names = tuple(look.seed.seed_id for look in good)
    if len(good) < LEAST_SEEDS:
        missing = LEAST_SEEDS - len(good)
        text = f"{name} has {len(good)} of at least {LEAST_SEEDS} seeds; confirm {missing} more of other parts"
        lacks.append(Lack(defect_class=name, kind=LackKind.TOO_FEW, message=text, seed_ids=names, blocking=True))
    elif len({look.seed.part_id for look in good}) < 2:
        text = f"all {len(good)} seeds of {name} are of part {good[0].seed.part_id}; confirm some of another part"
        lacks.append(Lack(defect_class=name, kind=LackKind.ONE_PART, message=text, seed_ids=names, blocking=True))
    if len(good) > ENOUGH_SEEDS:
        text = f"{name} has {len(good)} seeds; {ENOUGH_SEEDS} that differ are enough"
        lacks.append(Lack(defect_class=name, kind=LackKind.MORE_THAN_ENOUGH, message=text))
    if waiting:
        text = f"{len(waiting)} proposals of {name} wait for a person"
        lacks.append(Lack(defect_class=name, kind=LackKind.WAITING, message=text, seed_ids=tuple(waiting)))
    return lacks


def _variety(name: str, recipe: Recipe, good: Sequence[SeedLook]) -> list[Lack]:
    if len(good) < LEAST_SEEDS:
        return []
    found: list[tuple[LackKind, str]] = []
    spread = _widest(np.array([look.center for look in good]))
    if spread < _PLACE_SHARE * math.hypot(recipe.height, recipe.width):
        row, column = (round(float(value)) for value in np.mean([look.center for look in good], axis=0))
        text = f"all seeds of {name} lie within {spread:.0f} px about ({column}, {row}); confirm some elsewhere"
        found.append((LackKind.ONE_PLACE, text))
    sizes = sorted(look.size_px for look in good)
    if sizes[-1] < _SIZE_RATIO * sizes[0]:
        text = f"all seeds of {name} are {sizes[0]:.0f} to {sizes[-1]:.0f} px large; confirm smaller and larger ones"
        found.append((LackKind.ONE_SIZE, text))
    long = [look.direction_deg for look in good if look.elongation >= _ELONGATED]
    if len(long) >= LEAST_SEEDS and _fan(long) < _DIRECTION_DEG:
        text = f"all long seeds of {name} lie within {_fan(long):.0f} degrees of one direction; confirm some across it"
        found.append((LackKind.ONE_DIRECTION, text))
    lots = {look.seed.lot for look in good}
    if len(lots) == 1 and lots != {""}:
        text = f"all seeds of {name} are of lot {next(iter(lots))}; confirm some of another lot"
        found.append((LackKind.ONE_LOT, text))
    names = tuple(look.seed.seed_id for look in good)
    return [Lack(defect_class=name, kind=kind, message=text, seed_ids=names) for kind, text in found]


def _widest(points: NDArray[np.float64]) -> float:
    """Return the largest distance between two of the points (N, 2)."""
    offsets = points[:, None] - points[None]
    return float(np.sqrt((offsets**2).sum(axis=2)).max())


def _fan(directions: Sequence[float]) -> float:
    """Return the smallest angle that holds all directions, degrees; a direction and its opposite are the same."""
    ordered = sorted(direction % 180 for direction in directions)
    gaps = [after - before for before, after in itertools.pairwise(ordered)]
    return 180 - max([*gaps, 180 - ordered[-1] + ordered[0]])
