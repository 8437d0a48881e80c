"""Hardware on a string: a camera and a light that do what a test says, behind the drivers' contracts."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from cell.errors import CameraError, DataError, HardwareError, LightError
from cell.frames import Frame, StoredStack
from cell.recipes import ArchiveRule, Channel, DefectClass, Recipe
from drivers.cameras.base import Meanwhile, nothing
from drivers.registry import Rig

HEIGHT, WIDTH = 64, 96
CHANNELS = ("bright", "dark")


def recipe(recipe_id: str = "plate", **changes: Any) -> Recipe:
    """Two channels of 64 x 96 pixels, one class."""
    values: dict[str, Any] = {
        "recipe_id": recipe_id,
        "product": "plate",
        "height": HEIGHT,
        "width": WIDTH,
        "channels": tuple(
            Channel(name=name, exposure_us=100.0, lights={f"line-{index}": 1.0}) for index, name in enumerate(CHANNELS)
        ),
        "defect_classes": (DefectClass(name="spot"),),
        "deadline_ms": 2000.0,
        "archive": ArchiveRule(ok_share=1.0, ring=0),
    }
    return Recipe.model_validate(values | changes)


def pixels_of(part_id: str, channel: str) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Return what the camera sees of a part: even texture, and on ``bad...`` parts a bright spot."""
    generator = np.random.default_rng(zlib.crc32(f"{part_id}/{channel}".encode()))
    image = generator.integers(90, 110, (HEIGHT, WIDTH)).astype(np.uint8)
    if part_id.startswith("bad"):
        image[20:28, 40:52] = 230
    return image


def picture_of(part_id: str) -> StoredStack:
    """Return a part's frame set as it would be archived."""
    return StoredStack(
        pixels=np.stack([pixels_of(part_id, channel) for channel in CHANNELS]),
        channels=CHANNELS,
        bit_depth=8,
        exposure_us=(100.0, 100.0),
        gain_db=(0.0, 0.0),
        metadata={"part_id": part_id, "emulated": True},
    )


class NoFeatures:
    """Of a camera that has none."""

    def names(self) -> tuple[str, ...]:
        return ()

    def read(self, name: str) -> str:
        raise CameraError(f"the camera string-1 has no feature {name}")

    def write(self, name: str, value: object) -> str:
        return self.read(name)

    def execute(self, name: str) -> None:
        self.read(name)


class StringCamera:
    """Gives `pixels_of` the present part; `trouble` holds what goes wrong at the next exposures, in order.

    An exception is raised, an Event is waited for (a hanging call), a callable changes the frame, None goes well.
    """

    name = "string-1"
    emulated = True
    features = NoFeatures()

    def __init__(self) -> None:
        self.part_id = ""
        self.trouble: list[object] = []
        self.recover_trouble: list[HardwareError] = []
        self.configure_trouble: list[HardwareError] = []
        self.lit: Mapping[str, float] = {}
        self.exposed = threading.Event()
        self.recovered = 0
        self.closed = False
        self._frame_id = 0

    def configure(self, recipe: Recipe) -> None:
        if self.configure_trouble:
            raise self.configure_trouble.pop(0)

    def expose(self, channel: Channel, meanwhile: Meanwhile = nothing) -> Frame:
        self._frame_id += 1
        self.exposed.set()
        trouble = self.trouble.pop(0) if self.trouble else None
        if isinstance(trouble, threading.Event):
            trouble.wait(30)
        elif self.part_id.startswith("hang"):
            threading.Event().wait(60)
        elif self.part_id.startswith("crash"):
            raise RuntimeError("nobody foresaw this")
        elif isinstance(trouble, Exception):
            raise trouble
        assert self.lit == channel.lights, "an exposure under the wrong light"
        meanwhile()
        frame = Frame(
            channel=channel.name,
            pixels=pixels_of(self.part_id, channel.name),
            bit_depth=8,
            exposure_us=channel.exposure_us,
            gain_db=channel.gain_db,
            camera=self.name,
            frame_id=self._frame_id,
            timestamp_ns=self._frame_id * 1000,
        )
        return trouble(frame) if callable(trouble) else frame

    def await_frame(self, channel: Channel, timeout_s: float) -> Frame | None:
        raise CameraError("the camera string-1 is triggered by software; expose")

    def recover(self) -> None:
        if self.recover_trouble:
            raise self.recover_trouble.pop(0)
        self.recovered += 1

    def close(self) -> None:
        self.closed = True


class StringLight:
    """Tells the camera what is lit."""

    lines = ("line-0", "line-1")
    emulated = True

    def __init__(self, camera: StringCamera) -> None:
        self._camera = camera
        self.trouble: list[LightError] = []

    def prepare(self, recipe: Recipe) -> None:
        self.off()

    def apply(self, lights: Mapping[str, float], strobe_us: float | None = None) -> None:
        if self.trouble:
            raise self.trouble.pop(0)
        self._camera.lit = dict(lights)

    def arm(self, recipe: Recipe) -> None:
        if self.trouble:
            raise self.trouble.pop(0)
        self._camera.lit = dict(recipe.channels[0].lights)

    def off(self) -> None:
        self._camera.lit = {}

    def levels(self) -> dict[str, float]:
        return {line: self._camera.lit.get(line, 0.0) for line in self.lines}

    def close(self) -> None:
        self.off()


def string_rig(*, emulated: bool = True) -> tuple[Rig, StringCamera, StringLight]:
    """Return a rig and the strings it hangs on."""
    camera = StringCamera()
    light = StringLight(camera)

    def present(part_id: str) -> None:
        if part_id.startswith("unknown"):
            raise DataError(f"there is no part {part_id}; see the folder of parts")
        camera.part_id = part_id

    return Rig(camera=camera, light=light, present=present, emulated=emulated), camera, light


GONE = CameraError("the camera string-1 is gone; plug it in")
