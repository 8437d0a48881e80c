"""A camera that keeps every promise on paper, to be made to break one at a time."""

from __future__ import annotations

import numpy as np

from cell.errors import AcquisitionTimeout, CameraError
from cell.frames import AcquisitionFault, Frame
from cell.recipes import Channel, Recipe
from drivers.cameras.base import Meanwhile, Value, nothing, shares_exposure
from drivers.cameras.formats import formats_for


class FakeTime:
    """Seconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class FakeFeatures:
    """A dict with limits."""

    def __init__(self, camera: FakeCamera) -> None:
        self.camera = camera
        self.values: dict[str, Value] = {
            "Width": 64,
            "Height": 48,
            "OffsetX": 0,
            "OffsetY": 0,
            "BinningHorizontal": 1,
            "BinningVertical": 1,
            "PixelFormat": "Mono8",
            "ExposureTime": 1000.0,
            "Gain": 0.0,
            "TriggerMode": "On",
            "TriggerSource": "Software",
        }
        self.greatest = {"Width": 4096, "Height": 4096, "ExposureTime": 1e7, "Gain": 48.0}

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.values))

    def read(self, name: str) -> Value:
        self.camera.require_open()
        if name not in self.values:
            raise CameraError(f"there is no feature {name}; see the manual")
        return self.values[name]

    def write(self, name: str, value: Value) -> Value:
        before = self.read(name)
        if isinstance(value, (int, float)) and value > self.greatest.get(name, float("inf")):
            raise CameraError(f"{name} can't be {value:g} and is {before}; it can be 0 to {self.greatest[name]:g}")
        self.values[name] = value
        return value

    def execute(self, name: str) -> None:
        raise CameraError(f"{name} can't be executed; see the manual")


class FakeCamera:
    """Keeps the contract. Subclasses in the tests break it in one place each."""

    emulated = True

    def __init__(self, time: FakeTime, trigger: str = "software", timeout_s: float = 0.5) -> None:
        self.name = "fake"
        self.time = time
        self.trigger = trigger
        self.timeout_s = timeout_s
        self.features = self.make_features()
        self.recipe: Recipe | None = None
        self.ready = False
        self.closed = False
        self.count = 0
        self.edges = 0
        self.queue: list[Frame] = []
        self.next_fault: str | None = None
        self.last: tuple[Channel, Frame] | None = None
        self.generator = np.random.default_rng(5)

    def make_features(self) -> FakeFeatures:
        return FakeFeatures(self)

    def require_open(self) -> None:
        if self.closed:
            raise CameraError("the camera is closed; open it again")

    def require_ready(self, trigger: str) -> Recipe:
        self.require_open()
        if self.recipe is None or not self.ready:
            raise CameraError("the camera is not configured; prepare a recipe first")
        if (self.trigger == "software") != (trigger == "software"):
            raise CameraError(f"the camera is triggered by {self.trigger}; see camera.trigger")
        return self.recipe

    def configure(self, recipe: Recipe) -> None:
        self.require_open()
        self.recipe, self.ready, self.last = recipe, False, None
        self.queue.clear()
        self.features.write("PixelFormat", formats_for(recipe)[0].name)
        self.features.write("Width", recipe.width)
        self.features.write("Height", recipe.height)
        self.ready = True

    def expose(self, channel: Channel, meanwhile: Meanwhile = nothing) -> Frame:
        recipe = self.require_ready("software")
        if self.last is not None and shares_exposure(self.last[0], channel):
            before, frame = self.last
            if recipe.channels.index(channel) == recipe.channels.index(before) + 1:
                self.last = (channel, self.make(channel, frame_id=frame.frame_id, stamp=frame.timestamp_ns))
                return self.last[1]
        self.features.write("ExposureTime", channel.exposure_us)
        self.features.write("Gain", channel.gain_db)
        self.trouble(channel)
        meanwhile()
        if channel.exposure_us / 1e6 > self.timeout_s:
            self.time.now += self.timeout_s
            self.count += 1
            raise AcquisitionTimeout("no frame came in time; check the cable")
        self.last = (channel, self.make(channel)) if channel in recipe.channels else None
        return self.last[1] if self.last else self.make(channel)

    def await_frame(self, channel: Channel, timeout_s: float) -> Frame | None:
        self.require_ready("line")
        if not self.queue:
            self.time.now += timeout_s
            return None
        frame = self.queue.pop(0)
        if frame.channel == "spoilt":
            raise CameraError("part of a frame came; check the cable", fault=AcquisitionFault.INCOMPLETE)
        return frame

    def fire(self) -> None:
        recipe = self.require_ready("line")
        self.edges += 1
        for channel in recipe.channels:
            fault, self.next_fault = self.next_fault, None
            self.queue.append(self.make(channel, spoilt=fault is not None))

    def recover(self) -> None:
        self.require_open()
        if self.recipe is not None:
            self.configure(self.recipe)

    def close(self) -> None:
        self.closed = True

    def break_next(self) -> None:
        self.next_fault = "incomplete"

    def trouble(self, channel: Channel) -> None:
        fault, self.next_fault = self.next_fault, None
        if fault is not None:
            raise CameraError("part of a frame came; check the cable", fault=AcquisitionFault.INCOMPLETE)

    def make(
        self, channel: Channel, *, frame_id: int | None = None, stamp: int | None = None, spoilt: bool = False
    ) -> Frame:
        assert self.recipe is not None
        recipe = self.recipe
        if frame_id is None:
            self.count += 1
            self.time.now += channel.exposure_us / 1e6
        shape = (recipe.height, recipe.width)
        return Frame(
            channel="spoilt" if spoilt else channel.name,
            pixels=self.generator.integers(0, 256, shape).astype(np.uint8),
            bit_depth=recipe.bit_depth,
            exposure_us=channel.exposure_us,
            gain_db=channel.gain_db,
            camera=self.name,
            frame_id=self.count if frame_id is None else frame_id,
            timestamp_ns=int(self.time.now * 1e9) if stamp is None else stamp,
            trigger_count=self.edges if self.trigger == "line" else None,
            pixel_format=formats_for(recipe)[0].name,
        )
