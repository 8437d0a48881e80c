"""The null edit: a candidate with no defect in it, only its noise made anew; and how noise compares.

What a window shows is texture plus noise, and one picture can't part them. But where the noise law is known, the mean
spectra of many windows say how much texture there is at each frequency. Given that, most of the noise is taken out as
far as it can be known (Wiener's filter), what can't be known of the texture behind it is drawn, and fresh noise of the
calibrated law is put on. If the law is the camera's, the result has the statistics of an untouched frame; if it is not,
the noise differs wherever it is not drowned in texture.
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
#: Smoothing that leaves next to nothing of the noise.
_QUIET_SIGMA = 2.0
#: Share of the old noise's amplitude that stays; three quarters of its variance are made anew. With less of it, the
#: texture that differs from place to place would be drawn anew too, and that is not what is asked.
KEPT = 0.5
#: Neighbourhood that tells how much texture a place shows, pixels; and the amounts, in means, that are drawn.
_NEAR_SIGMA = 6.0
#: Standard errors above the noise from which a frequency's own mean is taken.
_MUCH = 5.0
_AMOUNTS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """How much texture even windows show at each frequency, and how the lights share it, in units of the calibrated
    noise's power.

    Eigenvectors (PLAIN, PLAIN, K, K) and eigenvalues (PLAIN, PLAIN, K) of the cross spectra, the noise taken off; and
    their mean.
    """

    vectors: NDArray[np.complex128]
    values: NDArray[np.float64]
    mean: float


def learn_texture(crops: Sequence[Crop], calibration: Calibration) -> Texture:
    """Learn how much texture the cell's windows show at each frequency; windows of :func:`crops.plain_crop`."""
    count = len(calibration.channels)
    cross = np.zeros((PLAIN, PLAIN, count, count), np.complex128)
    for crop in crops:
        seen = _spectrum(_in_noise(crop.pixels, calibration)[0])
        cross += seen[..., :, None] * seen[..., None, :].conj()
    windows = max(len(crops), 1)
    cross /= windows
    # Where there is little texture the mean of few spectra is rough, and neighbouring frequencies hardly differ; where
    # there is much it is exact, and they do.
    smooth = ndimage.uniform_filter(cross.real, (3, 3, 1, 1), mode="wrap") + 1j * ndimage.uniform_filter(
        cross.imag, (3, 3, 1, 1), mode="wrap"
    )
    much = np.trace(cross, axis1=2, axis2=3).real / count - 1 > _MUCH / np.sqrt(windows)
    values, vectors = np.linalg.eigh(np.where(much[..., None, None], cross, smooth))
    # What chance alone lifts above the noise is no texture.
    chance = 1.5 * np.sqrt(count / (4 * windows))
    behind = np.where(values - 1 > chance, values - 1, 0)
    return Texture(vectors, behind, float(behind.mean()))


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


def _spectrum(unit: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return the tapered spectra of a window's channels, (PLAIN, PLAIN, K); noise alone has power 1."""
    taper = np.hanning(PLAIN)
    window = np.outer(taper, taper)
    seen: NDArray[np.complex128] = np.moveaxis(fft.fft2(unit * window) / np.sqrt((window**2).sum()), 0, -1)
    return seen


def null_edit(crop: Crop, texture: Texture, calibration: Calibration, bit_depth: int, rng: np.random.Generator) -> Crop:
    """Return the window with the noise inside its disc made anew, rounded and clipped as the camera would."""
    unit, level, sigma = _in_noise(crop.pixels, calibration)
    drawn = _behind(unit, texture, rng)
    signal = level + sigma * drawn
    top = float((1 << bit_depth) - 1)
    mean = np.clip(level, 0, top)
    fresh = np.stack([noise.sample(c.noise, at, rng) for c, at in zip(calibration.channels, mean, strict=True)]) - mean
    # Rounding comes once more to what stays of the old noise, which has been rounded before.
    rounded = KEPT**2 * noise.QUANTISATION_DN2 / np.maximum(sigma**2 - noise.QUANTISATION_DN2, 1e-9)
    made = signal + np.sqrt(np.maximum(1 - KEPT**2 - rounded, 0)) * fresh
    pixels = np.where(crop.inside, np.rint(np.clip(made, 0, top)), crop.pixels).astype(np.float32)
    return Crop(pixels, crop.inside, crop.around, crop.part, crop.name)


def _behind(unit: NDArray[np.float64], texture: Texture, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the texture that may stand behind a noisy window, (K, h, w), both in units of the noise.

    Places differ in how much of the same texture they show: it is drawn for several amounts, and each pixel takes what
    lies between the two next to its neighbourhood's own.
    """
    near = ndimage.gaussian_filter((unit**2).mean(axis=0), _NEAR_SIGMA, mode="nearest")
    # The root: a neighbourhood's own power is rough, and half of what it departs by is chance.
    own = np.sqrt(np.maximum(near - 1, 0) / max(texture.mean, 1e-9))
    turned = texture.vectors.conj().swapaxes(-1, -2)

    def components(maps: NDArray[np.float64]) -> NDArray[np.complex128]:
        spectra = np.moveaxis(fft.fft2(maps), 0, -1)[..., None]
        found: NDArray[np.complex128] = (turned @ spectra)[..., 0]
        return found

    seen, white = components(unit), components(rng.standard_normal(unit.shape))
    drawn = []
    for amount in _AMOUNTS:
        share = amount * texture.values / (amount * texture.values + 1)
        kept = KEPT + (1 - KEPT) * share
        # What keeps the power that there was, less the fresh noise that is still to come; for a share of 1 its limit.
        unknown = (1 - kept**2) / np.maximum(1 - share, 1e-9) - (1 - KEPT**2)
        mixed = (texture.vectors @ (seen * kept + white * np.sqrt(np.maximum(unknown, 0)))[..., None])[..., 0]
        drawn.append(fft.ifft2(np.moveaxis(mixed, -1, 0)).real)
    place = np.interp(own, _AMOUNTS, np.arange(len(_AMOUNTS)))
    low = np.minimum(place.astype(np.intp), len(_AMOUNTS) - 2)
    part = place - low
    table = np.stack(drawn)  # (A, K, h, w)
    rows, columns = np.indices(own.shape)
    below, above = table[low, :, rows, columns], table[low + 1, :, rows, columns]  # (h, w, K)
    return np.moveaxis((1 - part)[..., None] * below + part[..., None] * above, -1, 0)


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
