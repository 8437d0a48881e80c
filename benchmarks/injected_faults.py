"""Clean frame sets and injected faults by the ten thousand: what is found, what is missed, what is blamed for nothing.

Sets are taken by the daemon's own code from the simulated camera, whose clock jumps to whatever is waited for. Whether
an accepted set is the right one is read from the mark in its frames' corners, which nothing that judges looks at.

    python -m benchmarks.injected_faults --sets 10000
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import ClassVar

from cell.clock import utc_now
from cell.frames import Acquired, FailedAcquisition, FrameSet
from cell.recipes import Recipe
from daemon.acquire import Acquirer
from daemon.hardware_trigger import Findings, TriggerRun
from daemon.pairing import Paired, Refused, Rules, Surplus
from daemon.parts import Part
from daemon.signatures import LEARNED, MEASURED
from drivers.cameras import simulated_mark
from drivers.cameras.simulated import Fault, SimulatedCamera
from drivers.cameras.simulated_device import VirtualTime
from drivers.cameras.simulated_stage import Album
from drivers.lights.simulated import SimulatedLight
from drivers.registry import Rig
from drivers.sim.cell import EmulatedCell
from drivers.sim.plate import PlateProduct, recipe_for_plate

#: How many distinct parts are shown, round and round, and the time between two of them on the line.
PARTS, SPACING_S = 200, 0.06
_DEADLINE_S = 0.5
#: Every so many parts one goes wrong, once the looks of the channels are learned; a surplus edge is given up after its
#: deadline only, which is some parts later.
EVERY, EVERY_SURPLUS = 3, 10
_WARM_UP = LEARNED + MEASURED + 8

#: By what names a fault may be found. A hang is found by the part's deadline; what it is, its process tells.
NAMES: dict[Fault, frozenset[str]] = {
    Fault.DROPPED: frozenset({"missing"}),
    Fault.REPEATED: frozenset({"repeated", "missing"}),
    Fault.STALE: frozenset({"stale", "missing"}),
    Fault.SWAPPED: frozenset({"swapped"}),
    Fault.INCOMPLETE: frozenset({"incomplete"}),
    Fault.TRUNCATED: frozenset({"wrong-size"}),
    Fault.WRONG_SIZE: frozenset({"wrong-size"}),
    Fault.UNDERRUN: frozenset({"missing"}),
    Fault.HANG: frozenset({"deadline", "lost-trigger"}),
    Fault.REMOVED: frozenset({"camera"}),
    Fault.LOST_TRIGGER: frozenset({"missing", "lost-trigger"}),
    Fault.SURPLUS_TRIGGER: frozenset({"stale", "surplus-trigger"}),
    Fault.OVERTRIGGERED: frozenset({"missing", "overrun"}),
}


@dataclass
class Tally:
    """What became of `sets` parts, of which `injected` were to go wrong.

    `found` parts got FAULT where one was due (its own part, or the next where only that can tell); `missed` did not;
    `ok_in_spite` were accepted with frames that are not theirs: the one number that must be 0 whatever else is;
    `aftermath` were good, and FAULT because one before had yet to be mended; `false_faults` were good and got FAULT
    for nothing: the last part before the next fault always counts as such.
    """

    COUNTS: ClassVar[tuple[str, ...]] = (
        *("sets", "injected", "found", "missed", "misnamed", "ok_in_spite", "false_faults", "aftermath"),
    )

    kind: str
    trigger: str
    sets: int = 0
    injected: int = 0
    found: int = 0
    missed: int = 0
    misnamed: int = 0
    ok_in_spite: int = 0
    false_faults: int = 0
    aftermath: int = 0
    names: dict[str, int] = field(default_factory=dict)  # under which fault each was found


@dataclass(frozen=True, slots=True)
class _Outcome:
    name: str  # "OK", or the fault's name
    wrong_frames: bool = False

    @property
    def good(self) -> bool:
        return self.name == "OK"


@cache
def _stage(channels: int, *, fresh: bool) -> Album:
    """Return the plates under K lights; rendered once for all runs unless every exposure is to be `fresh`."""
    return Album(EmulatedCell(PlateProduct(channels)), 0.0 if fresh else 2000.0)


class _Cell:
    """A plate under K lights, its camera in virtual time, and the acquirer."""

    def __init__(self, channels: int, trigger: str, *, fresh: bool, stamps: bool = True) -> None:
        self.clock = VirtualTime()
        self.camera = SimulatedCamera(
            _stage(channels, fresh=fresh),
            0.2,
            hang_s=5.0,
            trigger="line" if trigger == "line" else "software",
            mark_frames=True,
            clock=self.clock,
        )
        self.camera.device.stamps = stamps
        light = SimulatedLight(recipe_for_plate(channels).channel_names, self.camera.stage.illuminate)
        rig = Rig(camera=self.camera, light=light, present=self.camera.stage.present, emulated=True)
        self.recipe = recipe_for_plate(channels)
        self.acquirer = Acquirer(rig, clock=self.clock.now)

    def part(self, number: int) -> Part:
        return Part(
            job_id=f"j{number:08d}",
            trigger_id=number,
            part_id=f"good-{number % PARTS:06d}",
            recipe=self.recipe,
            received=self.clock.now(),
            created_at=utc_now(),
        )

    def outcome(self, part: Part, acquired: Acquired) -> _Outcome:
        if isinstance(acquired, FailedAcquisition):
            return _Outcome(str(acquired.fault))
        return _Outcome("OK", wrong_frames=not _are_of(acquired, part.part_id, self.recipe))


def _are_of(frames: FrameSet, part_id: str, recipe: Recipe) -> bool:
    marks = [simulated_mark.read(frame.pixels) for frame in frames.frames]
    if len(marks) != len(recipe.channels):
        return False
    number = simulated_mark.part_number(part_id)
    first = marks[0].exposure if marks[0] is not None else 0
    return all(
        mark is not None and (mark.part, mark.channel, mark.exposure) == (number, index, first + index)
        for index, mark in enumerate(marks)
    )


class SoftwareTriggered:
    """Parts one by one, as StartSingleJob takes them; without `stamps` from a camera that has no clock."""

    def __init__(self, channels: int, *, fresh: bool = False, stamps: bool = True) -> None:
        self._cell = _Cell(channels, "software", fresh=fresh, stamps=stamps)
        self._cell.acquirer.configure(self._cell.recipe)
        self._number = 0
        self.surplus = 0

    def inject(self, fault: Fault, position: int) -> None:
        """Let the exposure `position` of the next part go wrong."""
        self._cell.camera.device.inject([*([None] * position), fault])

    def take(self, parts: int) -> list[_Outcome]:
        """Take parts one after the other."""
        return [self._take() for _ in range(parts)]

    def _take(self) -> _Outcome:
        """Take a part; bring the camera back afterwards if it was lost."""
        cell, self._number = self._cell, self._number + 1
        part = cell.part(self._number)
        acquired = cell.acquirer.take(part)
        late = cell.clock.now() - part.received > _DEADLINE_S
        cell.camera.device.faults.clear()
        while cell.acquirer.lost:
            cell.camera.plug_in()
            cell.clock.advance(0.1)
            cell.acquirer.recover()
        cell.clock.advance(SPACING_S)
        outcome = cell.outcome(part, acquired)
        return _Outcome("deadline") if late and outcome.good else outcome


class LineTriggered:
    """A line that does not stop: the sensor fires, the PLC announces, frames and parts are paired."""

    def __init__(self, channels: int, *, timed: bool = True, fresh: bool = False) -> None:
        self._cell = _Cell(channels, "line", fresh=fresh)
        self._timed = timed
        self._number = self._count = 0
        self._run = self._begun()
        self._outcomes: dict[str, _Outcome] = {}
        self.surplus = 0

    def _begun(self) -> TriggerRun:
        cell = self._cell
        run = TriggerRun(cell.acquirer, cell.recipe, Rules(window_s=0.02), lambda: cell.part(0), lambda _: None)
        run.begin()
        self._count = 0
        return run

    def inject(self, fault: Fault, position: int) -> None:
        """Let the exposure `position` of the next part, or its edge, go wrong."""
        self._cell.camera.device.inject([*([None] * position), fault])

    def take(self, parts: int) -> list[_Outcome]:
        """Let parts pass, one every :data:`SPACING_S`, and return their verdicts."""
        taken = []
        for _ in range(parts):
            taken.append(self._pass())
        while any(part.job_id not in self._outcomes for part in taken):
            self._turn_until(self._cell.clock.now() + SPACING_S)
            self._expire(taken)
        self._cell.camera.device.faults.clear()
        return [self._outcomes.pop(part.job_id) for part in taken]

    def _pass(self) -> Part:
        cell = self._cell
        if self._run.ended:
            self._begin_anew()
        self._number += 1
        self._count += 1
        edge_s = cell.clock.now()
        cell.camera.fire(f"good-{self._number % PARTS:06d}")
        cell.clock.advance(0.001)
        part = cell.part(self._number)
        self._act(self._run.announce(part, self._count, edge_s if self._timed else None))
        self._turn_until(edge_s + SPACING_S)
        return part

    def _begin_anew(self) -> None:
        cell = self._cell
        while cell.acquirer.lost:
            cell.camera.plug_in()
            cell.clock.advance(0.1)
            cell.acquirer.recover()
        self._run = self._begun()

    def _expire(self, taken: list[Part]) -> None:
        for part in taken:
            if self._cell.clock.now() > part.received + _DEADLINE_S and not part.claimed:
                why = part.why_late
                self._answer(part, _Outcome("deadline" if why is None else why().split(":")[0]))

    def _turn_until(self, until: float) -> None:
        while self._cell.clock.now() < until and not self._run.ended:
            self._act(self._run.turn())
        if self._run.ended:
            self._cell.clock.advance(max(0.0, until - self._cell.clock.now()))

    def _act(self, findings: Findings) -> None:
        cell = self._cell
        for finding in findings:
            match finding:
                case Paired(part, sighting) if sighting.doubt is not None:
                    self._answer(part, _Outcome(str(sighting.doubt.fault)))
                case Paired(part, sighting):
                    self._answer(part, cell.outcome(part, cell.acquirer.complete(part, sighting.frames)))
                case Refused(part, reason):
                    self._answer(part, _Outcome(reason.split(":")[0]))
                case Surplus():
                    self.surplus += 1

    def _answer(self, part: Part, outcome: _Outcome) -> None:
        if part.claim():
            late = self._cell.clock.now() - part.received > _DEADLINE_S and outcome.good
            self._outcomes[part.job_id] = _Outcome("deadline") if late else outcome


Taker = SoftwareTriggered | LineTriggered


def clean(taker: Taker, sets: int, trigger: str) -> Tally:
    """Take good sets; every fault is a false one."""
    tally = Tally("clean", trigger)
    for outcome in taker.take(sets):
        tally.sets += 1
        tally.false_faults += not outcome.good
        tally.ok_in_spite += outcome.wrong_frames
        if not outcome.good:
            tally.names[outcome.name] = tally.names.get(outcome.name, 0) + 1
    return tally


def faulty(taker: Taker, fault: Fault, injected: int, channels: int, trigger: str) -> Tally:
    """Let one part of :data:`EVERY` go wrong, at each exposure in turn, until `injected` have."""
    tally = Tally(str(fault), trigger)
    taker.take(_WARM_UP)
    for number in range(injected):
        taker.inject(fault, 0 if fault in _OF_EDGES and trigger == "line" else number % channels)
        surplus = taker.surplus
        outcomes = taker.take(EVERY_SURPLUS if fault is Fault.SURPLUS_TRIGGER else EVERY)
        _book(tally, fault, outcomes, "surplus-trigger" if taker.surplus > surplus else "")
    return tally


_OF_EDGES = frozenset({Fault.LOST_TRIGGER, Fault.SURPLUS_TRIGGER, Fault.OVERTRIGGERED})
#: What only the part behind can tell: a surplus frame or edge does the part itself no harm.
_SEEN_LATER = frozenset({Fault.SURPLUS_TRIGGER, Fault.STALE, Fault.REPEATED})


def _book(tally: Tally, fault: Fault, outcomes: list[_Outcome], surplus: str) -> None:
    tally.sets += len(outcomes)
    tally.injected += 1
    tally.ok_in_spite += sum(outcome.wrong_frames for outcome in outcomes)
    tally.false_faults += not outcomes[-1].good
    faults = [outcome.name for outcome in outcomes if not outcome.good]
    due = outcomes[:2] if fault in _SEEN_LATER else outcomes[:1]
    found = [outcome.name for outcome in due if not outcome.good] or ([surplus] if surplus else [])
    if not found:
        tally.missed += 1
        return
    tally.found += 1
    tally.names[found[0]] = tally.names.get(found[0], 0) + 1
    tally.misnamed += found[0] not in NAMES[fault]
    tally.aftermath += max(0, len(faults) - 1 - (not outcomes[-1].good))


def run(
    sets: int, channels: int = 4, *, fresh: bool = False, faults: tuple[Fault, ...] = tuple(Fault)
) -> Iterator[Tally]:
    """Yield the tallies of clean sets and of every fault, with software and line triggers."""
    for trigger, taker_of in (
        ("software", lambda: SoftwareTriggered(channels, fresh=fresh)),
        ("line", lambda: LineTriggered(channels, fresh=fresh)),
    ):
        yield clean(taker_of(), sets, trigger)
        for fault in faults:
            yield faulty(taker_of(), fault, sets, channels, trigger)


def main() -> int:
    """Print a JSON line for each tally; return 1 when a fault was missed, a good set blamed or a wrong one accepted."""
    parser = argparse.ArgumentParser(prog="benchmarks.injected_faults", description=__doc__)
    parser.add_argument("--sets", type=int, default=1000, help="clean sets, and faults of each kind")
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--fresh", action="store_true", help="render every exposure anew; slow")
    parser.add_argument("--clean", action="store_true", help="clean sets only")
    options = parser.parse_args()
    bad = 0
    for tally in run(options.sets, options.channels, fresh=options.fresh, faults=() if options.clean else tuple(Fault)):
        print(json.dumps(asdict(tally)), flush=True)
        bad += tally.missed + tally.ok_in_spite + tally.false_faults
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
