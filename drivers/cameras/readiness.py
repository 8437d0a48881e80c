"""A camera made ready for its next trigger while the frame before is copied, proven and handed on.

Cameras are triggered in the recipe's order, so what comes next is known: its exposure and gain can be written, and the
camera asked whether it takes a trigger, beside everything else that lies between a frame and the next trigger. It is a
guess and never more: who triggers compares what was prepared with what is asked for, and does it all again, on his own
thread, when one is not the other, when something was written since, or when it is long ago.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial

from cell.clock import Monotonic
from cell.errors import AcquisitionTimeout, CameraError
from cell.recipes import Channel
from drivers.cameras.arming import expose_as
from drivers.cameras.features import OF_EXPOSURE, GenApiFeatures

#: For how long a camera that said it takes a trigger is believed, s.
FRESH_S = 1.0
#: How long a camera is asked beforehand, ms: one that takes longer is asked again with all the time it may take.
PATIENCE_MS = 50

#: Ends this process when what is done inside takes longer than so many seconds; see `drivers.cameras.child.Limit`.
Guard = Callable[[float], AbstractContextManager[None]]
#: Prepares the camera and tells the state of its features in which it takes a trigger; None when it does not.
Prepare = Callable[[], int | None]


def unguarded(seconds: float) -> AbstractContextManager[None]:
    """Limit nothing, where nobody else waits for the driver."""
    del seconds
    return contextlib.nullcontext()


class Readiness:
    """One camera's preparation, on a thread that is there from the first to :meth:`close`.

    :param errors: what the vendor's library raises; an error here is none, for it comes again where it is asked for.
    :param limit_s: longest time that a preparation may take.
    """

    def __init__(self, errors: tuple[type[Exception], ...], limit_s: float, clock: Monotonic) -> None:
        self._errors: tuple[type[Exception], ...] = (*errors, CameraError)
        self._limit_s = limit_s
        self._clock = clock
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="camera-ready")
        self._work: Future[tuple[int | None, float]] | None = None
        self.guard: Guard = unguarded

    def begin(self, prepare: Prepare) -> None:
        """Prepare, beside the caller, who leaves the camera alone until :meth:`settle`."""
        self.settle()
        self._work = self._worker.submit(self._carry_out, prepare)

    def settle(self) -> None:
        """Wait for the end of what was begun. Raises `AcquisitionTimeout`."""
        work = self._work
        if work is None or work.done():
            return
        try:
            work.result(self._limit_s)
        except TimeoutError as error:
            raise AcquisitionTimeout(
                "the camera does not return from being prepared for its next trigger; power-cycle it"
            ) from error

    def take(self, changes: int) -> bool:
        """Tell whether the camera was made ready in this state of its features, and not long ago; asked once.

        Raises `AcquisitionTimeout`.
        """
        self.settle()
        work, self._work = self._work, None
        if work is None:
            return False
        state, since = work.result()
        return state == changes and self._clock() - since < FRESH_S

    def forget(self) -> None:
        """Wait for the end of what was begun, and forget it. Raises `AcquisitionTimeout`."""
        self.settle()
        self._work = None

    def close(self) -> None:
        """End the thread, unless the library never returns. May be called again."""
        with contextlib.suppress(AcquisitionTimeout):
            self.forget()
        self._worker.shutdown(wait=self._work is None, cancel_futures=True)

    def _carry_out(self, prepare: Prepare) -> tuple[int | None, float]:
        with self.guard(self._limit_s):
            try:
                return prepare(), self._clock()
            except self._errors:
                return None, self._clock()


class Exposer:
    """Exposure and gain of one GenICam camera, written when they change, and its readiness for the next trigger.

    Nobody sees what was prepared: who reads exposure or gain between two triggers reads those of the last frame.

    :param takes_trigger: asks the camera for at most so many ms whether it takes a trigger.
    """

    def __init__(self, features: GenApiFeatures, readiness: Readiness, takes_trigger: Callable[[int], bool]) -> None:
        self._features = features
        self._readiness = readiness
        self._takes_trigger = takes_trigger
        self._emulated = False
        self._next: dict[str, Channel] = {}  # the exposure behind each, in the recipe's order
        self._written: tuple[float, float, int] | None = None  # exposure, gain and the count of such writes
        self._actual = (0.0, 0.0)
        self._due: Channel | None = None  # being prepared
        self._last: Channel | None = None
        features.before_read = self._show_last

    def set_up(self, exposures: Sequence[Channel], *, emulated: bool) -> None:
        """Expect these exposures, again and again."""
        self.forget()
        self._emulated = emulated
        self._written = None
        self._next = dict(zip((channel.name for channel in exposures), (*exposures[1:], exposures[0]), strict=True))

    def forget(self) -> None:
        """Let nothing count that was prepared. Raises `AcquisitionTimeout`."""
        self._readiness.forget()
        self._due = self._last = None

    def check(self, channel: Channel) -> None:
        """Have the camera refuse what it can't expose, unless that is being prepared. Raises `CameraError`."""
        if self._due is None or _of(channel) != _of(self._due):
            self._readiness.settle()
            self._write(channel)

    def make_ready(self, channel: Channel, timeout_ms: int) -> tuple[float, float]:
        """Have the camera take a trigger with the channel's exposure and gain; return these, us and dB, as read.

        What was prepared counts when it is what is asked for now. Raises `AcquisitionTimeout` and `CameraError`.
        """
        self._readiness.settle()
        self._write(channel)
        if not self._readiness.take(self._features.changes) and not self._takes_trigger(timeout_ms):
            raise AcquisitionTimeout(
                f"channel {channel.name}: camera {self._features.camera} takes no trigger; power-cycle it"
            )
        self._due, self._last = None, channel
        return self._actual

    def prepare(self, channel: Channel) -> None:
        """Have the camera made ready for the exposure behind this one, while this one's frame is dealt with."""
        self._due = self._next.get(channel.name)
        if self._due is not None:
            self._readiness.begin(partial(self._ahead, self._due))

    def _ahead(self, channel: Channel) -> int | None:
        self._write(channel)
        return self._features.changes if self._takes_trigger(PATIENCE_MS) else None

    def _write(self, channel: Channel) -> None:
        """Write exposure and gain when they change, or when somebody else wrote them."""
        if self._written != (*_of(channel), self._features.exposure_writes):
            self._written = None
            self._actual = expose_as(self._features, channel, emulated=self._emulated)
            self._written = (*_of(channel), self._features.exposure_writes)

    def _show_last(self, name: str) -> None:
        if self._last is not None and name.startswith(OF_EXPOSURE):
            self._readiness.settle()
            if self._written is None or self._written[-1] == self._features.exposure_writes:
                self._write(self._last)


def _of(channel: Channel) -> tuple[float, float]:
    return channel.exposure_us, channel.gain_db
