"""Trigger to frame set: the light sequence, one exposure under each light, and the proof that they belong together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from cell.clock import Monotonic, WallClock, monotonic, utc_now
from cell.errors import DataError, HardwareError, LightError
from cell.frames import Acquired, AcquisitionFault, FailedAcquisition, Frame, FrameSet
from cell.recipes import Channel, Recipe
from daemon.evidence import Doubt, Evidence
from daemon.parts import Part
from daemon.recovery import Attendant
from daemon.signatures import SignatureBook, Signatures, block_means
from drivers.cameras.base import fault_of
from drivers.registry import FIRST_CAMERA, Rig


class Acquirer:
    """Owns cameras and light; called from the line thread alone.

    With several cameras each takes the channels that name it, one after the other in the recipe's order, and each is
    brought back alone; a part whose recipe needs one that is gone is FAULT.
    """

    def __init__(
        self,
        rig: Rig,
        clock: Monotonic = monotonic,
        wall_clock: WallClock = utc_now,
        book: SignatureBook | None = None,
    ) -> None:
        self._rig = rig
        self._clock = clock
        self._wall_clock = wall_clock
        self._book = book or SignatureBook(None)
        self._cameras = {role: Attendant(role, camera, clock) for role, camera in rig.cameras.items()}
        self._recipe: Recipe | None = None
        self._evidence: Evidence | None = None
        self.set_up = 0  # how often cameras were set up: counts of edges begin anew
        self._signatures = Signatures(())
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
        self._require_known(recipe)
        self._recipe = recipe
        self._evidence = Evidence(recipe)
        self.set_up += 1
        self._signatures = self._book.open(recipe)
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

        `on_frame` is called with each frame that passed its checks; they are made, but for the last, while the camera
        takes the next. The light is off on return.
        """
        captured_at = self._wall_clock()
        recipe = part.recipe
        camera = self._cameras[recipe.channels[0].camera]
        for wanted in (self._cameras[channel.camera] for channel in recipe.channels):
            if wanted.lost:
                gone = "the camera is gone and being brought back"
                return self._failed(part, captured_at, wanted, AcquisitionFault.CAMERA, gone)
        try:
            self._rig.present(part.part_id)
        except DataError as error:
            # The feeder of an emulated cell has no such part; no camera is to blame.
            return _failure(part, captured_at, AcquisitionFault.MISSING, str(error))
        except HardwareError as error:
            return self._failed(part, captured_at, camera, fault_of(error), str(error))
        series = self._series(recipe, on_frame)
        if series.doubt is not None:
            # A doubt is of an earlier frame than what the hardware did behind it, and is what it began with.
            doubt, camera = series.doubt, self._cameras[series.at.camera]
            return self._failed(part, captured_at, camera, doubt.fault, doubt.detail, *doubt.channels)
        if series.trouble is not None:
            trouble, camera = series.trouble, self._cameras[series.at.camera]
            return self._failed(part, captured_at, camera, fault_of(trouble), str(trouble), series.at.name)
        return self.complete(part, tuple(series.frames), captured_at, series.means)

    def _series(self, recipe: Recipe, on_frame: Callable[[Frame], None]) -> _Series:
        """Take the frames of a recipe, the light off in the end."""
        series = _Series(self._evidence or Evidence(recipe), recipe.channels[0], on_frame)
        channel = series.at
        try:
            with self._dark_afterwards():
                for channel in recipe.channels:
                    self._rig.light.apply(channel.lights, channel.strobe_us)
                    asked = self._clock()
                    frame = self._cameras[channel.camera].camera.expose(channel, series.prove)
                    series.came(frame, channel, asked, self._clock())
                    if series.doubt is not None:
                        break
        except HardwareError as error:
            series.broke(error, channel)
        series.prove()
        return series

    def complete(
        self,
        part: Part,
        frames: tuple[Frame, ...],
        captured_at: datetime | None = None,
        means: Sequence[NDArray[np.float32]] = (),
    ) -> Acquired:
        """Return the frames of one trigger, proven by their numbers, as a part's frame set if they look it too.

        :param means: what `Signatures.judge` takes, if there is.
        """
        captured_at = captured_at or self._wall_clock()
        found = self._signatures.judge(frames, means)
        if found is not None:
            return self.failed(part, found.doubt(), captured_at)
        self._book.keep(self._signatures)
        return FrameSet(
            trigger_id=part.trigger_id,
            part_id=part.part_id,
            recipe_id=part.recipe.recipe_id,
            captured_at=captured_at,
            frames=frames,
            emulated=self._rig.emulated,
            lights={channel.name: channel.lights for channel in part.recipe.channels},
        )

    def failed(self, part: Part, doubt: Doubt, captured_at: datetime | None = None) -> FailedAcquisition:
        """Return why a part has no frame set, and count it."""
        if doubt.fault is AcquisitionFault.LIGHT:
            self.light_faults += 1
        else:
            at_fault = doubt.channels[0] if doubt.channels else ""
            cameras = {channel.name: channel.camera for channel in part.recipe.channels}
            self._cameras[cameras.get(at_fault, part.recipe.channels[0].camera)].faults[doubt.fault] += 1
        return _failure(part, captured_at or self._wall_clock(), doubt.fault, doubt.detail, *doubt.channels)

    def arm(self, recipe: Recipe) -> None:
        """Set the cameras of a recipe up for their trigger lines: buffers empty, edges counted from 1.

        Raises what :meth:`configure` raises, and `LightError` for channels of different light where the hardware does
        not step through them.
        """
        self.configure(recipe)
        self._rig.light.arm(recipe)

    def await_frame(self, channel: Channel, timeout_s: float) -> Frame | None:
        """Return the next frame of a camera on its trigger line, or None when none came. Raises `HardwareError`.

        An error that says the camera is gone has it brought back.
        """
        camera = self._cameras[channel.camera]
        try:
            return camera.camera.await_frame(channel, timeout_s)
        except HardwareError as error:
            camera.note(fault_of(error))
            raise

    def tend(self) -> None:
        """Keep the light of a camera on its trigger line as it is; a lamp or controller that failed says so here.

        Raises `LightError`.
        """
        if self._recipe is None:
            return
        try:
            self._rig.light.arm(self._recipe)
        except LightError:
            self.light_faults += 1
            raise

    @property
    def clock(self) -> Monotonic:
        """The clock that frames are received by."""
        return self._clock

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
            if camera.lost and camera.attempt(self._relight) and self._evidence is not None:
                self._evidence.restart(role)
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
        leading = FIRST_CAMERA in self._rig.on_line
        for channel in recipe.channels:
            if channel.camera not in self._cameras:
                raise DataError(
                    f"recipe {recipe.recipe_id} takes channel {channel.name} with the camera {channel.camera}, but "
                    f"this cell has {', '.join(self._cameras)}; correct the recipe or cameras in the settings"
                )
            if (channel.camera in self._rig.on_line) != leading:
                ways = ("by a line or action command", "by software")
                raise DataError(
                    f"recipe {recipe.recipe_id} takes channel {channel.name} with the camera {channel.camera}, which "
                    f"is triggered {ways[leading]} where the cell is {ways[not leading]}; set cameras.{channel.camera}."
                    "trigger as camera.trigger"
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


class _Series:
    """The frames of one part, each proven while the camera exposes the next."""

    def __init__(self, evidence: Evidence, first: Channel, on_frame: Callable[[Frame], None]) -> None:
        evidence.begin()
        self._evidence = evidence
        self._on_frame = on_frame
        self._unproven: tuple[Frame, Channel, float, float] | None = None
        self.frames: list[Frame] = []
        self.means: list[NDArray[np.float32]] = []  # of each frame, for its looks
        self.doubt: Doubt | None = None
        self.trouble: HardwareError | None = None
        self.at = first  # the channel that doubt or trouble is of

    def came(self, frame: Frame, channel: Channel, asked_s: float, received_s: float) -> None:
        """Take a frame in, to be proven later; see `Evidence.admit`."""
        self.prove()
        self._unproven = frame, channel, asked_s, received_s

    def broke(self, trouble: HardwareError, channel: Channel) -> None:
        """Take note that camera or light failed at a channel."""
        self.prove()
        if self.doubt is None:
            self.trouble, self.at = trouble, channel

    def prove(self) -> None:
        """Prove the frame that came last, unless it was."""
        if self._unproven is None or self.doubt is not None:
            return
        (frame, channel, asked_s, received_s), self._unproven = self._unproven, None
        self.doubt = self._evidence.admit(frame, channel, asked_s, received_s)
        if self.doubt is not None:
            self.at = channel
            return
        self.frames.append(frame)
        self._on_frame(frame)
        self.means.append(block_means(frame))


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
