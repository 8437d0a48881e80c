"""The simulated camera's device: sensor, trigger line, sequencer, counters, clock, and the buffers that frames wait in.

::

    software trigger --------> one exposure, under the light that is on
    edge of the sensor line -> counted; idle: K exposures, each under its channel's light, as a sequencer does
                                        busy: none (overtrigger)

An exposure takes its time on `clock`: a buffer can be retrieved when exposure and readout are over. All methods are
safe for threads, because an edge comes when it comes. What the device delivers is what a vendor's library would hand
over; which fault it shows is its secret.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from cell.errors import CameraError
from cell.frames import Pixels
from cell.recipes import Channel, Recipe
from drivers.cameras import simulated_mark
from drivers.cameras.simulated_faults import OF_THE_LINE, Fault, spoil
from drivers.cameras.simulated_stage import Album, deepen

#: Buffers that the driver has queued; a line that is not read for longer loses frames.
BUFFERS = 64
#: From the end of an exposure to its buffer, and the least pause between two exposures of a sequence, seconds.
READOUT_S = 0.0002
#: Counters wrap as a camera's do.
_COUNTER = 1 << 32
#: Reading of the device's clock when the host's shows 0.
_EPOCH_NS = 5_000_000_000


class Timekeeper(Protocol):
    """A clock that can be waited on; a test's own may run ahead of the world."""

    def now(self) -> float:
        """Return seconds on a clock that never steps."""

    def wait(self, changed: threading.Condition, until: float) -> bool:
        """Wait, holding `changed`, for its notification or for the instant `until`, whichever is first.

        False when neither came, and who waits is to go on all the same: a test's clock may stand still.
        """


class WorldTime:
    """The system's monotonic clock."""

    def now(self) -> float:
        """See :class:`Timekeeper`."""
        return time.monotonic()

    def wait(self, changed: threading.Condition, until: float) -> bool:
        """See :class:`Timekeeper`."""
        changed.wait(max(0.0, until - time.monotonic()))
        return True


class VirtualTime:
    """A clock that jumps to whatever is waited for: ten thousand parts in seconds. For one thread."""

    def __init__(self) -> None:
        self._now = 1000.0

    def now(self) -> float:
        """See :class:`Timekeeper`."""
        return self._now

    def wait(self, changed: threading.Condition, until: float) -> bool:
        """See :class:`Timekeeper`."""
        del changed  # nobody else could notify it
        self._now = max(self._now, until)
        return True

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """What a vendor's library hands over: pixels and what it says of them."""

    pixels: Pixels
    complete: bool
    block_id: int
    timestamp_ns: int  # the device's clock at the start of the exposure; 0: it has none
    trigger_count: int | None  # edges of the trigger line when it was exposed; None without one
    exposure_us: float
    gain_db: float
    ready_at: float


