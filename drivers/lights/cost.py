"""What switching costs: the time from asking for a scheme until the light is confirmed, by any driver."""

from __future__ import annotations

import time
from dataclasses import dataclass

from drivers.lights.base import Light


@dataclass(frozen=True, slots=True)
class SwitchingCost:
    """Times of `apply`, in milliseconds, and how many schemes a second they leave."""

    schemes: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    schemes_per_s: float


def switching_cost(light: Light, rounds: int = 200, together: int = 1) -> SwitchingCost:
    """Step through the lines, `together` of them lit at a time, and end dark. Raises `LightError`.

    Every step changes lines, except on a light of one line, which is switched on and off.

    :param rounds: steps to take, at least 1.
    """
    lines = light.lines
    schemes = [
        {lines[(first + offset) % len(lines)]: 1.0 for offset in range(min(together, len(lines)))}
        for first in range(len(lines))
    ]
    if len({frozenset(scheme) for scheme in schemes}) == 1:
        schemes = [schemes[0], dict.fromkeys(lines, 0.0)]
    for scheme in schemes:
        light.apply(scheme)
    times = []
    for step in range(rounds):
        began = time.perf_counter()
        light.apply(schemes[step % len(schemes)])
        times.append(1e3 * (time.perf_counter() - began))
    light.off()
    ranked = sorted(times)
    return SwitchingCost(
        schemes=rounds,
        p50_ms=ranked[rounds // 2],
        p99_ms=ranked[min(rounds - 1, int(0.99 * rounds))],
        max_ms=ranked[-1],
        schemes_per_s=1e3 * rounds / sum(times),
    )
