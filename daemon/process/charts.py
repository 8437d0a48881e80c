"""Control charts for many features at once: self-starting two-sided CUSUMs that allow for autocorrelation.

Each feature has a chart of its own (Page, Biometrika 41, 1954). Its in-control mean and its *long-run* variance (what
the mean of many parts varies by, autocorrelation included) are learned from the line itself and go on being learned,
with a delay, until enough parts were seen (self-starting, after Hawkins, Journal of Quality Technology 19, 1987). The
sums run in units of the long-run deviation: as random walks, ordinary variation that goes together from part to part
then crosses the limit as rarely as independent variation does (Bagshaw and Johnson, Technometrics 17, 1975). The limit
follows from the parts that shall pass between two false alarms of all charts together, by Siegmund's formula (1985).

Small changes are never told, however sure they are: what is less than half of a feature's *relevant* change, and what
is less than a part-to-part deviation, since shifts, days and lots move a line so much that runs well. While little was
seen yet, that much more is allowed.

Winsorised sums need some parts even for what can't be overlooked: so many parts running that lie far on one side are an
alarm by themselves (a run rule, as in the Western Electric handbook of 1956).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cell.errors import DataError

Vector = NDArray[np.float64]

#: Parts that all charts together let pass between two false alarms.
PARTS_A_FALSE_ALARM = 50_000
#: The formula's safety: estimated means and deviations, tails, correlated charts.
_MARGIN = 10.0
#: Allowance in long-run deviations: changes of twice that are found soonest.
_ALLOWANCE = 0.35
#: Part-to-part deviations by which a line may wander, once all was learned, and how much more at the first alarm.
_ORDINARY, _EARLY = 1.0, 0.8
#: Parts from which the first scales are taken, until charts run, and until nothing more is learned.
WARM_UP, LEAST, MOST = 64, 300, 1500
#: A part enters the mean only when so many later ones gave no alarm; they also tell what changed.
DELAY = 128
#: Values count at most so many deviations, or a little more than is ordinary: one defective part is no change.
_CLIP = 4.0
#: Parts running, so many long-run deviations away on one side, that are an alarm by themselves.
_RUN, _FAR = 5, 6.0
_LEVELS = 8
#: Blocks that a level needs to have a say on the long-run variance.
_LEAST_BLOCKS = 40
#: Independent parts that a feature's parts must be worth before it is charted, while the charts still learn.
_LEAST_EFFECTIVE = 40.0
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Alarm:
    """What the charts tell: when, since when, and which charts crossed, the furthest first."""

    part: int  # parts charted by then
    since: int  # the part at which the change began, estimated by the crossing chart's last zero
    crossed: tuple[str, ...]


def limit_for(charts: int, parts: float, allowance: float = _ALLOWANCE) -> float:
    """Return the limit of one-sided CUSUMs of unit variance, so that `charts` of them give one false alarm in `parts`.

    Siegmund's approximation: ``ARL = (exp(2 k b) - 2 k b - 1) / (2 k^2)`` with ``b = h + 1.166``.
    """
    wanted = parts * charts
    low, high = 0.0, 1000.0
    for _ in range(60):
        middle = (low + high) / 2
        b = 2 * allowance * (middle + 1.166)
        if np.exp(min(b, 700.0)) - b - 1 < 2 * allowance**2 * wanted:
            low = middle
        else:
            high = middle
    return high


class Charts:
    """See the module. One thread; values come one part after the other.

    :param names: one for each feature; :param relevant: least change of each that matters, in its own unit.
    """

    def __init__(
        self, names: Sequence[str], relevant: ArrayLike, parts_a_false_alarm: float = PARTS_A_FALSE_ALARM
    ) -> None:
        self.names = tuple(names)
        self._relevant = np.asarray(relevant, np.float64)
        self._limit = limit_for(2 * len(self.names), parts_a_false_alarm * _MARGIN)
        self._set_up()

    def _set_up(self) -> None:
        size = len(self.names)
        self.seen = 0
        self.learned = 0
        self.alarm: Alarm | None = None
        self._recent = np.zeros((DELAY, size))
        self._first: list[Vector] = []
        self._mean, self._least_scale = np.zeros(size), np.ones(size)
        self._upper, self._lower = np.zeros(size), np.zeros(size)
        self._zero = np.zeros((2, size), np.int64)  # last part at which each sum was zero
        # Dyadic blocks, means of 2^j parts: sums, squares and products of neighbours, about the first parts' median.
        self._open = np.zeros((_LEVELS, size))
        self._filled = np.zeros(_LEVELS, np.int64)
        self._blocks = np.zeros(_LEVELS, np.int64)
        self._sums, self._squares, self._products = (np.zeros((_LEVELS, size)) for _ in range(3))
        self._last = np.zeros((_LEVELS, size))
        self._origin = np.zeros(size)
        self._along = np.zeros(size)  # values times their number
        self._derive()

    def restart(self) -> None:
        """Forget all and learn anew: after a change that is known."""
        self._set_up()

    @property
    def watching(self) -> bool:
        """Tell whether enough was learned for alarms."""
        return self.learned >= LEAST

    @property
    def baseline(self) -> Vector:
        """Means that later parts are compared with, (M,)."""
        return self._mean

    @property
    def deviation(self) -> Vector:
        """Part-to-part standard deviations, (M,)."""
        return self._scale

    @property
    def levels(self) -> Vector:
        """How near each chart is to its limit, (M,): 1 is an alarm."""
        highest: Vector = np.maximum(self._upper, self._lower) / self._limit
        return highest

    def update(self, values: Vector) -> Alarm | None:
        """Take the features of one part, (M,), all finite; return the alarm when this part gives one.

        After an alarm nothing more is learned, and no second one is given, until :meth:`restart`.
        """
        slot = self.seen % DELAY
        leaves = self._recent[slot].copy() if self.seen >= DELAY else None
        self._recent[slot] = values
        self.seen += 1
        if self.alarm is not None:
            return None
        if leaves is not None and self.learned < MOST:
            self._learn(leaves)
        if not self.watching:
            return None
        return self._chart(values)

    def since(self, part: int) -> Vector:
        """Return the means of the recent parts from number `part` on, winsorised, (M,)."""
        count = int(min(max(self.seen - part, 1), self.seen, DELAY))
        chosen = self._recent[(self.seen - 1 - np.arange(count)) % DELAY]
        mean: Vector = np.median(chosen, axis=0) if count >= 5 else chosen.mean(axis=0)
        return mean

    def _learn(self, values: Vector) -> None:
        if self.learned < WARM_UP:
            self._first.append(values)
            self.learned += 1
            if self.learned == WARM_UP:
                self._begin()
            return
        self._accumulate(self._clipped(values))
        self.learned += 1
        # The deviations change slowly: looking again with every part would cost more than charting it.
        if self.learned <= LEAST or self.learned % 16 == 0 or self.learned == MOST:
            self._derive()

    def _begin(self) -> None:
        table = np.stack(self._first)
        self._first.clear()
        self._origin = np.median(table, axis=0)
        spread = 1.4826 * np.median(np.abs(table - self._origin), axis=0)
        self._least_scale = np.maximum(spread, 0.02 * self._relevant)
        self._mean, self._scale = self._origin.copy(), self._least_scale.copy()
        self._bound = _CLIP * self._scale
        for values in table:
            self._accumulate(self._clipped(values))
        self._derive()

    def _clipped(self, values: Vector) -> Vector:
        clipped: Vector = np.minimum(np.maximum(values, self._mean - self._bound), self._mean + self._bound)
        return clipped

    def _accumulate(self, values: Vector) -> None:
        block = values - self._origin
        self._along += block * self._blocks[0]
        for level in range(_LEVELS):
            self._sums[level] += block
            self._squares[level] += block * block
            if self._blocks[level]:
                self._products[level] += block * self._last[level]
            self._last[level] = block
            self._blocks[level] += 1
            self._open[level] += block
            self._filled[level] += 1
            if self._filled[level] < 2:
                return
            block = self._open[level] / 2
            self._open[level] = 0
            self._filled[level] = 0

    def _derive(self) -> None:
        """Work out mean, part-to-part deviation, long-run deviation and allowance from the blocks."""
        size = len(self.names)
        if self._blocks[0] < 2:
            self._scale = self._least_scale.copy()
            self._long_run, self._allow = self._scale.copy(), np.full(size, np.inf)
            self._bound = _CLIP * self._scale
            return
        parts = float(self._blocks[0])
        early = max(0.0, (MOST - parts) / (MOST - LEAST))
        # A steady drift while the charts learn must not pass for ordinary variation: its share is taken out.
        middle, spread = (parts - 1) / 2, (parts * parts - 1) / 12
        slope = (self._along / parts - middle * self._sums[0] / parts) / spread
        drift = slope * slope * spread
        long_run = np.zeros(size)
        for level in range(_LEVELS):
            count = float(self._blocks[level])
            if level and count < _LEAST_BLOCKS:
                break
            mean = self._sums[level] / count
            variance = np.maximum(self._squares[level] / count - mean * mean - drift, 1e-300)
            together = (self._products[level] / (count - 1) - mean * mean - drift) / variance
            # Upper end of what the neighbours' correlation may be; an AR(1) of blocks goes on beyond this level.
            together = np.clip(together + 1 / np.sqrt(count), 0.0, 0.97)
            long_run = np.maximum(long_run, (1 << level) * variance * (1 + together) / (1 - together))
        self._mean = self._origin + self._sums[0] / parts
        variance = self._squares[0] / parts - (self._sums[0] / parts) ** 2 - drift
        self._scale = np.maximum(np.sqrt(np.maximum(variance, 0)), self._least_scale)
        self._long_run = np.maximum(np.sqrt(long_run), self._scale)
        # The mean is known to so many long-run deviations; a chart must not add its error up for ever.
        uncertain = 3.0 / np.sqrt(parts)
        wander = np.maximum((_ORDINARY + _EARLY * early) * self._scale, 0.5 * self._relevant)
        self._allow = np.maximum(_ALLOWANCE + uncertain, wander / self._long_run)
        if early > 0:
            # Parts that go together tell less: a feature waits until as much is known of it as of independent ones.
            self._allow[parts * (self._scale / self._long_run) ** 2 < _LEAST_EFFECTIVE] = np.inf
        self._bound = np.maximum(_CLIP * self._scale, wander + (_CLIP - 1) * self._scale)

    def _chart(self, values: Vector) -> Alarm | None:
        away = (self._clipped(values) - self._mean) / self._long_run
        self._upper = np.maximum(self._upper + away - self._allow, 0)
        self._lower = np.maximum(self._lower - away - self._allow, 0)
        self._zero[0][self._upper == 0] = self.seen
        self._zero[1][self._lower == 0] = self.seen
        highest = np.maximum(self._upper, self._lower)
        if float(highest.max()) >= self._limit:
            first = int(highest.argmax())
            side = 0 if self._upper[first] >= self._lower[first] else 1
            return self._alarmed(int(self._zero[side][first]) + 1, highest / self._limit)
        if float((np.abs(values - self._mean) / self._long_run).max()) < _FAR:
            return None
        nearest = self._running()
        return self._alarmed(self.seen - _RUN + 1, nearest) if float(nearest.max()) >= 1 else None

    def _running(self) -> Vector:
        """Return how far away on one side the last parts all lie, (M,): 1 is an alarm."""
        last = self._recent[(self.seen - 1 - np.arange(_RUN)) % DELAY] - self._mean
        nearest = np.maximum(last.min(axis=0), -last.max(axis=0))
        far: Vector = nearest / np.maximum(_FAR * self._long_run, self._relevant)
        far[np.isinf(self._allow)] = 0.0
        return far

    def _alarmed(self, since: int, levels: Vector) -> Alarm:
        crossed = tuple(self.names[index] for index in np.argsort(-levels) if levels[index] >= 1)
        self.alarm = Alarm(self.seen, since, crossed)
        return self.alarm

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all that :meth:`restore` needs, as arrays."""
        alarm = self.alarm
        return {
            "format": np.array(_FORMAT),
            "names": np.array(self.names),
            "counts": np.array([self.seen, self.learned]),
            "alarm": np.array([] if alarm is None else [alarm.part, alarm.since]),
            "crossed": np.array([] if alarm is None else alarm.crossed, dtype=np.str_),
            "recent": self._recent,
            "first": np.stack(self._first) if self._first else np.zeros((0, len(self.names))),
            "vectors": np.stack([self._least_scale, self._upper, self._lower, self._origin, self._along]),
            "zero": self._zero,
            "levels": np.stack([self._open, self._sums, self._squares, self._products, self._last]),
            "blocks": np.stack([self._filled, self._blocks]),
        }

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on where :meth:`state` was taken. Raises `DataError` for other features or a state that is none."""
        try:
            same = int(state["format"]) == _FORMAT and tuple(map(str, state["names"])) == self.names
            shapes = {key: np.shape(value) for key, value in self.state().items() if key not in _GROWING}
            if not same or any(np.shape(state[key]) != shape for key, shape in shapes.items()):
                raise DataError("the charts' state is of other features; they learn anew")
            self.seen, self.learned = (int(count) for count in state["counts"])
            told = [int(part) for part in state["alarm"]]
            self.alarm = Alarm(told[0], told[1], tuple(map(str, state["crossed"]))) if told else None
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise DataError("the charts' state can't be read; they learn anew") from error
        self._recent = np.array(state["recent"], np.float64)
        self._first = [np.array(row, np.float64) for row in state["first"]]
        rows = np.array(state["vectors"], np.float64)
        self._least_scale, self._upper, self._lower, self._origin, self._along = rows
        self._zero = np.array(state["zero"], np.int64)
        levels = np.array(state["levels"], np.float64)
        self._open, self._sums, self._squares, self._products, self._last = levels
        self._filled, self._blocks = np.array(state["blocks"], np.int64)
        self._derive()


#: Arrays of a state whose length tells something.
_GROWING = frozenset({"alarm", "crossed", "first"})
