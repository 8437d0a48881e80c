"""The frames of a camera on its trigger line, sorted into sets: one edge, one set, K frames.

A set is whole when K frames have its edge's count, their numbers follow each other without a gap, and the device's
clock moves on between them by at least an exposure. What is short of that is given out too, with the reason: an edge
that was counted gave something or nothing, and the part that belongs to it must be told.

Between two sets, edges that were counted and frames that were numbered say what happened to the others: an edge without
numbered frames came while the camera was busy (overtrigger), numbers without frames were lost on the way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cell.errors import HardwareError
from cell.frames import AcquisitionFault, Frame
from cell.recipes import Channel, Recipe
from daemon.evidence import DeviceClock, Doubt, doubt_of_frame, doubt_of_order
from drivers.cameras.base import fault_of, shares_exposure

#: The camera's counter of edges wraps here (GenICam counters of 32 bits).
COUNTER = 1 << 32
#: Edges between two sets that are told one by one; more were never parts.
_MOST_SKIPPED = 256
#: An incomplete set gets no more frames after twice its exposures and this, seconds.
_PATIENCE_S = 0.25
#: Time stamps within a set are at least this share of the shorter exposure apart.
_SPACING = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """One edge as the camera saw it: its frames, or why there are none.

    `count` is the camera's count of edges, unwrapped; `edge_s` the instant of the edge on the host's clock, `device_s`
    on the camera's own; None where no frame came, or the camera has no clock. `dated`: the host's instant follows from
    the camera's, and not from when the frame was received, which a busy host puts off.
    """

    count: int
    frames: tuple[Frame, ...] = ()
    doubt: Doubt | None = None
    edge_s: float | None = None
    device_s: float | None = None
    dated: bool = False


class LineSets:
    """Takes one camera's frames in its order and gives out sightings, each edge's once, in the order of the edges."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._clock = DeviceClock()
        self._count = 0  # of the last edge given out or being collected, unwrapped
        self._last_id = 0
        self._last_ns = 0
        self._open: list[Frame] = []
        self._collecting = False
        self._edge_s = self._latest_s = 0.0
        self._mishap: Doubt | None = None  # what the driver said of a frame that is gone
        self._refused = 0  # frames that it said so of

    @property
    def channel(self) -> Channel:
        """Whose frame is expected next."""
        return self._recipe.channels[(len(self._open) + self._refused) % len(self._recipe.channels)]

    @property
    def highest(self) -> int:
        """The camera's count of edges as far as frames have told it, unwrapped."""
        return self._count

    def add(self, frame: Frame, received_s: float) -> list[Sighting]:
        """Take the camera's next frame; return what is now known of edges."""
        count = frame.trigger_count
        if count is None:
            return self._countless(frame)
        if frame.channel != self.channel.name:
            frame = replace(frame, channel=self.channel.name)
        given: list[Sighting] = []
        step = (count - self._count) % COUNTER
        if self._collecting and step == 0:
            self._append(frame, received_s)
        else:
            if step == 0 or step > COUNTER // 2:
                return [*self._close(), self._backwards(frame)]
            missing = self._short()
            given += self._close()
            given += self._skipped(step - 1, frame, missing)
            self._begin(frame, self._count + step, received_s)
        return given + self._close_if_through()

    def fault(self, error: HardwareError) -> list[Sighting]:
        """Take note that a frame came which the driver refused; return what is now known of edges."""
        self._mishap = self._mishap or Doubt(fault_of(error), str(error))
        self._refused += 1
        return self._close_if_through()

    def turn(self, now_s: float) -> list[Sighting]:
        """Give up waiting for the rest of a set whose time is over."""
        exposures_s = sum(channel.exposure_us for channel in self._recipe.channels) / 1e6
        if self._collecting and now_s - self._latest_s > 2 * exposures_s + _PATIENCE_S:
            return self._close()
        return []

    def _begin(self, frame: Frame, count: int, received_s: float) -> None:
        self._count = count
        self._collecting = True
        self._clock.note(frame.timestamp_ns, received_s)
        self._edge_s = self._clock.exposed_at(frame.timestamp_ns, received_s)
        first = self._recipe.channels[0].name
        self._append(frame if frame.channel == first else replace(frame, channel=first), received_s)

    def _append(self, frame: Frame, received_s: float) -> None:
        self._open.append(frame)
        self._latest_s = received_s

    def _close_if_through(self) -> list[Sighting]:
        through = len(self._open) + self._refused >= len(self._recipe.channels)
        return self._close() if self._collecting and through else []

    def _short(self) -> int:
        """Return how many frames the open set lacks."""
        return len(self._recipe.channels) - len(self._open) if self._collecting else 0

    def _close(self) -> list[Sighting]:
        if not self._collecting:
            return []
        frames = tuple(self._open)
        doubt = self._mishap or self._doubt(frames)
        self._last_id, self._last_ns = frames[-1].frame_id, frames[-1].timestamp_ns
        self._collecting, self._open = False, []
        self._mishap, self._refused = None, 0
        device_s = frames[0].timestamp_ns / 1e9 if frames[0].timestamp_ns > 0 else None
        dated = device_s is not None and self._clock.proven
        return [Sighting(self._count, () if doubt else frames, doubt, self._edge_s, device_s, dated)]

    def _doubt(self, frames: tuple[Frame, ...]) -> Doubt | None:
        channels = self._recipe.channels
        before: Frame | None = None
        for index, (frame, channel) in enumerate(zip(frames, channels, strict=False)):
            doubt = doubt_of_frame(frame, channel, self._recipe)
            if doubt is None and before is not None:
                doubt = _doubt_of_next(before, frame, channels[index - 1], channel)
            elif doubt is None:
                doubt = doubt_of_order(frame, self._last_id, self._last_ns) if self._last_id else None
            if doubt is not None:
                return doubt
            before = frame
        if len(frames) == len(channels):
            return None
        names = tuple(channel.name for channel in channels[len(frames) :])
        detail = f"{len(frames)} of {len(channels)} frames came for edge {self._count}; check bandwidth and buffers"
        return Doubt(AcquisitionFault.MISSING, detail, names)

    def _skipped(self, edges: int, frame: Frame, missing: int) -> list[Sighting]:
        """Return what became of the edges between the set before and this frame's."""
        if edges <= 0:
            return []
        exposures = len({id(channel) for channel in self._exposed()})
        lost = max(0, frame.frame_id - self._last_id - 1 - missing) if self._last_id else 0
        told: list[Sighting] = []
        mishap, self._mishap, self._refused = self._mishap, None, 0
        for offset in range(min(edges, _MOST_SKIPPED)):
            count = self._count + edges - min(edges, _MOST_SKIPPED) + offset + 1
            if mishap is not None:
                doubt = mishap
            elif lost >= exposures * edges:
                detail = f"no frame of edge {count} came, though the camera exposed it; check bandwidth and buffers"
                doubt = Doubt(AcquisitionFault.MISSING, detail)
            elif lost == 0 and self._last_id:
                detail = f"edge {count} came while the camera was busy with the one before; part spacing is too small"
                doubt = Doubt(AcquisitionFault.OVERRUN, detail)
            else:
                doubt = Doubt(AcquisitionFault.MISSING, f"no frame of edge {count} came; it was lost or came too early")
            told.append(Sighting(count, doubt=doubt))
        return told

    def _exposed(self) -> list[Channel]:
        """Return the channels that have an exposure of their own."""
        channels = self._recipe.channels
        return [
            channel
            for index, channel in enumerate(channels)
            if index == 0 or not shares_exposure(channels[index - 1], channel)
        ]

    def _backwards(self, frame: Frame) -> Sighting:
        detail = (
            f"the camera's count of edges went from {self._count % COUNTER} to {frame.trigger_count}; it began anew or "
            "gave an old frame"
        )
        return Sighting(self._count, doubt=Doubt(AcquisitionFault.STALE, detail, (frame.channel,)))

    def _countless(self, frame: Frame) -> list[Sighting]:
        detail = (
            "the camera tells no count of its trigger line, so no frame can be shown to be a part's; let a counter "
            "stand in its chunk data"
        )
        return [Sighting(self._count, doubt=Doubt(AcquisitionFault.CAMERA, detail, (frame.channel,)))]


def _doubt_of_next(before: Frame, frame: Frame, channel_before: Channel, channel: Channel) -> Doubt | None:
    if shares_exposure(channel_before, channel):
        if (before.frame_id, before.timestamp_ns) == (frame.frame_id, frame.timestamp_ns):
            return None
        return Doubt(AcquisitionFault.SWAPPED, f"the colours of {channel.name} are of two exposures", (channel.name,))
    doubt = doubt_of_order(frame, before.frame_id, before.timestamp_ns)
    if doubt is not None:
        return doubt
    if frame.frame_id != before.frame_id + 1:
        detail = f"frame {frame.frame_id} came after {before.frame_id}: {frame.frame_id - before.frame_id - 1} are lost"
        return Doubt(AcquisitionFault.MISSING, detail, (channel.name,))
    apart_us = (frame.timestamp_ns - before.timestamp_ns) / 1e3
    least_us = _SPACING * min(before.exposure_us, frame.exposure_us)
    if frame.timestamp_ns and before.timestamp_ns and apart_us < least_us:
        detail = f"{channel.name} was exposed {apart_us:.0f} us after {channel_before.name}, which no sensor can do"
        return Doubt(AcquisitionFault.REPEATED, detail, (channel.name,))
    return None
