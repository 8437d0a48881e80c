"""From an anomaly map to a proposed mask: where something stands out, drawn to its own outline.

The map is as wide as its filters, so a small region is drawn again on the picture: where the contrast against its
surroundings passes a share of the region's own extreme, on any channel on which it is strong. Large regions (stains,
uneven areas) have no contrast of their own to draw by and keep the map's outline.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask

Maps = NDArray[np.float32]

#: Share of the map's peak above which a pixel belongs to a region.
REGION_SHARE = 0.4
#: Share of the strongest region's peak that another region must reach.
_STRONG_SHARE = 0.7
#: Regions above this share of the part keep the map's outline.
_LARGE_SHARE = 0.04
_CONTRAST_SHARE = 0.35
#: Contrast in units of the surrounding texture below which a region can't be redrawn by it.
LEAST_CONTRAST = 8.0
#: A channel is followed when its contrast in units of its own texture is this share of the best channel's.
_CHANNEL_SHARE = 0.6
_SURROUNDINGS_PX = 8.0
_EVERYWHERE = np.ones((3, 3), np.bool_)


def propose(anomaly: Maps, maps: Maps, part: Mask) -> Mask:
    """Return the regions that stand out most, (H, W) bool inside `part`; never empty as long as the part is not.

    :param anomaly: (H, W) float32; :param maps: (K, H, W) float32 normalised log contrast of the same picture.
    """
    if not part.any():
        return np.zeros_like(part)
    peak = float(np.quantile(anomaly[part], 0.9999))
    rough = ndimage.binary_closing(anomaly > REGION_SHARE * peak, iterations=2) & part
    labels, count = ndimage.label(rough, structure=_EVERYWHERE)
    if count == 0:
        return np.asarray(anomaly >= anomaly[part].max()) & part
    strength = ndimage.maximum(anomaly, labels, np.arange(1, count + 1))
    mask = np.zeros_like(part)
    places = ndimage.find_objects(labels)
    for index in np.flatnonzero(strength >= _STRONG_SHARE * strength.max()):
        window = _grown(places[index], 32, part.shape)
        region = labels[window] == index + 1
        if region.sum() <= _LARGE_SHARE * part.sum():
            others = (rough[window] & ~region) | ~part[window]
            region = _redrawn(region, maps[(slice(None), *window)], others)
        mask[window] |= region
    filled: Mask = ndimage.binary_fill_holes(mask) & part
    return filled


def _redrawn(region: Mask, maps: Maps, others: Mask) -> Mask:
    """Draw a region by its contrast; `others` belong to other regions or to no part."""
    near = ndimage.binary_dilation(region, iterations=3) & ~others
    around = ~near & ~others
    if not around.any():
        return region
    weight = around.astype(np.float32)
    share = np.maximum(ndimage.gaussian_filter(weight, _SURROUNDINGS_PX), 1e-3)
    signed, strength = [], []
    for channel in maps:
        base = ndimage.gaussian_filter(channel * weight, _SURROUNDINGS_PX) / share
        contrast = ndimage.gaussian_filter(channel, 0.7) - base
        low, high = np.quantile(contrast[region], (0.03, 0.97))
        side = -1.0 if abs(low) > abs(high) else 1.0
        extreme = max(abs(float(low)), abs(float(high)), 1e-6)
        texture = 1.4826 * float(np.median(np.abs(contrast[around]))) + 1e-6
        signed.append(side * contrast / extreme)
        strength.append(extreme / texture)
    if max(strength) < LEAST_CONTRAST:
        return region
    drawn = np.zeros_like(region)
    for contrast, strong in zip(signed, strength, strict=True):
        if strong >= _CHANNEL_SHARE * max(strength):
            drawn |= near & (contrast > _CONTRAST_SHARE)
    drawn = ndimage.binary_closing(drawn)
    labels, count = ndimage.label(drawn, structure=_EVERYWHERE)
    sizes = ndimage.sum_labels(drawn, labels, np.arange(1, count + 1))
    # Specks are texture; a scratch is thin and would not survive an opening.
    kept: Mask = np.isin(labels, np.flatnonzero(sizes >= 0.15 * max(sizes, default=0)) + 1)
    return kept & near if kept.any() else region


def _grown(place: tuple[slice, ...], margin: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    rows, columns = (
        slice(max(0, side.start - margin), min(length, side.stop + margin))
        for side, length in zip(place, shape, strict=True)
    )
    return rows, columns
