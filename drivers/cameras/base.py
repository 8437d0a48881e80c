"""The camera contract: what every vendor's driver promises.

A camera goes through these states; whatever goes wrong, :meth:`Camera.recover` is the way back.

::

    opened --configure(recipe)--> ready --expose or await_frame(channel)--> ready
                                    |  \\--a fault is raised--> ready or lost
    lost ----recover()------------> ready
    any  ----close()--------------> closed (for good)

A driver is single-threaded: its owner calls it from one thread at a time. Nothing it does outlives ``close``.

Consecutive channels that differ in nothing but name and colour plane share one exposure (:func:`shares_exposure`): the
first of them is exposed or awaited, the others are taken from the buffer that it left, in the recipe's order, each
once. Their frames have the same id and time stamp.

What a driver raises (``drivers.conformance.camera`` holds every driver to it):

- the settings name no device, or one of several is not named: `ConfigurationError`;
- the vendor's library is not installed: `SdkMissing` with the command;
- anything the device does or does not do: `CameraError` or `AcquisitionTimeout`, named by :func:`fault_of`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from cell.errors import AcquisitionTimeout, CameraError, HardwareError, LightError
from cell.frames import AcquisitionFault, Frame, Pixels
from cell.recipes import Channel, Recipe

#: What a camera's feature holds: enumerations are their symbolic names.
Value = str | int | float | bool
#: Gives memory for a frame, as `numpy.empty` does. A driver with an attribute `allocate` of this type puts its frames'
#: pixels there; who hosts it in another process puts its shared memory in place.
Allocate = Callable[[tuple[int, int], "np.dtype[Any]"], Pixels]
#: What the caller does while the sensor is exposed.
Meanwhile = Callable[[], None]

#: Lengths of counters that wrap: GigE Vision 1.x block ids run from 1 to 65,535, chunk counters have 32 bits.
_WRAPS = (0xFFFF, 1 << 32)
#: How far two clocks may run apart: 200 parts in a million, ten times what crystals do.
_DRIFT = 200e-6
_CLOCK_GRAIN_NS = 1e6
#: A frame that comes before this share of its exposure is over was exposed before its trigger.
_LEAST_SHARE = 0.8


def nothing() -> None:
    """Do nothing meanwhile."""


class Features(Protocol):
    """The device's features by their SFNC 2.x names, whatever its family calls them (docs/notes/cameras.md)."""

    def names(self) -> tuple[str, ...]:
        """Names of the features that the device has, sorted."""

    def read(self, name: str) -> Value:
        """Return a feature's value. Raises `CameraError` when there is none or it can't be read now."""

    def write(self, name: str, value: Value) -> Value:
        """Write a feature, read it back and return what the device made of it.

        Raises `CameraError` naming the value asked for and the actual one when the device refused, clipped or changed
        it; rounding to the device's own increment is none of these.
        """

    def execute(self, name: str) -> None:
        """Carry out a command feature. Raises `CameraError`."""


