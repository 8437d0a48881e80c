"""The simulated light: lines without lamps, which decide what an emulated camera sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cell.errors import LightError
from cell.recipes import Recipe
from drivers.lights.base import check_lights, check_strobe, named

#: Told which lines shine from now on, at which relative intensity over the whole exposure.
Illuminate = Callable[[Mapping[str, float]], None]

_Scheme = tuple[frozenset[tuple[str, float]], float]


class SimulatedLight:
    """See `drivers.lights.base.Light`. `illuminate` is the emulated cell's; without one the light shines on nothing.

    It takes strobe widths, as a controller does that the camera triggers: a pulse shorter than the exposure of the
    prepared recipe's channel gives that share of the light.
    """

    emulated = True

    def __init__(self, lines: tuple[str, ...], illuminate: Illuminate = lambda _lights: None) -> None:
        self.lines = lines
        self._illuminate = illuminate
        self._closed = False
        self._levels: dict[str, float] = {}
        self._shares: dict[_Scheme, float] = {}
        self.off()

    def prepare(self, recipe: Recipe) -> None:
        """See the contract. Raises `LightError`, too, when one strobe scheme is used with different exposures."""
        self.off()
        self._shares.clear()
        for channel in recipe.channels:
            try:
                self._require(channel.lights, channel.strobe_us)
                if channel.strobe_us is not None:
                    scheme = _scheme(channel.lights, channel.strobe_us)
                    share = min(1.0, channel.strobe_us / channel.exposure_us)
                    if self._shares.setdefault(scheme, share) != share:
                        raise LightError(
                            f"an emulated strobe of {channel.strobe_us:g} us can't serve two exposures; the pulse "
                            "alone decides the brightness, so give both channels the same exposure_us"
                        )
            except LightError as error:
                self._shares.clear()
                raise named(channel, error) from error

    def apply(self, lights: Mapping[str, float], strobe_us: float | None = None) -> None:
        """See the contract."""
        try:
            self._require(lights, strobe_us)
        except LightError:
            self._shine({})
            raise
        share = 1.0 if strobe_us is None else self._shares.get(_scheme(lights, strobe_us), 1.0)
        self._shine({line: level for line, level in lights.items() if level > 0}, share)

    def arm(self, recipe: Recipe) -> None:
        """See the contract. With several schemes it stays dark: the simulated camera lights each frame of its own."""
        first = recipe.channels[0]
        if all((channel.lights, channel.strobe_us) == (first.lights, first.strobe_us) for channel in recipe.channels):
            self.apply(first.lights, first.strobe_us)
        else:
            self._require(first.lights, first.strobe_us)

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

    def _shine(self, levels: dict[str, float], share: float = 1.0) -> None:
        self._levels = levels
        self._illuminate(levels if share == 1.0 else {line: share * level for line, level in levels.items()})

    def _require(self, lights: Mapping[str, float], strobe_us: float | None) -> None:
        if self._closed:
            raise LightError("the light controller is closed; open the cell again")
        check_lights(lights, self.lines)
        check_strobe(strobe_us, strobed=True)


def _scheme(lights: Mapping[str, float], strobe_us: float) -> _Scheme:
    return frozenset(lights.items()), strobe_us
