"""Every check of the camera suite finds a driver that breaks its promise: one wrong driver a promise, or several."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cell.errors import AcquisitionTimeout, CameraError
from cell.frames import AcquisitionFault, Frame
from cell.recipes import Channel, DefectClass, Recipe
from drivers.cameras.base import Meanwhile, Value, nothing
from drivers.conformance.camera import CHECKS, EmulatedFault, recipe_for, run_camera
from drivers.conformance.report import Outcome, Report
from tests.drivers.fake_camera import FakeCamera, FakeFeatures, FakeTime

RECIPE = Recipe(
    recipe_id="conformance",
    product="plate",
    height=48,
    width=64,
    channels=tuple(Channel(name=name, exposure_us=1000.0, lights={"light": 1.0}) for name in ("left", "right")),
    defect_classes=(DefectClass(name="dent"),),
)
VIOLATIONS: list[tuple[str, str, type[FakeCamera]]] = []


def _run(kind: type[FakeCamera], trigger: Any) -> Report:
    time = FakeTime()
    camera = kind(time, trigger)
    fault = EmulatedFault("a truncated buffer", camera.break_next, frozenset({AcquisitionFault.INCOMPLETE}))
    fire = camera.fire if trigger == "line" else None
    return run_camera(
        camera, lambda: RECIPE, trigger=trigger, fire=fire, frame_timeout_s=0.5, emulated_faults=(fault,), clock=time
    )


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


@breaks("refuses a frame that does not fit, and gives none then", "line")
class StillGivesFrames(FakeCamera):
    def configure(self, recipe: Recipe) -> None:
        before = self.recipe
        try:
            super().configure(recipe)
        except CameraError:
            self.recipe, self.ready = before, not self.closed
            raise


class _OtherFrames(FakeCamera):
    def make(self, channel: Channel, **keywords: Any) -> Frame:
        return self.other(super().make(channel, **keywords))

    def other(self, frame: Frame) -> Frame:
        raise AssertionError


@breaks("gives frames of the recipe's size, depth and channel")
class Transposed(_OtherFrames):
    def other(self, frame: Frame) -> Frame:
        turned: Any = np.ascontiguousarray(frame.pixels.T)
        return replace(frame, pixels=turned)


@breaks("gives frames of the recipe's size, depth and channel")
class Wider(_OtherFrames):
    def other(self, frame: Frame) -> Frame:
        return replace(frame, pixels=frame.pixels.astype(np.uint16))


@breaks("gives frames of the recipe's size, depth and channel")
class SaysAnotherChannel(_OtherFrames):
    def other(self, frame: Frame) -> Frame:
        return replace(frame, channel="left")


@breaks("gives frames of the recipe's size, depth and channel")
class SaysAnotherCamera(_OtherFrames):
    def other(self, frame: Frame) -> Frame:
        return replace(frame, camera="another")


@breaks("gives frames of the recipe's size, depth and channel")
class SaysAnotherFormat(_OtherFrames):
    def other(self, frame: Frame) -> Frame:
        return replace(frame, pixel_format="Mono12")


@breaks("tells exposure and gain as the camera has them")
class TellsWhatWasAsked(_OtherFrames):
    def other(self, frame: Frame) -> Frame:
        return replace(frame, exposure_us=1000.0)


@breaks("tells exposure and gain as the camera has them")
class TellsNoGain(_OtherFrames):
    def other(self, frame: Frame) -> Frame:
        return replace(frame, gain_db=6.0)


@breaks("gives one frame a trigger, and ids and times move on")
class TwoForOne(FakeCamera):
    def expose(self, channel: Channel, meanwhile: Meanwhile = nothing) -> Frame:
        frame = super().expose(channel, meanwhile)
        self.count += 1
        return frame


@breaks("gives one frame a trigger, and ids and times move on")
class TimeStandsStill(_OtherFrames):
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


@breaks("gives no frame without a trigger, in time", "line")
class RunsFree(FakeCamera):
    def await_frame(self, channel: Channel, timeout_s: float) -> Frame | None:
        return super().await_frame(channel, timeout_s) or self.make(channel)


@breaks("gives no frame without a trigger, in time", "line")
class DoesNotWait(FakeCamera):
    def await_frame(self, channel: Channel, timeout_s: float) -> Frame | None:
        return super().await_frame(channel, 0.0)


@breaks("gives no frame without a trigger, in time", "line")
class WaitsTooLong(FakeCamera):
    def await_frame(self, channel: Channel, timeout_s: float) -> Frame | None:
        return super().await_frame(channel, timeout_s + 60.0)


@breaks("gives each channel's frame of a trigger once, in order", "line")
class OtherWayRound(FakeCamera):
    def fire(self) -> None:
        super().fire()
        self.queue.reverse()


@breaks("gives each channel's frame of a trigger once, in order", "line")
class OneTooMany(FakeCamera):
    def fire(self) -> None:
        super().fire()
        self.queue.append(self.make(RECIPE.channels[0]))


@breaks("gives each channel's frame of a trigger once, in order", "line")
class OneTooFew(FakeCamera):
    def fire(self) -> None:
        super().fire()
        self.queue.pop()


@breaks("gives each channel's frame of a trigger once, in order", "line")
class CountsFrames(_OtherFrames):
    def other(self, frame: Frame) -> Frame:
        return replace(frame, trigger_count=frame.frame_id)


@breaks("keeps frames in order until they are taken", "line")
class KeepsTheLatest(FakeCamera):
    def fire(self) -> None:
        self.queue.clear()
        super().fire()


@breaks("keeps frames in order until they are taken", "line")
class CountsTwice(FakeCamera):
    def fire(self) -> None:
        self.edges += 1
        super().fire()


@breaks("names a fault on the line or leaves a gap in the ids", "line")
class OverlooksOnTheLine(FakeCamera):
    def fire(self) -> None:
        self.next_fault = None
        super().fire()


@breaks("names a fault on the line or leaves a gap in the ids", "line")
class NeverRecovers(FakeCamera):
    broken = False

    def fire(self) -> None:
        self.broken = self.broken or self.next_fault is not None
        super().fire()

    def await_frame(self, channel: Channel, timeout_s: float) -> Frame | None:
        frame = super().await_frame(channel, timeout_s)
        return None if self.broken else frame


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


@pytest.mark.parametrize("trigger", ["software", "line"])
def test_a_driver_that_keeps_every_promise_passes_every_check(trigger: str) -> None:
    report = _run(FakeCamera, trigger)
    assert {result.outcome for result in report.results} == {Outcome.PASSED}, report.text()


@pytest.mark.parametrize(
    ("promise", "trigger", "kind"), VIOLATIONS, ids=[f"{kind.__name__}-{promise}" for promise, _, kind in VIOLATIONS]
)
def test_a_driver_that_breaks_a_promise_is_found(promise: str, trigger: str, kind: type[FakeCamera]) -> None:
    report = _run(kind, trigger)
    assert promise in {result.name for result in report.failures}, report.text()


def test_every_check_has_been_seen_to_fail() -> None:
    assert {check.promise for check in CHECKS} == {promise for promise, _, _ in VIOLATIONS}


def test_a_recipe_is_made_for_a_camera_that_nobody_wrote_one_for() -> None:
    recipe = recipe_for(FakeCamera(FakeTime()))
    assert (recipe.width, recipe.height, recipe.bit_depth) == (64, 48, 8)
