"""What a person does with cameras and lights while no parts run: look, take frames, switch lamps.

Single-threaded like the devices: in the daemon the line thread calls it between two parts (`daemon.hardware`), without
a daemon the tool does (`daemon.ctl.direct`). Answers are plain JSON types, the same either way; frames are apart.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from cell.clock import Monotonic, monotonic
from cell.errors import AcquisitionTimeout, CameraError, DataError, HardwareError
from cell.frames import Frame, Stack, StoredStack
from cell.imaging.figures import levels, sharpness
from cell.recipes import Channel, DefectClass, Recipe, Rect
from cell.settings import CameraSettings, Settings
from cell.store.images import write_stack
from drivers.cameras.base import Camera, Features, shares_exposure
from drivers.lights.stepping import differing
from drivers.registry import FIRST_CAMERA, Rig

Facts = dict[str, Any]

#: Frames of one request stay in memory until they are measured and written: no more than this, but one of each channel.
_MOST_BYTES = 256 << 20
#: What lies before an emulated camera when nobody says so.
_SOME_PART = "good-000001"
#: Exposure that is asked of a camera that has none, microseconds.
_DRAWN_US = 1000.0
#: What is told of a camera in a list, by its SFNC names.
_TOLD = {
    "vendor": "DeviceVendorName",
    "model": "DeviceModelName",
    "serial": "DeviceSerialNumber",
    "user_id": "DeviceUserID",
    "firmware": "DeviceFirmwareVersion",
    "temperature_c": "DeviceTemperature",
    "link_bytes_per_s": "DeviceLinkSpeed",
    "packet_size": "GevSCPSPacketSize",
    "address": "GevCurrentIPAddress",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Frames that are asked for. `lights` replace the channels' own; {} is darkness.

    `channels` are names of the recipe's channels, all of the camera's when empty. `budget_s` ends a long series early,
    and so does `give_way` when it is True before an exposure: somebody else needs the camera.
    """

    channels: tuple[str, ...] = ()
    count: int = 1
    lights: Mapping[str, float] | None = None
    budget_s: float = 1.0
    give_way: Callable[[], bool] = lambda: False


@dataclass(slots=True)
class Taken:
    """What came: frames in order, sentences of what went wrong, and how long it took."""

    frames: list[Frame] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    errors: list[HardwareError] = field(default_factory=list)
    seconds: float = 0.0
    gave_way: bool = False

    @property
    def lost(self) -> int:
        """Frames that the camera counted and nobody got."""
        ids = [frame.frame_id for frame in self.frames]
        return sum(max(0, after - before - 1) for before, after in pairwise(ids))


