"""Calibration: from frames to what is known of the cell's noise, light and sharpness.

With repeats of a still part it is measured (EMVA 1288). From backgrounds alone it is *degraded*: the noise level is an
upper bound from textures, the illumination profile is the mean of many parts, and nothing else is claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from cell.calibration import Calibration, CalibrationKind, ChannelCalibration, Illumination, NoiseModel
from cell.errors import CalibrationError
from cell.frames import Stack
from cell.imaging import noise
from cell.imaging.registration import locate
from cell.recipes import Recipe

#: A calibration is to be made anew after this long: lamps age, lenses are bumped.
VALID_FOR = timedelta(days=90)
_GRID = (9, 12)


def calibrate(
    recipe: Recipe,
    backgrounds: Sequence[Stack],
    *,
    calibration_id: str,
    now: datetime,
    repeats: NDArray[np.uint8] | NDArray[np.uint16] | None = None,
    dark: NDArray[np.uint8] | NDArray[np.uint16] | None = None,
) -> Calibration:
    """Make a calibration.

    :param backgrounds: good parts, (K, H, W) uint8 or uint16 DN each.
    :param repeats: (R, K, H, W) of one part that did not move, R at least `noise.MIN_REPEATS`; makes it measured.
    :param dark: (R', K, H, W) with the lights off; without it the read noise rests on an assumed black level of 0.
    :raises CalibrationError: without backgrounds, or when no area is fit to measure on.
    """
    if not backgrounds:
        raise CalibrationError("there are no good parts to calibrate from; harvest backgrounds first")
    channels, findings = [], []
    for index, name in enumerate(recipe.channel_names):
        frames = [stack[index] for stack in backgrounds]
        fit = _noise(recipe, index, frames, repeats, dark)
        findings += [f"{name}: {finding}" for finding in fit.findings]
        channels.append(
            ChannelCalibration(
                channel=name,
                noise=fit.model,
                illumination=illumination(backgrounds, index, recipe.carrier_max_dn),
                psf_sigma_px=0.0,
            )
        )
    measured = repeats is not None
    return Calibration(
        calibration_id=calibration_id,
        recipe_id=recipe.recipe_id,
        kind=CalibrationKind.MEASURED if measured else CalibrationKind.DEGRADED,
        channels=tuple(channels),
        px_per_mm=None,
        frames_used=len(backgrounds) + (0 if repeats is None else len(repeats)),
        findings=(
            *dict.fromkeys(findings),
            "no target was shown: scale in mm and point spread are unknown",
        ),
        created_at=now,
        valid_until=now + VALID_FOR,
    )


def illumination(backgrounds: Sequence[Stack], channel: int, carrier_max_dn: int | None) -> Illumination:
    """Return the mean light over the frame on a coarse grid, relative to its mean.

    Each part counts with its own mean level taken out, so that bright and dark parts weigh alike; cells that no part
    ever covered get 1.
    """
    total, count = np.zeros(_GRID), np.zeros(_GRID)
    levels = []
    for stack in backgrounds:
        place = locate(stack, carrier_max_dn)
        if place is None:
            continue
        pixels = stack[channel].astype(np.float64)
        level = float(pixels[place.mask].mean())
        levels.append(level)
        rows = np.arange(pixels.shape[0]) * _GRID[0] // pixels.shape[0]
        columns = np.arange(pixels.shape[1]) * _GRID[1] // pixels.shape[1]
        index = (rows[:, None] * _GRID[1] + columns[None, :])[place.mask]
        size = _GRID[0] * _GRID[1]
        total += np.bincount(index, weights=pixels[place.mask] / max(level, 1e-9), minlength=size).reshape(_GRID)
        count += np.bincount(index, minlength=size).reshape(_GRID)
    if not levels:
        raise CalibrationError("no part was found on any background; check the recipe's carrier_max_dn")
    covered = count > 0
    grid = np.ones(_GRID)
    grid[covered] = total[covered] / count[covered]
    grid /= grid[covered].mean()
    rows_out = tuple(tuple(round(float(value), 4) for value in row) for row in grid)
    return Illumination(grid=rows_out, mean_dn=float(np.mean(levels)))


def _noise(
    recipe: Recipe,
    channel: int,
    frames: Sequence[NDArray[np.uint8] | NDArray[np.uint16]],
    repeats: NDArray[np.uint8] | NDArray[np.uint16] | None,
    dark: NDArray[np.uint8] | NDArray[np.uint16] | None,
) -> noise.NoiseFit:
    if repeats is not None:
        return noise.fit_photon_transfer(
            repeats[:, channel], bit_depth=recipe.bit_depth, dark=None if dark is None else dark[:, channel]
        )
    above = -1.0 if recipe.carrier_max_dn is None else float(recipe.carrier_max_dn)
    return noise.estimate_from_singles(frames, bit_depth=recipe.bit_depth, above_dn=above)


def curves_svg(calibration: Calibration) -> str:
    """Draw noise and illumination of every channel as one SVG: noise against level, light across the frame."""
    width, height = 340, 190
    pieces = []
    for index, channel in enumerate(calibration.channels):
        top = index * (height + 20)
        pieces.append(_noise_plot(channel.channel, channel.noise, 0, top, width, height))
        pieces.append(_light_map(channel.illumination, width + 40, top, width, height))
    total = len(calibration.channels) * (height + 20)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * width + 60} {total}" width="{2 * width + 60}" '
        f'height="{total}" font-family="sans-serif" font-size="11">{"".join(pieces)}</svg>'
    )


def _noise_plot(name: str, model: NoiseModel, x: int, y: int, width: int, height: int) -> str:
    left, bottom = x + 40, y + height - 30
    levels = np.linspace(0, model.saturation_dn, 60)
    sigma = noise.sigma_dn(model, levels)
    top = max(float(sigma.max()), *(v**0.5 for v in model.curve_variance_dn2), 1e-3) * 1.2

    def at(level: float, value: float) -> str:
        across = left + level / model.saturation_dn * (width - 50)
        return f"{across:.1f},{bottom - value / top * (height - 50):.1f}"

    line = " ".join(at(float(a), float(b)) for a, b in zip(levels, sigma, strict=True))
    dots = "".join(
        f'<circle cx="{at(m, v**0.5).split(",")[0]}" cy="{at(m, v**0.5).split(",")[1]}" r="2.5" fill="#555"/>'
        for m, v in zip(model.curve_mean_dn, model.curve_variance_dn2, strict=True)
    )
    axes = f"M{left},{y + 18}V{bottom}H{x + width - 10}"
    return (
        f'<text x="{x + 40}" y="{y + 12}" font-weight="600">{name}: noise sigma in DN against level</text>'
        f'<path d="{axes}" fill="none" stroke="#999"/><polyline points="{line}" fill="none" stroke="#c47a00" '
        f'stroke-width="2"/>{dots}<text x="{x + 2}" y="{y + 26}">{top:.1f}</text><text x="{x + width - 40}" '
        f'y="{bottom + 16}">{model.saturation_dn:.0f} DN</text>'
    )


def _light_map(light: Illumination, x: int, y: int, width: int, height: int) -> str:
    rows, columns = len(light.grid), len(light.grid[0])
    cell_width, cell_height = width / columns, (height - 40) / rows
    values = np.asarray(light.grid)
    low, high = float(values.min()), float(values.max())
    cells = "".join(
        f'<rect x="{x + column * cell_width:.1f}" y="{y + 20 + row * cell_height:.1f}" width="{cell_width + 0.5:.1f}" '
        f'height="{cell_height + 0.5:.1f}" fill="rgb({_grey(value, low, high)})"/>'
        for row, line in enumerate(light.grid)
        for column, value in enumerate(line)
    )
    return f'<text x="{x}" y="{y + 12}" font-weight="600">light across the frame, {low:.2f} to {high:.2f}</text>{cells}'


def _grey(value: float, low: float, high: float) -> str:
    level = int(40 + 200 * (value - low) / max(high - low, 1e-6))
    return f"{level},{level},{level}"
