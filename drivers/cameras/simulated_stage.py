"""What a simulated camera looks at: a part under light, rendered for each exposure or taken from an album."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from cell.frames import Pixels


class Stage(Protocol):
    """A scene whose part and light the camera's trigger line can change, as on a line that does not stop.

    The emulated cell is one.
    """

    def present(self, part_id: str) -> None:
        """Put a part in front of the camera. Raises `DataError` for an unknown part; the place is then empty."""

    def illuminate(self, lights: Mapping[str, float]) -> None:
        """Let exactly these lines shine, at relative intensities in [0, 1]."""

    def picture(
        self, height: int, width: int, exposure_us: float, gain_db: float, bit_depth: int | None = None
    ) -> Pixels:
        """Return what a sensor of that size sees now, (H, W): uint8, or uint16 of more bits if it has them."""


@runtime_checkable
class Drifting(Protocol):
    """A stage that changes by itself from part to part, and may have to draw what lies there."""

    @property
    def condition(self) -> Hashable:
        """What has changed; the same part looks the same in the same condition."""

    def pass_by(self, part_id: str) -> None:
        """Put a part there that may not be looked at. Raises `DataError` for an unknown part."""

    def look(self) -> None:
        """Draw the part that lies there."""


class Album:
    """A stage that remembers what it shows: part and light, and up to `keep_mb` of pictures.

    A picture shown before comes again, noise and all, at no cost and without a copy: for load tests, which must not
    wait for a renderer. It is that of the part, light, exposure, depth and the cell's condition: nothing that drifted
    is shown as it was. With `keep_mb` 0 every exposure is a new one.
    """

    def __init__(self, stage: Stage, keep_mb: float = 0.0) -> None:
        self.part_id = ""
        self.lights: Mapping[str, float] = {}
        self._stage = stage
        self._keep_bytes = int(keep_mb * 1e6)
        self._kept: OrderedDict[tuple[object, ...], Pixels] = OrderedDict()
        self._pictures: Counter[tuple[object, object]] = Counter()  # kept, by part and condition
        self._bytes = 0
        self._drifting = stage if isinstance(stage, Drifting) else None

    def present(self, part_id: str) -> None:
        """See :class:`Stage`. Every part passes, as drift counts them; one whose pictures are kept is not drawn."""
        self.part_id = ""
        if self._drifting is None:
            self._stage.present(part_id)
        else:
            self._drifting.pass_by(part_id)
            if not self._pictures[part_id, self._drifting.condition]:
                self._drifting.look()
        self.part_id = part_id

    def illuminate(self, lights: Mapping[str, float]) -> None:
        """See :class:`Stage`."""
        self.lights = dict(lights)
        self._stage.illuminate(lights)

    def picture(
        self, height: int, width: int, exposure_us: float, gain_db: float, bit_depth: int | None = None
    ) -> Pixels:
        """See :class:`Stage`. A kept picture is read-only."""
        if not self._keep_bytes:
            return self._stage.picture(height, width, exposure_us, gain_db, bit_depth)
        condition = None if self._drifting is None else self._drifting.condition
        lights = tuple(sorted(self.lights.items()))
        key = (self.part_id, lights, height, width, exposure_us, gain_db, bit_depth, condition)
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept
        pixels = self._stage.picture(height, width, exposure_us, gain_db, bit_depth)
        pixels.setflags(write=False)
        self._keep(key, pixels)
        return pixels

    def _keep(self, key: tuple[object, ...], pixels: Pixels) -> None:
        self._kept[key] = pixels
        self._pictures[key[0], key[-1]] += 1
        self._bytes += pixels.nbytes
        while self._bytes > self._keep_bytes and len(self._kept) > 1:
            oldest, gone = self._kept.popitem(last=False)
            self._pictures[oldest[0], oldest[-1]] -= 1
            if not self._pictures[oldest[0], oldest[-1]]:
                del self._pictures[oldest[0], oldest[-1]]
            self._bytes -= gone.nbytes


def deepen(pixels: Pixels, bit_depth: int) -> Pixels:
    """Return pixels of 8 bits as `bit_depth` bits, (H, W) uint16: full scale stays full scale.

    Pixels that are deep already, and 8 bits, are returned as they are. For scenes that have no more to tell, such as
    the pictures of a folder: they keep their 256 levels at any depth.
    """
    if bit_depth <= 8 or pixels.dtype != np.uint8:
        return pixels
    wide = pixels.astype(np.uint16)
    deep: Pixels = np.left_shift(wide, bit_depth - 8, dtype=np.uint16)
    deep |= np.right_shift(wide, 16 - bit_depth, dtype=np.uint16)
    return deep
