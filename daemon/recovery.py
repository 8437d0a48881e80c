"""A camera that is gone is brought back without anybody: at once, then with growing pauses, for as long as it takes.

::

    well --a part's frame did not come, or a set-up failed--> lost --attempt() works--> well
                                                               |  \\--attempt() fails--> lost, a longer pause
                                                                \\--attempt() is still under way--> lost, again soon
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from cell.clock import Monotonic
from cell.errors import InspectdError, StillBusy
from cell.frames import AcquisitionFault
from drivers.cameras.base import Camera
from drivers.cameras.isolated import IsolatedCamera

_LOG = logging.getLogger(__name__)

#: Waits before the attempts to bring a camera back, seconds; the last one repeats.
_BACKOFF_S = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
#: How long an attempt lets the line wait: its heart goes on beating, and parts get their FAULT.
_PATIENCE_S = 0.1
#: Until an attempt that is under way is asked after again, seconds.
_ASK_AGAIN_S = 0.02
#: After the first attempts every so many are logged: a camera may be unplugged over a weekend.
_LOG_EVERY = 30


class Attendant:
    """Watches over one camera; called from the line thread alone, its counts may be read from any.

    :param role: the camera's name in settings and recipes.
    """

    def __init__(self, role: str, camera: Camera, clock: Monotonic) -> None:
        self.role = role
        self.camera = camera
        self.faults: Counter[AcquisitionFault] = Counter()
        self.recoveries = 0
        self._clock = clock
        self._attempt = 0
        self._retry_at: float | None = None

    @property
    def lost(self) -> bool:
        """Tell whether the camera must be brought back."""
        return self._retry_at is not None

    @property
    def retry_in_s(self) -> float | None:
        """Seconds until the next attempt is due; None when the camera is not lost."""
        return None if self._retry_at is None else max(0.0, self._retry_at - self._clock())

    @property
    def restarts(self) -> int:
        """How often the camera's process was started anew."""
        return self.camera.restarts if isinstance(self.camera, IsolatedCamera) else 0

    def note(self, fault: AcquisitionFault) -> None:
        """Count a fault, and plan the recovery where it says that the camera may be gone."""
        self.faults[fault] += 1
        if fault in {AcquisitionFault.CAMERA, AcquisitionFault.MISSING}:
            self.plan()

    def plan(self) -> None:
        """Have the camera brought back, the first attempt at once."""
        if self._retry_at is None:
            self._attempt = 0
            self._retry_at = self._clock()

    def well(self) -> None:
        """Note that the camera works: it was set up anew."""
        self._retry_at = None
        self._attempt = 0

    def attempt(self, afterwards: Callable[[], None]) -> bool:
        """Try to bring a lost camera back if that is due; tell whether it works now.

        `afterwards` is what else must succeed, such as the light's set-up.
        """
        if self._retry_at is None:
            return True
        if self._clock() < self._retry_at:
            return False
        try:
            if isinstance(self.camera, IsolatedCamera):
                self.camera.recover(_PATIENCE_S)
            else:
                self.camera.recover()
            afterwards()
        except StillBusy:
            self._retry_at = self._clock() + _ASK_AGAIN_S
            return False
        except InspectdError as error:
            self._attempt += 1
            pause_s = _BACKOFF_S[min(self._attempt, len(_BACKOFF_S) - 1)]
            self._retry_at = self._clock() + pause_s
            if self._attempt <= len(_BACKOFF_S) or self._attempt % _LOG_EVERY == 0:
                _LOG.warning("camera %s, attempt %d, next in %g s: %s", self.role, self._attempt, pause_s, error)
            return False
        self.well()
        self.recoveries += 1
        _LOG.info("camera %s is back", self.role)
        return True
