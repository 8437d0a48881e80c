"""How a painted defect is brought to the cell that it will lie in: its edge's sharpness, and its share of the light.

Arms paint at the sharpness of the seeds. Beyond the outline the contrast falls off as an edge behind the seed's lens
does, twice the normal distribution of the distance over the seed's point spread. Where the target is softer (another
lens, or a face out of focus) the *light*, not its logarithm, is blurred by the difference of the two point spreads.
Where it is sharper nothing can be done: detail that the lens took away is in no seed, so the candidate is as soft
as its seed, and its provenance says by how much.

Log contrast has a black offset in it (:mod:`cell.imaging.contrast`), so the same number takes a smaller share of the
light where less of it falls. The defect takes the share that it took from the seed's surface.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from cell.defects import Mask
from cell.frames import Stack
from cell.imaging import contrast
from cell.imaging.contrast import Maps
from cell.imaging.focus import spread_px
from trainer.generate.base import Appearance, Scene, Shape
from trainer.generate.looks import Look

#: Point spread that is assumed where nobody measured one: an ordinary lens and the pixel.
_USUAL_PX = 0.7
#: Standard deviations beyond the outline after which nothing is left of an edge (2 %).
_REACH = 2.3
#: Differences of two point spreads below this, pixels, are errors of the measurement.
_LEAST_BLUR_PX = 0.15
#: The plan's feather, pixels from full to none: its weight tells where between two pixels the outline lies.
_FEATHER_PX = 2.5
#: By how much the share of the light may be corrected: near black a ratio is mostly noise.
_MOST_GAIN = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Fitting:
    """What has to be done to one defect: sigma of its edge and of the blur it gets, pixels, (K,) each.

    `level` (K,) DN is the surface about the seed. `known` False: one of the point spreads is unknown, nothing is added.
    """

    edge_px: NDArray[np.float64]
    blur_px: NDArray[np.float64]
    target_px: NDArray[np.float64]
    short_px: float
    level: NDArray[np.float32]
    known: bool

    @property
    def reach_px(self) -> int:
        """Pixels beyond the outline that the defect's light reaches."""
        return math.ceil(_REACH * float(np.sqrt(self.edge_px**2 + self.blur_px**2).max())) + 1

    def facts(self) -> dict[str, float]:
        """Return what the candidate's provenance says; means over the channels, nothing where nothing is known."""
        if not self.known:
            return {}
        return {
            "psf_seed_px": round(float(self.edge_px.mean()), 4),
            "psf_target_px": round(float(self.target_px.mean()), 4),
            "blur_px": round(float(self.blur_px.mean()), 4),
            "psf_short_px": round(self.short_px, 4),
        }


def fitting_of(scene: Scene, looks: Sequence[Look], shape: Shape) -> Fitting:
    """Compare the cell and place of the seed that gave a shape with those where the shape will lie."""
    look = next(one for one in looks if one.seed.seed_id == shape.seed_ids[0])
    rows, columns = np.nonzero(shape.mask)
    place = shape.top + float(rows.mean()), shape.left + float(columns.mean())
    target = spread_px(scene.calibration, scene.recipe.faces, *place)
    seed = look.seed
    own = np.asarray(seed.psf_px, np.float64)
    if not own.size:
        rows, columns = np.nonzero(seed.mask)
        own = spread_px(scene.calibration, scene.recipe.faces, float(rows.mean()), float(columns.mean()))
    known = bool((own > 0).all() and (target > 0).all())
    more = target**2 - own**2 if known else np.zeros_like(target)
    blur = np.sqrt(np.maximum(more, 0.0))
    short = float(np.sqrt(np.maximum(-more, 0.0)).mean())
    return Fitting(
        edge_px=np.where(own > 0, own, _USUAL_PX),
        blur_px=np.where(blur < _LEAST_BLUR_PX, 0.0, blur),
        target_px=target,
        short_px=short if short >= _LEAST_BLUR_PX else 0.0,
        level=look.level,
        known=known,
    )


