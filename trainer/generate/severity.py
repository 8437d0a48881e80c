"""How strong a defect is, and by what factor its contrast has to change to be as strong as asked.

All measures are of the noise-free change, so that they stay true for defects as weak as the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.calibration import Calibration
from cell.defects import Mask
from cell.frames import Stack
from cell.imaging import contrast as log_contrast
from cell.imaging import noise
from cell.imaging.contrast import Maps
from trainer.generate.base import Appearance
from trainer.generate.control import SeverityUnit
from trainer.generate.looks import Look

#: The contrast is smoothed by this Gaussian (pixels) before it is measured: a seed's carries its camera's noise.
_SMOOTHING = 1.0
#: Weight from which a pixel counts as seen: about one and a half pixels beyond the outline.
_SEEN_WEIGHT = 0.15
_FACTORS = (1e-3, 1e3)
_MOST_LOG = 50.0


def strength(log: Maps, inside: Mask) -> float:
    """Return the root mean square of a log contrast (K, h, w) over a mask and all lights; 0 for an empty mask."""
    if not inside.any():
        return 0.0
    smooth = ndimage.gaussian_filter(log, (0, _SMOOTHING, _SMOOTHING), mode="nearest")
    return float(np.sqrt((smooth[:, inside] ** 2).mean()))


def median_strength(looks: Sequence[Look]) -> float:
    """Return the strength of a class's median seed."""
    own = [strength(look.contrast * np.clip(look.distance + 1.5, 0, 1), look.distance > -1.5) for look in looks]
    return float(np.median(own))


class Gauge:
    """Measures one defect's contrast (K, h, w), weighed by `soft` (h, w), on its background, in any unit.

    `mask` (h, w) bool is the outline over which means are taken, `median` the strength of the class's median seed.
    """

    def __init__(
        self,
        window: Stack,
        contrast: Maps,
        soft: NDArray[np.float32],
        mask: Mask,
        calibration: Calibration,
        bit_depth: int,
        median: float,
    ) -> None:
        self._median = median
        log = contrast * soft
        self._strength = strength(log, soft > _SEEN_WEIGHT)
        smooth = window - log_contrast.fine_texture(window.astype(np.float32))
        support = soft > 0
        self._log = log[:, support].astype(np.float64)
        self._level = smooth[:, support].astype(np.float64) + log_contrast.black_offset_dn(bit_depth)
        sigmas = [noise.sigma_dn(c.noise, b[support]) for c, b in zip(calibration.channels, smooth, strict=True)]
        self._sigma = np.stack(sigmas).astype(np.float64)
        self._pixels = max(int(mask.sum()), 1) * len(window)

    def of(self, unit: SeverityUnit, factor: float = 1.0) -> float:
        """Return the severity of `factor` times the contrast."""
        if unit == "contrast":
            return factor * self._strength
        if unit == "seeds":
            return factor * self._strength / max(self._median, 1e-9)
        change = self._level * np.expm1(np.minimum(factor * self._log, _MOST_LOG)) / self._sigma
        squared = float((change**2).sum())
        return float(np.sqrt(squared if unit == "d-prime" else squared / self._pixels))

    def factor(self, unit: SeverityUnit, wanted: float) -> float | None:
        """Return the factor that makes the contrast so severe; None when no sensible one does."""
        low, high = _FACTORS
        if self.of(unit, high) < wanted:
            return None
        # Severity grows with the factor: halve the interval in its logarithm.
        for _ in range(50):
            middle = float(np.sqrt(low * high))
            low, high = (middle, high) if self.of(unit, middle) < wanted else (low, middle)
        return float(np.sqrt(low * high))


#: A surface that a defect replaces altogether comes back when the defect fades.
_LEAST_RATIO = 0.01


def scaled(look: Appearance, factor: float) -> Appearance:
    """Return an appearance of `factor` times the log contrast, texture and all.

    The stronger a defect, the less of the surface's own texture it leaves: an appearance whose texture is `r` times the
    surface's has `r ** factor` times, so that next to nothing changes when the defect is next to nothing. What of that
    the contrast does not bring, the background keeps. Where all of it comes with the contrast, r is taken as 1. The lay
    is kept or lifted in proportion, as far as it is at the factor 1 at most.
    """
    if factor == 1.0:
        return look
    own = look.texture_kept**2 / (1.0 - look.noise_share) if look.noise_share < 1.0 else 0.0
    ratio = 1.0 if own == 0.0 and look.noise_share > 0.0 else max(own, _LEAST_RATIO)
    wanted, brought = ratio**factor, factor**2 * look.noise_share * ratio
    kept = float(np.sqrt(np.clip(wanted - brought, 0.0, 1.0)))
    share = float(min(1.0, brought / wanted))
    lay = None if look.lay_kept is None else 1.0 + min(factor, 1.0) * (look.lay_kept - 1.0)
    contrast = (factor * look.contrast).astype(np.float32)
    return replace(look, contrast=contrast, texture_kept=kept, noise_share=share, lay_kept=lay)
