"""Photon transfer after EMVA 1288 (release 4.0, section 6): a sensor's noise from repeats of a part that lies still.

A laboratory steps the exposure over an even field and takes the variance at each mean. Here the pixels of a part supply
the spread of means, and several exposures or light levels widen it. Frames with the lights off give the dark level;
with them gain and read noise are known apart. Where the noise is narrower than a grey value, rounding is undone exactly
(:mod:`cell.imaging.quantised`) and not by the rule of 1/12.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from cell.calibration import NoiseModel, NoiseSource, PhotonTransfer
from cell.errors import CalibrationError
from cell.imaging import codec, noise_spectrum
from cell.imaging.figures import levels as levels_of
from cell.imaging.noise import QUANTISATION_DN2
from cell.imaging.quantised import unround

Floats = NDArray[np.float64]
Frames = NDArray[np.uint8] | NDArray[np.uint16]

#: Fewer repeats than this don't make a photon-transfer curve.
MIN_REPEATS = 8
_BINS = 64
_MIN_BIN_PIXELS = 64
#: Share of honest pixels that the outlier test may throw away in a bin.
_OUTLIER_TAIL = 1e-4
#: Dark levels that differ by less, DN, tell of no dark current.
_SEEN_DARK_DN = 0.05
#: Difference frames that are kept for the noise's spectrum.
_KEPT_DIFFERENCES = 8
#: Below this variance the rule of 1/12 fails where all pixels lie alike against the grey values (0.6 DN of noise).
_NARROW_DN2 = 0.36 + QUANTISATION_DN2


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """What repeats of a still scene say of each pixel: mean and temporal variance (H, W), DN.

    `differences` (n, H, W) are of successive frames, flicker taken out; `levels` each frame's mean relative to all.
    """

    mean: Floats
    variance: Floats
    differences: NDArray[np.float32]
    repeats: int
    levels: tuple[float, ...]
    exposure_us: float
    ceiling_dn: float | None  # grey value at which pixels pile up below full scale
    codec: tuple[str, ...]

    @property
    def flicker(self) -> float:
        """Peak to peak, relative."""
        return max(self.levels) - min(self.levels)


@dataclass(frozen=True, slots=True)
class Dark:
    """A dark series: exposure, mean level, temporal noise and the spread of the pixels' levels, DN, rounding undone."""

    exposure_us: float
    level: float
    temporal: float
    spatial: float
    weight: float


@dataclass(frozen=True, slots=True)
class TransferFit:
    """A measured noise model, what stands behind it, and what could not be known.

    `gain_error` and `read_noise_error` are one standard error, relative; infinite when not measured.
    """

    model: NoiseModel
    transfer: PhotonTransfer
    gain_error: float
    read_noise_error: float
    findings: tuple[str, ...]


def still(repeats: Frames, bit_depth: int, exposure_us: float = 0.0, *, regular: bool = False) -> Still:
    """Reduce repeats (R, H, W) uint8 or uint16 of one channel.

    :param regular: the scene is a regular pattern, which passes for that of a codec: traces of one are not looked for.

    Successive differences make the variance: a lamp that drifts over the series then counts once per pair and not in
    full. What the lamp flickers from one frame to the next is one factor for all pixels and is taken out.
    """
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
        if index < _KEPT_DIFFERENCES:
            kept.append(difference.astype(np.float32))
    found = levels_of(repeats[0], bit_depth)
    return Still(
        mean=mean,
        variance=squares / (2.0 * (count - 1)),
        differences=np.stack(kept),
        repeats=count,
        levels=tuple(float(value) for value in factors),
        exposure_us=exposure_us,
        ceiling_dn=None if found.ceiling is None else float(found.ceiling),
        codec=() if regular else codec.findings(repeats[0]),
    )


