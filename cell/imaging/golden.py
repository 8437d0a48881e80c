"""The golden layer of the background model: every pixel's robust mean and spread over parts that lie in a fixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask
from cell.imaging.registration import shift

Maps = NDArray[np.float32]

#: Share of the smoothed pictures' spatial variance that a common picture must explain to be worth taking out.
LEAST_EXPLAINED = 0.4
#: Parts are followed this far, pixels; beyond it they are compared where they lie.
_FARTHEST_PX = 12.0
#: What a registration may be wrong by: steep places get as much more spread.
_ALIGNMENT_PX = 0.3
_MEMORY = 256
_HUBER = 3.0


@dataclass(slots=True)
class Golden:
    """`mean` and `variance` (K, H, W) float32 of the normalised log contrast, in the reference part's place."""

    mean: Maps
    variance: Maps

    def residual(self, log: Maps) -> Maps:
        """Return `log` (K, H, W) less the mean, in units of the local spread times the typical one."""
        place = self._place(log)
        mean, variance = _moved(self.mean, place), _moved(self._spread(), place)
        typical = np.sqrt(np.median(variance, axis=(1, 2)))[:, None, None]
        result: Maps = ((log - mean) * typical / np.sqrt(np.maximum(variance, 1e-6))).astype(np.float32)
        return result

    def add(self, log: Maps, seen: int) -> None:
        """Move mean and variance towards one more good part; what stands out counts no more than `_HUBER` sigma."""
        if log.shape != self.mean.shape:
            return
        down, across = self._place(log)
        sigma = np.sqrt(np.maximum(self._spread(), 1e-6))
        difference = np.clip(_moved(log, (-down, -across)) - self.mean, -_HUBER * sigma, _HUBER * sigma)
        weight = np.float32(1.0 / min(seen + 1, _MEMORY))
        self.mean += weight * difference
        self.variance += weight * (difference * difference - self.variance)

    def _spread(self) -> Maps:
        # A pixel's own variance over few parts is a poor estimate; its neighbours' help.
        smooth = ndimage.gaussian_filter(self.variance, (0, 2.0, 2.0), mode="nearest")
        steep = np.stack([ndimage.gaussian_gradient_magnitude(channel, 0.7) for channel in self.mean])
        spread: Maps = (smooth + (_ALIGNMENT_PX * steep) ** 2).astype(np.float32)
        return spread

    def _place(self, log: Maps) -> tuple[float, float]:
        down, across, peak = shift(self.mean.mean(axis=0), log.mean(axis=0))
        if peak < 0.03 or max(abs(down), abs(across)) > _FARTHEST_PX:
            return 0.0, 0.0
        return down, across


def begin(logs: Sequence[Maps], parts: Sequence[Mask]) -> Golden | None:
    """Return the golden layer of the first good parts, or None when they have no picture in common.

    :param logs: normalised log contrast (K, H, W) of each; `parts` (H, W) bool, where each part lies.
    """
    if len({log.shape for log in logs}) != 1:
        return None
    common, any_of = np.logical_and.reduce(parts), np.logical_or.reduce(parts)
    if common.sum() < 0.7 * any_of.sum():
        return None
    reference = logs[0].mean(axis=0)
    aligned = []
    for log in logs:
        down, across, peak = shift(reference, log.mean(axis=0))
        near = peak >= 0.03 and max(abs(down), abs(across)) <= _FARTHEST_PX
        aligned.append(_moved(log, (-down, -across)) if near else log)
    stacked = np.stack(aligned)
    smooth = ndimage.gaussian_filter(stacked, (0, 0, 2.0, 2.0), mode="nearest")[..., common]
    within = float(smooth.var(axis=0, ddof=1).mean())
    between = float(smooth.mean(axis=0).var(axis=-1).mean())
    if between < LEAST_EXPLAINED * (between + within):
        return None
    mean = np.median(stacked, axis=0).astype(np.float32)
    deviation = 1.4826 * np.median(np.abs(stacked - mean), axis=0)
    return Golden(mean, np.maximum(deviation**2, 1e-4).astype(np.float32))


def _moved(maps: Maps, by: tuple[float, float]) -> Maps:
    if max(abs(by[0]), abs(by[1])) < 0.05:
        return maps
    moved: Maps = ndimage.shift(maps, (0, *by), order=1, mode="nearest").astype(np.float32)
    return moved
