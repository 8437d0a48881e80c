"""The null edit: a candidate with no defect in it, only its noise made anew; and how noise compares.

What a window shows is texture plus noise, and one picture can't part them. But where the noise law is known, the mean
spectrum of many windows says how much texture there is at each frequency; given that, the texture behind a window is
drawn from what it can be (the posterior of Wiener's model: its mean, plus what is not known of it), and fresh noise of
the calibrated law is put on it. If the law is the camera's, the result has the statistics of an untouched frame; if it
is not, the noise differs wherever it is not drowned in texture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from cell.calibration import Calibration
from cell.imaging import noise
from trainer.gap.crops import PLAIN, Crop, Maps
from trainer.gap.looks import OCTAVES, bands, lag1_of

#: Smoothing that parts the local level from what stands on it, pixels.
_LEVEL_SIGMA = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """Mean power spectrum of windows in units of the calibrated noise, (K, PLAIN, PLAIN): 1 is noise alone."""

    power: NDArray[np.float64]


def learn_texture(crops: Sequence[Crop], calibration: Calibration) -> Texture:
    """Learn how much texture the cell's windows show at each frequency; windows of :func:`crops.plain_crop`."""
    taper = np.hanning(PLAIN)
    window = np.outer(taper, taper)
    power = np.zeros((len(calibration.channels), PLAIN, PLAIN))
    for crop in crops:
        unit, _, _ = _in_noise(crop.pixels, calibration)
        power += np.abs(fft.fft2(unit * window)) ** 2 / (window**2).sum()
    return Texture(power / max(len(crops), 1))


def null_edit(crop: Crop, texture: Texture, calibration: Calibration, bit_depth: int, rng: np.random.Generator) -> Crop:
    """Return the window with the noise inside its disc made anew, rounded and clipped as the camera would."""
    unit, level, sigma = _in_noise(crop.pixels, calibration)
    behind = np.maximum(texture.power - 1, 0)
    share = behind / (behind + 1)
    drawn = np.empty_like(unit)
    for index in range(len(unit)):
        mean = fft.ifft2(fft.fft2(unit[index]) * share[index]).real
        unknown = fft.ifft2(fft.fft2(rng.standard_normal(unit[index].shape)) * np.sqrt(share[index])).real
        drawn[index] = mean + unknown
    signal = level + sigma * drawn
    top = float((1 << bit_depth) - 1)
    fresh = np.stack(
        [noise.sample(c.noise, np.clip(s, 0, top), rng) for c, s in zip(calibration.channels, signal, strict=True)]
    )
    # What is below black or above white has no noise of its own.
    made = np.where((signal < 0) | (signal > top), signal, fresh)
    pixels = np.where(crop.inside, np.rint(np.clip(made, 0, top)), crop.pixels).astype(np.float32)
    return Crop(pixels, crop.inside, crop.around, crop.part, crop.name)


def _in_noise(pixels: Maps, calibration: Calibration) -> tuple[NDArray[np.float64], Maps, NDArray[np.float64]]:
    """Return a window in units of its noise about its local level, that level, and the noise's deviation in DN."""
    level = ndimage.gaussian_filter(pixels, (0, _LEVEL_SIGMA, _LEVEL_SIGMA), mode="nearest")
    sigma = np.stack(
        [noise.sigma_dn(channel.noise, at) for channel, at in zip(calibration.channels, level, strict=True)]
    )
    return (pixels - level) / sigma, level, sigma


@dataclass(frozen=True, slots=True)
class NoiseRatios:
    """By channel: slope of variance over mean, power of each octave, lag-1 correlation; of a set, or how two differ."""

    slope: NDArray[np.float64]  # (K,)
    octaves: NDArray[np.float64]  # (K, OCTAVES)
    lag1: NDArray[np.float64]  # (K,)


class NoiseTally:
    """Adds windows up part by part, so that the ratios of any choice of parts are cheap."""

    def __init__(self, crops: Sequence[Crop]) -> None:
        self.parts = tuple(dict.fromkeys(crop.part for crop in crops))
        number = {part: index for index, part in enumerate(self.parts)}
        count = len(crops[0].pixels)
        # By part: summed squares of the octaves, and moments of the windows' level and finest variance.
        self.power = np.zeros((len(self.parts), count, OCTAVES))
        self.pixels = np.zeros(len(self.parts))
        self.lag = np.zeros((len(self.parts), count))
        self.windows = np.zeros(len(self.parts))
        self.moments = np.zeros((len(self.parts), count, 2))
        for crop in crops:
            self._add(number[crop.part], crop)

    def _add(self, part: int, crop: Crop) -> None:
        region = crop.inside
        fine = bands(crop.pixels)
        self.power[part] += (fine[:, :, region] ** 2).sum(axis=2)
        self.pixels[part] += region.sum()
        self.windows[part] += 1
        for index, octaves in enumerate(fine):
            self.lag[part, index] += float(np.mean(lag1_of(octaves[0] + octaves[1], region)))
            level, variance = float(crop.pixels[index][region].mean()), float((octaves[0][region] ** 2).mean())
            self.moments[part, index] += (level * level, level * variance)

    def of(self, chosen: NDArray[np.intp]) -> NoiseRatios:
        """Return the sums over a choice of parts (with repeats), as slopes, mean powers and mean lags."""
        pixels, windows = self.pixels[chosen].sum(), self.windows[chosen].sum()
        # Through black: a window's levels span too little to tell the slope from the read noise.
        square, product = np.moveaxis(self.moments[chosen].sum(axis=0), 1, 0)
        return NoiseRatios(product / square, self.power[chosen].sum(axis=0) / pixels, self.lag[chosen].sum(0) / windows)


def compare(
    real: NoiseTally, synthetic: NoiseTally, draws: int = 400, seed: int = 0
) -> tuple[NoiseRatios, NoiseRatios, NoiseRatios]:
    """Return the ratios synthetic over real, and the ends of their 95 % intervals by parts."""
    rng = np.random.default_rng(seed)
    counts = len(real.parts), len(synthetic.parts)
    value = _ratios(real.of(np.arange(counts[0])), synthetic.of(np.arange(counts[1])))
    drawn = [
        _ratios(real.of(rng.integers(0, counts[0], counts[0])), synthetic.of(rng.integers(0, counts[1], counts[1])))
        for _ in range(draws)
    ]
    ends = []
    for share in (0.025, 0.975):
        ends.append(
            NoiseRatios(
                np.quantile([one.slope for one in drawn], share, axis=0),
                np.quantile([one.octaves for one in drawn], share, axis=0),
                np.quantile([one.lag1 for one in drawn], share, axis=0),
            )
        )
    return value, ends[0], ends[1]


def _ratios(real: NoiseRatios, synthetic: NoiseRatios) -> NoiseRatios:
    return NoiseRatios(
        synthetic.slope / np.maximum(real.slope, 1e-12),
        synthetic.octaves / np.maximum(real.octaves, 1e-12),
        synthetic.lag1 - real.lag1,
    )