def dark(frames: Still, bit_depth: int) -> Dark:
    """Return what a series with the lights off says of the sensor."""
    # Pixels that flicker or leak far beyond the others (hot, random telegraph) are counted out.
    sane = frames.variance <= 8.0 * float(frames.variance.mean()) + 1.0
    temporal = float(frames.variance[sane].mean())
    means = frames.mean[sane]
    spatial = max(float(means.var()) - temporal / frames.repeats, 0.0)
    spread = unround(float(means.mean()), temporal, spatial, float((1 << bit_depth) - 1))
    weight = float(sane.sum()) * _freedom(frames.repeats)
    return Dark(frames.exposure_us, spread.level, spread.temporal, spread.spatial, weight)


def fit_photon_transfer(
    repeats: Frames,
    *,
    bit_depth: int,
    dark: Frames | None = None,
    black_level_dn: float = 0.0,
    usable: NDArray[np.bool_] | None = None,
) -> TransferFit:
    """Measure the noise of one channel from repeats of a still part; see :func:`fit`.

    :param repeats: (R, H, W) uint8 or uint16 DN, R at least :data:`MIN_REPEATS` (16 to 64 are good).
    :param dark: (R', H, W), the same exposure with the light off; without it `black_level_dn` stands for the offset and
        a finding says that the read noise rests on it.
    :param usable: (H, W), False where pixels must not count.
    :raises CalibrationError: when there are too few repeats, nothing but clipped pixels, or the frames don't differ.
    """
    require_repeats(repeats, "repeats of a still part")
    if dark is not None and (dark.ndim != 3 or dark.shape[0] < 2):
        raise CalibrationError(f"dark frames must be at least two (R, H, W), got shape {dark.shape}; grab more")
    darks = [] if dark is None else [still(dark, bit_depth)]
    return fit([still(repeats, bit_depth)], darks, bit_depth=bit_depth, black_level_dn=black_level_dn, usable=usable)


def require_repeats(repeats: Frames, what: str) -> None:
    """Raise `CalibrationError` when there are too few of them."""
    if repeats.ndim != 3 or repeats.shape[0] < MIN_REPEATS:
        raise CalibrationError(
            f"a photon transfer needs at least {MIN_REPEATS} repeats (R, H, W), got shape {repeats.shape} of {what}; "
            "grab more without moving the part"
        )


def fit(
    stills: Sequence[Still],
    darks: Sequence[Still],
    *,
    bit_depth: int,
    black_level_dn: float = 0.0,
    usable: NDArray[np.bool_] | None = None,
) -> TransferFit:
    """Fit one sensor's noise to series of one or several exposures, lights or channels at the same gain.

    :param stills: lit series. :param darks: series with the lights off, of any exposure.
    :raises CalibrationError: nothing but clipped pixels, or frames that do not differ.
    """
    full_scale = float((1 << bit_depth) - 1)
    ceilings = [series.ceiling_dn for series in stills if series.ceiling_dn is not None]
    saturation = min(ceilings, default=full_scale)
    if all(float(series.variance.max(initial=0.0)) == 0.0 for series in stills):
        raise CalibrationError("the repeats are identical pixel by pixel; check that the camera delivers new frames")
    curve = _joined([points for series in stills if (points := _curve(series, saturation, usable)) is not None])
    known_dark = [dark(series, bit_depth) for series in darks]
    offset = float(np.mean([one.level for one in known_dark])) if known_dark else black_level_dn
    line = _line(_without_narrow(curve, known_dark), offset, known_dark)
    correlation, spectrum, traces = _colour(stills, line, offset, saturation)
    findings = [
        *_fit_findings(line, curve, max(series.flicker for series in stills), known_dark, offset),
        *traces,
        *dict.fromkeys(sentence for series in stills for sentence in series.codec),
    ]
    across, down = (
        correlation[noise_spectrum.LAGS, noise_spectrum.LAGS + 1 :][0],
        correlation[noise_spectrum.LAGS + 1 :, noise_spectrum.LAGS][0],
    )
    model = NoiseModel(
        gain_dn_per_e=line.gain,
        read_noise_dn=line.read_noise,
        offset_dn=offset,
        saturation_dn=saturation,
        lag1_correlation=float(np.clip((across + down) / 2, -1, 1)),
        curve_mean_dn=tuple(round(float(value), 3) for value in curve.mean),
        curve_variance_dn2=tuple(round(float(value), 5) for value in curve.variance),
        autocorrelation=noise_spectrum.kept(correlation),
    )
    transfer = PhotonTransfer(
        source=NoiseSource.REPEATS,
        repeats=min(series.repeats for series in stills),
        levels=len({(series.exposure_us, round(float(series.mean.mean()))) for series in stills}),
        gain_error=line.gain_error if np.isfinite(line.gain_error) else None,
        read_noise_error=line.read_noise_error if np.isfinite(line.read_noise_error) else None,
        dark_current_dn_per_s=_dark_current(known_dark),
        dsnu_dn=float(np.mean([one.spatial for one in known_dark])) if known_dark else None,
        saturation_e=(saturation - offset) / line.gain if line.gain > 0 else None,
        lag1_across=float(across),
        lag1_down=float(down),
        spectrum=tuple(round(value, 4) for value in spectrum),
    )
    return TransferFit(model, transfer, line.gain_error, line.read_noise_error, tuple(findings))


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
    excess: float = field(default=1.0)  # scatter of the bins about the line against what counting says


