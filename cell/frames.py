"""Frames and frame sets: what the camera gave for one trigger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell import digest

#: Raw pixels of one channel (H, W), dtype uint8 or uint16, digital numbers (DN) as the sensor gave them.
Pixels = NDArray[np.uint8] | NDArray[np.uint16]
#: Raw pixels of K channels of one part, (K, H, W), dtype uint8 or uint16, DN.
Stack = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One exposure under one illumination channel.

    Exposure and gain are what the camera said it used (read back), not what was asked for.
    """

    channel: str
    pixels: Pixels
    bit_depth: int  # significant bits of `pixels`: 8, 10, 12 or 16
    exposure_us: float
    gain_db: float
    camera: str  # serial number or user id
    frame_id: int  # the camera's own counter or block id
    timestamp_ns: int  # the camera's own clock; 0 where it has none
    #: The camera's own count of the edges on its trigger line (chunk data); None where it counts none. By this, and
    #: never by the order of arrival, a frame belongs to a part.
    trigger_count: int | None = None
    line_count: int | None = None  # encoder or line counter of the chunk data
    pixel_format: str = ""  # as the camera names it (PFNC), e.g. Mono12p; empty where it names none

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class FrameSet:
    """One frame for each channel of the recipe, in its order, all of one trigger. Complete by construction."""

    trigger_id: int
    part_id: str
    recipe_id: str
    captured_at: datetime
    frames: tuple[Frame, ...]
    emulated: bool  # told by the drivers that took it, never by configuration
    #: Relative intensity of each light line under which each channel was taken, as the recipe said then.
    lights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def stack(self) -> Stack:
        """Return the K channels as one array (K, H, W) in the camera's own dtype."""
        stacked: Stack = np.stack([frame.pixels for frame in self.frames])  # type: ignore[assignment]
        return stacked

    @property
    def nbytes(self) -> int:
        """Memory that the pixels take."""
        return sum(frame.pixels.nbytes for frame in self.frames)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in the order of :meth:`stack`."""
        return tuple(frame.channel for frame in self.frames)

    @property
    def bit_depth(self) -> int:
        """Significant bits of every frame."""
        return self.frames[0].bit_depth

    def digest(self) -> str:
        """Return the SHA-256 of the stacked pixels."""
        return digest.of_array(self.stack())


class AcquisitionFault(StrEnum):
    """Why a trigger gave no complete frame set."""

    MISSING = "missing"  # a channel's frame did not come in time
    INCOMPLETE = "incomplete"  # a frame came with part of its pixels
    REPEATED = "repeated"  # the frame of an earlier exposure came again
    STALE = "stale"  # a frame from before the trigger
    WRONG_SIZE = "wrong-size"
    SWAPPED = "swapped"  # a frame of another channel
    CAMERA = "camera"  # the camera is gone or refuses
    LIGHT = "light"  # the light is gone or refuses
    OVERRUN = "overrun"  # the trigger came before the previous part was taken


@dataclass(frozen=True, slots=True)
class FailedAcquisition:
    """The other outcome of a trigger: named, never silent, and answered FAULT."""

    trigger_id: int
    part_id: str
    recipe_id: str
    captured_at: datetime
    fault: AcquisitionFault
    detail: str
    channels: tuple[str, ...] = ()  # the channels concerned


#: What a trigger gives.
Acquired = FrameSet | FailedAcquisition


@dataclass(frozen=True, slots=True, eq=False)
class StoredStack:
    """A frame set as it lies on disk: pixels and what must be known to use them."""

    pixels: Stack
    channels: tuple[str, ...]
    bit_depth: int
    exposure_us: tuple[float, ...]
    gain_db: tuple[float, ...]
    metadata: dict[str, Any] = field(default_factory=dict)
