"""A continuous run on a trigger line: the sensor exposes, the PLC announces, and here they come together.

::

    begin(): camera set up, edges counted from 1 --turn(), announce()--> parts with their frames, surplus, steps
                                                  | close(): no more announcements; those made are waited for
                                                  '--finish(): what still waits gets its FAULT

The line thread owns a run and calls everything but :meth:`TriggerRun.close`. A turn waits for one frame at most a few
milliseconds, so that announcements and errands are never kept waiting by a line that stands still. Several cameras take
turns (`daemon.strands`); one that is gone ends the run of all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from cell.errors import HardwareError, LightError
from cell.frames import AcquisitionFault
from cell.recipes import Recipe
from daemon.acquire import Acquirer, shares_of
from daemon.line_sets import Sighting
from daemon.pairing import Announcement, Finding, Refused, Rules, Step
from daemon.parts import Part
from daemon.strands import Strand, Strands
from drivers.cameras.base import fault_of

_LOG = logging.getLogger(__name__)

#: Longest wait for a frame in one turn, seconds.
TURN_S = 0.005
#: The light is tended so often while no part comes, seconds: controllers look after their connections four times a
#: second, and continuous light goes out when nobody does for `light.dark_after_s`.
TEND_S = 0.2
#: Faults of a single frame; after any other the camera is gone, and with it its count.
_OF_A_FRAME = frozenset(
    {
        AcquisitionFault.INCOMPLETE,
        AcquisitionFault.REPEATED,
        AcquisitionFault.STALE,
        AcquisitionFault.WRONG_SIZE,
        AcquisitionFault.SWAPPED,
        AcquisitionFault.OVERRUN,
    }
)

Findings = list[Finding[Part]]


@dataclass(frozen=True, slots=True)
class Counts:
    """What a run has seen, for people: edges with all their frames, edges without, parts announced.

    Of several cameras each sees every edge.
    """

    whole: int = 0
    in_doubt: int = 0
    announced: int = 0


class TriggerRun:
    """One run from StartContinuous to its end.

    :param part_of_nobody: makes the record for frames that no part was announced for.
    :param on_end: called once when the run is over: with None when it was closed and nothing waits, with the error
        when camera or light failed.
    """

    def __init__(
        self,
        acquirer: Acquirer,
        recipe: Recipe,
        rules: Rules,
        part_of_nobody: Callable[[], Part],
        on_end: Callable[[HardwareError | None], None],
    ) -> None:
        self.part_of_nobody = part_of_nobody
        self._acquirer = acquirer
        self._recipe = recipe
        self._rules = rules
        self._on_end = on_end
        self._strands: Strands[Part] = Strands(recipe, shares_of(recipe), rules)
        self._set_up = 0
        self._tend_at = 0.0
        self._closed = False
        self._ended = False
        self.counts = Counts()

    def begin(self) -> None:
        """Set the camera up for its line. Raises what `Acquirer.arm` raises."""
        self._acquirer.arm(self._recipe)
        self._set_up = self._acquirer.set_up
        self._tend_at = self._acquirer.clock() + TEND_S

    @property
    def ended(self) -> bool:
        """True when nothing is left to do."""
        return self._ended

    @property
    def blind(self) -> str:
        """Why a lost edge could go unseen in this run, in one sentence; empty when it could not."""
        if not self._strands.blind:
            return ""
        return (
            f"parts come every {self._strands.least_spacing_s * 1e3:.0f} ms and announcements may be off by "
            f"{self._rules.window_s * 1e3:.0f} ms, so a lost edge could pair a part with its neighbour's frames; lower "
            "window_ms or announce edge_time_ms"
        )

    def announce(self, part: Part, count: int, edge_time_s: float | None) -> Findings:
        """Take an announced part in. Returns what is now known."""
        if self._ended or self._closed:
            return [Refused(part, "aborted: the run ended as the part was announced")]
        self.counts = Counts(self.counts.whole, self.counts.in_doubt, self.counts.announced + 1)
        part.why_late = lambda: self._strands.waits_for(count)
        return self._strands.announce(Announcement(part, count, part.received, edge_time_s))

    def turn(self) -> Findings:
        """Wait a little for a frame and return what is now known."""
        findings: Findings = []
        if self._set_up != self._acquirer.set_up:
            return self.finish("aborted: the camera was set up anew while the part was under way")
        sightings: list[tuple[Strand[Part], Sighting]] = []
        who = ""
        try:
            for strand in self._strands.all:
                who = self._strands.called(strand)
                sightings += [(strand, sighting) for sighting in self._sightings(strand)]
            who = ""
            # Before any part gets its frames: they were lit, as far as the light can tell.
            if self._acquirer.clock() >= self._tend_at or any(sighting.frames for _, sighting in sightings):
                self._acquirer.tend()
                self._tend_at = self._acquirer.clock() + TEND_S
        except HardwareError as error:
            named = str(error).startswith(who.removesuffix(": "))
            return self.finish(f"{fault_of(error)}: {'' if named else who}{error}", error)
        for strand, sighting in sightings:
            self._count(sighting)
            findings += self._strands.sight(strand, sighting)
        self._strands.sweep(lambda part: part.claimed)
        findings += self._strands.expire(self._acquirer.clock(), self._patience_s)
        if self._closed and not self._strands.waiting:
            findings += self.finish("")
        return findings

    def close(self) -> None:
        """Take no more announcements; the run ends when those made have their frames or verdicts. From any thread."""
        self._closed = True

    def finish(self, reason: str, error: HardwareError | None = None) -> Findings:
        """End the run now: parts that wait are refused for `reason`, frames that wait are surplus.

        :param error: of camera or light, if that is why.
        """
        if self._ended:
            return []
        self._ended = self._closed = True
        findings = self._strands.end(reason)
        try:
            self._acquirer.dark()
        except LightError as trouble:
            _LOG.error("the light could not be switched off at the end of the run: %s", trouble)
        self._on_end(error)
        return findings

    def _sightings(self, strand: Strand[Part]) -> list[Sighting]:
        """Return what a frame or its absence tells of edges. Raises `HardwareError` when the camera is gone."""
        sets = strand.sets
        try:
            frame = self._acquirer.await_frame(sets.channel, TURN_S / len(self._strands.all))
        except HardwareError as error:
            if fault_of(error) not in _OF_A_FRAME:
                raise
            return sets.fault(error)
        now = self._acquirer.clock()
        return sets.turn(now) if frame is None else sets.add(frame, now)

    @property
    def _patience_s(self) -> float:
        """How long frames wait for their announcement: as long as a part may wait for its verdict."""
        return max(self._rules.window_s, self._recipe.deadline_ms / 1e3)

    def _count(self, sighting: Sighting) -> None:
        counts = self.counts
        whole = bool(sighting.frames)
        self.counts = Counts(counts.whole + whole, counts.in_doubt + (not whole), counts.announced)


def sentence_of(step: Step) -> str:
    """Return a step as a sentence for people."""
    state = "PLC and camera are out of step" if step.adrift else "PLC and camera are in step again"
    return f"{state}: {step.message}"
