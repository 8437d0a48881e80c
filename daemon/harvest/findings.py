"""What harvest has to say to a person: what was taken, what was refused and why, and what is wrong with the cell.

A single refused part is a line in a table. When a reason comes again and again among the last parts it is a finding: a
sentence that says since which part, and what to look at. What was taken before stays as it is.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

#: A reason is a finding when it comes this often among the last parts.
_OFTEN, _AMONG = 3, 10
#: What to do, by the words a reason ends with or holds.
_ADVICE = (
    ("is dark", "look at its lamp and the light controller"),
    ("is saturated", "look at its exposure and its lamp"),
    ("is frozen", "restart the camera and look at its cable and driver"),
    ("out of order", "compare the wiring of the lights with the recipe's channels"),
    ("another product", "look whether the recipe is that of the product on the line, and whether material changed"),
    ("lies elsewhere", "look at camera and fixture; if the move is meant, begin a new recipe"),
    ("blurred", "look at the lens and the working distance"),
    ("no part on the carrier", "look at the feeder and the trigger's delay"),
    ("part cut off", "look at the fixture and the trigger's delay"),
    ("came again", "look whether parts are named twice or the camera is frozen"),
    ("other exposure", "set the camera up as the recipe says"),
    ("other gain", "set the camera up as the recipe says"),
    ("other channels", "harvest with the recipe that the pictures were taken with"),
    ("other size", "harvest with the recipe that the pictures were taken with"),
    ("reported bad", "look whether the line makes good parts at all"),
    ("unreadable", "look at the disk"),
)  # fmt: skip


@dataclass(slots=True)
class Reason:
    """How often a reason came, and on which parts first and last."""

    count: int = 0
    first: str = ""
    last: str = ""


@dataclass(slots=True)
class Journal:
    """See the module. Bounded: reasons are few, and of parts only the last are remembered."""

    taken: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, Reason] = field(default_factory=dict)
    looked_at: int = 0
    #: reason -> the part since which it is a finding
    since: dict[str, str] = field(default_factory=dict)
    _recent: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=_AMONG))

    def took(self, kind: str, part_id: str) -> None:
        """Count a part that was kept as a background or a seed proposal."""
        self.taken[kind] += 1
        self._saw(part_id, "")

    def refused(self, reason: str, part_id: str) -> None:
        """Count a part that was not kept, and why."""
        known = self.reasons.setdefault(reason, Reason(first=part_id))
        known.count += 1
        known.last = part_id
        self._saw(part_id, reason)
        if reason not in self.since and _advice(reason):
            same = [part for part, other in self._recent if other == reason]
            if len(same) >= _OFTEN:
                self.since[reason] = same[0]

    def passed(self, part_id: str) -> None:
        """Count a part of which nothing can be said yet."""
        self._saw(part_id, "")

    def refusals(self) -> dict[str, int]:
        """Return how often each reason came, most frequent first."""
        return {name: self.reasons[name].count for name in sorted(self.reasons, key=lambda n: -self.reasons[n].count)}

    def table(self) -> list[dict[str, Any]]:
        """Return one row for each kind and reason, what was taken first."""
        rows: list[dict[str, Any]] = [
            {"what": kind, "why": "", "parts": count, "first": "", "last": ""} for kind, count in self.taken.items()
        ]
        for name in self.refusals():
            known = self.reasons[name]
            rows.append(
                {"what": "refused", "why": name, "parts": known.count, "first": known.first, "last": known.last}
            )
        return rows

    def findings(self, backgrounds: int) -> list[dict[str, Any]]:
        """Return what a person should see to; `backgrounds` is how many there are."""
        recent = {reason for _, reason in self._recent}
        found = [
            {
                "finding": reason,
                "since": since,
                "parts": self.reasons[reason].count,
                "goes_on": reason in recent,
                "sentence": f"{reason} since part {since} ({self.reasons[reason].count} parts); {_advice(reason)}",
            }
            for reason, since in self.since.items()
        ]
        if self.looked_at >= _AMONG and not backgrounds:
            why = ", ".join(f"{count} {reason}" for reason, count in list(self.refusals().items())[:3])
            sentence = f"not one background among {self.looked_at} parts ({why or 'nobody said which are good'})"
            advice = "report good parts, or let more parts run"
            found.append(
                {"finding": "no good part", "since": "", "parts": self.looked_at, "goes_on": True,
                 "sentence": f"{sentence}; {advice}"}
            )  # fmt: skip
        return found

    def state(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        reasons = {name: asdict(reason) for name, reason in self.reasons.items()}
        return {"taken": self.taken, "reasons": reasons, "looked_at": self.looked_at, "since": self.since}

    @classmethod
    def recalled(cls, state: Mapping[str, Any]) -> Journal:
        """Return what :meth:`state` gave. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        reasons = {str(name): Reason(**reason) for name, reason in state["reasons"].items()}
        return cls(Counter(state["taken"]), reasons, int(state["looked_at"]), dict(state["since"]))

    def _saw(self, part_id: str, reason: str) -> None:
        self.looked_at += 1
        self._recent.append((part_id, reason))


def _advice(reason: str) -> str:
    return next((advice for words, advice in _ADVICE if words in reason), "")
