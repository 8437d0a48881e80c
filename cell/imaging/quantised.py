"""Noise that is not much wider than a grey value: what rounding and clipping leave of it, exactly.

Rounding adds 1/12 DN^2 only while the noise is wide against one DN. At a standard deviation of 0.36 DN the variance of
a level that lies on a whole DN is a quarter smaller than that rule says, and between two DN larger.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

Floats = NDArray[np.float64]

#: Nodes that stand for the spread of the pixels' own levels.
_NODES = 15


@dataclass(frozen=True, slots=True)
class Spread:
    """Analogue values behind rounded ones, DN: mean level, temporal noise, and spread of the pixels' own levels."""

    level: float
    temporal: float
    spatial: float


def rounded_moments(level: ArrayLike, sigma: float, full_scale: float = np.inf) -> tuple[Floats, Floats]:
    """Return mean and variance of ``clip(round(level + sigma z), 0, full_scale)``, z normal; of `level`'s shape."""
    levels = np.asarray(level, np.float64)
    reach = int(np.ceil(6 * sigma)) + 1
    steps = np.rint(levels)[..., None] + np.arange(-reach, reach + 1)
    width = max(sigma, 1e-6)
    upper = special.ndtr((steps + 0.5 - levels[..., None]) / width)
    lower = special.ndtr((steps - 0.5 - levels[..., None]) / width)
    shown = np.clip(steps, 0, full_scale)
    share = upper - lower
    mean = (share * shown).sum(axis=-1)
    variance = (share * (shown - mean[..., None]) ** 2).sum(axis=-1)
    return mean, variance


def expected(spread: Spread, full_scale: float = np.inf) -> tuple[float, float, float]:
    """Return what rounded frames show of it: mean, mean temporal variance, variance of the pixels' means."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights = weights / weights.sum()
    mean, variance = rounded_moments(spread.level + spread.spatial * nodes, spread.temporal, full_scale)
    grand = float(weights @ mean)
    return grand, float(weights @ variance), float(weights @ (mean - grand) ** 2)


def unround(mean: float, temporal: float, spatial: float, full_scale: float = np.inf) -> Spread:
    """Return the analogue values of which rounding makes this mean, temporal variance and spatial variance."""
    wide = Spread(mean, float(np.sqrt(max(temporal - 1 / 12, 1e-4))), float(np.sqrt(max(spatial, 1e-8))))
    if wide.temporal > 1.0 and mean > 6 * wide.temporal:
        return wide

    def misfit(values: Floats) -> Floats:
        found = expected(Spread(float(values[0]), float(np.exp(values[1])), float(np.exp(values[2]))), full_scale)
        wanted = (mean, temporal, spatial)
        scales = (0.1, max(temporal, 1e-3), max(spatial, 1e-4))
        return np.array([(a - b) / scale for a, b, scale in zip(found, wanted, scales, strict=True)])

    lower = np.array([mean - 3.0, np.log(1e-2), np.log(1e-3)])
    upper = np.array([mean + 3.0, np.log(10 * wide.temporal + 1.0), np.log(10 * wide.spatial + 1.0)])
    best = None
    # Noise far below a grey value hardly ever shows: from there no slope leads back, so several starts are tried.
    for sigma in (wide.temporal, 0.15, 0.25, 0.4):
        start = np.clip([mean, np.log(sigma), np.log(max(wide.spatial, 0.02))], lower + 1e-6, upper - 1e-6)
        solved = optimize.least_squares(misfit, start, bounds=(lower, upper))
        if best is None or solved.cost < best.cost:
            best = solved
    return wide if best is None else Spread(float(best.x[0]), float(np.exp(best.x[1])), float(np.exp(best.x[2])))
