"""The simulated light: lines without lamps, which decide what an emulated camera sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cell.errors import LightError

#: Told which lines shine from now on, at which relative intensity.
Illuminate = Callable[[Mapping[str, float]], None]


class SimulatedLight:
    """See `drivers.lights.base.Light`. `illuminate` is the emulated cell's; without one the light shines on nothing."""

    emulated = True

    def __init__(self, lines: tuple[str, ...], illuminate: Illuminate = lambda _lights: None) -> None:
        self.lines = lines
        self._illuminate = illuminate
        self._closed = False
        self.off()

    def apply(self, lights: Mapping[str, float]) -> None:
        """See the contract."""
        try:
            self._require(lights)
        except LightError:
            self._illuminate({})
            raise
        self._illuminate({line: level for line, level in lights.items() if level > 0})

    def off(self) -> None:
        """See the contract."""
        self._illuminate({})

    def close(self) -> None:
        """See the contract."""
        self._closed = True
        self._illuminate({})

    def _require(self, lights: Mapping[str, float]) -> None:
        if self._closed:
            raise LightError("the light controller is closed; open the cell again")
        for line, level in lights.items():
            if line not in self.lines:
                raise LightError(f"there is no light line {line}; the controller has {', '.join(self.lines)}")
            if not 0.0 <= level <= 1.0:
                raise LightError(f"light line {line} can't shine at {level:g}; relative intensities are 0 to 1")
