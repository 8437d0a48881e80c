"""Temporal noise of a camera after EMVA 1288 (release 4.0, sections 2.3 and 6): measure it, predict it, draw it.

The model is linear: ``variance(mu) = read_noise^2 + 1/12 + gain * (mu - offset)``, all in DN. `gain` is the standard's
system gain K, 1/12 the quantisation, `offset` the dark level. It is measured from repeats of a still part, whose
pixels supply the spread of means that a laboratory gets by stepping the exposure. Frames of moving parts tell at most
a level (:func:`estimate_from_singles`), because texture and noise look alike in one picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, stats

from cell.calibration import NoiseModel
from cell.errors import CalibrationError
from cell.imaging import codec

Floats = NDArray[np.float64]
Frames = NDArray[np.uint8] | NDArray[np.uint16]

QUANTISATION_DN2 = 1.0 / 12.0
#: Fewer repeats than this don't make a photon-transfer curve.
MIN_REPEATS = 8
#: Neighbouring pixels that go together more than this were computed, not measured.
CORRELATED = 0.1
_BINS = 64
#: Frames that are searched for the traces of a codec.
_CODEC_FRAMES = 6
_MIN_BIN_PIXELS = 64
#: Share of honest pixels that the outlier test may throw away in a bin.
_OUTLIER_TAIL = 1e-4


@dataclass(frozen=True, slots=True)
class NoiseFit:
    """A noise model with what is known of its errors (one standard error, relative; infinite when not measured)."""

    model: NoiseModel
    gain_error: float
    read_noise_error: float
    findings: tuple[str, ...]


def sigma_dn(model: NoiseModel, mean_dn: ArrayLike) -> Floats:
    """Return the standard deviation in DN, quantisation included, that a pixel of mean `mean_dn` shows; same shape."""
    return np.sqrt(_analogue_variance(model, mean_dn) + QUANTISATION_DN2)


def sample(model: NoiseModel, mean_dn: ArrayLike, rng: np.random.Generator) -> Floats:
    """Draw one noisy picture.

    :param mean_dn: expected pixels, DN, (H, W) or any shape; with two dimensions and more the last two are the picture.
    :returns: float64 of the same shape, neither rounded nor clipped: rounding adds the quantisation that
        :func:`sigma_dn` counts. Neighbours correlate as `model.lag1_correlation` says.
    """
    mean = np.asarray(mean_dn, np.float64)
    white = rng.standard_normal(mean.shape)
    unit = _correlate(white, model.lag1_correlation) if mean.ndim >= 2 else white
    drawn: Floats = mean + unit * np.sqrt(_analogue_variance(model, mean))
    return drawn


def lag1(differences: NDArray[Any]) -> tuple[float, float]:
    """Return the correlation of horizontal and of vertical neighbours in zero-mean noise pictures (..., H, W)."""
    noise = np.asarray(differences, np.float64)
    power = float(np.mean(noise * noise))
    if power <= 0:
        return 0.0, 0.0
    horizontal = float(np.mean(noise[..., :, 1:] * noise[..., :, :-1])) / power
    vertical = float(np.mean(noise[..., 1:, :] * noise[..., :-1, :])) / power
    return max(-1.0, min(1.0, horizontal)), max(-1.0, min(1.0, vertical))


def fit_photon_transfer(
    repeats: Frames,
    *,
    bit_depth: int,
    dark: Frames | None = None,
    black_level_dn: float = 0.0,
    usable: NDArray[np.bool_] | None = None,
) -> NoiseFit:
    """Measure the noise of one channel from repeats of a still part.

    :param repeats: (R, H, W) uint8 or uint16 DN, R at least :data:`MIN_REPEATS` (16 to 64 are good).
    :param dark: (R', H, W), the same exposure with the light off; without it `black_level_dn` stands for the offset and
        a finding says that the read noise rests on it.
    :param usable: (H, W), False where pixels must not count.
    :raises CalibrationError: when there are too few repeats, nothing but clipped pixels, or the frames don't differ.
    """
    if repeats.ndim != 3 or repeats.shape[0] < MIN_REPEATS:
        raise CalibrationError(
            f"a photon transfer needs at least {MIN_REPEATS} repeats (R, H, W) of a still part, got shape "
            f"{repeats.shape}; grab more without moving the part"
        )
    if dark is not None and (dark.ndim != 3 or dark.shape[0] < 2):
        raise CalibrationError(f"dark frames must be at least two (R, H, W), got shape {dark.shape}; grab more")
    saturation = float((1 << bit_depth) - 1)
    mean, variance, pair_noise, moved = _temporal(repeats)
    if float(variance.max(initial=0.0)) == 0.0:
        raise CalibrationError("the repeats are identical pixel by pixel; check that the camera delivers new frames")
    fit_at = _unclipped(mean, variance, saturation)
    fit_at = fit_at if usable is None else fit_at & usable
    curve = _binned(mean[fit_at], variance[fit_at], repeats.shape[0])
    offset = black_level_dn
    if dark is not None:
        dark_mean, dark_variance, _, _ = _temporal(dark)
        offset = float(dark_mean.mean())
        curve = _with_dark_point(curve, dark_mean, dark_variance, dark.shape[0])
    fitted = _line(curve, offset)
    correlations = lag1(pair_noise)
    findings = [
        *_fit_findings(fitted, curve, moved, dark_given=dark is not None, offset=offset),
        *_correlation_findings(correlations),
        *codec.findings(repeats[0]),
    ]
    model = NoiseModel(
        gain_dn_per_e=fitted.gain,
        read_noise_dn=fitted.read_noise,
        offset_dn=offset,
        saturation_dn=saturation,
        lag1_correlation=sum(correlations) / 2,
        curve_mean_dn=tuple(float(value) for value in curve.mean),
        curve_variance_dn2=tuple(float(value) for value in curve.variance),
    )
    return NoiseFit(model, fitted.gain_error, fitted.read_noise_error, tuple(findings))


def estimate_from_singles(frames: Iterable[NDArray[Any]], *, bit_depth: int, above_dn: float = -1.0) -> NoiseFit:
    """Estimate a noise level from single frames of many parts: weaker, and it claims no photon transfer.

    In blocks of 8x8 pixels the high-pass of Immerkaer (CVIU 64, 1996) is taken; the flattest quarter of the blocks by
    their low-pass speaks for the noise. Fine texture is counted as noise, so the level is an upper bound.

    :param frames: pictures (H, W), any size each; blocks with a mean at or below `above_dn` (empty carrier) don't
        count.
    :raises CalibrationError: when no block is usable.
    """
    saturation = float((1 << bit_depth) - 1)
    levels: list[Floats] = []
    correlations: list[tuple[float, float]] = []
    coded: tuple[str, ...] = ()
    for frame in frames:
        blocks = _flat_blocks(np.asarray(frame, np.float64), above_dn, 0.98 * saturation)
        if blocks is not None:
            levels.append(blocks.sigma)
            correlations.append(lag1(blocks.detrended))
            # One camera codes all frames or none; looking costs more than everything else here.
            if not coded and len(levels) <= _CODEC_FRAMES:
                coded = codec.findings(frame)
    if not levels:
        raise CalibrationError(
            "no flat, unclipped area of 8x8 pixels in any frame; give well exposed frames of good parts"
        )
    sigma = float(np.median(np.concatenate(levels)))
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
    return NoiseFit(model, float("inf"), float("inf"), findings)


@dataclass(frozen=True, slots=True)
class _Curve:
    mean: Floats
    variance: Floats
    weight: Floats  # pixels times degrees of freedom


@dataclass(frozen=True, slots=True)
class _Line:
    gain: float
    read_noise: float
    gain_error: float
    read_noise_error: float


def _analogue_variance(model: NoiseModel, mean_dn: ArrayLike) -> Floats:
    signal = np.maximum(np.asarray(mean_dn, np.float64) - model.offset_dn, 0.0)
    variance: Floats = model.read_noise_dn**2 + model.gain_dn_per_e * signal
    return variance


def _temporal(repeats: Frames) -> tuple[Floats, Floats, NDArray[np.float32], float]:
    # Successive differences: a lamp that drifts over the series then counts once per pair and not in full. What the
    # lamp flickers from one frame to the next is one factor for all pixels and is taken out.
    count = repeats.shape[0]
    levels = repeats.reshape(count, -1).mean(axis=1, dtype=np.float64)
    mean = repeats.mean(axis=0, dtype=np.float64)
    factors = levels / levels.mean() if levels.mean() > 0 else np.ones(count)
    squares = np.zeros(mean.shape)
    kept: list[NDArray[np.float32]] = []
    for index in range(count - 1):
        difference = (
            repeats[index + 1].astype(np.float64) - repeats[index] - (factors[index + 1] - factors[index]) * mean
        )
        squares += difference * difference
        if index < 4:
            kept.append(difference.astype(np.float32))
    return mean, squares / (2.0 * (count - 1)), np.stack(kept), float(np.ptp(factors))


def _unclipped(mean: Floats, variance: Floats, saturation: float) -> NDArray[np.bool_]:
    spread = 4.0 * np.sqrt(ndimage.uniform_filter(variance, 9, mode="nearest"))
    inside: NDArray[np.bool_] = (mean - spread > 0) & (mean + spread < saturation)
    if not inside.any():
        raise CalibrationError(
            "every pixel of the repeats is clipped at black or white; correct exposure, gain or black level"
        )
    return inside


def _binned(mean: Floats, variance: Floats, repeats: int) -> _Curve:
    low, high = np.quantile(mean, (0.001, 0.999))
    edges = np.linspace(low, max(high, low + 1e-6), _BINS + 1)
    index = np.clip(np.searchsorted(edges, mean, side="right") - 1, 0, _BINS - 1)
    # Degrees of freedom of a variance from overlapping successive differences (von Neumann).
    freedom = 2.0 * (repeats - 1) ** 2 / (3.0 * repeats - 4.0)
    points: list[tuple[float, float, float]] = []
    for which in range(_BINS):
        chosen = variance[index == which]
        if chosen.size < _MIN_BIN_PIXELS:
            continue
        middle = float(np.median(chosen)) / (stats.chi2.median(freedom) / freedom)
        limit = middle * stats.chi2.isf(_OUTLIER_TAIL, freedom) / freedom
        inside = chosen <= max(limit, 1e-9)
        points.append(
            (float(mean[index == which][inside].mean()), float(chosen[inside].mean()), inside.sum() * freedom)
        )
    if not points:
        raise CalibrationError("too few usable pixels for a photon-transfer curve; use larger or better exposed frames")
    table = np.asarray(points)
    return _Curve(table[:, 0], table[:, 1], table[:, 2])


def _with_dark_point(curve: _Curve, mean: Floats, variance: Floats, repeats: int) -> _Curve:
    freedom = 2.0 * (repeats - 1) ** 2 / (3.0 * repeats - 4.0)
    middle = float(np.median(variance)) / (stats.chi2.median(freedom) / freedom)
    inside = variance <= middle * stats.chi2.isf(_OUTLIER_TAIL, freedom) / freedom
    level = float(variance[inside].mean()) if inside.any() else float(variance.mean())
    return _Curve(
        np.concatenate([[float(mean.mean())], curve.mean]),
        np.concatenate([[level], curve.variance]),
        np.concatenate([[float(inside.sum()) * freedom], curve.weight]),
    )


def _line(curve: _Curve, offset: float) -> _Line:
    # Variance of a variance is 2 v^2 / n: weights follow the fitted line, three rounds are enough.
    signal = curve.mean - offset
    design: Floats = np.stack([np.ones_like(signal), signal], axis=1)
    expected: Floats = np.maximum(curve.variance, 1e-6)
    solution: Floats = np.zeros(2)
    covariance: Floats = np.zeros((2, 2))
    for _ in range(4):
        weight = curve.weight / (2.0 * expected**2)
        normal = design.T @ (design * weight[:, None])
        covariance = np.asarray(np.linalg.pinv(normal), np.float64)
        solution = covariance @ (design.T @ (weight * curve.variance))
        expected = np.maximum(design @ solution, 1e-6)
    intercept, gain = float(solution[0]), float(solution[1])
    spread_known = len(signal) > 1 and np.ptp(signal) > 0
    read_variance = max(intercept - QUANTISATION_DN2, 0.0)
    read_noise = float(np.sqrt(read_variance))
    return _Line(
        gain=max(gain, 0.0),
        read_noise=read_noise,
        gain_error=float(np.sqrt(covariance[1, 1])) / gain if gain > 0 and spread_known else float("inf"),
        read_noise_error=float(np.sqrt(covariance[0, 0])) / (2 * read_variance) if read_variance > 0 else float("inf"),
    )


def _fit_findings(line: _Line, curve: _Curve, flicker: float, *, dark_given: bool, offset: float) -> Sequence[str]:
    findings = []
    if not dark_given:
        findings.append(f"no dark frames were given: the read noise rests on an assumed black level of {offset:g} DN")
    if line.gain_error > 0.1:
        findings.append(
            f"the means span only {curve.mean.min():.0f} to {curve.mean.max():.0f} DN, too little to tell gain from "
            "read noise; use a part with bright and dark areas or give dark frames"
        )
    if line.read_noise**2 + QUANTISATION_DN2 < 0.24**2 + QUANTISATION_DN2:
        findings.append("the read noise is below 0.24 DN, where quantisation hides it; raise the gain to measure it")
    if flicker > 0.01:
        findings.append(f"the light changed by {100 * flicker:.1f} % within the repeats; it was taken out of the noise")
    return findings


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
    detrended: Floats  # (N, 8, 8)


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
    flat = slope <= np.quantile(slope, 0.25)
    sigma = np.sqrt(np.pi / 2) / 6.0 * np.abs(high[flat]).mean(axis=(1, 2))
    return _Blocks(sigma, _without_plane(raw[usable][flat]))


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
