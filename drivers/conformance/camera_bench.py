"""What the checks of a camera work with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from cell.clock import Monotonic
from cell.errors import AcquisitionTimeout, CameraError, HardwareError
from cell.frames import AcquisitionFault, Frame
from cell.recipes import Channel, Recipe
from drivers.cameras.base import Camera, Value
from drivers.conformance.report import Skip

Trigger = Literal["software", "line"]
#: What a check yields: what it found wrong, or why it can't go on. One that yields nothing has passed.
Finding = str | Skip
#: Beyond its time-out no call may take longer, seconds: a loaded machine is no driver's fault.
SLACK_S = 2.0
_READOUT_S = 0.1


def nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class EmulatedFault:
    """Something that an emulated camera can be made to do wrong at its next exposure.

    `cause` brings it about, `repair` ends what would not end by itself (a cable that was pulled). `named` is what the
    driver may call it; on a trigger line a fault without a name must leave a gap in the ids instead.
    """

    name: str
    cause: Callable[[], None]
    named: frozenset[AcquisitionFault]
    repair: Callable[[], None] = nothing


@dataclass(frozen=True, slots=True)
class Bench:
    """A camera under test and what there is to test it with; see `drivers.conformance.camera.run_camera`."""

    camera: Camera
    recipe: Recipe
    trigger: Trigger
    fire: Callable[[], None] | None
    frame_timeout_s: float
    faults: tuple[EmulatedFault, ...]
    clock: Monotonic

    @property
    def channel(self) -> Channel:
        """The recipe's first channel."""
        return self.recipe.channels[0]

    @property
    def runs_free(self) -> bool:
        """True for simulators without a trigger, whose frames come by themselves."""
        return self.camera.emulated and not self.has("TriggerSource")

    def has(self, name: str) -> bool:
        """Tell whether the camera has a feature."""
        return name in self.camera.features.names()

    def value(self, name: str) -> Value | None:
        """Return a feature's value, None where the camera has none or won't tell it now."""
        try:
            return self.camera.features.read(name)
        except CameraError:
            return None

    def take(self, channel: Channel) -> Frame | None:
        """Expose or fire and await a channel; None when no frame comes of it."""
        if self.trigger == "software":
            return self.camera.expose(channel)
        if self.fire is None:
            return None
        self.fire()
        return self.camera.await_frame(channel, self.frame_timeout_s)

    def idle(self) -> None:
        """Let the camera finish what it is exposing: an edge in between would be one too many."""
        total_us = sum(channel.exposure_us for channel in self.recipe.channels)
        threading.Event().wait(_READOUT_S + 1.5e-6 * total_us)

    def refused(self, what: str, call: Callable[[], object]) -> Iterator[Finding]:
        """Yield what is wrong when a call is not refused as the contract says: `CameraError`, one line, in time."""
        begun = self.clock()
        try:
            call()
        except (CameraError, AcquisitionTimeout) as error:
            yield from sound(what, error)
            if isinstance(error, AcquisitionTimeout):
                yield f"{what} was not refused but timed out"
        else:
            yield f"{what} was not refused"
        yield from self.in_time(what, begun)

    def in_time(self, what: str, begun: float) -> Iterator[Finding]:
        """Yield when a call that began at `begun` took longer than any may."""
        took = self.clock() - begun
        if took > self.frame_timeout_s + SLACK_S:
            yield f"{what} took {took:.1f} s"


def sound(what: str, error: HardwareError) -> Iterator[Finding]:
    """Yield what is wrong with an error's message."""
    text = str(error)
    if not text.strip() or "\n" in text:
        yield f"the message for {what} is not one line: {text!r}"
