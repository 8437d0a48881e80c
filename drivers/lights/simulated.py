"""The simulated light: lines without lamps, which decide what an emulated camera sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cell.errors import LightError
from cell.recipes import Recipe
from drivers.lights.base import check_lights, check_strobe, named

#: Told which lines shine from now on, at which relative intensity.
Illuminate = Callable[[Mapping[str, float]], None]


class SimulatedLight:
    """See `drivers.lights.base.Light`. `illuminate` is the emulated cell's; without one the light shines on nothing.

    It takes strobe widths, as a controller does that is triggered by the camera.
    """

    emulated = True

    def __init__(self, lines: tuple[str, ...], illuminate: Illuminate = lambda _lights: None) -> None:
        self.lines = lines
        self._illuminate = illuminate
        self._closed = False
        self._levels: dict[str, float] = {}
        self.off()

    def prepare(self, recipe: Recipe) -> None:
        """See the contract."""
        self.off()
        for channel in recipe.channels:
            try:
                self._require(channel.lights, channel.strobe_us)
            except LightError as error:
                raise named(channel, error) from error

    def apply(self, lights: Mapping[str, float], strobe_us: float | None = None) -> None:
        """See the contract."""
        try:
            self._require(lights, strobe_us)
        except LightError:
            self._shine({})
            raise
        self._shine({line: level for line, level in lights.items() if level > 0})

    def off(self) -> None:
        """See the contract."""
        self._shine({})

    def levels(self) -> dict[str, float]:
        """See the contract."""
        return {line: self._levels.get(line, 0.0) for line in self.lines}

    def close(self) -> None:
        """See the contract."""
        self._closed = True
        self._shine({})

    def _shine(self, levels: dict[str, float]) -> None:
        self._levels = levels
        self._illuminate(levels)

    def _require(self, lights: Mapping[str, float], strobe_us: float | None) -> None:
        if self._closed:
            raise LightError("the light controller is closed; open the cell again")
        check_lights(lights, self.lines)
        check_strobe(strobe_us, strobed=True)
