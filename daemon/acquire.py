"""Trigger to frame set: the light sequence, one exposure under each light, and the proof that they belong together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime

import numpy as np

from cell.clock import Monotonic, WallClock, monotonic, utc_now
from cell.errors import DataError, HardwareError
from cell.frames import Acquired, AcquisitionFault, FailedAcquisition, Frame, FrameSet
from cell.recipes import Channel, Recipe
from daemon.parts import Part
from drivers.cameras.base import fault_of
from drivers.registry import Rig

#: Waits between attempts to bring a camera back, seconds; the last one repeats.
_BACKOFF_S = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)


class Acquirer:
    """Owns camera and light; called from the line thread alone."""

    def __init__(self, rig: Rig, clock: Monotonic = monotonic, wall_clock: WallClock = utc_now) -> None:
        self._rig = rig
        self._clock = clock
        self._wall_clock = wall_clock
        self._last_id: int | None = None
        self._attempt = 0
        self._retry_at: float | None = None
        self.recoveries = 0

    @property
    def emulated(self) -> bool:
        """True when a driver says that it is not real."""
        return self._rig.emulated

    def configure(self, recipe: Recipe) -> None:
        """Set the camera up for a recipe. Raises `CameraError`, `LightError`; :meth:`take` is FAULT until it works."""
        self._last_id = None
        unknown = {line for channel in recipe.channels for line in channel.lights} - set(self._rig.light.lines)
        if unknown:
            known = ", ".join(self._rig.light.lines)
            raise DataError(
                f"recipe {recipe.recipe_id} switches the light {min(unknown)}, but this cell has {known}; "
                "correct the recipe or light.lines"
            )
        try:
            self._rig.camera.configure(recipe)
        except HardwareError:
            self._plan_recovery()
            raise
        self._retry_at = None
        self._attempt = 0
        self._rig.light.prepare(recipe)

    def take(self, part: Part, on_frame: Callable[[Frame], None] = lambda _: None) -> Acquired:
        """Return one frame for each channel of the part's recipe, or why there is none. Never raises for hardware.

        `on_frame` is called with each frame that passed its checks, before the next exposure. The light is off on
        return.
        """
        captured_at = self._wall_clock()
        recipe = part.recipe
        if self._retry_at is not None:
            detail = "the camera is gone and being brought back"
            return self._failed(part, captured_at, AcquisitionFault.CAMERA, detail)
        try:
            self._rig.present(part.part_id)
        except DataError as error:
            return self._failed(part, captured_at, AcquisitionFault.MISSING, str(error))
        except HardwareError as error:
            return self._failed(part, captured_at, fault_of(error), str(error))
        frames: list[Frame] = []
        channel = recipe.channels[0]
        try:
            with self._dark_afterwards():
                for channel in recipe.channels:
                    self._rig.light.apply(channel.lights, channel.strobe_us)
                    frame = self._rig.camera.expose(channel)
                    problem = self._doubt(frame, channel, recipe)
                    if problem is not None:
                        return self._failed(part, captured_at, *problem, channel.name)
                    frames.append(frame)
                    on_frame(frame)
        except HardwareError as error:
            fault = fault_of(error)
            if fault in {AcquisitionFault.CAMERA, AcquisitionFault.MISSING}:
                self._plan_recovery()
            return self._failed(part, captured_at, fault, str(error), channel.name)
        return FrameSet(
            trigger_id=part.trigger_id,
            part_id=part.part_id,
            recipe_id=recipe.recipe_id,
            captured_at=captured_at,
            frames=tuple(frames),
            emulated=self._rig.emulated,
        )

    @property
    def lost(self) -> bool:
        """Tell whether the camera must be brought back."""
        return self._retry_at is not None

    @property
    def retry_in_s(self) -> float | None:
        """Seconds until the next attempt to bring the camera back is due; None when it is not lost."""
        return None if self._retry_at is None else max(0.0, self._retry_at - self._clock())

    def recover(self) -> bool:
        """Try to bring a lost camera back if an attempt is due; tell whether it works now."""
        if self._retry_at is None:
            return True
        if self._clock() < self._retry_at:
            return False
        try:
            self._rig.camera.recover()
            self._rig.light.off()
        except HardwareError:
            self._attempt += 1
            self._retry_at = self._clock() + _BACKOFF_S[min(self._attempt, len(_BACKOFF_S) - 1)]
            return False
        self._retry_at = None
        self._attempt = 0
        self._last_id = None
        self.recoveries += 1
        return True

    def dark(self) -> None:
        """Switch the light off. Raises `LightError`."""
        self._rig.light.off()

    def _plan_recovery(self) -> None:
        if self._retry_at is None:
            self._attempt = 0
            self._retry_at = self._clock()

    @contextlib.contextmanager
    def _dark_afterwards(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._rig.light.off()

    def _doubt(self, frame: Frame, channel: Channel, recipe: Recipe) -> tuple[AcquisitionFault, str] | None:
        # The driver has proved each frame new; here they are proved to fit each other and the recipe. Ids are compared
        # within a part only, because a driver may restart its camera's counter after a fault.
        if frame.channel != channel.name:
            return AcquisitionFault.SWAPPED, f"the camera gave a frame of {frame.channel} for {channel.name}"
        dtype = np.uint8 if recipe.bit_depth <= 8 else np.uint16
        fits = frame.shape == (recipe.height, recipe.width) and frame.pixels.dtype == dtype
        if not fits or frame.bit_depth != recipe.bit_depth:
            got = f"{frame.shape[1]}x{frame.shape[0]} {frame.pixels.dtype} at {frame.bit_depth} bit"
            return (
                AcquisitionFault.WRONG_SIZE,
                f"channel {channel.name} came as {got}; correct the recipe or the camera",
            )
        if self._last_id is not None and frame.frame_id <= self._last_id:
            fault = AcquisitionFault.REPEATED if frame.frame_id == self._last_id else AcquisitionFault.STALE
            return fault, f"channel {channel.name} came with frame id {frame.frame_id} after {self._last_id}"
        self._last_id = frame.frame_id
        return None

    def _failed(
        self, part: Part, at: datetime, fault: AcquisitionFault, detail: str, *channels: str
    ) -> FailedAcquisition:
        return FailedAcquisition(
            trigger_id=part.trigger_id,
            part_id=part.part_id,
            recipe_id=part.recipe.recipe_id,
            captured_at=at,
            fault=fault,
            detail=detail,
            channels=channels,
        )
