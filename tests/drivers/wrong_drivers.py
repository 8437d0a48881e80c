"""Drivers that each break a promise of the camera contract, triggered by software."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cell.errors import AcquisitionTimeout, CameraError
from cell.frames import AcquisitionFault, Frame
from cell.recipes import Channel, DefectClass, Recipe
from drivers.cameras.base import Meanwhile, Value, nothing
from tests.drivers.fake_camera import FakeCamera, FakeFeatures

RECIPE = Recipe(
    recipe_id="conformance",
    product="plate",
    height=48,
    width=64,
    channels=tuple(Channel(name=name, exposure_us=1000.0, lights={"light": 1.0}) for name in ("left", "right")),
    defect_classes=(DefectClass(name="dent"),),
)
#: A promise, how the camera is triggered, and a driver that breaks it.
VIOLATIONS: list[tuple[str, str, type[FakeCamera]]] = []


def breaks(promise: str, trigger: str = "software") -> Any:
    """Register a driver that breaks a promise."""

    def register(kind: type[FakeCamera]) -> type[FakeCamera]:
        VIOLATIONS.append((promise, trigger, kind))
        return kind

    return register


@breaks("gives no frame before it is configured")
class ReadyAtOnce(FakeCamera):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.configure(RECIPE)


@breaks("says what it is")
class NameOfTwoLines(FakeCamera):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.name = "two\nlines"


@breaks("says what it is")
class NeitherNor(FakeCamera):
    emulated = "perhaps"  # type: ignore[assignment]


@breaks("has size, binning and format of the recipe when read back")
class AnotherBinning(FakeCamera):
    def configure(self, recipe: Recipe) -> None:
        super().configure(recipe)
        self.features.values["BinningHorizontal"] = 2


@breaks("lists its features, reads them and writes them with a read-back")
class Unsorted(FakeCamera):
    def make_features(self) -> FakeFeatures:
        class Features(FakeFeatures):
            def names(self) -> tuple[str, ...]:
                return tuple(reversed(super().names()))

        return Features(self)


@breaks("lists its features, reads them and writes them with a read-back")
class AnythingIsAFeature(FakeCamera):
    def make_features(self) -> FakeFeatures:
        class Features(FakeFeatures):
            def read(self, name: str) -> Value:
                return super().read(name) if name in self.values else 0

        return Features(self)


@breaks("lists its features, reads them and writes them with a read-back")
class WrittenOtherwise(FakeCamera):
    def make_features(self) -> FakeFeatures:
        class Features(FakeFeatures):
            def write(self, name: str, value: Value) -> Value:
                written = super().write(name, value)
                self.values["ExposureTime"] = 1000.0
                return 500.0 if name == "ExposureTime" else written

        return Features(self)


class _Clipping(FakeFeatures):
    def write(self, name: str, value: Value) -> Value:
        if name in {"ExposureTime", "Gain"} and isinstance(value, (int, float)):
            value = min(value, self.greatest[name])
        return super().write(name, value)


@breaks("names both values when one is clipped")
@breaks("refuses an exposure that it would clip, and takes the next")
@breaks("refuses a gain that it would clip, and takes the next")
class Clips(FakeCamera):
    def make_features(self) -> FakeFeatures:
        return _Clipping(self)

    def expose(self, channel: Channel, meanwhile: Meanwhile = nothing) -> Frame:
        return super().expose(channel.model_copy(update={"exposure_us": min(channel.exposure_us, 2000.0)}), meanwhile)


@breaks("names both values when one is clipped")
class RefusesWithoutANumber(FakeCamera):
    def make_features(self) -> FakeFeatures:
        class Features(FakeFeatures):
            def write(self, name: str, value: Value) -> Value:
                try:
                    return super().write(name, value)
                except CameraError as error:
                    raise CameraError(f"{name} can't be so much; see the manual") from error

        return Features(self)


@breaks("refuses an exposure that it would clip, and takes the next")
class KeepsRefusing(FakeCamera):
    refused = False

    def expose(self, channel: Channel, meanwhile: Meanwhile = nothing) -> Frame:
        self.refused = self.refused or channel.exposure_us > 1e10
        return super().expose(channel.model_copy(update={"exposure_us": 1e12} if self.refused else {}), meanwhile)


@breaks("refuses a frame that does not fit, and gives none then")
@breaks("refuses depth, format and plane that do not fit each other")
class GoesOnAsBefore(FakeCamera):
    def configure(self, recipe: Recipe) -> None:
        before = self.recipe
        try:
            super().configure(recipe)
        except CameraError:
            if self.closed:
                raise
            self.recipe, self.ready = before, True


class OtherFrames(FakeCamera):
    def make(self, channel: Channel, **keywords: Any) -> Frame:
        return self.other(super().make(channel, **keywords))

    def other(self, frame: Frame) -> Frame:
        raise AssertionError


@breaks("gives frames of the recipe's size, depth and channel")
class Transposed(OtherFrames):
    def other(self, frame: Frame) -> Frame:
        turned: Any = np.ascontiguousarray(frame.pixels.T)
        return replace(frame, pixels=turned)


@breaks("gives frames of the recipe's size, depth and channel")
class Wider(OtherFrames):
    def other(self, frame: Frame) -> Frame:
        return replace(frame, pixels=frame.pixels.astype(np.uint16))


@breaks("gives frames of the recipe's size, depth and channel")
class SaysAnotherChannel(OtherFrames):
    def other(self, frame: Frame) -> Frame:
        return replace(frame, channel="left")


@breaks("gives frames of the recipe's size, depth and channel")
class SaysAnotherCamera(OtherFrames):
    def other(self, frame: Frame) -> Frame:
        return replace(frame, camera="another")


@breaks("gives frames of the recipe's size, depth and channel")
class SaysAnotherFormat(OtherFrames):
    def other(self, frame: Frame) -> Frame:
        return replace(frame, pixel_format="Mono12")


@breaks("tells exposure and gain as the camera has them")
class TellsWhatWasAsked(OtherFrames):
    def other(self, frame: Frame) -> Frame:
        return replace(frame, exposure_us=1000.0)


@breaks("tells exposure and gain as the camera has them")
class TellsNoGain(OtherFrames):
    def other(self, frame: Frame) -> Frame:
        return replace(frame, gain_db=6.0)


@breaks("gives one frame a trigger, and ids and times move on")
class TwoForOne(FakeCamera):
    def expose(self, channel: Channel, meanwhile: Meanwhile = nothing) -> Frame:
        frame = super().expose(channel, meanwhile)
        self.count += 1
        return frame


@breaks("gives one frame a trigger, and ids and times move on")
class TimeStandsStill(OtherFrames):
    def other(self, frame: Frame) -> Frame:
        return replace(frame, timestamp_ns=77)


@breaks("lets its caller work while it exposes")
class WorksTwice(FakeCamera):
    def expose(self, channel: Channel, meanwhile: Meanwhile = nothing) -> Frame:
        meanwhile()
        return super().expose(channel, meanwhile)


@breaks("lets its caller work while it exposes")
class NeverWorks(FakeCamera):
    def expose(self, channel: Channel, meanwhile: Meanwhile = nothing) -> Frame:
        return super().expose(channel)


@breaks("leaves a frame that is kept as it is")
class OneBuffer(FakeCamera):
    buffer: Any = None

    def make(self, channel: Channel, **keywords: Any) -> Frame:
        frame = super().make(channel, **keywords)
        if self.buffer is None or self.buffer.shape != frame.pixels.shape:
            self.buffer = frame.pixels
        self.buffer[:] = frame.pixels
        return replace(frame, pixels=self.buffer)


@breaks("takes colour planes from one exposure, once each")
class ExposesEachPlane(FakeCamera):
    def expose(self, channel: Channel, meanwhile: Meanwhile = nothing) -> Frame:
        self.last = None
        return super().expose(channel, meanwhile)


@breaks("takes colour planes from one exposure, once each")
class SharesForGood(FakeCamera):
    def expose(self, channel: Channel, meanwhile: Meanwhile = nothing) -> Frame:
        frame = super().expose(channel, meanwhile)
        if channel.plane == "mono":
            return frame
        if self.kept is None:
            self.kept = frame
        return replace(frame, frame_id=self.kept.frame_id, timestamp_ns=self.kept.timestamp_ns)

    kept: Frame | None = None


@breaks("is exposed or awaited, as it is triggered")
class BothWays(FakeCamera):
    def require_ready(self, trigger: str) -> Recipe:
        return super().require_ready(self.trigger)


@breaks("passes a frame that comes too late for no other")
class LateForTheNext(FakeCamera):
    late: Frame | None = None

    def expose(self, channel: Channel, meanwhile: Meanwhile = nothing) -> Frame:
        if self.late is not None:
            late, self.late = self.late, None
            self.time.now += 1.0
            return late
        try:
            return super().expose(channel, meanwhile)
        except AcquisitionTimeout:
            self.late = self.make(RECIPE.channels[0])
            raise


@breaks("passes a frame that comes too late for no other")
class WaitsForEver(FakeCamera):
    def expose(self, channel: Channel, meanwhile: Meanwhile = nothing) -> Frame:
        try:
            return super().expose(channel, meanwhile)
        except AcquisitionTimeout:
            self.time.now += 60.0
            raise


@breaks("names every fault in time and works again")
class Overlooks(FakeCamera):
    def trouble(self, channel: Channel) -> None:
        self.next_fault = None


@breaks("names every fault in time and works again")
class Misnames(FakeCamera):
    def trouble(self, channel: Channel) -> None:
        try:
            super().trouble(channel)
        except CameraError as error:
            raise CameraError("something went wrong; check everything", fault=AcquisitionFault.STALE) from error


@breaks("names every fault in time and works again")
class TakesItsTime(FakeCamera):
    def trouble(self, channel: Channel) -> None:
        try:
            super().trouble(channel)
        except CameraError:
            self.time.now += 60.0
            raise


@breaks("names every fault in time and works again")
class CountsAnewAfterAFault(FakeCamera):
    def trouble(self, channel: Channel) -> None:
        try:
            super().trouble(channel)
        except CameraError:
            self.count = 0
            raise


@breaks("leaves nothing of one set-up to the next")
class SizeOfBefore(FakeCamera):
    size: tuple[int, int] | None = None

    def make(self, channel: Channel, **keywords: Any) -> Frame:
        frame = super().make(channel, **keywords)
        self.size = self.size or frame.shape
        return replace(frame, pixels=np.zeros(self.size, np.uint8))


@breaks("leaves nothing of one set-up to the next")
class CountsAnew(FakeCamera):
    def configure(self, recipe: Recipe) -> None:
        super().configure(recipe)
        self.count = 0


@breaks("restores every setting when it recovers, and ids move on")
class ForgetsTheTrigger(FakeCamera):
    def recover(self) -> None:
        super().recover()
        self.features.values["TriggerMode"] = "Off"


@breaks("restores every setting when it recovers, and ids move on")
class CountsAnewAfterRecovery(FakeCamera):
    def recover(self) -> None:
        super().recover()
        self.count = 0


@breaks("stays closed and says so, and may be closed again")
class OpensAgain(FakeCamera):
    def recover(self) -> None:
        self.closed = False


@breaks("stays closed and says so, and may be closed again")
class ClosesOnce(FakeCamera):
    def close(self) -> None:
        self.require_open()
        super().close()


@breaks("stays closed and says so, and may be closed again")
class RaisesForeignErrors(FakeCamera):
    def require_open(self) -> None:
        if self.closed:
            raise OSError("no such device")