class SimulatedDevice:
    """See the module. `faults` are taken from the left: one an exposure or, for faults of the line, one an edge."""

    def __init__(
        self, stage: Album, *, clock: Timekeeper, hang_s: float, mark_frames: bool, buffers: int = BUFFERS
    ) -> None:
        self.faults: deque[Fault | None] = deque()
        self.hang_s = hang_s
        self.removed = self.closed = False
        self.edges = self.overtriggered = self.underruns = 0
        self._stage = stage
        self._clock = clock
        self._mark_frames = mark_frames
        self._most = buffers
        self.stamps = True  # False: a device without a clock
        self._changed = threading.Condition()
        self._staging = threading.Lock()  # what lies there; taken before `_changed`
        self._recipe: Recipe | None = None
        self._on_line = False
        self._first_count = self._first_block = 0
        self._count = self._block_id = self._exposures = 0
        self._busy_until = self._exposing_until = 0.0
        self._armed_at = 0.0
        self._hang = False
        self._queue: deque[Buffer] = deque()
        self._past: deque[Buffer] = deque()

    def arm(self, recipe: Recipe, *, on_line: bool) -> None:
        """Empty the buffers, let block ids and the edge counter begin anew, and wait for triggers."""
        with self._changed:
            self.require_there()
            self._recipe, self._on_line = recipe, on_line
            self._count, self._block_id = self._first_count, self._first_block
            self._queue.clear()
            # A buffer of the part before last is older than any that may still be in order.
            self._past = deque(maxlen=2 * len(recipe.channels))
            self._busy_until = self._exposing_until = 0.0
            self._armed_at = self._clock.now()

    def disarm(self) -> None:
        """Take no more triggers."""
        with self._changed:
            self._recipe = None
            self._queue.clear()

    def preset(self, trigger_count: int, block_id: int) -> None:
        """Let counters begin with these values from the next :meth:`arm` on, near their wrap for instance."""
        self._first_count, self._first_block = trigger_count, block_id

    def trigger(self, channel: Channel) -> None:
        """Take a software trigger: one exposure under the light that is on."""
        with self._staging, self._changed:
            recipe = self._armed()
            fault = self._next_fault()
            index = recipe.channel_names.index(channel.name)
            if channel != recipe.channels[index]:  # exposed for another time than the recipe says
                channels = (*recipe.channels[:index], channel, *recipe.channels[index + 1 :])
                recipe = recipe.model_copy(update={"channels": channels})
            self._unless_gone(fault)
            if fault in {Fault.LOST_TRIGGER, Fault.OVERTRIGGERED}:
                return
            start = self._clock.now()
            if fault is Fault.SWAPPED and len(recipe.channels) > 1:
                lit = dict(self._stage.lights)
                self._stage.illuminate(recipe.channels[(index + 1) % len(recipe.channels)].lights)
                self._expose(recipe, index, start, fault)
                self._stage.illuminate(lit)
            else:
                self._expose(recipe, index, start, fault)
            if fault is Fault.SURPLUS_TRIGGER:
                self._expose(recipe, index, self._busy_until, None)
            self._changed.notify_all()

    def fire(self, part_id: str | None = None, at_s: float | None = None) -> None:
        """Let the sensor see a part, and `part_id` lie in front of the camera from now on. May be called from any
        thread; without effect on a camera that does not listen to its line. Raises `DataError` for an unknown part.

        :param at_s: instant of the edge on this clock, at latest now; several cameras see one edge at one instant.
        """
        now = self._clock.now()  # a renderer's time is not the line's
        now = now if at_s is None else min(now, at_s)
        with self._staging:
            if part_id is not None:  # who waits for frames is not kept waiting by what is drawn here
                self._stage.present(part_id)
            with self._changed:
                self._see(now)

    def _see(self, now: float) -> None:
        """Let the sensor line have an edge, unless nobody listened at that instant or it is lost."""
        if self.removed or self.closed or self._recipe is None or not self._on_line or now < self._armed_at:
            return
        fault = self.faults.popleft() if self.faults and self.faults[0] in OF_THE_LINE else None
        if fault is Fault.LOST_TRIGGER:
            return
        self._edge(now, busy=fault is Fault.OVERTRIGGERED)
        if fault is Fault.SURPLUS_TRIGGER:
            self._edge(max(now, self._busy_until), busy=False)
        self._changed.notify_all()

    def retrieve(self, timeout_s: float) -> Buffer | None:
        """Return the next buffer when it is there; None when none came in time. Raises `CameraError` when gone."""
        until = self._clock.now() + timeout_s
        with self._changed:
            while True:
                self.require_there()
                if self._hang:
                    self._hang = False
                    self._wait_out(self._clock.now() + self.hang_s)
                now = self._clock.now()
                if self._queue and self._queue[0].ready_at <= now:
                    return self._queue.popleft()
                if now >= until:
                    return None
                if not self._clock.wait(self._changed, min(until, self._queue[0].ready_at) if self._queue else until):
                    return None

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the sensor takes a trigger: readout may still go on. Tell whether it does."""
        until = self._clock.now() + timeout_s
        with self._changed:
            while (now := self._clock.now()) < min(self._exposing_until, until):
                if not self._clock.wait(self._changed, min(self._exposing_until, until)):
                    break
            return now >= self._exposing_until

    def flush(self, *, arrived: bool = False) -> int:
        """Throw away what waits, or what has `arrived` of it, and return how many buffers that were."""
        with self._changed:
            now = self._clock.now()
            kept = [buffer for buffer in self._queue if arrived and buffer.ready_at > now]
            waiting = len(self._queue) - len(kept)
            self._queue = deque(kept)
            return waiting

    def inject(self, faults: Iterable[Fault | None]) -> None:
        """Add to what goes wrong."""
        with self._changed:
            self.faults.extend(faults)

    def remove(self) -> None:
        """Pull the cable."""
        with self._changed:
            self.removed = True
            self._recipe = None
            self._queue.clear()
            self._changed.notify_all()

    def plug_in(self) -> None:
        """Bring a removed device back; it must be armed anew."""
        with self._changed:
            self.removed = False

    def close(self) -> None:
        """Release whoever waits."""
        with self._changed:
            self.closed = True
            self._recipe = None
            self._queue.clear()
            self._changed.notify_all()

    def require_there(self) -> None:
        """Raise `CameraError` when the device is closed or removed."""
        if self.closed:
            raise CameraError("the camera is closed; open the cell again")
        if self.removed:
            raise CameraError("the camera is gone; check its cable and power")

    def _armed(self) -> Recipe:
        self.require_there()
        if self._recipe is None:
            raise CameraError("the camera is not configured; prepare a recipe first")
        return self._recipe

    def _next_fault(self) -> Fault | None:
        return self.faults.popleft() if self.faults else None

    def _unless_gone(self, fault: Fault | None) -> None:
        if fault is Fault.REMOVED:
            self.remove()
            self.require_there()

    def _edge(self, start: float, *, busy: bool) -> None:
        recipe = self._armed()
        self.edges += 1
        self._count = (self._count + 1) % _COUNTER
        if busy or start < self._busy_until:
            self.overtriggered += 1
            return
        skipping = False
        for index, channel in enumerate(recipe.channels):
            fault = self._next_fault() if not (self.faults and self.faults[0] in OF_THE_LINE) else None
            if fault is Fault.REMOVED:
                self.remove()
                return
            skipping = skipping or fault is Fault.UNDERRUN
            shown = recipe.channels[(index + 1) % len(recipe.channels)] if fault is Fault.SWAPPED else channel
            self._stage.illuminate(shown.lights)
            self._expose(recipe, index, max(start, self._busy_until), Fault.UNDERRUN if skipping else fault)
        self._stage.illuminate({})

    def _expose(self, recipe: Recipe, index: int, start: float, fault: Fault | None) -> None:
        channel = recipe.channels[index]
        self._block_id += 1
        self._exposures += 1
        done = start + channel.exposure_us / 1e6 + READOUT_S
        self._busy_until, self._exposing_until = done, done - READOUT_S
        buffer = Buffer(
            pixels=self._pixels(recipe, index, fault),
            complete=fault is not Fault.INCOMPLETE,
            block_id=self._block_id,
            timestamp_ns=_EPOCH_NS + int(start * 1e9) if self.stamps else 0,
            trigger_count=self._count if self._on_line else None,
            exposure_us=channel.exposure_us,
            gain_db=channel.gain_db,
            ready_at=done,
        )
        delivered = self._instead(buffer, fault)
        self._past.append(buffer)
        self._hang = self._hang or fault is Fault.HANG
        if delivered is None:
            return
        if len(self._queue) >= self._most:
            self.underruns += 1
            return
        self._queue.append(delivered)

    def _pixels(self, recipe: Recipe, index: int, fault: Fault | None) -> Pixels:
        channel = recipe.channels[index]
        pixels = self._stage.picture(
            recipe.height, recipe.width, channel.exposure_us, channel.gain_db, recipe.bit_depth
        )
        pixels = deepen(pixels, recipe.bit_depth)
        if self._mark_frames:
            if not pixels.flags.writeable or not pixels.flags.owndata:
                pixels = pixels.copy()
            shown = (index + 1) % len(recipe.channels) if fault is Fault.SWAPPED else index
            mark = simulated_mark.Mark(simulated_mark.part_number(self._stage.part_id), shown, self._exposures)
            simulated_mark.write(pixels, mark, (1 << recipe.bit_depth) - 1)
        return spoil(pixels, fault) if fault is not None else pixels

    def _instead(self, buffer: Buffer, fault: Fault | None) -> Buffer | None:
        if fault in {Fault.DROPPED, Fault.UNDERRUN}:
            return None
        if fault is Fault.REPEATED and self._past:
            return replace(self._past[-1], ready_at=buffer.ready_at)
        if fault is Fault.STALE and len(self._past) > 1:
            return replace(self._past[0], ready_at=buffer.ready_at)
        return buffer

    def _wait_out(self, until: float) -> None:
        while not self.closed and self._clock.now() < until:
            if not self._clock.wait(self._changed, until):
                return
