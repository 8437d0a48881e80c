"""What a defect does to the surface that it lies on: a chip has none of its lay, a stain leaves it, a glare lifts it.

The lay of a ground or drawn surface runs through a picture as streaks, far coarser than noise and far longer than wide.
They show after averaging along the lay, where everything else averages out. Inside a seed's outline they are so many
times as strong as about it, and a candidate does the same to the surface that it is put on. Where streaks end, the
surface is another one, and all of its texture ends with them; where they are lifted, they go on through the defect.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from cell.defects import Mask
from cell.frames import Stack
from cell.imaging import contrast
from cell.imaging.contrast import Maps
from trainer.generate.lay import Lay, lay_at

#: Standard deviations of the Gaussian that averages along the lay and across it, pixels.
_ALONG, _ACROSS = 7.0, 0.8
#: What is coarser than that is shading, no lay; what is finer than that the compositor keeps or replaces.
_SHADING, _FINE = 8.0, 2.0
#: A place counts when so much of the average is of its own side of the outline.
_OWN_SHARE = 0.5
#: Pixels that are left out on both sides of a seed's outline, and how far about it its surroundings reach.
_INNER, _OUTER, _NEAR = 2, 4, 60
_FEWEST = 60
#: Within that of 1 the streaks are as about the seed: some dozen of them tell no more.
_ALIKE = 0.3
#: Streaks are lifted by this factor at most.
_MOST = 2.5
#: What is stronger than so many spreads is an edge of the part.
_EDGE_SPREADS = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Streaks:
    """What a seed does to the lay: inside the streaks are `kept` times as strong as about it, 0 to 2.5.

    `variance` (K,) is that of the streaks about it, in log contrast.
    """

    kept: float
    variance: NDArray[np.float32]

    def left(self, texture: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the defect leaves of the variance (K,) of the surface's texture, or makes of it."""
        if self.kept <= 1.0:
            return self.kept**2 * texture
        lifted: NDArray[np.float32] = texture + (self.kept**2 - 1.0) * self.variance
        return lifted


def streaks_of(stack: Stack, marked: Mask, mask: Mask, known: Mask, bit_depth: int) -> Streaks | None:
    """Measure a seed; None where it is too small or its surface has no lay.

    :param stack: (K, h, w) DN; :param marked: (h, w) bool as marked, `mask` drawn in; :param known: the part's pixels.
    """
    inside = ndimage.binary_erosion(mask, iterations=_INNER)
    outside = known & ~ndimage.binary_dilation(marked, iterations=_OUTER)
    outside &= ndimage.binary_dilation(marked, iterations=_NEAR)
    if inside.sum() < _FEWEST or outside.sum() < _FEWEST:
        return None
    rows, columns = np.nonzero(marked)
    reach = _NEAR + int(max(np.ptp(rows), np.ptp(columns))) // 2
    lay = lay_at(stack, outside, float(rows.mean()), float(columns.mean()), reach)
    if not lay.known:
        return None
    log = _log(stack, bit_depth)
    own, about = _energy(log, inside, lay), _energy(log, outside, lay)
    if own is None or about is None or about.sum() <= 0:
        return None
    kept = float(np.clip(np.sqrt(max(float(own.sum()), 0.0) / float(about.sum())), 0.0, _MOST))
    kept = 1.0 if abs(kept - 1.0) < _ALIKE else kept
    return Streaks(kept, np.maximum(about, 0.0).astype(np.float32))


def under_defect(
    window: Stack, soft: NDArray[np.float32], known: Mask, kept: float | None, bit_depth: int
) -> NDArray[np.float32]:
    """Return the surface (K, h, w) float32 DN under a defect, weighed by `soft`.

    Above 1 its streaks are `kept` times as strong; below 1 all of its texture that is coarser than noise is.
    """
    surface = window.astype(np.float32)
    if kept is None or kept == 1.0:
        return surface
    log = _log(window, bit_depth)
    if kept > 1.0:
        rows, columns = np.nonzero(soft > 0)
        lay = lay_at(window, known, float(rows.mean()), float(columns.mean()))
        if not lay.known:
            return surface
        found, _ = _streaks(log, known, lay)
    else:
        found = _mean(log, known, _FINE) - _mean(log, known, _SHADING)
    bound = _EDGE_SPREADS * 1.4826 * np.median(np.abs(found[:, known]), axis=1)[:, None, None]
    factor = np.exp((kept - 1.0) * soft * np.clip(found, -bound, bound) * known)
    black = contrast.black_offset_dn(bit_depth)
    lit: NDArray[np.float32] = np.where(soft > 0, (surface + black) * factor - black, surface).astype(np.float32)
    return lit


def _log(stack: Stack, bit_depth: int) -> Maps:
    logarithm: Maps = np.log(stack.astype(np.float32) + np.float32(contrast.black_offset_dn(bit_depth)))
    return logarithm


def _energy(log: Maps, where: Mask, lay: Lay) -> NDArray[np.float32] | None:
    """Return the variance (K,) of the streaks in a region, less what averages across the lay leave there."""
    across = Lay(lay.direction_deg + 90.0, lay.coherence)
    along = [_streaks(log, where, direction) for direction in (lay, across)]
    usable = where & (along[0][1] >= _OWN_SHARE) & (along[1][1] >= _OWN_SHARE)
    if usable.sum() < _FEWEST:
        return None
    streaks, other = (found[:, usable].var(axis=1) for found, _ in along)
    energy: NDArray[np.float32] = streaks - other
    return energy


def _streaks(log: Maps, where: Mask, lay: Lay) -> tuple[Maps, NDArray[np.float32]]:
    """Return the streaks (K, h, w) of what is known, and the share of each average that is known, (h, w)."""
    weight = where.astype(np.float32)
    fine = (log - _mean(log, where, _SHADING)) * weight
    kernel = _kernel(lay)
    seen = signal.fftconvolve(weight, kernel, mode="same")
    found = np.stack([signal.fftconvolve(one, kernel, mode="same") for one in fine]) / np.maximum(seen, 1e-3)
    return found.astype(np.float32), seen.astype(np.float32)


def _mean(log: Maps, where: Mask, sigma: float) -> Maps:
    weight = where.astype(np.float32)
    share = ndimage.gaussian_filter(weight, sigma, mode="constant") + 1e-6
    mean: Maps = ndimage.gaussian_filter(log * weight, (0, sigma, sigma), mode="constant") / share
    return mean


def _kernel(lay: Lay) -> NDArray[np.float32]:
    reach = round(2.5 * _ALONG)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    angle = np.radians(lay.direction_deg)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    across = rows * np.cos(angle) - columns * np.sin(angle)
    kernel = np.exp(-0.5 * ((along / _ALONG) ** 2 + (across / _ACROSS) ** 2))
    normal: NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
    return normal
