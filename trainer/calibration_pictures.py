"""A calibration as pictures: noise, light, sharpness and light directions, as one SVG that any browser shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

import numpy as np

from cell.calibration import Calibration, ChannelCalibration, Illumination, NoiseModel, NoiseSource, Sharpness
from cell.imaging import noise

_WIDTH, _HEIGHT, _GAP = 330, 190, 30
_INK, _MUTED, _ACCENT, _GRID = "#222", "#767676", "#b85c00", "#ddd"
_SOURCES = {
    NoiseSource.REPEATS: "repeats of a still part",
    NoiseSource.SENSOR: "the camera's other channels",
    NoiseSource.PRODUCTION: "many good parts",
    NoiseSource.TEXTURE: "textures: an upper bound",
}


def curves_svg(calibration: Calibration) -> str:
    """Draw every channel in a row: noise variance against level, light across the frame, sharpness; then the lights."""
    pieces, columns = [], 3
    for index, channel in enumerate(calibration.channels):
        top = index * (_HEIGHT + _GAP)
        pieces.append(_noise(channel, 0, top))
        pieces.append(_light(channel.illumination, _WIDTH + _GAP, top))
        pieces.append(_sharpness(channel, 2 * (_WIDTH + _GAP), top))
    bottom = len(calibration.channels) * (_HEIGHT + _GAP)
    if any(channel.direction for channel in calibration.channels):
        pieces.append(_directions(calibration.channels, 0, bottom))
        bottom += 260
    width = columns * (_WIDTH + _GAP)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-12 -8 {width} {bottom}" width="{width}" '
        f'height="{bottom}" font-family="sans-serif" font-size="11"><rect x="-12" y="-8" width="{width}" '
        f'height="{bottom}" fill="#fff"/>'
        f"{''.join(pieces)}</svg>"
    )


def _noise(channel: ChannelCalibration, x: float, y: float) -> str:
    model, source = channel.noise, channel.transfer.source
    levels = np.linspace(0, model.saturation_dn, 60)
    line = noise.sigma_dn(model, levels) ** 2
    top = 1.1 * max(float(line.max()), *model.curve_variance_dn2, 1e-3)
    at = _axes(x, y, model.saturation_dn, top)
    dots = "".join(
        _dot(*at(mean, variance)) for mean, variance in zip(model.curve_mean_dn, model.curve_variance_dn2, strict=True)
    )
    return (
        _title(x, y, f"{channel.channel}: noise variance (DN²) against level (DN)")
        + _note(x, y, f"from {_SOURCES[source]}{_gain(model)}")
        + _note(x + 40, y + 14, _colour(channel))
        + _frame(x, y, f"{model.saturation_dn:.0f}", f"{top:.3g}")
        + dots
        + _polyline([at(float(a), float(b)) for a, b in zip(levels, line, strict=True)])
    )


def _gain(model: NoiseModel) -> str:
    if model.gain_dn_per_e <= 0:
        return f"; sigma {model.read_noise_dn:.2f} DN at every level"
    return f"; K {model.gain_dn_per_e:.4g} DN/e, read noise {model.read_noise_dn:.3g} DN"


def _colour(channel: ChannelCalibration) -> str:
    if not channel.noise.autocorrelation:
        return ""
    powers = ", ".join(f"{value:.2f}" for value in channel.transfer.spectrum)
    return f"not white: power by octave from Nyquist down {powers} (white: 1)"


def _light(light: Illumination, x: float, y: float) -> str:
    rows, columns = len(light.grid), len(light.grid[0])
    values = np.asarray(light.grid)
    low, high = float(values.min()), float(values.max())
    width, height = _WIDTH / columns, (_HEIGHT - 34) / rows
    cells = "".join(
        f'<rect x="{x + column * width:.1f}" y="{y + 32 + row * height:.1f}" width="{width + 0.5:.1f}" '
        f'height="{height + 0.5:.1f}" fill="rgb({_grey(float(value), low, high)})"/>'
        for row, line in enumerate(values)
        for column, value in enumerate(line)
    )
    share = "" if light.relative_intensity is None else f"; {100 * light.relative_intensity:.0f} % of the brightest"
    title = f"light across the frame, {low:.2f} to {high:.2f}"
    return _title(x, y, title) + _note(x, y, f"from {light.source.value}{share}") + cells


def _sharpness(channel: ChannelCalibration, x: float, y: float) -> str:
    known: Sharpness | None = channel.sharpness
    if known is None:
        spread = f"point spread {channel.psf_sigma_px:.2f} px, as on the other channels" if channel.psf_sigma_px else ""
        return _title(x, y, "sharpness") + _note(x, y, spread or "unknown: no slanted edge was shown")
    at = _axes(x, y, 0.5, 1.1)
    middle = at(known.mtf50, 0.5)
    curve = [at(a, b) for a, b in zip(known.frequency, known.mtf, strict=True)]
    return (
        _title(x, y, "transfer (MTF) against frequency (cycles per pixel)")
        + _note(x, y, f"MTF50 {known.mtf50:.3f}, point spread {channel.psf_sigma_px:.2f} px, {known.edges} edges")
        + _frame(x, y, "0.5", "1.1")
        + _polyline(curve)
        + _dot(*middle, radius=4)
    )


def _directions(channels: Sequence[ChannelCalibration], x: float, y: float) -> str:
    radius, middle, level = 90.0, x + 150.0, y + 140.0
    rings = "".join(
        f'<circle cx="{middle}" cy="{level}" r="{radius * np.cos(np.deg2rad(height)):.1f}" fill="none" '
        f'stroke="{_GRID}"/><text x="{middle + 3}" y="{level - radius * np.cos(np.deg2rad(height)) - 2:.1f}" '
        f'fill="{_MUTED}">{height}°</text>'
        for height in (0, 30, 60)
    )
    lights = "".join(
        _dot(middle + radius * one.direction.x, level + radius * one.direction.y, radius=4)
        + f'<text x="{middle + radius * one.direction.x + 6:.1f}" y="{level + radius * one.direction.y + 4:.1f}">'
        f"{escape(one.channel)}</text>"
        for one in channels
        if one.direction is not None
    )
    return (
        _title(x, y, "where the light comes from (seen by the camera; rings: degrees above the part)") + rings + lights
    )


def _axes(x: float, y: float, right: float, top: float) -> Callable[[float, float], tuple[float, float]]:
    left, bottom, width, height = x + 40, y + _HEIGHT - 20, _WIDTH - 50, _HEIGHT - 54

    def at(across: float, up: float) -> tuple[float, float]:
        return left + across / right * width, bottom - up / top * height

    return at


def _frame(x: float, y: float, right: str, top: str) -> str:
    left, bottom = x + 40, y + _HEIGHT - 20
    return (
        f'<path d="M{left},{y + 34}V{bottom}H{x + _WIDTH - 10}" fill="none" stroke="{_MUTED}"/>'
        f'<text x="{left - 4}" y="{y + 42}" text-anchor="end" fill="{_MUTED}">{top}</text>'
        f'<text x="{left - 4}" y="{bottom + 4}" text-anchor="end" fill="{_MUTED}">0</text>'
        f'<text x="{x + _WIDTH - 10}" y="{bottom + 14}" text-anchor="end" fill="{_MUTED}">{right}</text>'
    )


def _polyline(points: Sequence[tuple[float, float]]) -> str:
    text = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return f'<polyline points="{text}" fill="none" stroke="{_ACCENT}" stroke-width="2"/>'


def _dot(x: float, y: float, radius: float = 2.0) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{_INK}" fill-opacity="0.6"/>'


def _title(x: float, y: float, text: str) -> str:
    return f'<text x="{x:g}" y="{y + 12:g}" font-weight="600" fill="{_INK}">{escape(text)}</text>'


def _note(x: float, y: float, text: str) -> str:
    return f'<text x="{x:g}" y="{y + 26:g}" fill="{_MUTED}">{escape(text)}</text>'


def _grey(value: float, low: float, high: float) -> str:
    level = int(40 + 200 * (value - low) / max(high - low, 1e-6))
    return f"{level},{level},{level}"
