"""Time, as the rest of the project takes it: injected, never read on the side."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

#: Seconds on a clock that never steps (time-outs, durations).
Monotonic = Callable[[], float]
#: The wall clock in UTC (records).
WallClock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the present instant with its UTC time zone."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Return seconds on the system's monotonic clock."""
    return time.monotonic()
