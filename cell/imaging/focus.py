"""How sharp a place of the picture is: the calibration's point spread, and its depth of field where a face lies apart.

A face at height h is blurred by a disc of radius ``r(h) = blur_px_per_mm * |h - focus|``, whose variance along one axis
is r^2 / 4. The point spread was measured at the target's own face (h = 0), so

    sigma(h)^2 = sigma(0)^2 + (r(h)^2 - r(0)^2) / 4
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cell.calibration import Calibration, Depth
from cell.recipes import Face

#: No lens and pixel are sharper than this: the pixel's own square has 0.29.
SHARPEST_PX = 0.3


def height_mm(faces: Sequence[Face], row: float, column: float) -> float:
    """Return the height of the last face at a place, 0 where there is none."""
    for face in reversed(faces):
        area = face.area
        across, down = (column + 0.5 - area.x) / area.width, (row + 0.5 - area.y) / area.height
        if 0 <= across <= 1 and 0 <= down <= 1:
            return face.height_mm + face.rise_x_mm * (across - 0.5) + face.rise_y_mm * (down - 0.5)
    return 0.0


def spread_px(
    calibration: Calibration, faces: Sequence[Face] = (), row: float = 0.0, column: float = 0.0
) -> NDArray[np.float64]:
    """Return each channel's point spread at a place, sigma in pixels, (K,); 0 where it is unknown."""
    own = np.array([channel.psf_sigma_px for channel in calibration.channels])
    if calibration.depth is None or not faces:
        return own
    more = _disc(calibration.depth, height_mm(faces, row, column)) - _disc(calibration.depth, 0.0)
    there = np.sqrt(np.maximum(own**2 + more, SHARPEST_PX**2))
    known: NDArray[np.float64] = np.where(own > 0, there, 0.0)
    return known


def _disc(depth: Depth, height: float) -> float:
    """Return the variance, pixels^2 along one axis, of the disc that a point at a height becomes."""
    return (depth.blur_px_per_mm * (height - depth.focus_mm)) ** 2 / 4
