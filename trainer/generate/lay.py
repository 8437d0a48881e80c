"""The lay of a surface: the direction in which it was ground, brushed, turned or drawn, where a defect lies.

From the structure tensor (Bigün and Granlund, 1987) of the fine texture in a window, all lights together. The lay runs
along the eigenvector of the smaller eigenvalue. Shading and the part's own edges are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cell.defects import Mask
from cell.frames import Stack

#: Half the side of the window, and the Gaussian that texture is coarser than noise but finer than (pixels).
_REACH, _COARSE, _FINE = 64, 8.0, 1.2
#: Pixels next to an edge of the part, or a defect, whose gradients are theirs and not the surface's.
_RIM = 6
_LEAST_PIXELS = 200
#: Coherence from which a surface has a lay; isotropic noise in a window of this size stays below a tenth of that.
HAS_LAY = 0.1


@dataclass(frozen=True, slots=True)
class Lay:
    """Direction in degrees (-90, 90] from the rows, clockwise as the picture is seen, and coherence in [0, 1]."""

    direction_deg: float
    coherence: float

    @property
    def known(self) -> bool:
        """True when the surface has a direction at all."""
        return self.coherence >= HAS_LAY

    @property
    def reference_deg(self) -> float:
        """What angles count from: the lay, or the rows of the picture where there is none."""
        return self.direction_deg if self.known else 0.0


def lay_at(stack: Stack, surface: Mask, row: float, column: float, reach: int = _REACH) -> Lay:
    """Return the lay about a place.

    :param stack: (K, H, W) DN; :param surface: (H, W) bool, pixels that show undisturbed surface.
    :param reach: half the side of the window that is looked at, pixels.
    """
    height, width = surface.shape
    top, left = max(0, round(row) - reach), max(0, round(column) - reach)
    window = slice(top, min(height, round(row) + reach + 1)), slice(left, min(width, round(column) + reach + 1))
    inside = ndimage.binary_erosion(surface[window], iterations=_RIM)
    if inside.sum() < _LEAST_PIXELS:
        return Lay(0.0, 0.0)
    known = surface[window].astype(np.float32)
    share = ndimage.gaussian_filter(known, _COARSE) + 1e-6
    tensor = np.zeros((2, 2))
    for channel in stack[:, window[0], window[1]].astype(np.float32):
        mean = ndimage.gaussian_filter(channel * known, _COARSE) / share
        texture = np.where(known > 0, channel / np.maximum(mean, 1.0) - 1.0, 0.0)
        down = ndimage.gaussian_filter(texture, _FINE, order=(1, 0))[inside]
        across = ndimage.gaussian_filter(texture, _FINE, order=(0, 1))[inside]
        # Strong single marks would outvote the surface: every pixel's say is bounded.
        strength = np.hypot(down, across)
        bound = np.minimum(1.0, 3 * np.median(strength) / np.maximum(strength, 1e-12))
        down, across = down * bound, across * bound
        tensor += [[(across * across).sum(), (across * down).sum()], [(across * down).sum(), (down * down).sum()]]
    values, vectors = np.linalg.eigh(tensor)
    coherence = float((values[1] - values[0]) / max(values.sum(), 1e-12))
    x, y = vectors[:, 0]
    return Lay(folded(float(np.degrees(np.arctan2(y, x)))), coherence)


def folded(angle_deg: float) -> float:
    """Return the angle of a line in [-90, 90): a line and its opposite are one."""
    return (angle_deg + 90.0) % 180.0 - 90.0
