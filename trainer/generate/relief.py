"""One surface behind all lights: the slopes and the brightness of a defect, pixel by pixel, lit by the cell's lamps.

Where the calibration knows the directions of three or more lamps, a log contrast (K, h, w) is taken apart by
photometric stereo (Woodham, Optical Engineering 19, 1980) into maps (3 + others, h, w): the logarithm of what all lamps
show brighter, the slopes to the right and downwards, and the contrast of the lights that come from no one side as it
is. A matt face of slope s under a lamp l is lit ``exp(brightness) * (1 + s . l_xy / l_z)`` times as strongly as when
level.
Texture is drawn, and a defect is turned, in these maps, so that whatever comes of it all lamps light the same surface.

What a defect shows beyond that (gloss, shadow) is no part of the maps. A seed whose lights differ by much that no
matt surface explains has no relief, nor has a cell of fewer lamps: there each light stays by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cell.calibration import Calibration
from cell.defects import Mask
from cell.frames import Stack
from cell.imaging import contrast as log_contrast
from cell.imaging.contrast import Maps
from trainer.generate.base import Appearance, Scene

Floats = NDArray[np.float64]

#: Lamps' slants (l_xy / l_z) with a smaller singular value than this tell no slope.
_SLANTED = 0.3
#: Least brightness of a surface over the level one's, and least light of a lamp over what falls on the level surface.
_DARKEST, _SHADOW = 0.05, 0.03
#: Share of what the lights differ by that a matt surface may leave unexplained; in noise variances what may be chance.
_UNEXPLAINED, _CHANCE = 0.2, 0.25
#: Quantile of a seed's slopes that is its steepest.
_STEEPEST = 0.98


@dataclass(frozen=True, slots=True, eq=False)
class Lamps:
    """The lights of a cell: `slants` (D, 2) l_xy / l_z of those from one side, `sided` (K,) bool which these are.

    `offset` (K,) DN is the sensor's at no light, `black` DN what log contrast adds before the logarithm.
    """

    slants: Floats
    sided: NDArray[np.bool_]
    offset: Floats
    black: float

    def surface(self, log: Maps, level: NDArray[np.float32]) -> Maps:
        """Return the maps (3 + others, h, w) of a log contrast on a surface of `level` DN, (K,) or (K, h, w)."""
        ratio, _ = self._ratio(log, level)
        table = np.linalg.pinv(self._table())
        scaled = np.tensordot(table, ratio, 1)
        upward = np.maximum(scaled[2], _DARKEST)
        maps = np.concatenate([np.log(upward)[None], scaled[:2] / upward, log[~self.sided]])
        return np.asarray(maps, np.float32)

    def shown(self, surface: Maps, level: NDArray[np.float32]) -> Maps:
        """Return the log contrast (K, h, w) of maps: the inverse of :meth:`surface` for a matt face."""
        place, black = _placed(level)[self.sided], self.black
        slanted = np.maximum(1 + np.tensordot(self.slants, surface[1:3], 1), _SHADOW)
        dark = self.offset[self.sided][:, None, None]
        seen = np.exp(surface[0]) * slanted * np.maximum(place - dark, 1.0) + dark
        log = np.empty((len(self.sided), *surface.shape[1:]), np.float32)
        log[self.sided] = np.log(np.maximum(seen + black, 1e-3) / (place + black))
        log[~self.sided] = surface[3:]
        return log

    def noise(self, log: Maps, level: NDArray[np.float32], variance: Maps) -> Maps:
        """Return the variance that a noise of `variance` (K, h, w) in log contrast has in the maps."""
        ratio, gain = self._ratio(log, level)
        table = np.linalg.pinv(self._table())
        upward = np.maximum(np.tensordot(table[2], ratio, 1), _DARKEST)
        # To first order in the noise; that the slopes' denominator is noisy too is small against it.
        spread = np.tensordot(table**2, gain**2 * variance[self.sided], 1) / upward**2
        return np.concatenate([spread[2:], spread[:2], variance[~self.sided]]).astype(np.float32)

    @property
    def noise_left(self) -> float:
        """Share of the lights' noise variance that the maps carry, mean over all lights: three sums of D lights."""
        return (3 + int((~self.sided).sum())) / len(self.sided)

    def explains(self, log: Maps, level: NDArray[np.float32], variance: Maps, inside: Mask) -> bool:
        """Return whether one matt surface explains what the lights of a contrast differ by, its noise left out."""
        ratio, gain = self._ratio(log, level)
        chance = (gain**2 * variance[self.sided])[:, inside].mean()
        seen, count = ratio[:, inside], len(ratio)
        table = self._table()
        rest = seen - table @ (np.linalg.pinv(table) @ seen)
        left = (rest**2).mean() - (1 - 3 / count) * chance
        told = ((seen - seen.mean(axis=0)) ** 2).mean() - (1 - 1 / count) * chance
        return bool(left <= _UNEXPLAINED * max(told, 0.0) + _CHANCE * chance)

    def _table(self) -> Floats:
        return np.column_stack([self.slants, np.ones(len(self.slants))])

    def _ratio(self, log: Maps, level: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Return the light (D, h, w) over that of the level surface, and by what it changes with the log contrast."""
        place, dark = _placed(level)[self.sided], self.offset[self.sided][:, None, None]
        light = np.maximum(place - dark, 1.0)
        lifted = np.exp(log[self.sided].astype(np.float64)) * (place + self.black)
        return (lifted - self.black - dark) / light, lifted / light


@dataclass(frozen=True, slots=True, eq=False)
class Relief:
    """What a seed's maps are made with: the lamps, the level (K,) DN about it, and how steep it is at most."""

    lamps: Lamps
    level: NDArray[np.float32]
    steepest: float

    def parts(self, log: Maps) -> Maps:
        """Return the maps (3 + others, h, w) of a log contrast about the seed."""
        return self.lamps.surface(log, self.level)

    def noise(self, log: Maps, variance: Maps) -> Maps:
        """Return the variance that a noise of `variance` (K, h, w) in log contrast has in the maps."""
        return self.lamps.noise(log, self.level, variance)

    def shown(self, parts: Maps) -> Maps:
        """Return the log contrast (K, h, w) of maps, nowhere steeper than the seed."""
        length = np.hypot(parts[1], parts[2])
        bounded = parts.copy()
        bounded[1:3] *= self.steepest / np.maximum(length, self.steepest)
        return self.lamps.shown(bounded, self.level)


def lamps_of(calibration: Calibration, bit_depth: int) -> Lamps | None:
    """Return the lamps of a cell; None where fewer than three directions are known, or all lie in one plane."""
    directions = [channel.direction for channel in calibration.channels]
    slants = np.array([(one.x / one.z, one.y / one.z) for one in directions if one is not None and one.z > 0])
    if len(slants) < 3:
        return None
    sided = np.array([one is not None and one.z > 0 for one in directions])
    offset = np.array([channel.noise.offset_dn for channel in calibration.channels])
    lamps = Lamps(slants, sided, offset, log_contrast.black_offset_dn(bit_depth))
    return lamps if np.linalg.svd(lamps._table(), compute_uv=False)[-1] > _SLANTED else None


def relief_of(scene: Scene, log: Maps, inside: Mask, level: NDArray[np.float32], sensor: Maps) -> Relief | None:
    """Return what the maps of a seed's contrast (K, h, w) are made with; None where its lights stay by themselves.

    :param inside: (h, w) bool, the seed's outline; :param level: (K,) DN, the surface about it;
    :param sensor: (K, h, w), the variance of the sensor's noise in log contrast.
    """
    lamps = lamps_of(scene.calibration, scene.recipe.bit_depth)
    if lamps is None or not inside.any() or not lamps.explains(log, level, sensor, inside):
        return None
    slopes = lamps.surface(log, level)[1:3, inside]
    return Relief(lamps, level, max(float(np.quantile(np.hypot(*slopes), _STEEPEST)), 1e-3))


def turned(parts: Maps, source: NDArray[np.float32]) -> Maps:
    """Return maps (3 + others, h, w), moved already to where `source` (2, h, w) warps them, with their slopes turned.

    Of the warp at each pixel its turn or mirroring counts: a defect made larger is as steep as before.
    """
    down, across = np.gradient(source[0]), np.gradient(source[1])
    straight = down[0] * across[1] >= down[1] * across[0]
    # The orthogonal matrix nearest to the warp's (polar decomposition of a 2 x 2 matrix).
    cos = np.where(straight, down[0] + across[1], down[0] - across[1])
    sin = np.where(straight, down[1] - across[0], down[1] + across[0])
    length = np.maximum(np.hypot(cos, sin), 1e-6)
    cos, sin = cos / length, sin / length
    result = parts.copy()
    below, right = parts[2], parts[1]
    # A slope is a gradient: it goes with the transposed matrix.
    result[2] = np.where(straight, cos * below - sin * right, cos * below + sin * right)
    result[1] = np.where(straight, sin * below + cos * right, sin * below - cos * right)
    return result


def agreed(
    look: Appearance, strong: Appearance, factor: float, soft: NDArray[np.float32], window: Stack, lamps: Lamps | None
) -> Appearance:
    """Return an appearance that was made `factor` times as strong with its lights in agreement again.

    A power of each light's factor is no matt surface's light any more; the nearest one's is. What was none before (a
    pasted seed's gloss and noise) stays as it was scaled.

    :param look: the appearance as painted, `strong` what was made of it; :param soft: (h, w), their weight.
    :param window: (K, h, w) DN, the background.
    """
    if lamps is None or factor == 1.0:
        return strong
    pixels = window.astype(np.float32)
    level = pixels - log_contrast.fine_texture(pixels)
    matt = np.float32(factor) * lamps.shown(lamps.surface(look.contrast * soft, level), level)
    more = lamps.shown(lamps.surface(matt, level), level) - matt
    return replace(strong, contrast=strong.contrast + np.where(soft > 0, more / np.maximum(soft, 1e-3), 0.0))


def _placed(level: NDArray[np.float32]) -> Floats:
    """Return levels (K,) or (K, h, w) so that they go with maps."""
    return np.asarray(level[:, None, None] if level.ndim == 1 else level, np.float64)
