"""How much texture stands behind the noise of a cell's windows, and how to draw what may stand behind one of them.

What a window shows is texture plus noise, and one picture can't part them. But where the noise law is known, the mean
spectra of many windows say how much texture there is at each frequency. Everything is in units of the noise: the root
of the light (Anscombe, Biometrika 35, 1948) has the same noise at every level, beside an edge too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.cluster.vq import ClusterError, kmeans2

from cell.calibration import Calibration, NoiseModel
from cell.imaging.noise import QUANTISATION_DN2
from trainer.gap.crops import PLAIN, Crop, Maps

Floats = NDArray[np.float64]

#: Share of the old noise's amplitude that stays; three quarters of its variance are made anew. With less of it, the
#: texture that differs from place to place would be drawn anew too, and that is not what is asked.
KEPT = 0.5
#: Smoothing that parts the local level from what stands on it, pixels.
_LEVEL_SIGMA = 4.0
#: Neighbourhood that tells how much texture a place shows, pixels; and the amounts, in means, that are drawn.
_NEAR_SIGMA = 6.0
_AMOUNTS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
#: Standard errors above the noise from which a frequency's own mean is taken.
_MUCH = 5.0
#: Kinds of texture that are told apart (face, rib, rim), windows that one needs, and what tells them apart: power in
#: these rings of frequency (cycles per pixel) and so many directions, as so many principal components.
_MOST_KINDS, _KIND_WINDOWS = 6, 48
_RINGS, _DIRECTIONS, _COMPONENTS = (0.03, 0.09, 0.16, 0.25, 0.4), 4, 6
#: Noise that was smoothed has next to no power at some frequencies; it counts as so much, of white noise's.
_LEAST_POWER = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """A window in units of its noise about its local level, that level, both (K, h, w) float64."""

    pixels: Floats
    level: Floats


def to_noise(pixels: Maps, calibration: Calibration) -> Unit:
    """Return a window (K, h, w) DN in units of its noise."""
    rooted = np.stack([_rooted(c.noise, at) for c, at in zip(calibration.channels, pixels, strict=True)])
    level = ndimage.gaussian_filter(rooted, (0, _LEVEL_SIGMA, _LEVEL_SIGMA), mode="nearest")
    return Unit(rooted - level, level)


def to_dn(unit: Unit, calibration: Calibration) -> Floats:
    """Return the DN of what is in units of noise; the inverse of :func:`to_noise`."""
    rooted = unit.pixels + unit.level
    return np.stack([_unrooted(c.noise, at) for c, at in zip(calibration.channels, rooted, strict=True)])


def _floor(model: NoiseModel) -> float:
    return model.read_noise_dn**2 + QUANTISATION_DN2 + 0.375 * model.gain_dn_per_e**2


def _rooted(model: NoiseModel, pixels: NDArray[np.floating]) -> Floats:
    light = np.asarray(pixels, np.float64) - model.offset_dn
    gain, floor = model.gain_dn_per_e, _floor(model)
    if gain <= 0:
        return light / np.sqrt(floor)
    return np.asarray(2 / gain * np.sqrt(np.maximum(gain * light + floor, 0.0)), np.float64)


def _unrooted(model: NoiseModel, rooted: Floats) -> Floats:
    gain, floor = model.gain_dn_per_e, _floor(model)
    if gain <= 0:
        return rooted * np.sqrt(floor) + model.offset_dn
    return ((np.maximum(rooted, 0.0) * gain / 2) ** 2 - floor) / gain + model.offset_dn


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """How much texture one kind of window shows at each frequency, and how the lights share it, in the noise's power.

    Eigenvectors (PLAIN, PLAIN, K, K) and eigenvalues (PLAIN, PLAIN, K) of the cross spectra, the noise taken off;
    their mean; and the root of the noise's own power at each frequency, (PLAIN, PLAIN, K), 1 for white noise.
    """

    vectors: NDArray[np.complex128]
    values: Floats
    mean: float
    colour: Floats

    def behind(self, pixels: Floats, rng: np.random.Generator) -> Floats:
        """Draw what may stand behind a noisy window (K, PLAIN, PLAIN) in units of noise, a share of its noise with it.

        Places differ in how much of the same texture they show: it is drawn for several amounts, and each pixel takes
        what lies between the two next to its neighbourhood's own.
        """
        near = ndimage.gaussian_filter((pixels**2).mean(axis=0), _NEAR_SIGMA, mode="nearest")
        own = np.maximum(near - 1, 0) / max(self.mean, 1e-9)
        turned = self.vectors.conj().swapaxes(-1, -2)

        def components(maps: Floats) -> NDArray[np.complex128]:
            found: NDArray[np.complex128] = (turned @ maps[..., None])[..., 0]
            return found

        seen = components(np.moveaxis(fft.fft2(pixels), 0, -1) / self.colour)
        white = components(np.moveaxis(fft.fft2(rng.standard_normal(pixels.shape)), 0, -1))
        drawn = []
        for amount in _AMOUNTS:
            share = amount * self.values / (amount * self.values + 1)
            kept = KEPT + (1 - KEPT) * share
            # What keeps the power that there was, less the fresh noise that is still to come; for a share of 1 its
            # limit.
            unknown = (1 - kept**2) / np.maximum(1 - share, 1e-9) - (1 - KEPT**2)
            mixed = (self.vectors @ (seen * kept + white * np.sqrt(np.maximum(unknown, 0)))[..., None])[..., 0]
            drawn.append(fft.ifft2(np.moveaxis(mixed * self.colour, -1, 0)).real)
        place = np.interp(own, _AMOUNTS, np.arange(len(_AMOUNTS)))
        low = np.minimum(place.astype(np.intp), len(_AMOUNTS) - 2)
        part = (place - low)[..., None]
        table = np.stack(drawn)  # (A, K, h, w)
        rows, columns = np.indices(own.shape)
        below, above = table[low, :, rows, columns], table[low + 1, :, rows, columns]  # (h, w, K)
        return np.moveaxis((1 - part) * below + part * above, -1, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Textures:
    """The kinds of texture that a cell's windows show, and what tells them apart.

    `mean` (F,) and `axes` (F, C) turn a window's log powers into coordinates, `middles` (kinds, C) are the kinds'.
    """

    kinds: tuple[Texture, ...]
    mean: Floats
    axes: Floats
    middles: Floats

    def of(self, unit: Unit) -> Texture:
        """Return the kind of texture that a window shows."""
        if len(self.kinds) == 1:
            return self.kinds[0]
        at = (_powers(_spectrum(unit)) - self.mean) @ self.axes
        return self.kinds[int(((self.middles - at) ** 2).sum(axis=1).argmin())]


def learn_textures(crops: Sequence[Crop], calibration: Calibration, seed: int = 0) -> Textures:
    """Learn how much texture the cell's windows show at each frequency; windows of :func:`crops.plain_crop`.

    One mean spectrum for a part's face, its ribs and its rims would give each of them texture that it has not.
    """
    colour = _colour(calibration)
    spectra = [_spectrum(to_noise(crop.pixels, calibration)) / colour for crop in crops]
    powers = np.stack([_powers(seen * colour) for seen in spectra])
    mean = powers.mean(axis=0)
    axes = np.linalg.svd(powers - mean, full_matrices=False)[2][:_COMPONENTS].T
    at = (powers - mean) @ axes
    kind, middles = _kinds(at, seed)
    learned = [
        _learn([seen for seen, own in zip(spectra, kind, strict=True) if own == which], colour)
        for which in range(len(middles))
    ]
    return Textures(tuple(learned), mean, axes, middles)


def _kinds(at: Floats, seed: int) -> tuple[NDArray[np.intp], Floats]:
    """Return each window's kind and the kinds' middles; as many as have enough windows each."""
    for count in range(min(_MOST_KINDS, len(at) // _KIND_WINDOWS), 1, -1):
        try:
            middles, kind = kmeans2(at, count, minit="++", missing="raise", rng=np.random.default_rng(seed))
        except ClusterError:
            continue
        if np.bincount(kind, minlength=count).min() >= _KIND_WINDOWS // 2:
            return kind.astype(np.intp), np.asarray(middles, np.float64)
    return np.zeros(len(at), np.intp), at.mean(axis=0, keepdims=True)


def _learn(spectra: Sequence[NDArray[np.complex128]], colour: Floats) -> Texture:
    count, windows = colour.shape[-1], max(len(spectra), 1)
    cross = np.zeros((PLAIN, PLAIN, count, count), np.complex128)
    for seen in spectra:
        cross += seen[..., :, None] * seen[..., None, :].conj()
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
    return Texture(vectors, behind, float(behind.mean()), colour)


def _spectrum(unit: Unit) -> NDArray[np.complex128]:
    """Return the tapered spectra of a window's channels, (PLAIN, PLAIN, K); white noise alone has power 1."""
    taper = np.hanning(PLAIN)
    window = np.outer(taper, taper)
    seen: NDArray[np.complex128] = np.moveaxis(fft.fft2(unit.pixels * window) / np.sqrt((window**2).sum()), 0, -1)
    return seen


