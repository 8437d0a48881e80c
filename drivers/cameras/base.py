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

    def expose(self, channel: Channel) -> Frame:
        """Take one frame with the channel's exposure and gain; the lights are the caller's business.

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


def check_pixels(pixels: Pixels, recipe: Recipe, channel: Channel) -> None:
    """Refuse a frame whose shape or dtype is not the recipe's. Raises `CameraError` naming both."""
    expected = (recipe.height, recipe.width)
    if pixels.shape != expected:
        raise CameraError(
            f"channel {channel.name}: the camera delivered {_size(pixels.shape)} pixels where the recipe "
            f"{recipe.recipe_id} wants {_size(expected)}; correct the camera's region or the recipe",
            fault=AcquisitionFault.WRONG_SIZE,
        )
    dtype = np.uint8 if recipe.bit_depth <= 8 else np.uint16
    if pixels.dtype != dtype:
        raise CameraError(
            f"channel {channel.name}: the camera delivered {pixels.dtype} pixels where {recipe.bit_depth} bit need "
            f"{np.dtype(dtype)}; correct the pixel format or the recipe's bit_depth",
            fault=AcquisitionFault.WRONG_SIZE,
        )


class Sequence:
    """Proof that a frame is new: block ids and device timestamps must both move on from frame to frame.

    A camera's own counter starts again whenever it starts grabbing, and on GigE it wraps after 65,535 frames. Frames
    therefore carry a count that does neither, while it moves with the camera's: a frame lost in between leaves a gap.
    """

    def __init__(self) -> None:
        self._count = 0
        self._frame_id: int | None = None
        self._timestamp_ns = 0

    def restart(self) -> None:
        """Take note that the camera's counters begin anew."""
        self._frame_id = None
        self._timestamp_ns = 0

    def admit(self, channel: str, frame_id: int, timestamp_ns: int) -> int:
        """Return the frame's count, or refuse it as repeated or stale with `CameraError`.

        :param frame_id: the camera's block id.
        :param timestamp_ns: the device's clock; 0 where it has none, then only the block id counts.
        """
        if self._frame_id is None:
            step = 1
        elif frame_id == self._frame_id:
            raise CameraError(
                f"channel {channel}: the camera delivered frame {frame_id} a second time; check its buffers",
                fault=AcquisitionFault.REPEATED,
            )
        else:
            # With a newer time stamp, a lower id is a counter that wrapped.
            older = timestamp_ns <= self._timestamp_ns if timestamp_ns else frame_id < self._frame_id
            if older:
                raise CameraError(
                    f"channel {channel}: the camera delivered frame {frame_id}, older than frame {self._frame_id} "
                    "before it; check its buffers",
                    fault=AcquisitionFault.STALE,
                )
            step = max(1, frame_id - self._frame_id)
        self._frame_id, self._timestamp_ns = frame_id, timestamp_ns
        self._count += step
        return self._count


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(str(length) for length in reversed(shape))