def _freedom(repeats: int) -> float:
    """Degrees of freedom of a variance from overlapping successive differences (von Neumann)."""
    return 2.0 * (repeats - 1) ** 2 / (3.0 * repeats - 4.0)


def _curve(series: Still, saturation: float, usable: NDArray[np.bool_] | None) -> _Curve | None:
    spread = 4.0 * np.sqrt(ndimage.uniform_filter(series.variance, 9, mode="nearest"))
    inside = (series.mean - spread > 0) & (series.mean + spread < saturation)
    if usable is not None:
        inside &= usable
    mean, variance = series.mean[inside], series.variance[inside]
    if mean.size < _MIN_BIN_PIXELS:
        return None
    low, high = np.quantile(mean, (0.001, 0.999))
    # Narrow where it is dark, so that the noise is about the same throughout a bin: it goes with the root of the light.
    edges = low + np.linspace(0.0, np.sqrt(max(high - low, 1e-6)), _BINS + 1) ** 2
    index = np.clip(np.searchsorted(edges, mean, side="right") - 1, 0, _BINS - 1)
    freedom = _freedom(series.repeats)
    points: list[tuple[float, float, float]] = []
    for which in range(_BINS):
        here = index == which
        chosen = variance[here]
        if chosen.size < _MIN_BIN_PIXELS:
            continue
        middle = float(np.median(chosen)) / (stats.chi2.median(freedom) / freedom)
        limit = middle * stats.chi2.isf(_OUTLIER_TAIL, freedom) / freedom
        honest = chosen <= max(limit, 1e-9)
        points.append((float(mean[here][honest].mean()), float(chosen[honest].mean()), honest.sum() * freedom))
    if not points:
        return None
    table = np.asarray(points)
    return _Curve(table[:, 0], table[:, 1], table[:, 2])


def _joined(curves: Sequence[_Curve]) -> _Curve:
    if not curves:
        raise CalibrationError(
            "every pixel of the repeats is clipped at black or white; correct exposure, gain or black level"
        )
    return _Curve(
        np.concatenate([one.mean for one in curves]),
        np.concatenate([one.variance for one in curves]),
        np.concatenate([one.weight for one in curves]),
    )


def _without_narrow(curve: _Curve, known_dark: Sequence[Dark]) -> _Curve:
    """Leave out levels whose noise is narrower than a grey value, where there are dark frames to stand for them."""
    wide = curve.variance > _NARROW_DN2
    if not known_dark or wide.sum() < 3:
        return curve
    return _Curve(curve.mean[wide], curve.variance[wide], curve.weight[wide])