def widened(shape: Shape, reach: int, height: int, width: int) -> Shape:
    """Return the shape with at least `reach` pixels of room about its outline, as far as the frame goes."""
    rows, columns = np.nonzero(shape.soft > 0)
    down, across = shape.soft.shape
    grow = (
        min(max(0, reach - int(rows.min())), shape.top),
        min(max(0, reach - (down - 1 - int(rows.max()))), height - shape.top - down),
        min(max(0, reach - int(columns.min())), shape.left),
        min(max(0, reach - (across - 1 - int(columns.max()))), width - shape.left - across),
    )
    if not any(grow):
        return shape
    margin = (grow[:2], grow[2:])
    return replace(
        shape,
        top=shape.top - grow[0],
        left=shape.left - grow[2],
        soft=np.pad(shape.soft, margin),
        source=np.pad(shape.source, ((0, 0), *margin), mode="edge"),
    )


def fitted(
    look: Appearance, shape: Shape, allowed: Mask, window: Stack, scene: Scene, how: Fitting
) -> tuple[Appearance, NDArray[np.float32]]:
    """Return the appearance as the target cell shows it, and its weight (h, w), 0 outside the support.

    :param allowed: (h, w) bool, where the window may be changed; :param window: (K, h, w) DN, the background.
    """
    sigma = float(how.edge_px.mean())
    distance = _distance(shape)
    edge = np.minimum(2 * special.ndtr(distance / sigma), 1.0)
    edge[distance < -_REACH * sigma] = 0.0
    light = np.expm1(_beyond(look.contrast, distance > 0)) * edge
    blur = float(how.blur_px.mean())
    soft = edge
    if blur > 0:
        light = np.stack(
            [
                ndimage.gaussian_filter(one, own, mode="nearest") if own > 0 else one
                for one, own in zip(light, how.blur_px, strict=True)
            ]
        )
        soft = ndimage.gaussian_filter(edge, blur, mode="nearest")
        soft[distance < -_REACH * math.hypot(sigma, blur)] = 0.0
    soft = np.where(allowed, np.clip(soft, 0.0, 1.0), 0.0).astype(np.float32)
    light *= _share(window, scene, how.level)
    # The compositor weighs contrast and texture alike, so what it weighs is given unweighed.
    weight = np.maximum(soft, 1e-3)
    log = np.where(soft > 0, np.log1p(np.maximum(light, -0.995)) / weight, 0.0).astype(np.float32)
    kept = _white_left(blur)
    return replace(look, contrast=log, noise_share=look.noise_share * kept), soft


def _distance(shape: Shape) -> NDArray[np.float64]:
    """Return the signed distance to the outline, between pixels where the plan's feather tells it."""
    mask = np.pad(shape.mask, 1)
    far = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    # From pixel to pixel the least distance is 1, half of which lies on either side of the outline.
    away = (far - 0.5 * np.sign(far))[1:-1, 1:-1]
    between = (shape.soft > 0) & (shape.soft < 1)
    distance: NDArray[np.float64] = np.where(between, (shape.soft - 0.5) * _FEATHER_PX, away)
    return distance


def _beyond(log: Maps, inside: Mask) -> Maps:
    """Return the contrast with each pixel beyond the outline having the value of the nearest one inside."""
    at = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    return log[:, at[0], at[1]]


def _share(window: Stack, scene: Scene, level: NDArray[np.float32]) -> Maps:
    """Return by what the relative change (K, h, w) must be multiplied for it to take the same share of the light."""
    black = contrast.black_offset_dn(scene.recipe.bit_depth)
    pixels = window.astype(np.float32)
    smooth = pixels - contrast.fine_texture(pixels)
    gains = []
    for place, seed, channel in zip(smooth, level, scene.calibration.channels, strict=True):
        offset = channel.noise.offset_dn
        own = (seed + black) / max(float(seed) - offset, 1.0)
        gains.append(own * np.maximum(place - offset, 1.0) / (place + black))
    share: Maps = np.clip(np.stack(gains), 1 / _MOST_GAIN, _MOST_GAIN).astype(np.float32)
    return share


def _white_left(blur: float) -> float:
    """Return the share of white noise's variance that a Gaussian leaves."""
    if blur <= 0:
        return 1.0
    line = ndimage.gaussian_filter1d(np.eye(1, 8 * math.ceil(blur) + 9, 4 * math.ceil(blur) + 4)[0], blur)
    return float((line**2).sum() ** 2)