class Camera(Protocol):
    """One camera, opened by its constructor.

    `name` is its serial number or user id and stands in every frame. `emulated` is told by the device itself (its
    class, its vendor's name), never by configuration.
    """

    @property
    def name(self) -> str:
        """Serial number or user id."""

    @property
    def emulated(self) -> bool:
        """True when no light ever fell on a sensor."""

    @property
    def features(self) -> Features:
        """The device's features; of use while the device is open."""

    def configure(self, recipe: Recipe) -> None:
        """Set region, binning, pixel format, trigger and chunk data, read every value back, and start grabbing.

        `recipe` has this camera's channels alone: who owns several cameras leaves the others' out. Raises `CameraError`
        naming the value asked for and the value read back; the camera then does not grab.
        """

    def expose(self, channel: Channel, meanwhile: Meanwhile = nothing) -> Frame:
        """Take one frame with the channel's exposure and gain; the lights are the caller's business.

        `meanwhile` is called once the trigger is on its way, on the caller's thread, so that what is left to do with
        the frame before costs no time of its own. It must not use the camera, and must raise nothing; when the camera
        took no trigger it may not be called at all.

        Waits until the camera takes a trigger, fires exactly one, and waits at most the settings' `frame_timeout_s`.
        The frame returned is complete, of the configured size and depth, and newer than the trigger. Anything else
        raises `CameraError` or `AcquisitionTimeout`; :func:`fault_of` names it. After a fault no older frame waits.
        Refused with `CameraError` when the settings' trigger is not ``software``.
        """

    def await_frame(self, channel: Channel, timeout_s: float) -> Frame | None:
        """Return the next frame in the camera's order, or None when none came within `timeout_s` seconds.

        For cameras that a line or an action command triggers: frames wait in their buffers in order, and a trigger
        gives one frame for each exposure of the recipe. `channel` says whose frame is expected; whether it is that
        trigger's is told by the frame's `trigger_count` and `frame_id`, never by its coming next. A frame that was lost
        on the way (buffers full, bandwidth) leaves a gap in `frame_id` as wide as the loss. Raises as :meth:`expose`
        does, also when the settings' trigger is ``software``; the frame that was at fault is then gone, and the
        frames behind it still wait.
        """

    def recover(self) -> None:
        """Close and reopen the device and configure the last recipe. Raises `CameraError` when it is not there."""

    def close(self) -> None:
        """Release the device. Never raises; may be called again."""


def fault_of(error: HardwareError) -> AcquisitionFault:
    """Return the name under which an error of a camera or light is counted and answered."""
    if error.fault is not None:
        return error.fault
    if isinstance(error, AcquisitionTimeout):
        return AcquisitionFault.MISSING
    if isinstance(error, LightError):
        return AcquisitionFault.LIGHT
    return AcquisitionFault.CAMERA


def shares_exposure(before: Channel, channel: Channel) -> bool:
    """Tell whether two consecutive channels of a recipe are colour planes of one exposure."""
    if "mono" in {before.plane, channel.plane} or before.plane == channel.plane:
        return False
    return before.model_copy(update={"name": channel.name, "plane": channel.plane}) == channel


def check_size(shape: tuple[int, ...], recipe: Recipe, channel: Channel) -> None:
    """Refuse a frame that is not (height, width) of the recipe. Raises `CameraError` naming both sizes."""
    expected = (recipe.height, recipe.width)
    if shape != expected:
        raise CameraError(
            f"channel {channel.name}: the camera delivered {_size(shape)} pixels where the recipe "
            f"{recipe.recipe_id} wants {_size(expected)}; correct the camera's region or the recipe",
            fault=AcquisitionFault.WRONG_SIZE,
        )


def check_pixels(pixels: Pixels, recipe: Recipe, channel: Channel) -> None:
    """Refuse a frame whose shape or dtype is not the recipe's. Raises `CameraError` naming both."""
    check_size(pixels.shape, recipe, channel)
    dtype = np.uint8 if recipe.bit_depth <= 8 else np.uint16
    if pixels.dtype != dtype:
        raise CameraError(
            f"channel {channel.name}: the camera delivered {pixels.dtype} pixels where {recipe.bit_depth} bit need "
            f"{np.dtype(dtype)}; correct the pixel format or the recipe's bit_depth",
            fault=AcquisitionFault.WRONG_SIZE,
        )


