"""Where on a background a class's defects may lie: zones, and surface of a certain brightness or roughness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask
from cell.frames import Stack
from cell.recipes import Rect
from trainer.generate.base import BackgroundSample
from trainer.generate.control import Control

#: Brightness and roughness count over such a neighbourhood (Gaussian sigma); roughness is of texture finer than that.
_NEAR_PX, _FINE_PX = 8.0, 2.0
#: Quantiles are taken from so many pixels at most.
_SAMPLE = 200_000


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """`allowed` (H, W) bool: where a defect may lie; `surface` (H, W) bool: surface as asked for, None for any.

    Outlines are cut at the border of `allowed`, as at the part's edge; of `surface` they need only lie on it mostly.
    """

    allowed: Mask
    surface: Mask | None = None
    restricted: bool = False


def ground_of(background: BackgroundSample, control: Control) -> Ground:
    """Return where a class's defects may lie on a background."""
    allowed = background.allowed
    if control.zones:
        allowed = zoned(allowed, control.zones)
    if not allowed.any() or (control.level is None and control.roughness is None):
        return Ground(allowed, restricted=bool(control.zones))
    surface = np.ones_like(allowed)
    for span, measure in ((control.level, _level), (control.roughness, _roughness)):
        if span is not None:
            values = measure(background.stack, background.allowed)
            own = values[background.allowed]
            low, high = np.quantile(own[:: max(1, own.size // _SAMPLE)], span)
            surface &= (values >= low) & (values <= high)
    return Ground(allowed, surface & allowed, restricted=True)


def zoned(allowed: Mask, zones: Sequence[Rect]) -> Mask:
    """Return what is allowed inside of zones, (H, W) bool."""
    inside = np.zeros_like(allowed)
    for zone in zones:
        window = slice(zone.y, zone.y + zone.height), slice(zone.x, zone.x + zone.width)
        inside[window] = allowed[window]
    return inside


def _level(stack: Stack, allowed: Mask) -> NDArray[np.float32]:
    """Return the local brightness (H, W), all lights alike."""
    return _spread(sum(channel / max(float(channel[allowed].mean()), 1.0) for channel in stack), allowed)


def _roughness(stack: Stack, allowed: Mask) -> NDArray[np.float32]:
    """Return the local variance of fine texture (H, W), relative to the brightness."""
    total = np.zeros(allowed.shape, np.float32)
    for channel in stack:
        pixels = channel.astype(np.float32)
        smooth = ndimage.gaussian_filter(pixels, _FINE_PX, mode="nearest")
        total += ((pixels - smooth) / np.maximum(smooth, 1.0)) ** 2
    return _spread(total, allowed)


def _spread(values: NDArray[np.float32], allowed: Mask) -> NDArray[np.float32]:
    share = ndimage.gaussian_filter(allowed.astype(np.float32), _NEAR_PX) + 1e-6
    mean: NDArray[np.float32] = ndimage.gaussian_filter(values.astype(np.float32) * allowed, _NEAR_PX) / share
    return mean
