"""Feature streams of a process that stays as it is, in all the ways that ordinary processes vary."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from daemon.process.charts import PARTS_A_FALSE_ALARM, Charts

Stream = NDArray[np.float64]
Maker = Callable[[np.random.Generator, int, int], Stream]

#: As many as a recipe of four channels has.
FEATURES = 41


def independent(rng: np.random.Generator, parts: int, features: int) -> Stream:
    """Each part by itself, normal."""
    return rng.standard_normal((parts, features))


def autoregressive(correlation: float) -> Maker:
    """Return a maker of AR(1) streams of unit variance."""

    def make(rng: np.random.Generator, parts: int, features: int) -> Stream:
        shocks = rng.standard_normal((parts, features))
        shocks[0] /= np.sqrt(1 - correlation**2)
        found: Stream = signal.lfilter([np.sqrt(1 - correlation**2)], [1, -correlation], shocks, axis=0)
        return found

    return make


def heavy_tails(rng: np.random.Generator, parts: int, features: int) -> Stream:
    """Student's t with 4 degrees of freedom."""
    return rng.standard_t(4, (parts, features))


def defective(rng: np.random.Generator, parts: int, features: int) -> Stream:
    """Two parts in a hundred are defective, and every feature shows it, eight deviations wide."""
    stream = rng.standard_normal((parts, features))
    bad = rng.random(parts) < 0.02
    stream[bad] += 8 * rng.standard_normal((int(bad.sum()), features))
    return stream


def lots(rng: np.random.Generator, parts: int, features: int) -> Stream:
    """Lots of 20 to 60 parts, each with a level of its own, 0.5 deviations."""
    sizes = rng.integers(20, 60, parts // 20 + 1)
    levels = 0.5 * rng.standard_normal((len(sizes), features))
    return np.repeat(levels, sizes, axis=0)[:parts] + rng.standard_normal((parts, features))


def days(rng: np.random.Generator, parts: int, features: int) -> Stream:
    """A day of 15,000 to 30,000 parts, warm and cold, 0.4 deviations either way."""
    at = np.arange(parts)[:, None]
    period, phase = rng.uniform(15e3, 30e3, features), rng.uniform(0, 2 * np.pi, features)
    return 0.4 * np.sin(2 * np.pi * at / period + phase) + rng.standard_normal((parts, features))


def together(rng: np.random.Generator, parts: int, features: int) -> Stream:
    """Half of every feature's variance is shared by all of them, as the tone of a part is."""
    common = rng.standard_normal((parts, 1))
    return np.sqrt(0.5) * common + np.sqrt(0.5) * rng.standard_normal((parts, features))


STREAMS: dict[str, Maker] = {
    "independent": independent,
    "correlated 0.5": autoregressive(0.5),
    "correlated 0.9": autoregressive(0.9),
    "correlated 0.97": autoregressive(0.97),
    "heavy tails": heavy_tails,
    "2 % defective": defective,
    "lots": lots,
    "days": days,
    "features together": together,
}


def false_alarms(parts: int, seed: int = 1) -> dict[str, Any]:
    """Run every stream through the charts, which learn anew after each alarm; return the alarms of each."""
    found: dict[str, Any] = {}
    for name, make in STREAMS.items():
        charts = Charts([f"f{index}" for index in range(FEATURES)], np.full(FEATURES, 1e-6))
        values = make(np.random.default_rng(seed), parts, FEATURES)
        alarms, begun = [], time.perf_counter()
        for part, row in enumerate(values):
            if charts.update(row) is not None:
                alarms.append(part)
                charts.restart()
        seconds = time.perf_counter() - begun
        allowed = parts / PARTS_A_FALSE_ALARM
        found[name] = {
            "parts": parts,
            "alarms": len(alarms),
            "at": alarms[:20],
            "allowed": allowed,
            "passed": len(alarms) <= allowed,
            "us_a_part": 1e6 * seconds / parts,
            "delays": delays(make, seed),
        }
        print(f"  {name:<20}{len(alarms):>4} alarms in {parts} parts, shifts found after {found[name]['delays']}")
    return found


def delays(make: Maker, seed: int, sizes: tuple[float, ...] = (1.5, 2.0, 4.0), repeats: int = 3) -> dict[str, Any]:
    """Return the median parts until a sudden shift of one feature is found, for sizes in its own deviations."""
    result: dict[str, Any] = {}
    for size in sizes:
        took = []
        for repeat in range(repeats):
            values = make(np.random.default_rng(seed + 100 + repeat), 4000, FEATURES)
            values[2500:, 0] += size
            charts = Charts([f"f{index}" for index in range(FEATURES)], np.full(FEATURES, 1e-6))
            at = next((part for part, row in enumerate(values) if charts.update(row) is not None), None)
            took.append(np.inf if at is None or at < 2500 else at - 2500)
        middle = float(np.median(took))
        result[f"{size:g} deviations"] = int(middle) if np.isfinite(middle) else None
    return result
