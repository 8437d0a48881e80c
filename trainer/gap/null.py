"""The null edit: a candidate with no defect in it, only its noise made anew; and how noise compares.

Given how much texture a cell's windows show (:mod:`trainer.gap.texture`), most of a window's noise is taken out as far
as it can be known (Wiener's filter), what can't be known of the texture behind it is drawn, and fresh noise of the
calibrated law is put on. If the law is the camera's, the result has the statistics of an untouched frame; if it is not,
the noise differs wherever it is not drowned in texture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.calibration import Calibration
from cell.imaging import noise
from trainer.gap.crops import Crop, Maps
from trainer.gap.looks import OCTAVES, bands, lag1_of
from trainer.gap.texture import KEPT, Textures, Unit, to_dn, to_noise

#: Smoothing that parts the local level from what stands on it, pixels.
_LEVEL_SIGMA = 4.0
#: Smoothing that leaves next to nothing of the noise.
_QUIET_SIGMA = 2.0


def even(crops: Sequence[Crop], share: float = 0.5) -> list[Crop]:
    """Return the windows with the least texture, in their order: where there is much, noise is drowned in it.

    By what is left of them when they are smoothed: to choose by all they show would choose those with little noise.
    """
    texture = np.array([_coarse(crop.pixels) for crop in crops])
    limit = float(np.quantile(texture, share)) if len(crops) else 0.0
    return [crop for crop, much in zip(crops, texture, strict=True) if much <= limit]


def _coarse(pixels: Maps) -> float:
    fine = ndimage.gaussian_filter(pixels, (0, _QUIET_SIGMA, _QUIET_SIGMA), mode="nearest")
    level = ndimage.gaussian_filter(pixels, (0, _LEVEL_SIGMA, _LEVEL_SIGMA), mode="nearest")
    return float(((fine - level) ** 2).mean())


def null_edit(
    crop: Crop, textures: Textures, calibration: Calibration, bit_depth: int, rng: np.random.Generator
) -> Crop:
    """Return the window with the noise inside its disc made anew, rounded and clipped as the camera would.

    Pixels that were clipped hold no noise, and stay.
    """
    seen = to_noise(crop.pixels, calibration)
    drawn = Unit(textures.of(seen).behind(seen.pixels, rng), seen.level)
    top = float((1 << bit_depth) - 1)
    signal = to_dn(drawn, calibration)
    mean = np.clip(signal, 0, top)
    fresh, analogue = np.empty_like(mean), np.empty_like(mean)
    for index, (channel, at) in enumerate(zip(calibration.channels, mean, strict=True)):
        fresh[index] = noise.sample(channel.noise, at, rng) - at
        analogue[index] = noise.sigma_dn(channel.noise, at) ** 2 - noise.QUANTISATION_DN2
    # Rounding comes once more to what stays of the old noise, which has been rounded before.
    rounded = KEPT**2 * noise.QUANTISATION_DN2 / np.maximum(analogue, 1e-9)
    made = np.rint(np.clip(signal + np.sqrt(np.maximum(1 - KEPT**2 - rounded, 0)) * fresh, 0, top))
    whole = (crop.pixels > 0) & (crop.pixels < top)
    pixels = np.where(crop.inside & whole, made, crop.pixels).astype(np.float32)
    return Crop(pixels, crop.inside, crop.around, crop.part, crop.name)


@dataclass(frozen=True, slots=True)
class NoiseRatios:
    """By channel: slope of variance over mean, power of each octave, lag-1 correlation; of a set, or how two differ."""

    slope: NDArray[np.float64]  # (K,)
    octaves: NDArray[np.float64]  # (K, OCTAVES)
    lag1: NDArray[np.float64]  # (K,)


class NoiseTally:
    """Adds windows up part by part, so that the figures of any choice of parts are cheap.

    Powers are averaged as logarithms: one strong defect must not speak for all.
    """

    def __init__(self, crops: Sequence[Crop]) -> None:
        self.parts = tuple(dict.fromkeys(crop.part for crop in crops))
        number = {part: index for index, part in enumerate(self.parts)}
        count = len(crops[0].pixels)
        self._power = np.zeros((len(self.parts), count, OCTAVES))
        self._slope = np.zeros((len(self.parts), count))
        self._lag = np.zeros((len(self.parts), count))
        self._windows = np.zeros(len(self.parts))
        for crop in crops:
            self._add(number[crop.part], crop)

    def _add(self, part: int, crop: Crop) -> None:
        region = crop.inside
        fine = bands(crop.pixels)
        power = (fine[:, :, region] ** 2).mean(axis=2) + 1e-6
        level = np.maximum(crop.pixels[:, region].mean(axis=1), 1.0)
        self._windows[part] += 1
        self._power[part] += np.log(power)
        # Through black: a window's levels span too little to tell the slope from the read noise.
        self._slope[part] += np.log(power[:, 0] / level)
        self._lag[part] += [float(np.mean(lag1_of(octaves[0] + octaves[1], region))) for octaves in fine]

    def of(self, chosen: NDArray[np.intp]) -> NoiseRatios:
        """Return slopes, powers and correlations over a choice of parts, with repeats."""
        windows = self._windows[chosen].sum()
        return NoiseRatios(
            np.exp(self._slope[chosen].sum(axis=0) / windows),
            np.exp(self._power[chosen].sum(axis=0) / windows),
            self._lag[chosen].sum(axis=0) / windows,
        )


def compare(
    real: NoiseTally, synthetic: NoiseTally, draws: int = 1000, seed: int = 0
) -> tuple[NoiseRatios, NoiseRatios, NoiseRatios]:
    """Return the ratios synthetic over real, and the ends of their intervals by parts: 95 % for all channels together.

    Where both are of the same parts, the same ones are drawn on both sides.
    """
    rng = np.random.default_rng(seed)
    counts = len(real.parts), len(synthetic.parts)
    same = real.parts == synthetic.parts
    value = _ratios(real.of(np.arange(counts[0])), synthetic.of(np.arange(counts[1])))
    drawn = []
    for _ in range(draws):
        one = rng.integers(0, counts[0], counts[0])
        drawn.append(_ratios(real.of(one), synthetic.of(one if same else rng.integers(0, counts[1], counts[1]))))
    tail = 0.025 / len(value.slope)
    ends = [
        NoiseRatios(
            np.quantile([one.slope for one in drawn], share, axis=0),
            np.quantile([one.octaves for one in drawn], share, axis=0),
            np.quantile([one.lag1 for one in drawn], share, axis=0),
        )
        for share in (tail, 1 - tail)
    ]
    return value, ends[0], ends[1]


def _ratios(real: NoiseRatios, synthetic: NoiseRatios) -> NoiseRatios:
    return NoiseRatios(
        synthetic.slope / np.maximum(real.slope, 1e-12),
        synthetic.octaves / np.maximum(real.octaves, 1e-12),
        synthetic.lag1 - real.lag1,
    )
