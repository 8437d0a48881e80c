"""Which frames are which part's, on a line that does not stop: by counter, never by arrival.

The PLC and the camera count the edges of the same sensor. The PLC announces each part with its count, before, during or
after the exposure; the camera's frames carry the camera's count. After the start the first edge is number one for both,
so a part's frames are those whose count is the part's, however late either comes.

Counters can fall out of step: the camera may not see a short pulse that the PLC counts (a lost trigger), or see a
bounce that the PLC does not count (a surplus one). From then on equal counts mean neighbouring parts, and nothing would
look wrong. So every pair must agree in time as well:

- with the PLC's own clock in the announcement, the time between two edges is the same on both clocks;
- without, and after a pause in which these may have parted too far, the announcement was received within a window
  around the edge. Only a window below half the spacing of the edges can tell neighbours apart, see
  :attr:`Pairing.blind`; a bounce that falls into a part's window is taken for its edge once, and found with the next.

::

    in step --a pair disagrees in time--> adrift --pairs agree on another offset--> in step
                                          (parts whose pair is not proven meanwhile: FAULT)

One agreeing pair is enough with the PLC's clock; without it three in a row, of which the third is judged. Nothing here
knows threads or clocks: instants are handed in. Announcements and sightings wait here for each other, both bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from daemon.line_sets import Sighting

P = TypeVar("P")

#: Sightings that wait for their announcement, and edges whose fate is remembered.
_WAITING, _REMEMBERED = 32, 1024
#: Pairs that must agree on a new offset, without and with the PLC's clock.
_AGREEING, _AGREEING_TIMED = 3, 1
#: The PLC's clock and the camera's part by less than this.
_DRIFT = 3e-4
#: A TIME of 32 bits in milliseconds wraps; differences are taken modulo this, seconds.
_TIME_WRAP_S = (1 << 32) / 1e3


@dataclass(frozen=True, slots=True)
class Rules:
    """How counts and times are compared.

    `modulus` is where the PLC's counter wraps, `first_count` its count of the first edge after the start; `window_s`
    how far the receipt of an announcement may lie from its edge, `jitter_s` how exactly the PLC tells its clock.
    """

    window_s: float = 0.05
    modulus: int = 1 << 32
    first_count: int = 1
    jitter_s: float = 0.015


@dataclass(frozen=True, slots=True, eq=False)
class Announcement(Generic[P]):
    """A part that the PLC named: its count as sent, receipt on the host's clock, and the PLC's clock at the edge."""

    part: P
    count: int
    received_s: float
    edge_time_s: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Paired(Generic[P]):
    """These frames are this part's, or the sighting's doubt is why it has none."""

    part: P
    sighting: Sighting


@dataclass(frozen=True, slots=True)
class Refused(Generic[P]):
    """This part gets no frames."""

    part: P
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Surplus:
    """Frames that no part was announced for."""

    sighting: Sighting
    reason: str


@dataclass(frozen=True, slots=True)
class Step:
    """The counters fell out of step, or were found to be in step again."""

    adrift: bool
    message: str


Finding = Paired[P] | Refused[P] | Surplus | Step


class Pairing(Generic[P]):
    """Brings announcements and sightings together. For one thread."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._offset = 1 - rules.first_count  # the camera's count of an edge less the PLC's
        self._plc = rules.first_count - 1  # highest count announced, unwrapped
        self._camera = 0  # highest count sighted
        self._parts: OrderedDict[int, Announcement[P]] = OrderedDict()  # waiting, by the PLC's unwrapped count
        self._edges: OrderedDict[int, Sighting] = OrderedDict()  # waiting, by the camera's count
        self._told: OrderedDict[int, Announcement[P]] = OrderedDict()  # announced and answered
        self._gone: OrderedDict[int, str] = OrderedDict()  # what became of edges that are not waiting
        self._anchor: tuple[float, float] | None = None  # (PLC's clock, camera's clock) of the last pair in step
        self._adrift = False
        self._why_adrift = ""
        self._candidates: list[int] = []
        self._last_edge_s: float | None = None
        self._least_spacing_s = float("inf")
        self._untimed = False

    @property
    def adrift(self) -> bool:
        """True while the counters are known to be out of step: every part is FAULT."""
        return self._adrift

    @property
    def blind(self) -> bool:
        """True when, without the PLC's clock, an announcement may be as near to its neighbour's edge as to its own."""
        return self._untimed and self._least_spacing_s < 2 * self._rules.window_s

    @property
    def least_spacing_s(self) -> float:
        """The shortest time between two edges so far; infinite before there were two."""
        return self._least_spacing_s

    def waits_for(self, count: int) -> str:
        """Return why a part that was announced with this count has no frames yet; one sentence. From any thread."""
        if self._adrift:
            return f"{self._why_adrift}; the part's own frames were not found by time"
        if self._camera < self._unwrapped(count) + self._offset:
            seen = (self._camera - self._offset) % self._rules.modulus
            return (
                f"lost-trigger: the camera has seen no edge with count {count}, the last one it saw is {seen}; check "
                "sensor, cable and the camera's debouncer"
            )
        return f"missing: the frames of edge {count} did not all come; check bandwidth and buffers"

    def answered(self, count: int) -> bool:
        """Tell whether the part that was announced with this count has its frames or its reason. From any thread."""
        return self._unwrapped(count) in self._told

    def told_as(self, count: int) -> int:
        """Return the PLC's count of an edge that the camera counted so."""
        return (count - self._offset) % self._rules.modulus

    def announce(self, announcement: Announcement[P]) -> list[Finding[P]]:
        """Take an announcement in; return what is now known."""
        count = self._unwrapped(announcement.count)
        self._untimed = self._untimed or announcement.edge_time_s is None
        earlier = self._parts.pop(count, None)
        if earlier is not None:
            reason = f"swapped: two parts were announced with trigger count {announcement.count}; correct the PLC"
            self._remember_part(count, announcement)
            return [Refused(earlier.part, reason), Refused(announcement.part, reason)]
        if count in self._told:
            reason = f"swapped: trigger count {announcement.count} was announced and answered before; correct the PLC"
            return [Refused(announcement.part, reason)]
        self._plc = max(self._plc, count)
        if self._adrift:
            self._parts[count] = announcement
            return self._learn()
        sighting = self._edges.get(count + self._offset)
        if sighting is not None:
            return self._pair(count, announcement, sighting)
        fate = self._gone.get(count + self._offset)
        if fate is not None:
            self._remember_part(count, announcement)
            return [
                Refused(
                    announcement.part, f"missing: trigger count {announcement.count} was announced too late; {fate}"
                )
            ]
        self._parts[count] = announcement
        return []

    def sight(self, sighting: Sighting) -> list[Finding[P]]:
        """Take an edge in as the camera saw it; return what is now known."""
        if sighting.count <= self._camera:
            reason = sighting.doubt.detail if sighting.doubt is not None else "its count was there before"
            return [Surplus(sighting, f"surplus frames of edge {sighting.count}: {reason}")]
        self._camera = sighting.count
        self._note_spacing(sighting)
        if self._adrift:
            return self._keep(sighting) + self._learn()
        count = sighting.count - self._offset
        announcement = self._parts.get(count)
        if announcement is not None:
            return self._pair(count, announcement, sighting)
        answered = self._told.get(count)
        if answered is None:
            return self._keep(sighting)
        disagreement = self._disagreement(answered, sighting)
        if disagreement is None:  # only late: the part has its FAULT
            self._remember_edge(sighting.count, "its part had its verdict before the frames came")
            return []
        return [*self._fall_out(disagreement), *self._keep(sighting), *self._learn()]

    def expire(self, now_s: float, after_s: float) -> list[Finding[P]]:
        """Give up sightings whose announcement did not come within `after_s` of their edge."""
        found: list[Finding[P]] = []
        for count, sighting in list(self._edges.items()):
            if sighting.edge_s is not None and now_s - sighting.edge_s <= after_s:
                continue
            if sighting.edge_s is None and count + _WAITING > self._camera:
                continue  # an edge without frames: its part may still be announced
            del self._edges[count]
            found += self._unclaimed(sighting)
        return found

    def sweep(self, answered: Callable[[P], bool]) -> None:
        """Take note of parts that were answered otherwise: by their deadline, or aborted."""
        for count, announcement in list(self._parts.items()):
            if answered(announcement.part):
                del self._parts[count]
                self._remember_part(count, announcement)

    def end(self, reason: str) -> list[Finding[P]]:
        """Give up all that waits."""
        found: list[Finding[P]] = [Refused(announcement.part, reason) for announcement in self._parts.values()]
        self._parts.clear()
        for sighting in self._edges.values():
            found += self._unclaimed(sighting)
        self._edges.clear()
        return found

    @property
    def waiting(self) -> int:
        """Parts that were announced and have neither frames nor a verdict."""
        return len(self._parts)

    def _pair(self, count: int, announcement: Announcement[P], sighting: Sighting) -> list[Finding[P]]:
        self._parts.pop(count, None)
        self._edges.pop(sighting.count, None)
        disagreement = self._disagreement(announcement, sighting)
        if disagreement is not None:
            self._parts[count] = announcement  # which may find its own frames by time
            return [*self._fall_out(disagreement), *self._keep(sighting), *self._learn()]
        self._remember_part(count, announcement)
        self._remember_edge(sighting.count, "its frames were taken")
        self._set_anchor(announcement, sighting)
        return [Paired(announcement.part, sighting)]

    def _disagreement(self, announcement: Announcement[P], sighting: Sighting) -> str | None:
        """Return why a pair can't be, by time; None where it can or where no frame tells a time."""
        off_s = self._off_by(announcement, sighting)
        if off_s is None:
            return None
        kind, how = ("lost-trigger", "after") if off_s > 0 else ("surplus-trigger", "before")
        return (
            f"{kind}: the camera counted edge {announcement.count} {abs(off_s) * 1e3:.0f} ms {how} the PLC did; one of "
            "them missed an edge or counted one too many"
        )

    def _off_by(self, announcement: Announcement[P], sighting: Sighting) -> float | None:
        """Return by how much a sighting is later than its announcement says, seconds; None when they agree."""
        if sighting.edge_s is None:
            return None
        if announcement.edge_time_s is not None and self._anchor is not None:
            drift_s = self._drift_s(sighting)
            if drift_s is not None:
                plc_s = _difference(announcement.edge_time_s, self._anchor[0])
                off_s = (_instant(sighting) - self._anchor[1]) - plc_s
                return off_s if abs(off_s) > self._rules.jitter_s + drift_s else None
            self._untimed = True
        off_s = sighting.edge_s - announcement.received_s
        return off_s if abs(off_s) > self._rules.window_s else None

    def _fall_out(self, message: str) -> list[Finding[P]]:
        self._adrift, self._why_adrift = True, message
        self._candidates = []
        return [Step(adrift=True, message=message)]

    def _learn(self) -> list[Finding[P]]:
        """Look for the offset that announcements and sightings agree on in time."""
        found: list[Finding[P]] = []
        for count, announcement in list(self._parts.items()):
            near = [edge for edge in self._edges.values() if self._agrees(announcement, edge)]
            if len(near) != 1 or not self._only(near[0], announcement):
                continue
            self._candidates.append(near[0].count - count)
            timed = announcement.edge_time_s is not None and self._drift_s(near[0]) is not None
            needed = _AGREEING_TIMED if timed else _AGREEING
            latest = self._candidates[-needed:]
            if len(latest) == needed and len(set(latest)) == 1:
                return found + self._fall_in(latest[0], count, announcement)
            del self._parts[count]
            del self._edges[near[0].count]
            self._remember_part(count, announcement)
            self._remember_edge(near[0].count, "the counters were out of step")
            reason = f"{self._why_adrift}; they are being brought into step again"
            found.append(Refused(announcement.part, reason))
        return found

    def _fall_in(self, offset: int, count: int, announcement: Announcement[P]) -> list[Finding[P]]:
        slip = offset - self._offset
        self._offset, self._adrift, self._candidates = offset, False, []
        how = f"{-slip} edges fewer than" if slip < 0 else f"{slip} edges more than" if slip else "the same edges as"
        found: list[Finding[P]] = [Step(adrift=False, message=f"the camera has counted {how} the PLC")]
        sighting = self._edges[count + offset]
        found += self._pair(count, announcement, sighting)
        for other, waiting in list(self._parts.items()):
            if self._adrift or self._offset != offset:
                break  # a pair further down disagreed; what waits is for the next step
            if other not in self._parts:
                continue  # it left while one before it was brought into step
            edge = self._edges.get(other + offset)
            if edge is not None:
                found += self._pair(other, waiting, edge)
            elif other + offset <= self._camera:
                del self._parts[other]
                self._remember_part(other, waiting)
                reason = f"lost-trigger: the camera did not see the edge that the PLC counted as {waiting.count}"
                found.append(Refused(waiting.part, reason))
        return found

    def _agrees(self, announcement: Announcement[P], sighting: Sighting) -> bool:
        return sighting.edge_s is not None and self._off_by(announcement, sighting) is None

    def _only(self, sighting: Sighting, announcement: Announcement[P]) -> bool:
        return all(other is announcement or not self._agrees(other, sighting) for other in self._parts.values())

    def _drift_s(self, sighting: Sighting) -> float | None:
        """Return by how much the clocks may have parted since the last pair; None once that could hide a neighbour."""
        drift_s = _DRIFT * abs(_instant(sighting) - self._anchor[1]) if self._anchor is not None else float("inf")
        room_s = max(self._least_spacing_s / 2 - self._rules.jitter_s, self._rules.jitter_s)
        return drift_s if drift_s <= min(room_s, self._rules.window_s) else None

    def _set_anchor(self, announcement: Announcement[P], sighting: Sighting) -> None:
        if announcement.edge_time_s is not None and sighting.edge_s is not None:
            self._anchor = (announcement.edge_time_s, _instant(sighting))

    def _keep(self, sighting: Sighting) -> list[Finding[P]]:
        self._edges[sighting.count] = sighting
        found: list[Finding[P]] = []
        while len(self._edges) > _WAITING:
            _, oldest = self._edges.popitem(last=False)
            found += self._unclaimed(oldest)
        return found

    def _unclaimed(self, sighting: Sighting) -> list[Finding[P]]:
        self._remember_edge(sighting.count, "its frames were given up")
        if self._adrift and not sighting.frames:
            return []
        plc = self.told_as(sighting.count)
        return [
            Surplus(sighting, f"surplus-trigger: the camera saw edge {plc}, and no part was announced with that count")
        ]

    def _note_spacing(self, sighting: Sighting) -> None:
        if sighting.edge_s is None:
            return
        if self._last_edge_s is not None:
            self._least_spacing_s = min(self._least_spacing_s, sighting.edge_s - self._last_edge_s)
        self._last_edge_s = sighting.edge_s

    def _unwrapped(self, count: int) -> int:
        modulus = self._rules.modulus
        step = (count - self._plc) % modulus
        return self._plc + (step if step <= modulus // 2 else step - modulus)

    def _remember_part(self, count: int, announcement: Announcement[P]) -> None:
        _remember(self._told, count, announcement)

    def _remember_edge(self, count: int, fate: str) -> None:
        _remember(self._gone, count, fate)


_V = TypeVar("_V")


def _remember(memory: OrderedDict[int, _V], count: int, value: _V) -> None:
    memory[count] = value
    while len(memory) > _REMEMBERED:
        memory.popitem(last=False)


def _instant(sighting: Sighting) -> float:
    return sighting.device_s if sighting.device_s is not None else sighting.edge_s or 0.0


def _difference(later_s: float, earlier_s: float) -> float:
    """Return the time between two readings of the PLC's clock, which may have wrapped."""
    difference = (later_s - earlier_s) % _TIME_WRAP_S
    return difference if difference <= _TIME_WRAP_S / 2 else difference - _TIME_WRAP_S
