"""The simulated camera's features: a few of the SFNC's names with a real camera's limits and increments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cell.errors import CameraError
from cell.recipes import Channel, Recipe
from drivers.cameras.base import Value
from drivers.cameras.formats import formats_for

#: What the sensor takes.
EXPOSURE_US = (1.0, 10_000_000.0)
GAIN_DB = (0.0, 48.0)
_LARGEST = 32_768
_FORMATS = {8: "Mono8", 10: "Mono10", 12: "Mono12", 16: "Mono16"}


@dataclass(frozen=True, slots=True)
class _Range:
    low: float
    high: float
    step: float  # 0: continuous


_NUMBERS = {
    "Width": _Range(16, _LARGEST, 1),
    "Height": _Range(16, _LARGEST, 1),
    "OffsetX": _Range(0, _LARGEST, 1),
    "OffsetY": _Range(0, _LARGEST, 1),
    "BinningHorizontal": _Range(1, 8, 1),
    "BinningVertical": _Range(1, 8, 1),
    "ExposureTime": _Range(*EXPOSURE_US, 0),
    "Gain": _Range(*GAIN_DB, 0),
}
_CHOICES = {
    "PixelFormat": tuple(_FORMATS.values()),
    "TriggerMode": ("Off", "On"),
    "TriggerSource": ("Software", "Line1"),
}


class SimulatedFeatures:
    """See `drivers.cameras.base.Features`. What is written stays as it was asked for or is refused."""

    def __init__(self, execute: Callable[[str], None], require_open: Callable[[], None]) -> None:
        self._execute = execute
        self._require_open = require_open
        self._values: dict[str, Value] = {
            "Width": 640,
            "Height": 480,
            "OffsetX": 0,
            "OffsetY": 0,
            "BinningHorizontal": 1,
            "BinningVertical": 1,
            "ExposureTime": 1000.0,
            "Gain": 0.0,
            "PixelFormat": "Mono8",
            "TriggerMode": "On",
            "TriggerSource": "Software",
        }

    def names(self) -> tuple[str, ...]:
        """Names of all features that can be read."""
        return tuple(sorted(self._values))

    def read(self, name: str) -> Value:
        """Return a feature's value. Raises `CameraError` for an unknown one."""
        self._require_open()
        try:
            return self._values[name]
        except KeyError:
            raise CameraError(f"the simulated camera has no feature {name}; it has {', '.join(self.names())}") from None

    def write(self, name: str, value: Value) -> Value:
        """Set a feature and return it as read back. Raises `CameraError` naming asked and actual when it is clipped."""
        before = self.read(name)
        if name in _CHOICES:
            if value not in _CHOICES[name]:
                raise CameraError(
                    f"{name} was set to {value!r} and is {before!r}; it can be {', '.join(_CHOICES[name])}"
                )
            self._values[name] = value
            return value
        limits = _NUMBERS[name]
        if isinstance(value, str):
            raise CameraError(f"{name} was set to {value!r} and is {before!r}; it is a number")
        taken = min(max(float(value), limits.low), limits.high)
        if limits.step:
            taken = limits.low + limits.step * round((taken - limits.low) / limits.step)
        if abs(taken - float(value)) > limits.step / 2:
            raise CameraError(
                f"{name} was set to {value:g} and became {taken:g}; it can be {limits.low:g} to {limits.high:g}"
            )
        self._values[name] = int(taken) if limits.step else taken
        return self._values[name]

    def execute(self, name: str) -> None:
        """Carry out a command. Raises `CameraError` for an unknown one."""
        self._execute(name)

    def expose_as(self, channel: Channel) -> None:
        """Set what a channel asks for. Raises `CameraError` naming asked and actual when it is clipped."""
        for name, value in (("ExposureTime", channel.exposure_us), ("Gain", channel.gain_db)):
            if self._values[name] != value:
                self.write(name, value)

    def take(self, recipe: Recipe, on_line: bool) -> None:
        """Set what a recipe asks for. Raises `CameraError` naming the recipe and the value that can't be."""
        pixel_format = formats_for(recipe)[0].name
        wanted: dict[str, Value] = {
            "Width": recipe.width,
            "Height": recipe.height,
            "OffsetX": recipe.sensor.offset_x,
            "OffsetY": recipe.sensor.offset_y,
            "BinningHorizontal": recipe.sensor.binning,
            "BinningVertical": recipe.sensor.binning,
            "PixelFormat": pixel_format.removesuffix("p"),
            "TriggerSource": "Line1" if on_line else "Software",
        }
        try:
            for name, value in wanted.items():
                self.write(name, value)
            for channel in recipe.channels:
                self.expose_as(channel)
        except CameraError as error:
            raise CameraError(f"recipe {recipe.recipe_id}: {error}; correct the recipe") from error
