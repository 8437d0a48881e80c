"""How a sensor's noise goes together from pixel to pixel, and what in the camera made it so.

A raw sensor's temporal noise is white: every pixel's is its own. What a camera computes (debayering, sharpening,
smoothing, scaling, JPEG) leaves traces: correlation of neighbours, and noise that differs between interleaved pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Floats = NDArray[np.float64]

#: Neighbouring pixels that go together more than this were computed, not measured.
CORRELATED = 0.1
#: Correlation at any lag that is kept and drawn again; below, noise counts as white.
KEPT = 0.03
#: Lags down and across that are looked at.
LAGS = 4
#: Noise variance of one of four interleaved lattices against another: more, and the others were interpolated.
_INTERLEAVED = 1.25
#: Correlation of sharpened noise is below this, that of noise with lines through whole rows above the other.
SHARPENED, _LINES = -0.05, 0.03
_BLOCK = 32
#: Side of the middle of a frame that is looked at, pixels.
LARGEST = 768


def lag1(differences: NDArray[Any]) -> tuple[float, float]:
    """Return the correlation of horizontal and of vertical neighbours in zero-mean noise pictures (..., H, W)."""
    noise = np.asarray(differences, np.float64)
    power = float(np.mean(noise * noise))
    if power <= 0:
        return 0.0, 0.0
    horizontal = float(np.mean(noise[..., :, 1:] * noise[..., :, :-1])) / power
    vertical = float(np.mean(noise[..., 1:, :] * noise[..., :-1, :])) / power
    return max(-1.0, min(1.0, horizontal)), max(-1.0, min(1.0, vertical))


def autocorrelation(noise: NDArray[Any], lags: int = LAGS) -> Floats:
    """Return the autocorrelation of zero-mean noise pictures (N, H, W) at lags -lags..lags, 1 in the middle."""
    pictures = _middle(np.asarray(noise, np.float32))
    height, width = pictures.shape[-2:]
    found = np.zeros((2 * lags + 1, 2 * lags + 1))
    for down in range(lags + 1):
        for across in range(-lags, lags + 1):
            one = pictures[..., down:, max(across, 0) : width + min(across, 0)]
            two = pictures[..., : height - down, max(-across, 0) : width + min(-across, 0)]
            value = float(np.mean(one * two, dtype=np.float64))
            found[lags + down, lags + across] = found[lags - down, lags - across] = value
    power = found[lags, lags]
    return found / power if power > 0 else found


def octaves(noise: NDArray[Any]) -> tuple[float, ...]:
    """Return the noise power by octave of radial frequency, the highest first, against white noise of the same power.

    :param noise: (N, H, W), zero mean. Empty for pictures below 32x32.
    """
    pictures = _middle(np.asarray(noise, np.float32))
    rows, columns = (side // _BLOCK * _BLOCK for side in pictures.shape[-2:])
    if not rows or not columns:
        return ()
    blocks = pictures[:, :rows, :columns].reshape(-1, rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK)
    power = (np.abs(fft.rfft2(blocks, axes=(2, 4))) ** 2).mean(axis=(0, 1, 3))
    down, across = np.abs(fft.fftfreq(_BLOCK)), np.abs(fft.rfftfreq(_BLOCK))
    radius = np.hypot(down[:, None], across[None, :])
    # Columns of the half spectrum stand for two but the first and the last.
    weight = np.full(power.shape, 2.0)
    weight[:, 0] = weight[:, -1] = 1.0
    level = float((power * weight).sum() / weight.sum())
    edges = (0.5, 0.25, 0.125, 0.0625, 0.03125)
    values = []
    for high, low in zip((np.inf, *edges[1:-1]), edges[1:], strict=True):
        inside = (radius >= low) & (radius < high)
        values.append(float((power * weight)[inside].sum() / weight[inside].sum()) / max(level, 1e-12))
    return tuple(values)


def kept(correlation: Floats) -> tuple[tuple[float, ...], ...]:
    """Return an autocorrelation as it is kept in a noise model: empty when it is white."""
    middle = correlation.shape[0] // 2
    others = correlation.copy()
    others[middle, middle] = 0.0
    if np.abs(others).max(initial=0.0) < KEPT:
        return ()
    return tuple(tuple(round(float(value), 4) for value in row) for row in correlation)


def causes(noise: NDArray[Any], correlation: Floats) -> tuple[str, ...]:
    """Return one sentence for each trace of something that the camera computed.

    :param noise: (N, H, W), zero mean and, where its level follows the light, divided by that.
    """
    middle = correlation.shape[0] // 2
    across, down = float(correlation[middle, middle + 1]), float(correlation[middle + 1, middle])
    named: list[str] = []
    if _lattice_ratio(noise) > _INTERLEAVED:
        named.append("debayered (its noise differs between interleaved pixels)")
    if min(across, down) < SHARPENED:
        named.append("sharpened (neighbours' noise goes against each other)")
    elif max(across, down) > CORRELATED and not named:
        named.append("filtered, scaled or compressed")
    told: tuple[str, ...] = ()
    if max(abs(across), abs(down)) > CORRELATED or named:
        told = (
            f"neighbouring pixels' noise correlates ({across:+.2f} across, {down:+.2f} down): the image was "
            f"{' and '.join(named) or 'debayered, filtered, scaled or compressed'} before it came here; switch that "
            "off in the camera",
        )
    far_across, far_down = float(correlation[middle, -1]), float(correlation[-1, middle])
    if max(far_across, far_down) > _LINES:
        kind = "rows" if far_across >= far_down else "columns"
        told += (f"whole {kind} share some of their noise (correlation {max(far_across, far_down):.2f})",)
    return told


def coloured(white: NDArray[np.float64], correlation: tuple[tuple[float, ...], ...]) -> Floats:
    """Return white unit noise (..., H, W) with that autocorrelation, of unit variance."""
    height, width = white.shape[-2:]
    kernel = np.asarray(correlation)
    lags = kernel.shape[0] // 2
    spread = np.zeros((height, width))
    for down in range(-lags, lags + 1):
        for across in range(-lags, lags + 1):
            # Lags beyond a small window wrap around and add up, as its noise does.
            spread[down % height, across % width] += kernel[lags + down, lags + across]
    power = np.maximum(fft.rfft2(spread).real, 0.0)
    drawn = fft.irfft2(fft.rfft2(white) * np.sqrt(power), s=(height, width))
    # A measured kernel, cut at its last lag, need not be one of any noise: what was clipped is given back.
    full = np.maximum(fft.fft2(spread).real, 0.0)
    return np.asarray(drawn / np.sqrt(max(float(full.mean()), 1e-12)), np.float64)


def _lattice_ratio(noise: NDArray[Any]) -> float:
    pictures = np.asarray(noise, np.float32)
    powers = [float(np.mean(pictures[..., row::2, column::2] ** 2)) for row in (0, 1) for column in (0, 1)]
    return max(powers) / max(min(powers), 1e-12)


def _middle(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    top, left = (max(0, (side - LARGEST) // 2) for side in pictures.shape[-2:])
    return pictures[..., top : top + LARGEST, left : left + LARGEST]
