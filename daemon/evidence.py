"""Proof that frames belong to their trigger, from what a vendor's camera tells of them and nothing else.

Three things are looked at together, because each alone can lie: the frame's number (block id, which moves by one with
every exposure), the device's clock (which never goes back and says how old a frame is), and for a camera on a trigger
line its count of edges. What contradicts is a :class:`Doubt`, and a part in doubt is FAULT. That the light was the
right one no number tells; see `daemon.signatures`.

==================== ==================================================================================
AcquisitionFault     seen by
==================== ==================================================================================
repeated             a number that was there before
stale                a number or a clock that goes back; an exposure older than the question for it
missing              numbers that are left out within a part; a set that does not become complete
wrong-size           shape, dtype or depth that are not the recipe's
swapped              another channel's name, exposure time or gain; contents (`daemon.signatures`)
incomplete, camera   the driver says so
==================== ==================================================================================
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from cell.frames import AcquisitionFault, Frame
from cell.recipes import Channel, Recipe
from drivers.cameras.base import shares_exposure

#: A camera's exposure or gain, as read back, is its own channel's within this share or these dB.
_EXPOSURE_SHARE, _GAIN_DB = 0.05, 0.5
#: Quartz clocks of camera and host part by less than this.
_DRIFT = 2e-4


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why frames can't be taken for what they should be; one sentence says it to a person."""

    fault: AcquisitionFault
    detail: str
    channels: tuple[str, ...] = ()


class DeviceClock:
    """Tells at which instant of the host's clock a frame was exposed, from the device's time stamps.

    Frames come late by the exposure, the transfer and whatever kept the host busy, never early: the least difference
    between receipt and time stamp is the offset of the clocks plus the least of these delays. It is taken over the
    last frames only, because the clocks drift. Time stamps whose rate is not the host's (a simulator's, or another
    unit) are not used.
    """

    _KEPT = 64
    _PROVEN_SPAN_S = 0.5
    _RATE = 0.03

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque(maxlen=self._KEPT)  # (received, stamp) in seconds
        self._first: tuple[float, float] | None = None
        self.proven = False

    def restart(self) -> None:
        """Take note that the device's clock may begin anew."""
        self._seen.clear()
        self._first = None
        self.proven = False

    def note(self, timestamp_ns: int, received_s: float) -> None:
        """Take note of a frame's time stamp and of the instant at which it was received."""
        if timestamp_ns <= 0:
            return
        stamp = timestamp_ns / 1e9
        self._seen.append((received_s, stamp))
        if self._first is None:
            self._first = (received_s, stamp)
        elif not self.proven and received_s - self._first[0] >= self._PROVEN_SPAN_S:
            rate = (stamp - self._first[1]) / (received_s - self._first[0])
            self.proven = abs(rate - 1) < self._RATE
            if not self.proven:
                self._first = (received_s, stamp)

    def exposed_at(self, timestamp_ns: int, received_s: float) -> float:
        """Return the instant at which a frame was exposed, at latest its receipt; that too where no clock is proven."""
        if timestamp_ns <= 0 or not self.proven:
            return received_s
        # What was learned before a pause may be wrong by the drift since, in either direction.
        offset = min(received - stamp + _DRIFT * (received_s - received) for received, stamp in self._seen)
        return min(received_s, timestamp_ns / 1e9 + offset)

    def uncertainty_s(self, received_s: float) -> float:
        """Return by how much :meth:`exposed_at` may be late or, because the clocks part, early."""
        if not self._seen:
            return float("inf")
        return 0.005 + _DRIFT * (received_s - self._seen[0][0])


