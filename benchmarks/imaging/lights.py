"""What switching costs, by driver: simulated lines, those of pylon's emulator, a Gardasoft that parses bytes."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Any

from drivers.conformance.light_benches import Mode, camera_lines_bench, gardasoft_bench, simulated_bench
from drivers.lights.cost import switching_cost

_MODES: tuple[Mode, ...] = ("continuous", "pulsed")
_BENCHES = {"simulated": simulated_bench, "camera_lines": camera_lines_bench, "gardasoft": gardasoft_bench}


def switching(schemes: int) -> list[dict[str, Any]]:
    """Return for every driver and mode the times of a switch; the settling time of continuous lamps is in them."""
    rows = []
    for name, bench in _BENCHES.items():
        for mode in _MODES:
            with bench(mode) as stage, closing(stage.open()) as light:
                rows.append({"driver": name, "mode": mode, **asdict(switching_cost(light, schemes))})
    return rows
