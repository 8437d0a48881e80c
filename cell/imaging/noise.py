"""Temporal noise of a camera after EMVA 1288 (release 4.0, section 2.3): predict it, draw it, and guess its level.

The model is linear: ``variance(mu) = read_noise^2 + 1/12 + gain * (mu - offset)``, all in DN. `gain` is the standard's
system gain K, 1/12 the quantisation, `offset` the dark level. Repeats of a still part measure it
(:mod:`cell.imaging.photon_transfer`); many good parts tell it less well (:mod:`cell.imaging.noise_of_parts`). Single
frames tell at most a level (:func:`estimate_from_singles`), because texture and noise look alike in one picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from cell.calibration import NoiseModel
from cell.errors import CalibrationError
from cell.imaging import codec
from cell.imaging.noise_spectrum import CORRELATED, coloured, lag1

__all__ = ["CORRELATED", "QUANTISATION_DN2", "NoiseFit", "estimate_from_singles", "lag1", "sample", "sigma_dn"]

Floats = NDArray[np.float64]

QUANTISATION_DN2 = 1.0 / 12.0
#: Frames that are searched for the traces of a codec.
_CODEC_FRAMES = 6
#: Share of the blocks that count as flat, and ranges of brightness that are looked at one by one.
_FLAT_SHARE, _BRIGHTNESSES, _FEWEST_BLOCKS = 0.25, 8, 40


@dataclass(frozen=True, slots=True)
class NoiseFit:
    """A noise model with what is known of its errors (one standard error, relative; infinite when not measured)."""

    model: NoiseModel
    gain_error: float
    read_noise_error: float
    findings: tuple[str, ...]
    #: True when traces of a codec were found: what is left is not the sensor's noise.
    coded: bool = False


def sigma_dn(model: NoiseModel, mean_dn: ArrayLike) -> Floats:
    """Return the standard deviation in DN, quantisation included, that a pixel of mean `mean_dn` shows; same shape."""
    return np.sqrt(_analogue_variance(model, mean_dn) + QUANTISATION_DN2)


def sample(model: NoiseModel, mean_dn: ArrayLike, rng: np.random.Generator) -> Floats:
    """Draw one noisy picture.

    :param mean_dn: expected pixels, DN, (H, W) or any shape; with two dimensions and more the last two are the picture.
    :returns: float64 of the same shape, neither rounded nor clipped: rounding adds the quantisation that
        :func:`sigma_dn` counts. Neighbours correlate as `model.autocorrelation` says, or `model.lag1_correlation`.
    """
    mean = np.asarray(mean_dn, np.float64)
    white = rng.standard_normal(mean.shape)
    if mean.ndim < 2:
        unit = white
    elif model.autocorrelation:
        unit = coloured(white, model.autocorrelation)
    else:
        unit = _correlate(white, model.lag1_correlation)
    drawn: Floats = mean + unit * np.sqrt(_analogue_variance(model, mean))
    return drawn


def estimate_from_singles(frames: Iterable[NDArray[Any]], *, bit_depth: int, above_dn: float = -1.0) -> NoiseFit:
    """Estimate a noise level from single frames of many parts: weaker, and it claims no photon transfer.

    In blocks of 8x8 pixels the high-pass of Immerkaer (CVIU 64, 1996) is taken; the flattest quarter of the blocks by
    their low-pass speaks for the noise, at each brightness for itself: dark blocks are the flattest and the quietest
    ones, and would speak for all. Fine texture is counted as noise, so the level is an upper bound at the usual light.

    :param frames: pictures (H, W), any size each; blocks with a mean at or below `above_dn` (empty carrier) don't
        count.
    :raises CalibrationError: when no block is usable.
    """
    saturation = float((1 << bit_depth) - 1)
    levels: list[Floats] = []
    means_of: list[Floats] = []
    slopes: list[Floats] = []
    correlations: list[tuple[float, float]] = []
    coded: tuple[str, ...] = ()
    for frame in frames:
        blocks = _flat_blocks(np.asarray(frame, np.float64), above_dn, 0.98 * saturation)
        if blocks is not None:
            levels.append(blocks.sigma)
            means_of.append(blocks.mean)
            slopes.append(blocks.slope)
            correlations.append(lag1(blocks.detrended))
            # One camera codes all frames or none; looking costs more than everything else here.
            if not coded and len(levels) <= _CODEC_FRAMES:
                coded = codec.findings(frame)
    if not levels:
        raise CalibrationError(
            "no flat, unclipped area of 8x8 pixels in any frame; give well exposed frames of good parts"
        )
    sigma = _usual_level(np.concatenate(levels), np.concatenate(means_of), np.concatenate(slopes))
    means = np.median(np.asarray(correlations), axis=0)
    pair = (float(means[0]), float(means[1]))
    model = NoiseModel(
        gain_dn_per_e=0.0,
        read_noise_dn=float(np.sqrt(max(sigma * sigma - QUANTISATION_DN2, 0.0))),
        offset_dn=0.0,
        saturation_dn=saturation,
        lag1_correlation=sum(pair) / 2,
    )
    findings = (
        "the noise level is an upper bound estimated from textures of single frames: no photon transfer was measured, "
        "gain, offset and read noise are unknown",
        *_correlation_findings(pair),
        *coded,
    )
    return NoiseFit(model, float("inf"), float("inf"), findings, bool(coded))


def _analogue_variance(model: NoiseModel, mean_dn: ArrayLike) -> Floats:
    signal = np.maximum(np.asarray(mean_dn, np.float64) - model.offset_dn, 0.0)
    variance: Floats = model.read_noise_dn**2 + model.gain_dn_per_e * signal
    return variance


def _correlation_findings(correlations: tuple[float, float]) -> tuple[str, ...]:
    if max(abs(value) for value in correlations) <= CORRELATED:
        return ()
    horizontal, vertical = correlations
    return (
        f"neighbouring pixels' noise correlates ({horizontal:+.2f} across, {vertical:+.2f} down): the image was "
        "debayered, filtered, scaled or compressed before it came here; switch that off in the camera",
    )


@dataclass(frozen=True, slots=True)
class _Blocks:
    sigma: Floats  # (N,)
    mean: Floats  # (N,)
    slope: Floats  # (N,)
    detrended: Floats  # (n, 8, 8), of the flattest quarter


_HIGH_PASS = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])


def _flat_blocks(frame: Floats, above_dn: float, below_dn: float) -> _Blocks | None:
    rows, columns = frame.shape[0] // 8 * 8, frame.shape[1] // 8 * 8
    if not rows or not columns:
        return None

    def blocks(picture: Floats) -> Floats:
        return picture[:rows, :columns].reshape(rows // 8, 8, columns // 8, 8).swapaxes(1, 2).reshape(-1, 8, 8)

    raw = blocks(frame)
    usable = (raw.min(axis=(1, 2)) > above_dn) & (raw.max(axis=(1, 2)) < below_dn) & (raw.min(axis=(1, 2)) > 0)
    if usable.sum() < 4:
        return None
    high = blocks(ndimage.convolve(frame, _HIGH_PASS, mode="reflect"))[usable]
    slope = blocks(ndimage.gaussian_gradient_magnitude(frame, 2.0))[usable].mean(axis=(1, 2))
    flat = slope <= np.quantile(slope, _FLAT_SHARE)
    sigma = np.sqrt(np.pi / 2) / 6.0 * np.abs(high).mean(axis=(1, 2))
    return _Blocks(sigma, raw[usable].mean(axis=(1, 2)), slope, _without_plane(raw[usable][flat]))


def _usual_level(sigma: Floats, mean: Floats, slope: Floats) -> float:
    """Return the median over brightness of what the flattest blocks of each brightness show."""
    low, high = np.quantile(mean, (0.01, 0.99))
    edges = np.linspace(low, max(high, low + 1e-6), _BRIGHTNESSES + 1)
    index = np.clip(np.searchsorted(edges, mean, side="right") - 1, 0, _BRIGHTNESSES - 1)
    found = []
    for which in np.unique(index):
        here = index == which
        if here.sum() < min(_FEWEST_BLOCKS, mean.size / _BRIGHTNESSES):
            continue
        flat = here & (slope <= np.quantile(slope[here], _FLAT_SHARE))
        found.append(float(np.median(sigma[flat])))
    return float(np.median(found))


def _without_plane(blocks: Floats) -> Floats:
    ramp = np.linspace(-3.5, 3.5, 8)
    columns = [np.ones((8, 8)), np.tile(ramp, (8, 1)), np.tile(ramp[:, None], (1, 8))]
    design: Floats = np.stack(columns, axis=-1).reshape(64, 3)
    flat = blocks.reshape(-1, 64)
    projection = np.asarray(design @ np.linalg.pinv(design), np.float64)
    residual: Floats = (flat - flat @ projection.T).reshape(-1, 8, 8)
    return residual


def _correlate(white: Floats, correlation: float) -> Floats:
    if abs(correlation) < 0.02:
        return white
    # A separable kernel (a, 1, a) gives neighbours the correlation 2a / (1 + 2a^2), at most 1/sqrt(2).
    target = max(-0.7, min(0.7, correlation))
    side = (1.0 - np.sqrt(1.0 - 2.0 * target * target)) / (2.0 * target)
    kernel = np.array([side, 1.0, side]) / np.sqrt(1.0 + 2.0 * side * side)
    across = ndimage.convolve1d(white, kernel, axis=-1, mode="wrap")
    down: Floats = ndimage.convolve1d(across, kernel, axis=-2, mode="wrap")
    return down
