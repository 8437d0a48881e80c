"""The golden layer of the background model: every pixel's robust mean and spread over parts that look alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask
from cell.imaging.registration import LEAST_AGREEMENT, Pose, align

Maps = NDArray[np.float32]

#: Share of the smoothed pictures' spatial variance that a common picture must explain to be worth taking out.
LEAST_EXPLAINED = 0.4
#: What a registration may be wrong by: steep places get as much more spread.
_ALIGNMENT_PX = 0.15
#: Least spread of a pixel as a share of the median pixel's: few grey values seem not to vary at all.
_LEAST_SPREAD = 0.3
_MEMORY = 256
_HUBER = 3.0


@dataclass(slots=True)
class Golden:
    """`mean` and `variance` (K, H, W) float32 of the normalised log contrast, in the reference part's place."""

    mean: Maps
    variance: Maps
    _spread: Maps | None = None

    def pose(self, log: Maps) -> Pose:
        """Return where a part lies; its `agreement` is low when the picture shows something else."""
        return align(self.mean.mean(axis=0), log.mean(axis=0))

    def residual(self, log: Maps, pose: Pose) -> Maps:
        """Return `log` (K, H, W) less the mean, in units of the local spread times the typical one."""
        spread = self._smooth_spread()
        typical = np.sqrt(np.median(spread, axis=(1, 2)))[:, None, None]
        if pose.agreement < LEAST_AGREEMENT:
            pose = Pose()
        mean, variance = pose.from_reference(self.mean), pose.from_reference(spread)
        result: Maps = ((log - mean) * typical / np.sqrt(np.maximum(variance, 1e-6))).astype(np.float32)
        # Nothing is known of what came into view at the edge.
        result *= pose.covered((log.shape[1], log.shape[2]))
        return result

    def add(self, log: Maps, pose: Pose, seen: int) -> None:
        """Move mean and variance towards one more good part; what stands out counts no more than `_HUBER` sigma."""
        if log.shape != self.mean.shape or pose.agreement < LEAST_AGREEMENT:
            return
        sigma = np.sqrt(np.maximum(self._smooth_spread(), 1e-6))
        difference = np.clip(pose.to_reference(log) - self.mean, -_HUBER * sigma, _HUBER * sigma)
        weight = np.float32(1.0 / min(seen + 1, _MEMORY))
        self.mean += weight * difference
        self.variance += weight * (difference * difference - self.variance)
        self._spread = None

    def _smooth_spread(self) -> Maps:
        # A pixel's own variance over few parts is a poor estimate; its neighbours' help.
        if self._spread is None:
            smooth = ndimage.gaussian_filter(self.variance, (0, 1.5, 1.5), mode="nearest")
            steep = np.stack([ndimage.gaussian_gradient_magnitude(channel, 0.7) for channel in self.mean])
            spread = smooth + (_ALIGNMENT_PX * steep) ** 2
            least = _LEAST_SPREAD**2 * np.median(spread, axis=(1, 2), keepdims=True)
            self._spread = np.maximum(spread, least).astype(np.float32)
        return self._spread


@dataclass(frozen=True, slots=True, eq=False)
class Together:
    """Parts that have a picture in common, each moved to the reference's place, (N, K, H, W), with its pose."""

    stacked: Maps
    poses: tuple[Pose, ...]

    def golden(self, without: slice = slice(0, 0)) -> Golden:
        """Return the golden layer of all parts, or of all but some; the median forgives a few bad ones."""
        kept = np.ones(len(self.stacked), np.bool_)
        kept[without] = False
        parts = self.stacked[kept]
        mean = np.median(parts, axis=0).astype(np.float32)
        deviation = 1.4826 * np.median(np.abs(parts - mean), axis=0)
        return Golden(mean, np.maximum(deviation**2, 1e-4).astype(np.float32))


def together(logs: Sequence[Maps], parts: Sequence[Mask]) -> Together | None:
    """Return the parts in one place, or None when they have no picture in common.

    :param logs: normalised log contrast (K, H, W) of each; `parts` (H, W) bool, where each part lies.
    """
    if len({log.shape for log in logs}) != 1:
        return None
    common, any_of = np.logical_and.reduce(parts), np.logical_or.reduce(parts)
    if common.sum() < 0.7 * any_of.sum():
        return None
    # The first part is one of many; what all have in common is the better reference.
    first = _aligned(logs, logs[0].mean(axis=0))
    found = _aligned(logs, np.median(first.stacked, axis=0).mean(axis=0))
    return found if _explained(found.stacked, common) >= LEAST_EXPLAINED else None


def _explained(stacked: Maps, common: Mask) -> float:
    """Return the share of the smoothed pictures' variance that their mean explains."""
    within = between = 0.0
    for channel in stacked.swapaxes(0, 1):
        smooth = ndimage.gaussian_filter(channel, (0, 2.0, 2.0), mode="nearest")[:, common]
        within += float(smooth.var(axis=0, ddof=1).mean())
        between += float(smooth.mean(axis=0).var())
    return between / max(between + within, 1e-12)


def _aligned(logs: Sequence[Maps], reference: Maps) -> Together:
    poses = tuple(align(reference, log.mean(axis=0)) for log in logs)
    moved = [
        pose.to_reference(log) if pose.agreement >= LEAST_AGREEMENT else log
        for pose, log in zip(poses, logs, strict=True)
    ]
    return Together(np.stack(moved), poses)
