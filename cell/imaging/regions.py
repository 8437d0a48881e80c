"""From an anomaly map to a proposed mask: where something stands out, drawn to its own outline.

The map is as wide as its filters, so each region is drawn again on the picture itself: where all channels together are
further from the region's surroundings than these vary (Mahalanobis), at the finest scale at which the region stands
out. Where it stands out at none, the map's outline stays.
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
_STRONG_SHARE = 0.6
#: Standard deviations of the Gaussians at which a region is drawn, pixels, finest first.
_SCALES_PX = (0.7, 1.5, 3.0)
#: Share of a region's own squared distance above which a pixel belongs to it, and quantile of its surroundings.
_OWN_SHARE, _RING_QUANTILE = 0.12, 0.99
#: Times the surroundings' quantile that a region must reach at a scale to be drawn there.
_CLEAR = 3.0
_MARGIN_PX = 24
#: A region's own distance is that of its most different pixels: such a share of the rough region, within these bounds.
_CORE_PX, _CORE_SHARE, _MOST_CORE_PX = 8, 0.1, 30
_EVERYWHERE = np.ones((3, 3), np.bool_)


def propose(anomaly: Maps, maps: Maps, part: Mask) -> Mask:
    """Return the regions that stand out most, (H, W) bool inside `part`; never empty as long as the part is not.

    :param anomaly: (H, W) float32.
    :param maps: (K, H, W) float32, normalised log contrast of the same picture, less what
        good parts have in common where that is known.
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
        size = max(side.stop - side.start for side in places[index])
        window = _grown(places[index], _MARGIN_PX + size // 2, part.shape)
        region = labels[window] == index + 1
        others = (rough[window] & ~region) | ~part[window]
        mask[window] |= _drawn(region, maps[(slice(None), *window)], others) & part[window]
    return mask


def _drawn(region: Mask, maps: Maps, others: Mask) -> Mask:
    """Draw a region to its own outline; `others` belong to other regions or to no part."""
    around = ~ndimage.binary_dilation(region, iterations=4) & ~others
    if around.sum() < 10 * len(maps):
        return region
    for scale in _SCALES_PX:
        distance = _distance(ndimage.gaussian_filter(maps, (0, scale, scale), mode="nearest"), around)
        ring = float(np.quantile(distance[around], _RING_QUANTILE))
        ranked = np.sort(distance[region])
        core = min(max(_CORE_PX, round(_CORE_SHARE * ranked.size)), _MOST_CORE_PX, ranked.size)
        own = float(ranked[-core])
        if own < _CLEAR * ring:
            continue
        near = ndimage.binary_dilation(region, iterations=6) & ~others
        inside = _cleaned(near & (distance > max(ring, _OWN_SHARE * own)), region)
        if inside.any():
            return inside
    return region


def _cleaned(inside: Mask, region: Mask) -> Mask:
    """Return what hangs together with the region, without holes and specks."""
    inside = np.asarray(ndimage.binary_fill_holes(ndimage.binary_closing(inside, structure=_EVERYWHERE)), np.bool_)
    labels, count = ndimage.label(inside, structure=_EVERYWHERE)
    if not count:
        return inside
    index = np.arange(1, count + 1)
    sizes = ndimage.sum_labels(inside, labels, index)
    meets = ndimage.maximum(region, labels, index) > 0
    kept: Mask = np.isin(labels, index[(sizes >= 0.15 * sizes.max()) & meets])
    return kept


def _distance(maps: Maps, around: Mask) -> Maps:
    """Return the mean squared Mahalanobis distance (h, w) from what the surroundings show."""
    known = maps[:, around].astype(np.float64)
    middle = np.median(known, axis=1, keepdims=True)
    spread = 1.4826 * np.median(np.abs(known - middle), axis=1, keepdims=True) + 1e-3
    clipped = np.clip((known - middle) / spread, -3, 3)
    covariance = clipped @ clipped.T / clipped.shape[1] + 0.05 * np.eye(len(maps))
    whitened = np.linalg.solve(np.linalg.cholesky(covariance), ((maps.reshape(len(maps), -1) - middle) / spread))
    return np.asarray((whitened * whitened).mean(axis=0).reshape(maps.shape[1:]), np.float32)


def _grown(place: tuple[slice, ...], margin: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    rows, columns = (
        slice(max(0, side.start - margin), min(length, side.stop + margin))
        for side, length in zip(place, shape, strict=True)
    )
    return rows, columns
