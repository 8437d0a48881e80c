"""From a vendor's buffer to a frame: every proof that it is the one that was asked for, and one copy of its pixels.

Both vendors' drivers use it. What a buffer says of itself is a :class:`Delivery`; it stays the vendor's until its last
colour plane has been read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from cell.errors import CameraError
from cell.frames import AcquisitionFault, Frame
from cell.recipes import Channel, Recipe
from drivers.cameras.arming import Armed
from drivers.cameras.base import Allocate, ExposureWindow, Sequence, check_haste, check_size, shares_exposure
from drivers.cameras.chunks import ChunkData
from drivers.cameras.formats import Bytes, format_of, read_plane

#: By how much the exposure that a frame tells of may differ from what its channel's setting read back.
_EXPOSURE_US, _EXPOSURE_SHARE = 1.0, 0.005


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """A complete buffer as the vendor's library hands it over.

    `data` is the vendor's memory, (N,) uint8, valid until `release` is called, which gives the buffer back.
    """

    data: Bytes
    width: int
    height: int
    padding: int  # bytes after each row
    pixel_format: str
    block_id: int
    timestamp_ns: int  # the device's clock, 0 where it has none
    chunks: ChunkData
    release: Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Held:
    """A buffer whose next colour plane is still to be read, and what its first frame said."""

    delivery: Delivery
    frame: Frame
    next_index: int


class Assembly:
    """The frames of one camera, from one recipe's set-up to the next."""

    def __init__(self, camera: str) -> None:
        self.camera = camera
        #: What the camera cuts its exposures to, whatever it says of them, us; 0: nothing.
        self.exposes_in_us = 0.0
        self._sequence = Sequence()
        self._clock = ExposureWindow()
        self._recipe: Recipe | None = None
        self._armed: Armed | None = None
        self._held: _Held | None = None

    def set_up(self, recipe: Recipe, armed: Armed) -> None:
        """Expect frames of this recipe."""
        self.let_go()
        self._recipe, self._armed = recipe, armed

    def opened(self, camera: str) -> None:
        """Take note of the camera's name, and that its clock may have begun anew while it was away."""
        self.camera = camera
        self._clock = ExposureWindow()

    def restart(self) -> None:
        """Take note that the camera's counters begin anew."""
        self.let_go()
        self._sequence.restart()

    def let_go(self) -> None:
        """Give a buffer back whose planes nobody asked for."""
        if self._held is not None:
            held, self._held = self._held, None
            held.delivery.release()

    def take(
        self,
        delivery: Delivery,
        channel: Channel,
        actual: tuple[float, float],
        allocate: Allocate,
        exposed: tuple[float, float] | None,
    ) -> Frame:
        """Return the frame of a buffer, or refuse it with `CameraError`; the buffer is given back when it is done with.

        :param actual: exposure in us and gain in dB as the camera read them back.
        :param exposed: monotonic seconds just before the software trigger and after the frame came, between which it
            must have been exposed, and since when no other frame may have been; None for cameras that a line triggers.
        """
        recipe, armed = self._set()
        keep = False
        try:
            self._check(delivery, recipe, armed, channel, actual)
            told = delivery.chunks
            stamp = delivery.timestamp_ns if told.timestamp is None else round(told.timestamp * armed.tick_ns)
            count = self._sequence.admit(channel.name, delivery.block_id, stamp, told.frame_counter)
            if exposed is not None:
                rest = actual[0] % self.exposes_in_us if self.exposes_in_us else 0.0
                check_haste(channel.name, actual[0] - rest, *exposed)
                self._clock.check(channel.name, stamp, *exposed)
                self._require_no_loss(delivery, channel)
            pixels = allocate((recipe.height, recipe.width), armed.pixel_format.dtype)
            read_plane(delivery.data, armed.pixel_format, channel.plane, pixels, delivery.padding)
            frame = Frame(
                channel=channel.name,
                pixels=pixels,
                bit_depth=recipe.bit_depth,
                exposure_us=actual[0] if told.exposure_us is None else told.exposure_us,
                gain_db=actual[1] if told.gain_db is None else told.gain_db,
                camera=self.camera,
                frame_id=count,
                timestamp_ns=stamp,
                trigger_count=told.trigger_count,
                line_count=told.line_count,
                pixel_format=armed.pixel_format.name,
            )
            keep = channel in recipe.channels and self._hold(delivery, frame, recipe.channels.index(channel))
            return frame
        finally:
            if not keep:
                delivery.release()

    def awaited(
        self,
        channel: Channel,
        actual: tuple[float, float],
        allocate: Allocate,
        fetch: Callable[[], Delivery | None],
    ) -> Frame | None:
        """Return the next frame of a camera on its trigger line: a plane of the exposure before, or what `fetch` gives.

        None when it gives nothing. Raises as :meth:`take` does.
        """
        shared = self.take_shared(channel, allocate)
        if shared is not None:
            return shared
        delivery = fetch()
        return None if delivery is None else self.take(delivery, channel, actual, allocate, None)

    def take_shared(self, channel: Channel, allocate: Allocate) -> Frame | None:
        """Return the channel's frame when it is the next colour plane of the exposure before; None when it is not.

        A buffer that waits for another channel is given back. Raises `CameraError`.
        """
        held, self._held = self._held, None
        if held is None:
            return None
        keep = False
        try:
            recipe, armed = self._set()
            if recipe.channels[held.next_index] != channel:
                return None
            pixels = allocate((recipe.height, recipe.width), armed.pixel_format.dtype)
            read_plane(held.delivery.data, armed.pixel_format, channel.plane, pixels, held.delivery.padding)
            frame = replace(held.frame, channel=channel.name, pixels=pixels)
            keep = self._hold(held.delivery, frame, held.next_index)
            return frame
        finally:
            if not keep:
                held.delivery.release()

    def _hold(self, delivery: Delivery, frame: Frame, index: int) -> bool:
        """Keep the buffer of channel `index` when the channel behind it is another plane of it; tell whether it is."""
        channels = self._set()[0].channels
        if index + 1 >= len(channels) or not shares_exposure(channels[index], channels[index + 1]):
            return False
        self._held = _Held(delivery, frame, index + 1)
        return True

    def _check(
        self, delivery: Delivery, recipe: Recipe, armed: Armed, channel: Channel, actual: tuple[float, float]
    ) -> None:
        """Refuse a buffer of another size, format or exposure. Raises `CameraError`."""
        check_size((delivery.height, delivery.width), recipe, channel)
        if format_of(delivery.pixel_format) != armed.pixel_format:
            raise CameraError(
                f"channel {channel.name}: the camera delivered {delivery.pixel_format} where {armed.pixel_format.name} "
                "was set; check for another program that uses the camera",
                fault=AcquisitionFault.WRONG_SIZE,
            )
        told = delivery.chunks.exposure_us
        if told is not None and abs(told - actual[0]) > max(_EXPOSURE_US, _EXPOSURE_SHARE * actual[0]):
            raise CameraError(
                f"channel {channel.name}: the frame was exposed for {told:g} us where its channel has {actual[0]:g}; "
                "it is another channel's",
                fault=AcquisitionFault.SWAPPED,
            )

    def _require_no_loss(self, delivery: Delivery, channel: Channel) -> None:
        if self._sequence.lost:
            raise CameraError(
                f"channel {channel.name}: frame {delivery.block_id} came without the {self._sequence.lost} before it; "
                "check cable, bandwidth and trigger source",
                fault=AcquisitionFault.MISSING,
            )

    def _set(self) -> tuple[Recipe, Armed]:
        if self._recipe is None or self._armed is None:
            raise CameraError(f"camera {self.camera} is not configured; prepare a recipe first")
        return self._recipe, self._armed