def _line(curve: _Curve, offset: float, known_dark: Sequence[Dark]) -> _Line:
    # Variance of a variance is 2 v^2 / n: weights follow the fitted line, four rounds are enough.
    signal = np.concatenate([curve.mean - offset, np.zeros(len(known_dark))])
    variance = np.concatenate([curve.variance - QUANTISATION_DN2, [one.temporal**2 for one in known_dark]])
    count = np.concatenate([curve.weight, [one.weight for one in known_dark]])
    design: Floats = np.stack([np.ones_like(signal), signal], axis=1)
    expected: Floats = np.maximum(variance, 1e-3)
    solution: Floats = np.zeros(2)
    covariance: Floats = np.zeros((2, 2))
    weight: Floats = np.ones_like(signal)
    for _ in range(4):
        weight = count / (2.0 * (expected + QUANTISATION_DN2) ** 2)
        normal = design.T @ (design * weight[:, None])
        covariance = np.asarray(np.linalg.pinv(normal), np.float64)
        solution = covariance @ (design.T @ (weight * variance))
        expected = np.maximum(design @ solution, 1e-3)
    intercept, gain = float(solution[0]), float(solution[1])
    spread_known = len(signal) > 1 and np.ptp(signal) > 0
    # Bins that scatter more than counting says make the errors larger, never smaller.
    excess = max(1.0, float(weight @ (variance - design @ solution) ** 2) / max(len(signal) - 2, 1))
    errors = np.sqrt(np.diag(covariance) * excess)
    read_variance = max(intercept, 0.0)
    return _Line(
        gain=max(gain, 0.0),
        read_noise=float(np.sqrt(read_variance)),
        gain_error=float(errors[1]) / gain if gain > 0 and spread_known else float("inf"),
        read_noise_error=float(errors[0]) / (2 * read_variance) if read_variance > 0 else float("inf"),
        excess=excess,
    )


def _colour(
    stills: Sequence[Still], line: _Line, offset: float, saturation: float
) -> tuple[Floats, tuple[float, ...], tuple[str, ...]]:
    """Return autocorrelation, power by octave and what they tell, of the noise divided by its own level."""
    brightest = max(stills, key=lambda series: float(np.median(series.mean)) * (series.mean.max() < saturation))
    signal = np.maximum(brightest.mean - offset, 0.0)
    sigma = np.sqrt(2.0 * (line.read_noise**2 + QUANTISATION_DN2 + line.gain * signal))
    reach = 3.0 * sigma
    inside = (brightest.mean - reach > 0) & (brightest.mean + reach < saturation)
    unit = np.where(inside, brightest.differences / np.maximum(sigma, 1e-6), 0.0).astype(np.float32)
    # A speck of dust that moves must not pass for correlated noise.
    unit = np.where(np.abs(unit) > 8.0, 0.0, unit).astype(np.float32)
    correlation = noise_spectrum.autocorrelation(unit)
    return correlation, noise_spectrum.octaves(unit), noise_spectrum.causes(unit, correlation)


def _dark_current(known_dark: Sequence[Dark]) -> float | None:
    exposures = np.array([one.exposure_us for one in known_dark]) * 1e-6
    if len(exposures) < 2 or exposures.min() <= 0 or exposures.max() < 2 * exposures.min():
        return None
    levels = [one.level for one in known_dark]
    slope = float(np.polyfit(exposures, levels, 1)[0])
    # Frames of some milliseconds hold next to no dark current: what is not seen is not told.
    return slope if abs(slope) * float(np.ptp(exposures)) > _SEEN_DARK_DN else None


def _fit_findings(
    line: _Line, curve: _Curve, flicker: float, known_dark: Sequence[Dark], offset: float
) -> Sequence[str]:
    findings = []
    if not known_dark:
        findings.append(f"no dark frames were given: the read noise rests on an assumed black level of {offset:g} DN")
    if line.gain_error > 0.1:
        findings.append(
            f"the means span only {curve.mean.min():.0f} to {curve.mean.max():.0f} DN, too little to tell gain from "
            "read noise; use a part with bright and dark areas or give dark frames"
        )
    if known_dark and line.read_noise < 0.24:
        findings.append("the read noise is below 0.24 DN, where quantisation hides it; raise the gain to measure it")
    if known_dark and min(one.level for one in known_dark) < 3 * line.read_noise:
        findings.append(
            f"the dark level is {offset:.1f} DN, so that noise is cut off at 0; raise the camera's black level"
        )
    if flicker > 0.01:
        findings.append(f"the light changed by {100 * flicker:.1f} % within the repeats; it was taken out of the noise")
    return findings