def _powers(spectrum: NDArray[np.complex128]) -> Floats:
    """Return the log power of each ring, direction and channel, (F,)."""
    down, across = fft.fftfreq(PLAIN)[:, None], fft.fftfreq(PLAIN)[None, :]
    radius = np.hypot(down, across)
    sector = np.rint(np.arctan2(down, across) / (np.pi / _DIRECTIONS)).astype(np.intp) % _DIRECTIONS
    power = np.abs(spectrum) ** 2
    rows = []
    for low, high in pairwise(_RINGS):
        for direction in range(_DIRECTIONS):
            rows.append(power[(radius > low) & (radius <= high) & (sector == direction)].mean(axis=0))
    return np.log(np.concatenate(rows) + 1e-6)


def _colour(calibration: Calibration) -> Floats:
    """Return the root of the noise's power at each frequency, (PLAIN, PLAIN, K)."""
    roots = []
    for channel in calibration.channels:
        correlation = np.asarray(channel.noise.autocorrelation or ((1.0,),))
        lags = correlation.shape[0] // 2
        spread = np.zeros((PLAIN, PLAIN))
        spread[: 2 * lags + 1, : 2 * lags + 1] = correlation
        power = fft.fft2(np.roll(spread, (-lags, -lags), (0, 1))).real
        roots.append(np.sqrt(np.maximum(power, _LEAST_POWER)))
    return np.stack(roots, axis=-1)
