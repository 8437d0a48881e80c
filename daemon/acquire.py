"""Trigger to frame set: the light sequence, one exposure under each light, and the proof that they belong together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

import numpy as np

from cell.clock import Monotonic, WallClock, monotonic, utc_now
from cell.errors import DataError, HardwareError
from cell.frames import Acquired, AcquisitionFault, FailedAcquisition, Frame, FrameSet
from cell.recipes import Channel, Recipe
from daemon.parts import Part
from daemon.recovery import Attendant
from drivers.cameras.base import fault_of
from drivers.registry import Rig


class Acquirer:
    """Owns cameras and light; called from the line thread alone.

    With several cameras each takes the channels that name it, one after the other in the recipe's order, and each is
    brought back alone; a part whose recipe needs one that is gone is FAULT.
    """

    def __init__(self, rig: Rig, clock: Monotonic = monotonic, wall_clock: WallClock = utc_now) -> None:
        self._rig = rig
        self._wall_clock = wall_clock
        self._cameras = {role: Attendant(role, camera, clock) for role, camera in rig.cameras.items()}
        self._recipe: Recipe | None = None
        self._last_ids: dict[str, int] = {}
        self.light_faults = 0

    @property
    def emulated(self) -> bool:
        """True when a driver says that it is not real."""
        return self._rig.emulated

    @property
    def recipe(self) -> Recipe | None:
        """What cameras and light were last set up for."""
        return self._recipe

    @property
    def cameras(self) -> Mapping[str, Attendant]:
        """The cameras by their names in settings and recipes, and what happened to each."""
        return self._cameras

    @property
    def recoveries(self) -> int:
        """How often a camera was brought back."""
        return sum(camera.recoveries for camera in self._cameras.values())

    def configure(self, recipe: Recipe) -> None:
        """Set cameras and light up for a recipe; :meth:`take` is FAULT until it works.

        Raises `DataError` for a light or camera that this cell has not, `CameraError`, `AcquisitionTimeout` and
        `LightError`.
        """
        self._last_ids.clear()
        self._require_known(recipe)
        self._recipe = recipe
        for role, share in shares_of(recipe).items():
            try:
                self._cameras[role].camera.configure(share)
            except HardwareError:
                self._cameras[role].plan()
                raise
            self._cameras[role].well()
        self._rig.light.prepare(recipe)

    def take(self, part: Part, on_frame: Callable[[Frame], None] = lambda _: None) -> Acquired:
        """Return one frame for each channel of the part's recipe, or why there is none. Never raises for hardware.

        `on_frame` is called with each frame that passed its checks, before the next exposure. The light is off on
        return.
        """
        captured_at = self._wall_clock()
        recipe = part.recipe
        camera = self._cameras[recipe.channels[0].camera]
        for role in shares_of(recipe):
            if self._cameras[role].lost:
                gone = "the camera is gone and being brought back"
                return self._failed(part, captured_at, self._cameras[role], AcquisitionFault.CAMERA, gone)
        try:
            self._rig.present(part.part_id)
        except DataError as error:
            # The feeder of an emulated cell has no such part; no camera is to blame.
            return _failure(part, captured_at, AcquisitionFault.MISSING, str(error))
        except HardwareError as error:
            return self._failed(part, captured_at, camera, fault_of(error), str(error))
        frames: list[Frame] = []
        channel = recipe.channels[0]
        try:
            with self._dark_afterwards():
                for channel in recipe.channels:
                    camera = self._cameras[channel.camera]
                    self._rig.light.apply(channel.lights, channel.strobe_us)
                    frame = camera.camera.expose(channel)
                    problem = self._doubt(frame, channel, recipe)
                    if problem is not None:
                        return self._failed(part, captured_at, camera, *problem, channel.name)
                    frames.append(frame)
                    on_frame(frame)
        except HardwareError as error:
            return self._failed(part, captured_at, camera, fault_of(error), str(error), channel.name)
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
        """Tell whether a camera must be brought back."""
        return any(camera.lost for camera in self._cameras.values())

    @property
    def retry_in_s(self) -> float | None:
        """Seconds until the next attempt to bring a camera back is due; None when none is lost."""
        waits = [camera.retry_in_s for camera in self._cameras.values()]
        return min((wait for wait in waits if wait is not None), default=None)

    def recover(self) -> bool:
        """Try to bring lost cameras back if an attempt is due; tell whether all work now."""
        for role, camera in self._cameras.items():
            if camera.lost and camera.attempt(self._relight):
                self._last_ids.pop(role, None)
        return not self.lost

    def dark(self) -> None:
        """Switch the light off. Raises `LightError`."""
        self._rig.light.off()

    def _relight(self) -> None:
        # The lines of a camera that was away may have lost their set-up with it.
        if self._recipe is not None:
            self._rig.light.prepare(self._recipe)
        else:
            self._rig.light.off()

    def _require_known(self, recipe: Recipe) -> None:
        for channel in recipe.channels:
            if channel.camera not in self._cameras:
                raise DataError(
                    f"recipe {recipe.recipe_id} takes channel {channel.name} with the camera {channel.camera}, but "
                    f"this cell has {', '.join(self._cameras)}; correct the recipe or cameras in the settings"
                )
            unknown = set(channel.lights) - set(self._rig.light.lines)
            if unknown:
                raise DataError(
                    f"recipe {recipe.recipe_id} switches the light {min(unknown)}, but this cell has "
                    f"{', '.join(self._rig.light.lines)}; correct the recipe or light.lines"
                )

    @contextlib.contextmanager
    def _dark_afterwards(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._rig.light.off()

    def _doubt(self, frame: Frame, channel: Channel, recipe: Recipe) -> tuple[AcquisitionFault, str] | None:
        # The driver has proved each frame new; here they are proved to fit each other and the recipe.
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
        last_id = self._last_ids.get(channel.camera)
        if last_id is not None and frame.frame_id <= last_id:
            fault = AcquisitionFault.REPEATED if frame.frame_id == last_id else AcquisitionFault.STALE
            return fault, f"channel {channel.name} came with frame id {frame.frame_id} after {last_id}"
        self._last_ids[channel.camera] = frame.frame_id
        return None

    def _failed(
        self,
        part: Part,
        at: datetime,
        camera: Attendant,
        fault: AcquisitionFault,
        detail: str,
        *channels: str,
    ) -> FailedAcquisition:
        if fault is AcquisitionFault.LIGHT:
            self.light_faults += 1
        else:
            camera.note(fault)
        return _failure(part, at, fault, detail, *channels)


def _failure(part: Part, at: datetime, fault: AcquisitionFault, detail: str, *channels: str) -> FailedAcquisition:
    return FailedAcquisition(
        trigger_id=part.trigger_id,
        part_id=part.part_id,
        recipe_id=part.recipe.recipe_id,
        captured_at=at,
        fault=fault,
        detail=detail,
        channels=channels,
    )


def shares_of(recipe: Recipe) -> dict[str, Recipe]:
    """Return for each camera that the recipe names the recipe with that camera's channels only."""
    roles = dict.fromkeys(channel.camera for channel in recipe.channels)
    if len(roles) == 1:
        return dict.fromkeys(roles, recipe)
    return {
        role: recipe.model_copy(update={"channels": tuple(c for c in recipe.channels if c.camera == role)})
        for role in roles
    }
