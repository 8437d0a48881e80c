"""Several cameras on one trigger line: each counts its own edges, and a part is whole when all gave their frames.

::

    announcement --> pairing of camera A --its frames--.
                 '-> pairing of camera B --its frames--+--> do their clocks agree? --> the part's frames, in one set
                     lost, in doubt, too late ---------'--> FAULT that names the camera

Counters of several cameras are not one: each may miss an edge or count one too many by itself, and is brought into step
with the PLC by itself. So each camera has a pairing of its own (`daemon.pairing`), and what these find is joined here.

Frames that are one part's by count must be one edge's by time as well: between two parts the same time has passed on
the clocks of all cameras. That finds a camera that slipped by an edge even where announcements are too coarse to.
Where a camera has no clock the instants of receipt stand for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from cell.frames import AcquisitionFault
from cell.recipes import Recipe
from daemon.evidence import Doubt
from daemon.line_sets import LineSets, Sighting
from daemon.pairing import Announcement, Finding, Paired, Pairing, Refused, Rules, Step, Surplus

P = TypeVar("P")

#: Frames of one edge were exposed, or reached the host, within this, seconds; and quartzes part by so much.
_TOGETHER_S, _DRIFT = 0.03, 3e-4
#: Where edges come so fast that this would not tell neighbours apart: this share of the least time between two, but
#: not less than cameras take from an edge to their exposure one time and another, seconds.
_SHARE, _CLOCKS_S = 0.25, 0.002
#: Sets in a row that must be exposed together, by clocks that are known by then, before the first is held against none.
_AGREEING = 3
#: Surplus edges that were told are remembered, so that each is told once and not once a camera.
_REMEMBERED = 64


@dataclass(frozen=True, slots=True, eq=False)
class Strand(Generic[P]):
    """One camera of a run: its frames by edge, its edges by part."""

    role: str
    sets: LineSets
    pairing: Pairing[P]
    lag_s: float  # from an exposure's begin to its end


class Strands(Generic[P]):
    """What all cameras of a run give, as if it came from one. For one thread.

    :param shares: by camera the recipe with that camera's channels; of one camera nothing is joined or named.
    """

    def __init__(self, recipe: Recipe, shares: dict[str, Recipe], rules: Rules) -> None:
        self.all: tuple[Strand[P], ...] = tuple(
            Strand(role, LineSets(share), Pairing(rules), share.channels[0].exposure_us / 1e6)
            for role, share in shares.items()
        )
        self._recipe = recipe
        self._single = len(self.all) == 1
        self._open: dict[int, tuple[P, dict[str, Sighting]]] = {}  # by the part's identity
        self._anchors: dict[str, tuple[float, float]] = {}  # by camera: (first camera's instant, its own) of a good set
        self._contrary: dict[str, int] = {}  # by camera: sets in a row that were exposed together, against the anchor
        self._surplus: list[int] = []

    @property
    def waiting(self) -> int:
        """Parts that were announced and lack frames of at least one camera."""
        return max(strand.pairing.waiting for strand in self.all)

    @property
    def blind(self) -> bool:
        """See `Pairing.blind`."""
        return any(strand.pairing.blind for strand in self.all)

    @property
    def least_spacing_s(self) -> float:
        """See `Pairing.least_spacing_s`."""
        return min(strand.pairing.least_spacing_s for strand in self.all)

    def waits_for(self, count: int) -> str:
        """Return why a part that was announced with this count is not whole yet; one sentence. From any thread."""
        late = next((strand for strand in self.all if not strand.pairing.answered(count)), self.all[0])
        return self._named(late, late.pairing.waits_for(count))

    def announce(self, announcement: Announcement[P]) -> list[Finding[P]]:
        """Take an announcement in; return what is now known."""
        found: list[Finding[P]] = []
        for strand in self.all:
            found += self._joined(strand, strand.pairing.announce(announcement))
        return found

    def sight(self, strand: Strand[P], sighting: Sighting) -> list[Finding[P]]:
        """Take an edge in as one camera saw it; return what is now known."""
        return self._joined(strand, strand.pairing.sight(sighting))

    def expire(self, now_s: float, after_s: float) -> list[Finding[P]]:
        """See `Pairing.expire`."""
        found: list[Finding[P]] = []
        for strand in self.all:
            found += self._joined(strand, strand.pairing.expire(now_s, after_s))
        return found

    def sweep(self, answered: Callable[[P], bool]) -> None:
        """Take note of parts that were answered otherwise: by their deadline, aborted, or for another camera."""
        for strand in self.all:
            strand.pairing.sweep(answered)
        for key, (part, _) in list(self._open.items()):
            if answered(part):
                del self._open[key]

    def end(self, reason: str) -> list[Finding[P]]:
        """Give up all that waits, each part once: the reason is the run's and no camera's."""
        refused: dict[int, Finding[P]] = {}
        surplus: list[Finding[P]] = []
        for strand in self.all:
            for finding in strand.pairing.end(reason):
                if isinstance(finding, Refused):
                    refused[id(finding.part)] = finding
                else:
                    surplus += self._joined(strand, [finding])
        self._open.clear()
        return [*refused.values(), *surplus]

    def _joined(self, strand: Strand[P], findings: list[Finding[P]]) -> list[Finding[P]]:
        if self._single:
            return findings
        found: list[Finding[P]] = []
        for finding in findings:
            match finding:
                case Paired(part, sighting):
                    found += self._collect(strand, part, sighting)
                case Refused(part, reason):
                    self._open.pop(id(part), None)
                    found.append(Refused(part, self._named(strand, reason)))
                case Surplus(sighting, reason):
                    found += self._surplus_once(strand, sighting, reason)
                case Step(_, message):
                    # Until all are in step again parts are FAULT, and the condition must stay.
                    self._anchors.clear()
                    adrift = any(other.pairing.adrift for other in self.all)
                    found.append(Step(adrift, self._named(strand, message)))
        return found

    def _collect(self, strand: Strand[P], part: P, sighting: Sighting) -> list[Finding[P]]:
        if sighting.doubt is not None:
            self._open.pop(id(part), None)
            doubt = replace(sighting.doubt, detail=self._named(strand, sighting.doubt.detail))
            return [Paired(part, replace(sighting, doubt=doubt))]
        _, sightings = self._open.setdefault(id(part), (part, {}))
        sightings[strand.role] = sighting
        if len(sightings) < len(self.all):
            return []
        del self._open[id(part)]
        return [Paired(part, self._whole(sightings))]

    def _whole(self, sightings: dict[str, Sighting]) -> Sighting:
        """Return one sighting with the frames of all, in the recipe's order, or in doubt where clocks disagree."""
        first = self.all[0]
        leading = sightings[first.role]
        for strand in self.all[1:]:
            doubt = self._doubt_of_time(leading, strand, sightings[strand.role])
            if doubt is not None:
                return replace(leading, frames=(), doubt=doubt)
        for strand in self.all[1:]:
            self._anchors[strand.role] = _instants(leading, sightings[strand.role])
        frames = {frame.channel: frame for sighting in sightings.values() for frame in sighting.frames}
        return replace(leading, frames=tuple(frames[name] for name in self._recipe.channel_names))

    def _doubt_of_time(self, leading: Sighting, strand: Strand[P], sighting: Sighting) -> Doubt | None:
        allowed_s = min(_TOGETHER_S, max(_CLOCKS_S, _SHARE * self.least_spacing_s))
        # Frames are received, and so dated by the host, an exposure later than they begin.
        host_s = (sighting.edge_s or 0.0) - (leading.edge_s or 0.0) - (strand.lag_s - self.all[0].lag_s)
        anchor = self._anchors.get(strand.role)
        off_s = host_s
        if anchor is not None:
            first_s, own_s = _instants(leading, sighting)
            since_s = first_s - anchor[0]
            drift_s = _DRIFT * abs(since_s)
            # Clocks that may have parted by more, in a pause, would let a neighbour's frames pass.
            if drift_s <= allowed_s:
                off_s = (own_s - anchor[1]) - since_s
                allowed_s += drift_s
        if abs(off_s) <= allowed_s:
            self._contrary[strand.role] = 0
            return None
        if anchor is not None and abs(host_s) <= allowed_s and leading.dated and sighting.dated:
            # Exposed together again and again: it was the set before that was none.
            self._contrary[strand.role] = self._contrary.get(strand.role, 0) + 1
            if self._contrary[strand.role] >= _AGREEING:
                self._contrary[strand.role] = 0
                return None
        else:
            self._contrary[strand.role] = 0
        how = "after" if off_s > 0 else "before"
        detail = (
            f"camera {strand.role} took its frames of the part {abs(off_s) * 1e3:.0f} ms {how} camera "
            f"{self.all[0].role} did, though their counts agree; one of them missed an edge and counted another, check "
            "sensor, cables and debouncers"
        )
        return Doubt(AcquisitionFault.SWAPPED, detail, tuple(frame.channel for frame in sighting.frames))

    def _surplus_once(self, strand: Strand[P], sighting: Sighting, reason: str) -> list[Finding[P]]:
        """Tell of an edge that no part was announced for once, by the first camera that gives it up; without frames.

        What one camera saw of it is no frame set.
        """
        count = strand.pairing.told_as(sighting.count)
        if count in self._surplus:
            return []
        self._surplus = [*self._surplus, count][-_REMEMBERED:]
        return [Surplus(replace(sighting, frames=()), self._named(strand, reason))]

    def called(self, strand: Strand[P]) -> str:
        """Return how a sentence of one camera begins; empty where there is only one."""
        return "" if self._single else f"camera {strand.role}: "

    def _named(self, strand: Strand[P], sentence: str) -> str:
        # The fault's name stays in front.
        fault, colon, rest = sentence.partition(": ")
        if colon and " " not in fault:
            return f"{fault}: {self.called(strand)}{rest}"
        return f"{self.called(strand)}{sentence}"


def _instants(leading: Sighting, sighting: Sighting) -> tuple[float, float]:
    """Return the instants of both, each on its camera's own clock, or both on the host's."""
    if leading.device_s is not None and sighting.device_s is not None:
        return leading.device_s, sighting.device_s
    return leading.edge_s or 0.0, sighting.edge_s or 0.0
