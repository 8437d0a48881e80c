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

from cell.calibration import NoiseModel, NoiseSource, PhotonTransfer
from cell.errors import CalibrationError
from cell.imaging import noise_spectrum
from cell.imaging.noise import QUANTISATION_DN2
from cell.imaging.quantised import unround
from cell.imaging.stills import Curve, Frames, Still, freedom_of, still

Floats = NDArray[np.float64]

__all__ = ["MIN_REPEATS", "Dark", "Still", "TransferFit", "dark", "fit", "fit_photon_transfer", "still"]

#: Fewer repeats than this don't make a photon-transfer curve.
MIN_REPEATS = 8
#: Dark levels that differ by less, DN, tell of no dark current.
_SEEN_DARK_DN = 0.05
#: Below this variance the rule of 1/12 fails where all pixels lie alike against the grey values (0.6 DN of noise).
_NARROW_DN2 = 0.36 + QUANTISATION_DN2


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


def dark(frames: Still, bit_depth: int) -> Dark:
    """Return what a series with the lights off says of the sensor."""
    known = frames.over_all
    spatial = max(known.spatial - known.temporal / frames.repeats, 0.0)
    spread = unround(known.mean, known.temporal, spatial, float((1 << bit_depth) - 1))
    weight = known.pixels * freedom_of(frames.repeats)
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
    lit = still(repeats, bit_depth, usable=usable)
    return fit([lit], darks, bit_depth=bit_depth, black_level_dn=black_level_dn)


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
) -> TransferFit:
    """Fit one sensor's noise to series of one or several exposures, lights or channels at the same gain.

    :param stills: lit series. :param darks: series with the lights off, of any exposure.
    :raises CalibrationError: nothing but clipped pixels, or frames that do not differ.
    """
    full_scale = float((1 << bit_depth) - 1)
    ceilings = [series.ceiling_dn for series in stills if series.ceiling_dn is not None]
    saturation = min(ceilings, default=full_scale)
    if all(series.over_all.temporal == 0.0 for series in stills):
        raise CalibrationError("the repeats are identical pixel by pixel; check that the camera delivers new frames")
    curve = _joined([series.curve for series in stills if series.curve is not None])
    known_dark = [dark(series, bit_depth) for series in darks]
    offset = float(np.mean([one.level for one in known_dark])) if known_dark else black_level_dn
    line = _line(_without_narrow(curve, known_dark), offset, known_dark)
    correlation, spectrum, traces = _colour(stills, line, offset, saturation)
    findings = [
        *_fit_findings(line, curve, max(series.flicker for series in stills), known_dark, offset),
        *traces,
        *dict.fromkeys(sentence for series in stills for sentence in series.codec),
    ]
    model = NoiseModel(
        gain_dn_per_e=line.gain,
        read_noise_dn=line.read_noise,
        offset_dn=offset,
        saturation_dn=saturation,
        lag1_correlation=float(np.clip(sum(_lag1(correlation)) / 2, -1, 1)),
        curve_mean_dn=tuple(round(float(value), 3) for value in curve.mean),
        curve_variance_dn2=tuple(round(float(value), 5) for value in curve.variance),
        autocorrelation=noise_spectrum.kept(correlation),
    )
    transfer = _behind(stills, known_dark, line, model, correlation, spectrum)
    return TransferFit(model, transfer, line.gain_error, line.read_noise_error, tuple(findings))


def _behind(
    stills: Sequence[Still],
    known_dark: Sequence[Dark],
    line: _Line,
    model: NoiseModel,
    correlation: Floats,
    spectrum: Sequence[float],
) -> PhotonTransfer:
    across, down = _lag1(correlation)
    return PhotonTransfer(
        source=NoiseSource.REPEATS,
        repeats=min(series.repeats for series in stills),
        levels=len({(series.exposure_us, round(float(series.mean.mean()))) for series in stills}),
        gain_error=line.gain_error if np.isfinite(line.gain_error) else None,
        read_noise_error=line.read_noise_error if np.isfinite(line.read_noise_error) else None,
        dark_current_dn_per_s=_dark_current(known_dark),
        dsnu_dn=float(np.mean([one.spatial for one in known_dark])) if known_dark else None,
        saturation_e=(model.saturation_dn - model.offset_dn) / line.gain if line.gain > 0 else None,
        lag1_across=across,
        lag1_down=down,
        spectrum=tuple(round(value, 4) for value in spectrum),
    )


def _lag1(correlation: Floats) -> tuple[float, float]:
    """Return how neighbours across and down go together."""
    middle = correlation.shape[0] // 2
    return float(correlation[middle, middle + 1]), float(correlation[middle + 1, middle])


@dataclass(frozen=True, slots=True)
class _Line:
    gain: float
    read_noise: float
    gain_error: float
    read_noise_error: float
    excess: float = field(default=1.0)  # scatter of the bins about the line against what counting says


def _joined(curves: Sequence[Curve]) -> Curve:
    if not curves:
        raise CalibrationError(
            "every pixel of the repeats is clipped at black or white; correct exposure, gain or black level"
        )
    return Curve(
        np.concatenate([one.mean for one in curves]),
        np.concatenate([one.variance for one in curves]),
        np.concatenate([one.weight for one in curves]),
    )


def _without_narrow(curve: Curve, known_dark: Sequence[Dark]) -> Curve:
    """Leave out levels whose noise is narrower than a grey value, where there are dark frames to stand for them."""
    wide = curve.variance > _NARROW_DN2
    if not known_dark or wide.sum() < 3:
        return curve
    return Curve(curve.mean[wide], curve.variance[wide], curve.weight[wide])


def _line(curve: Curve, offset: float, known_dark: Sequence[Dark]) -> _Line:
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
    mean = brightest.middle
    signal = np.maximum(mean - offset, 0.0)
    sigma = np.sqrt(2.0 * (line.read_noise**2 + QUANTISATION_DN2 + line.gain * signal))
    reach = 3.0 * sigma
    inside = (mean - reach > 0) & (mean + reach < saturation)
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
    line: _Line, curve: Curve, flicker: float, known_dark: Sequence[Dark], offset: float
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