class Bench:
    """The opened hardware of one cell, for looking at."""

    def __init__(self, settings: Settings, rig: Rig, clock: Monotonic = monotonic) -> None:
        self.settings = settings
        self._rig = rig
        self._clock = clock
        self._presented = False

    def cameras(self, *, ask: bool = True) -> list[Facts]:
        """Return who the cameras are; what one does not tell is None.

        :param ask: False touches no device, and may be called from any thread.
        """
        return [self._identity(role, camera, ask=ask) for role, camera in self._rig.cameras.items()]

    def identity(self, role: str) -> Facts:
        """Return who a camera is. Raises `DataError` for an unknown camera."""
        camera = self.camera(role)
        return self._identity(self.role(camera), camera)

    def feature_names(self, role: str) -> tuple[str, ...]:
        """Return the names of a camera's features. Raises `DataError` for an unknown camera, `CameraError`."""
        return self.camera(role).features.names()

    def features(self, role: str, names: Sequence[str]) -> list[Facts]:
        """Return features with their values, or why one can't be read now. Raises `DataError`."""
        features = self.camera(role).features
        read = [(name, *_read(features, name)) for name in names]
        return [{"name": name, "value": value, "problem": problem} for name, value, problem in read]

    def camera(self, role: str) -> Camera:
        """Return a camera by its name in the settings, serial number or user id. Raises `DataError`."""
        cameras = self._rig.cameras
        for name, camera in cameras.items():
            if role in {name, camera.name} or (not role and name == FIRST_CAMERA):
                return camera
        raise DataError(f"there is no camera {role}; this cell has {', '.join(cameras)}")

    def role(self, camera: Camera) -> str:
        """Return a camera's name in settings and recipes."""
        return next(name for name, known in self._rig.cameras.items() if known is camera)

    @property
    def emulated(self) -> bool:
        """True when any driver says that it is not real."""
        return self._rig.emulated

    def triggered(self, role: str) -> bool:
        """Tell whether something else than software starts a camera's exposures."""
        return self._settings_of(role).trigger != "software"

    def own_recipe(self, role: str) -> Recipe:
        """Return a recipe for a camera that has none: its present region and pixel format under the first light line.

        Raises `CameraError` when the camera does not tell them.
        """
        camera = self.camera(role)
        features = camera.features
        pixel_format = str(features.read("PixelFormat"))
        try:
            exposure_us = float(features.read("ExposureTime"))
        except CameraError:
            # A demonstration camera draws its pictures and exposes nothing.
            if not camera.emulated:
                raise
            exposure_us = _DRAWN_US
        first = self._rig.light.lines[0]
        return Recipe(
            recipe_id="bench",
            product="bench",
            height=int(features.read("Height")),
            width=int(features.read("Width")),
            bit_depth=next((depth for depth in (16, 12, 10) if str(depth) in pixel_format), 8),
            channels=(Channel(name="bench", exposure_us=exposure_us, lights={first: 1.0}, camera=self.role(camera)),),
            defect_classes=(DefectClass(name="none"),),
        )

    def set_up(self, recipe: Recipe) -> None:
        """Set the recipe's cameras and the light up. Raises `CameraError`, `LightError`, `DataError`."""
        for role in dict.fromkeys(channel.camera for channel in recipe.channels):
            share = tuple(channel for channel in recipe.channels if channel.camera == role)
            self.camera(role).configure(recipe.model_copy(update={"channels": share}))
        self._rig.light.prepare(recipe)

    def present(self, part_id: str = "") -> None:
        """Put a part before an emulated camera, some part when none is named; nothing happens at a real one.

        Raises `DataError` for an unknown part.
        """
        if part_id:
            self._rig.present(part_id)
            self._presented = True
        elif self.emulated and not self._presented:
            # An empty place shows nothing. A folder may name its parts otherwise; then the place stays empty.
            with contextlib.suppress(DataError):
                self._rig.present(_SOME_PART)
            self._presented = True

    def take(self, role: str, recipe: Recipe, wanted: Wanted) -> Taken:
        """Take frames under their channels' lights; the light is off on return.

        What fails is in the answer: a person at the bench wants to see how often. Raises `DataError` for a channel that
        the camera does not take, `LightError` when the light can't be switched off.
        """
        camera = self.camera(role)
        groups = _groups(recipe, self.role(camera), wanted.channels)
        most = max(1, _MOST_BYTES // (recipe.height * recipe.width * (1 if recipe.bit_depth <= 8 else 2) * len(groups)))
        taken = Taken()
        began = self._clock()
        try:
            for _ in range(min(wanted.count, most)):
                for group in groups:
                    if wanted.give_way():
                        taken.gave_way = True
                        return taken
                    taken.frames += self._expose(camera, recipe, group, wanted, taken)
                    # Whoever waits in vain must not wait once for every channel.
                    if taken.errors and self._clock() - began > wanted.budget_s:
                        return taken
                if self._clock() - began > wanted.budget_s:
                    break
        finally:
            taken.seconds = self._clock() - began
            self._rig.light.off()
        return taken

    def lights(self) -> Facts:
        """Return the light's lines and how brightly each shines. Raises `LightError`."""
        light, settings = self._rig.light, self.settings.light
        shining = light.levels()
        return {
            "driver": settings.driver,
            "mode": settings.mode,
            "emulated": light.emulated,
            "dark_after_s": settings.dark_after_s,
            "lines": [{"line": line, "level": round(shining.get(line, 0.0), 4)} for line in light.lines],
        }

    def shine(self, lights: Mapping[str, float]) -> Facts:
        """Switch these lines on and all others off; none: darkness. Raises `LightError`."""
        if lights:
            self._rig.light.apply(lights)
        else:
            self._rig.light.off()
        return self.lights()

    def _expose(
        self, camera: Camera, recipe: Recipe, group: tuple[Channel, ...], wanted: Wanted, taken: Taken
    ) -> list[Frame]:
        # All planes of one exposure are fetched, because the next exposure may begin only then.
        frames = []
        lights = group[0].lights if wanted.lights is None else wanted.lights
        settings = self._settings_of(self.role(camera))
        try:
            if wanted.lights is None and settings.trigger != "software" and differing(recipe) is not None:
                self._rig.light.arm(recipe)  # the camera switches it, and the host must not
            elif lights:
                self._rig.light.apply(lights, group[0].strobe_us)
            else:
                self._rig.light.off()
            for channel in group:
                frames.append(_frame(camera, settings, channel))
        except HardwareError as error:
            taken.failures.append(str(error))
            taken.errors.append(error)
        return [frame for frame in frames if not wanted.channels or frame.channel in wanted.channels]

    def _identity(self, role: str, camera: Camera, *, ask: bool = True) -> Facts:
        told = {key: _read(camera.features, name)[0] if ask else None for key, name in _TOLD.items()}
        if isinstance(told["address"], int):
            told["address"] = str(ipaddress.ip_address(told["address"] & 0xFFFFFFFF))
        settings = self._settings_of(role)
        return {
            "camera": role,
            "name": camera.name,
            "driver": settings.driver,
            "trigger": settings.trigger,
            "isolated": settings.isolated,
            "emulated": camera.emulated,
            **told,
        }

    def _settings_of(self, role: str) -> CameraSettings:
        return self.settings.camera if role == FIRST_CAMERA else self.settings.cameras[role]


def adjusted(recipe: Recipe, exposure_us: float | None, gain_db: float | None) -> Recipe:
    """Return the recipe with another exposure or gain for all its channels; the cameras must be set up for it."""
    changes = {key: value for key, value in (("exposure_us", exposure_us), ("gain_db", gain_db)) if value is not None}
    if not changes:
        return recipe
    return recipe.model_copy(
        update={"channels": tuple(channel.model_copy(update=changes) for channel in recipe.channels)}
    )


def figures_of(frame: Frame, region: Rect | None = None) -> Facts:
    """Return what a person wants to know of a frame. Shares are in [0, 1]; `region` is where sharpness is measured."""
    found = levels(frame.pixels, frame.bit_depth)
    height, width = frame.shape
    if region is not None and not region.inside(height, width):
        raise DataError(f"the region lies outside the {width}x{height} frame; give x,y,width,height in pixels")
    return {
        "channel": frame.channel,
        "camera": frame.camera,
        "frame_id": frame.frame_id,
        "timestamp_ns": frame.timestamp_ns,
        "trigger_count": frame.trigger_count,
        "width": width,
        "height": height,
        "bit_depth": frame.bit_depth,
        "pixel_format": frame.pixel_format,
        "exposure_us": frame.exposure_us,
        "gain_db": frame.gain_db,
        "low": found.low,
        "high": found.high,
        "mean": round(found.mean, 3),
        "dark_share": found.dark_share,
        "saturated_share": found.saturated_share,
        "ceiling": found.ceiling,
        "clipped_share": found.clipped_share,
        "sharpness": sharpness(frame.pixels, region),
    }


def stack_of(frames: Sequence[Frame], recipe: Recipe, at: datetime, *, emulated: bool) -> StoredStack:
    """Return frames of one size as they are kept on disk, with what each of them says of itself in the metadata."""
    pixels: Stack = np.stack([frame.pixels for frame in frames])  # type: ignore[assignment]
    return StoredStack(
        pixels=pixels,
        channels=tuple(frame.channel for frame in frames),
        bit_depth=frames[0].bit_depth,
        exposure_us=tuple(frame.exposure_us for frame in frames),
        gain_db=tuple(frame.gain_db for frame in frames),
        metadata={
            "taken_by": "inspectctl",
            "recipe_id": recipe.recipe_id,
            "captured_at": at.isoformat(),
            "camera": frames[0].camera,
            "emulated": emulated,
            "pixel_format": frames[0].pixel_format,
            "frame_ids": [frame.frame_id for frame in frames],
            "timestamps_ns": [frame.timestamp_ns for frame in frames],
        },
    )


def save_frames(
    frames: Sequence[Frame], recipe: Recipe, folder: Path, at: datetime, *, stacked: bool, emulated: bool
) -> list[Path]:
    """Write frames below a folder, all in one stack or each by itself; return the files in the frames' order.

    Raises `DiskFull`, `StoreError`.
    """
    pieces = [frames[index : index + 1] for index in range(len(frames))] if not stacked else [frames] if frames else []
    paths = []
    for number, piece in enumerate(pieces):
        path = folder / f"{recipe.recipe_id}-{at:%Y%m%dT%H%M%S%f}-{number:03d}.tif"
        write_stack(path, stack_of(piece, recipe, at, emulated=emulated))
        paths.append(path)
    return paths


def _groups(recipe: Recipe, role: str, names: tuple[str, ...]) -> list[tuple[Channel, ...]]:
    """Return the channels by the exposure that they share, those of this camera that hold one of `names`."""
    own = [channel for channel in recipe.channels if channel.camera == role]
    unknown = set(names) - {channel.name for channel in own}
    if unknown or not own:
        known = ", ".join(channel.name for channel in own) or "none"
        raise DataError(
            f"camera {role} takes no channel {min(unknown, default='')} in {recipe.recipe_id}; it has {known}"
        )
    groups: list[tuple[Channel, ...]] = []
    for channel in own:
        if groups and shares_exposure(groups[-1][-1], channel):
            groups[-1] += (channel,)
        else:
            groups.append((channel,))
    return [group for group in groups if not names or {channel.name for channel in group} & set(names)]


def _frame(camera: Camera, settings: CameraSettings, channel: Channel) -> Frame:
    if settings.trigger == "software":
        return camera.expose(channel)
    frame = camera.await_frame(channel, settings.frame_timeout_s)
    if frame is None:
        source = settings.trigger_line if settings.trigger == "line" else "the action command"
        raise AcquisitionTimeout(
            f"channel {channel.name}: no trigger came on {source} within {settings.frame_timeout_s:g} s; trigger the "
            "camera, or set its trigger to software"
        )
    return frame


def _read(features: Features, name: str) -> tuple[Any, str]:
    try:
        return features.read(name), ""
    except HardwareError as error:
        return None, str(error)


@contextlib.contextmanager
def opened(settings: Settings, open_rig: Callable[[Settings], Rig]) -> Iterator[Bench]:
    """Open the cell's hardware for a while; it is dark and released afterwards. Raises as `open_rig` does."""
    rig = open_rig(settings)
    try:
        yield Bench(settings, rig)
    finally:
        rig.close()
