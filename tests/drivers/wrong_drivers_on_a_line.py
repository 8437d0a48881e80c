"""Drivers that each break a promise of the camera contract, triggered by a line."""

from __future__ import annotations

from dataclasses import replace

from cell.errors import CameraError
from cell.frames import Frame
from cell.recipes import Channel, Recipe
from tests.drivers.fake_camera import FakeCamera
from tests.drivers.wrong_drivers import RECIPE, VIOLATIONS, OtherFrames, breaks

#: With the violations of here, those of `wrong_drivers` too.
__all__ = ["RECIPE", "VIOLATIONS"]


@breaks("refuses a frame that does not fit, and gives none then", "line")
class StillGivesFrames(FakeCamera):
    def configure(self, recipe: Recipe) -> None:
        before = self.recipe
        try:
            super().configure(recipe)
        except CameraError:
            self.recipe, self.ready = before, not self.closed
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
class CountsFrames(OtherFrames):
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