class Evidence:
    """The proof for cameras that are triggered by software: one question, one exposure, one frame.

    Call :meth:`begin` for each part and :meth:`admit` for each of its frames, whichever camera took it.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._chains: dict[str, _Chain] = {}

    def restart(self, role: str) -> None:
        """Take note that a camera was set up anew: its numbers and clock may begin anew."""
        self._chains.pop(role, None)

    def begin(self) -> None:
        """Begin the next part."""
        for chain in self._chains.values():
            chain.before = None

    def admit(self, frame: Frame, channel: Channel, asked_s: float, received_s: float) -> Doubt | None:
        """Take a frame for a channel, or say why not.

        :param asked_s: the instant before the camera was asked to expose, on the host's monotonic clock.
        :param received_s: the instant after the frame came.
        """
        chain = self._chains.setdefault(channel.camera, _Chain())
        doubt = doubt_of_frame(frame, channel, self._recipe) or chain.doubt(frame, channel, asked_s, received_s)
        if doubt is None:
            chain.take(frame, channel, received_s)
        return doubt


class _Chain:
    """One camera's frames, each after the other."""

    def __init__(self) -> None:
        self.before: Channel | None = None  # the channel taken before within this part
        self._frame_id: int | None = None
        self._timestamp_ns = 0
        self._clock = DeviceClock()

    def doubt(self, frame: Frame, channel: Channel, asked_s: float, received_s: float) -> Doubt | None:
        if self._frame_id is None:
            return None
        if self.before is not None and shares_exposure(self.before, channel):
            same = (frame.frame_id, frame.timestamp_ns) == (self._frame_id, self._timestamp_ns)
            other = f"channel {channel.name} came from frame {frame.frame_id}, its other colours from {self._frame_id}"
            return None if same else Doubt(AcquisitionFault.SWAPPED, other, (channel.name,))
        return (
            doubt_of_order(frame, self._frame_id, self._timestamp_ns)
            or self._doubt_of_gap(frame, channel)
            or self._doubt_of_age(frame, asked_s, received_s)
        )

    def take(self, frame: Frame, channel: Channel, received_s: float) -> None:
        if frame.frame_id != self._frame_id:
            self._clock.note(frame.timestamp_ns, received_s)
        self._frame_id, self._timestamp_ns, self.before = frame.frame_id, frame.timestamp_ns, channel

    def _doubt_of_gap(self, frame: Frame, channel: Channel) -> Doubt | None:
        last = self._frame_id or 0
        if self.before is None or frame.frame_id == last + 1:
            return None
        detail = (
            f"channel {channel.name} came as frame {frame.frame_id} where {last + 1} was due: "
            f"{frame.frame_id - last - 1} frames are lost; check bandwidth and trigger source"
        )
        return Doubt(AcquisitionFault.MISSING, detail, (channel.name,))

    def _doubt_of_age(self, frame: Frame, asked_s: float, received_s: float) -> Doubt | None:
        if frame.timestamp_ns <= 0 or not self._clock.proven:
            return None
        late = asked_s - self._clock.exposed_at(frame.timestamp_ns, received_s)
        if late <= self._clock.uncertainty_s(received_s):
            return None
        detail = f"channel {frame.channel} came with a frame exposed {late * 1e3:.1f} ms before its trigger"
        return Doubt(AcquisitionFault.STALE, detail, (frame.channel,))


def doubt_of_frame(frame: Frame, channel: Channel, recipe: Recipe) -> Doubt | None:
    """Return what is wrong with a frame by itself: not the channel's, or not the recipe's size and depth."""
    if frame.channel != channel.name:
        detail = f"the camera gave a frame of {frame.channel} for {channel.name}"
        return Doubt(AcquisitionFault.SWAPPED, detail, (channel.name,))
    dtype = np.uint8 if recipe.bit_depth <= 8 else np.uint16
    fits = frame.shape == (recipe.height, recipe.width) and frame.pixels.dtype == dtype
    if not fits or frame.bit_depth != recipe.bit_depth:
        got = f"{frame.shape[1]}x{frame.shape[0]} {frame.pixels.dtype} at {frame.bit_depth} bit"
        detail = f"channel {channel.name} came as {got}; correct the recipe or the camera"
        return Doubt(AcquisitionFault.WRONG_SIZE, detail, (channel.name,))
    # A simulator without an exposure time tells 0.
    if frame.exposure_us > 0 and not _taken_as(frame, channel):
        detail = f"channel {channel.name} came with {frame.exposure_us:g} us and {frame.gain_db:g} dB, which are "
        others = [other.name for other in recipe.channels if _taken_as(frame, other)]
        if others:
            return Doubt(AcquisitionFault.SWAPPED, f"{detail}those of {others[0]}", (channel.name, others[0]))
        asked = f"{channel.exposure_us:g} us and {channel.gain_db:g} dB"
        return Doubt(AcquisitionFault.SWAPPED, f"{detail}no channel's; {asked} were asked for", (channel.name,))
    return None


def doubt_of_order(frame: Frame, last_id: int, last_ns: int) -> Doubt | None:
    """Return whether a frame is not newer than the one before, by its number and by the device's clock."""
    if frame.frame_id <= last_id:
        fault = AcquisitionFault.REPEATED if frame.frame_id == last_id else AcquisitionFault.STALE
        detail = f"channel {frame.channel} came with frame id {frame.frame_id} after {last_id}"
        return Doubt(fault, detail, (frame.channel,))
    if frame.timestamp_ns and frame.timestamp_ns <= last_ns:
        fault = AcquisitionFault.REPEATED if frame.timestamp_ns == last_ns else AcquisitionFault.STALE
        detail = (
            f"channel {frame.channel} came as frame {frame.frame_id} with a time stamp that is not after that of "
            f"frame {last_id}"
        )
        return Doubt(fault, detail, (frame.channel,))
    return None


def _taken_as(frame: Frame, channel: Channel) -> bool:
    exposure_fits = abs(frame.exposure_us - channel.exposure_us) <= _EXPOSURE_SHARE * channel.exposure_us
    return exposure_fits and abs(frame.gain_db - channel.gain_db) <= _GAIN_DB