class Sequence:
    """Proof that a frame is new: block id, device time stamp and frame counter must all move on from frame to frame.

    A camera's own block id starts again whenever it starts grabbing, and on GigE it wraps after 65,535 frames. Frames
    therefore carry a count that does neither, while it moves with the camera's: a frame lost in between leaves a gap.
    """

    def __init__(self) -> None:
        self.lost = 0  # frames that did not come before the last one that did
        self._count = 0
        self._frame_id: int | None = None
        self._counter: int | None = None
        self._timestamp_ns = 0

    def restart(self) -> None:
        """Take note that the camera's counters begin anew."""
        self._frame_id = None
        self._counter = None
        self._timestamp_ns = 0

    def admit(self, channel: str, frame_id: int, timestamp_ns: int, counter: int | None = None) -> int:
        """Return the frame's count, or refuse it as repeated or stale with `CameraError`.

        :param frame_id: the block id, which counts what was sent.
        :param timestamp_ns: the device's clock; 0 where it has none, then only the counters count.
        :param counter: the chunk data's frame counter, which counts what was exposed; None where there is none.
        """
        step = 1
        if self._frame_id is not None:
            newer = timestamp_ns > self._timestamp_ns if timestamp_ns else None
            step = self._step(channel, self._frame_id, frame_id, newer)
            if counter is not None and self._counter is not None:
                # What was lost before it was sent shows in the counter alone.
                step = max(step, self._step(channel, self._counter, counter, newer))
        self._frame_id, self._counter, self._timestamp_ns = frame_id, counter, timestamp_ns
        self._count += step
        self.lost = step - 1
        return self._count

    def _step(self, channel: str, before: int, now: int, newer: bool | None) -> int:
        """Return how many frames later `now` is. Raises `CameraError`."""
        if now == before:
            raise CameraError(
                f"channel {channel}: the camera delivered frame {now} a second time; check its buffers",
                fault=AcquisitionFault.REPEATED,
            )
        if newer is not False:
            if now > before:
                return now - before
            for length in _WRAPS if newer else ():
                if before < length + 2 and (now - before) % length < length // 2:
                    return (now - before) % length
        if newer:
            # The camera began to count anew by itself: this frame is in doubt, the ones behind it must not be.
            self.restart()
        raise CameraError(
            f"channel {channel}: the camera delivered frame {now}, older than frame {before} before it; check its "
            "buffers",
            fault=AcquisitionFault.STALE,
        )


def check_haste(channel: str, exposure_us: float, before_s: float, after_s: float) -> None:
    """Refuse a frame that came sooner than it can have been exposed with `CameraError` (stale).

    Without a clock of the camera's own this alone tells a frame that waited, or was on its way, when the trigger came:
    its number is the next one, and so is every number behind it. From [`before_s`, `after_s`], the trigger and the
    receipt on the host's clock; an exposure of 0 is not known and passes.
    """
    if after_s - before_s < _LEAST_SHARE * exposure_us / 1e6:
        raise CameraError(
            f"channel {channel}: a frame came {(after_s - before_s) * 1e3:.1f} ms after its trigger, sooner than its "
            f"exposure of {exposure_us:g} us takes; something else triggers the camera, check the trigger source",
            fault=AcquisitionFault.STALE,
        )


class ExposureWindow:
    """Proof that a frame was exposed after its trigger, by the device's own clock, whose zero nobody knows.

    An exposure lies between two instants of the host: just before its trigger, and when its frame was there. So each
    frame says in which interval the difference of the two clocks lies; one frame whose interval has nothing in common
    with what the others left of it was exposed at another time.
    """

    def __init__(self) -> None:
        self._low_ns = self._high_ns = 0.0
        self._learned_s: float | None = None

    def check(self, channel: str, timestamp_ns: int, before_s: float, after_s: float) -> None:
        """Refuse a frame exposed outside of [`before_s`, `after_s`] of a monotonic clock with `CameraError` (stale).

        A camera without a clock (time stamp 0) passes.
        """
        if not timestamp_ns:
            return
        low, high = timestamp_ns - after_s * 1e9, timestamp_ns - before_s * 1e9
        if self._learned_s is None:
            self._low_ns, self._high_ns, self._learned_s = low, high, after_s
            return
        drift = _DRIFT * (after_s - self._learned_s) * 1e9 + _CLOCK_GRAIN_NS
        kept_low, kept_high = max(low, self._low_ns - drift), min(high, self._high_ns + drift)
        if kept_low > kept_high:
            self._learned_s = None  # it may be the clock that was set; what is wrong shows again with the next frame
            away_ms = (low - self._high_ns if low > self._high_ns else self._low_ns - high) / 1e6
            raise CameraError(
                f"channel {channel}: by the camera's clock the frame was exposed {away_ms:.0f} ms away from its "
                "trigger; check the trigger source and the camera's buffers",
                fault=AcquisitionFault.STALE,
            )
        self._low_ns, self._high_ns, self._learned_s = kept_low, kept_high, after_s


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(str(length) for length in reversed(shape))
