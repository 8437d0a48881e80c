"""What the emulating drivers share: products, the part in front of the camera, and the light that falls on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cell.defects import Mask
from cell.frames import Pixels
from drivers.sim.sensor import Sensor


class Scene(Protocol):
    """What an emulated camera looks at."""

    def picture(
        self, height: int, width: int, exposure_us: float, gain_db: float, bit_depth: int | None = None
    ) -> Pixels:
        """Return what a sensor of that size sees now: the part that lies there under the lines that are lit.

        uint16 where `bit_depth` is above 8 and the scene has so much to tell; 8 bits from one that has not. None: of
        the depth that is the scene's own.
        """


class Part(Protocol):
    """One part of an emulated product."""

    def expose(
        self,
        lights: Mapping[str, float],
        exposure_us: float,
        gain_db: float,
        generator: np.random.Generator,
        sensor: Sensor | None = None,
    ) -> Pixels:
        """Return the picture in the product's own size; `generator` draws the temporal noise.

        `sensor` converts the light, the product's own where None; one that is a picture already has no use for it.
        """


class Product(Protocol):
    """A kind of part that the emulated cell can present."""

    @property
    def lines(self) -> tuple[str, ...] | None:
        """Light lines that the product answers to; None when any light shows it."""

    @property
    def carrier_dn(self) -> int:
        """Level of the empty carrier around the part."""

    def list_parts(self) -> tuple[str, ...]:
        """Ids of the parts there are (for a product without end: of a representative set)."""

    def part(self, part_id: str) -> Part:
        """Return a part. Raises `DataError` for an unknown id or an unreadable file."""

    def defect_class(self, part_id: str) -> str | None:
        """Return the true class of the part's defect, or None for a good part. Raises `DataError`."""

    def place_mask(self, part_id: str) -> Mask:
        """Return where the part's defect is, in the recipe's frame; all False for a good part. Raises `DataError`."""


def place(image: NDArray[Any], height: int, width: int, fill: int) -> NDArray[Any]:
    """Put an image (h, w) in the middle of a frame of `fill`; what does not fit is cut away evenly on both sides."""
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    rows, columns = max(-top, 0), max(-left, 0)
    inner = image[rows : rows + height, columns : columns + width]
    if inner.shape == (height, width):
        return np.ascontiguousarray(inner)
    frame = np.full((height, width), fill, image.dtype)
    top, left = max(top, 0), max(left, 0)
    frame[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return frame
