"""What a simulated camera can be made to do wrong, as cameras, cables, buffers and sensor lines do it.

The simulator alone knows which fault it shows. Whoever uses the camera finds it, or not, from what the buffer and its
chunk data say, as with a vendor's camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from cell.errors import CameraError
from cell.frames import Pixels


class Fault(StrEnum):
    """What goes wrong with the next exposure or, for the last three, with the next edge of the trigger line."""

    DROPPED = "dropped"  # the sensor exposes, the frame never arrives: its block id is gone
    REPEATED = "repeated"  # the buffer before comes again in this one's place
    STALE = "stale"  # a buffer of an earlier part comes in this one's place
    SWAPPED = "swapped"  # the light of another channel was on; the buffer says nothing of it
    INCOMPLETE = "incomplete"  # packets are missing: the buffer says so and still has pixels
    TRUNCATED = "truncated"  # the buffer has half its lines and does not say so
    WRONG_SIZE = "wrong-size"  # the region was changed behind the driver's back
    UNDERRUN = "underrun"  # the host's buffers were full: this frame and the rest of its trigger are skipped
    HANG = "hang"  # the vendor's call does not return for a long time
    REMOVED = "removed"  # the device is gone until it is plugged in again
    LOST_TRIGGER = "lost-trigger"  # the camera does not see the edge: neither counted nor exposed
    SURPLUS_TRIGGER = "surplus-trigger"  # one more edge than there are parts: counted and exposed
    OVERTRIGGERED = "overtriggered"  # the edge comes while the camera is busy: counted, not exposed


#: Faults of the trigger line.
OF_THE_LINE = frozenset({Fault.LOST_TRIGGER, Fault.SURPLUS_TRIGGER, Fault.OVERTRIGGERED})


def parse(names: Sequence[str | None]) -> list[Fault | None]:
    """Return the faults of these names, None for a good exposure. Raises `CameraError` naming an unknown one."""
    try:
        return [None if name is None else Fault(name) for name in names]
    except ValueError:
        known = ", ".join(Fault)
        raise CameraError(
            f"a simulated camera can't show all of {', '.join(map(str, names))}; it shows {known}"
        ) from None


def spoil(pixels: Pixels, fault: Fault) -> Pixels:
    """Return the pixels, (H, W), as a buffer with this fault holds them; others are returned as they are."""
    height, width = pixels.shape
    if fault is Fault.TRUNCATED:
        return pixels[: height // 2].copy()
    if fault is Fault.WRONG_SIZE:
        return pixels[:, : max(1, width // 2)].copy()
    if fault is Fault.INCOMPLETE:
        torn = pixels.copy()
        torn[height // 2 :] = 0
        return torn
    return pixels
