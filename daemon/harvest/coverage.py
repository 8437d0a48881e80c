"""Which conditions the kept backgrounds cover: lighting, place and texture, as the line really shows them.

Each quantity of a good part (its shift, its turn, the level and texture of each channel) falls into bins one robust
deviation wide. A part is worth keeping while one of its bins holds few; when the last parts all fell into full bins,
more backgrounds would no longer help. Bounded by the quantities, however many parts went by.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: Parts that are kept whatever they show (textures differ even where all else is equal), and then in each bin.
BASE, PER_BIN = 120, 2
#: Good parts from whose spread the bins are made.
_FIRST = 24
#: Last good parts that are asked whether one of them brought something new, and how many may have.
_RECENT, _MOST_NEW = 100, 5
_FARTHEST = 40
#: Least width of a bin: a difference below this is none. Shift in pixels, turn in degrees, others in log units.
_LEAST = {"down": 0.25, "across": 0.25, "turn": 0.1, "scale": 0.002, "level": 0.01, "texture": 0.04}


@dataclass(slots=True)
class Coverage:
    """See the module. `useful` before `keep`; `saw` for every good part, kept or not."""

    width: dict[str, float] = field(default_factory=dict)
    centre: dict[str, float] = field(default_factory=dict)
    kept: dict[str, Counter[int]] = field(default_factory=dict)
    seen: dict[str, Counter[int]] = field(default_factory=dict)
    count: int = 0
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _first: list[tuple[dict[str, float], bool]] = field(default_factory=list)

    def useful(self, values: Mapping[str, float]) -> bool:
        """Tell whether a good part with these figures would add something."""
        return self.count < BASE or self._thin(values)

    def saw(self, values: Mapping[str, float], *, kept: bool) -> None:
        """Count a good part in; `kept` when it became a background."""
        self.recent.append(self._thin(values))
        self.count += kept
        if self.width:
            self._count(values, kept=kept)
            return
        self._first.append((dict(values), kept))
        if len(self._first) == _FIRST:
            self._make_bins()

    @property
    def complete(self) -> bool:
        """True when more backgrounds would no longer help."""
        return self.count >= BASE and len(self.recent) == _RECENT and sum(self.recent) <= _MOST_NEW

    def table(self) -> list[dict[str, Any]]:
        """Return for each quantity the range that the line showed and how much of it is covered, in bins."""
        rows = []
        for name, seen in self.seen.items():
            kept, width, centre = self.kept[name], self.width[name], self.centre[name]
            rows.append(
                {
                    "quantity": name,
                    "low": round(centre + (min(seen) - 0.5) * width, 4),
                    "high": round(centre + (max(seen) + 0.5) * width, 4),
                    "bins": len(seen),
                    "covered": sum(1 for index in seen if kept[index]),
                }
            )
        return rows

    def state(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        counts = {
            side: {name: sorted(bins.items()) for name, bins in of.items()}
            for side, of in (("kept", self.kept), ("seen", self.seen))
        }
        first = [[values, kept] for values, kept in self._first]
        return {
            "width": self.width, "centre": self.centre, "count": self.count,
            "recent": [int(new) for new in self.recent], "first": first, **counts,
        }  # fmt: skip

    @classmethod
    def recalled(cls, state: Mapping[str, Any]) -> Coverage:
        """Return what :meth:`state` gave. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        made = cls(dict(state["width"]), dict(state["centre"]))
        made.count = int(state["count"])
        made.recent.extend(bool(new) for new in state["recent"])
        made._first = [(dict(values), bool(kept)) for values, kept in state["first"]]
        for side, of in (("kept", made.kept), ("seen", made.seen)):
            for name, bins in state[side].items():
                of[name] = Counter({int(index): int(count) for index, count in bins})
        return made

    def _thin(self, values: Mapping[str, float]) -> bool:
        if not self.width:
            return True
        return any(
            self.kept[name][self._bin(name, value)] < PER_BIN for name, value in values.items() if name in self.kept
        )

    def _make_bins(self) -> None:
        for name in self._first[0][0]:
            found = np.array([values[name] for values, _ in self._first if name in values])
            centre = float(np.median(found))
            spread = 1.4826 * float(np.median(np.abs(found - centre)))
            self.width[name] = max(spread, _LEAST[name.partition(" ")[0]])
            self.centre[name] = centre
            self.kept[name], self.seen[name] = Counter(), Counter()
        for values, kept in self._first:
            self._count(values, kept=kept)
        self._first.clear()

    def _count(self, values: Mapping[str, float], *, kept: bool) -> None:
        for name, value in values.items():
            if name in self.seen:
                index = self._bin(name, value)
                self.seen[name][index] += 1
                self.kept[name][index] += kept

    def _bin(self, name: str, value: float) -> int:
        index = round((value - self.centre[name]) / self.width[name])
        return max(-_FARTHEST, min(_FARTHEST, index))
