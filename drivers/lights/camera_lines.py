"""Lamps on the output lines of a camera, over GenICam's features (SFNC: digital I/O and counter and timer control).

A line is on or off; its brightness is the lamp driver's. In mode ``pulsed`` a lit line follows ``ExposureActive``, or
the camera's Timer1 where the channel has a strobe width, so that the camera itself ends the light whatever becomes of
the host. In mode ``continuous`` it follows a user output and stays until it is switched: nothing ends it when the
host stalls, because a camera keeps its outputs. Dark is a user output that is off, in both modes.

Features go through the camera's own driver, so everything happens on its thread and every write is read back there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from cell.errors import CameraError, HardwareError, LightError
from cell.recipes import Recipe
from cell.settings import LightOutput, LightSettings
from drivers.cameras.base import Camera
from drivers.lights.base import check_exposure, check_lights, check_strobe, named, only_scheme
from drivers.lights.stepping import differing, require_in_step, require_sequencer

_TIMER = "Timer1"
_NEEDED = ("LineSelector", "LineSource", "UserOutputSelector", "UserOutputValue")


def carry_exposure(camera: Camera, line: str) -> None:
    """Let a camera's output line follow its exposure, to trigger a light controller. Raises `LightError`."""
    try:
        camera.features.write("LineSelector", line)
        if "LineMode" in camera.features.names():
            camera.features.write("LineMode", "Output")
        camera.features.write("LineSource", "ExposureActive")
    except HardwareError as error:
        raise LightError(
            f"camera {camera.name} does not carry its exposure on {line}, which should trigger the light: {error}"
        ) from error


class CameraLineLight:
    """See `drivers.lights.base.Light`. It has no thread and shares the camera's: same owner, same thread."""

    def __init__(self, camera: Camera, settings: LightSettings, *, triggered: bool = False) -> None:
        """Make all lines dark outputs. Raises `LightError`, also when the camera has no such lines.

        :param triggered: a line or action command triggers the camera, whose sequencer then switches the lamps.
        """
        self.lines = settings.names
        self._camera = camera
        self._settings = settings
        self._closed = False
        self._lit: dict[str, str] | None = None  # line source of what shines; None: not known
        self._strobe_us: float | None = None
        self._triggered = triggered
        self._stepping = self._running = False  # the sequencer has the lines; the camera takes triggers
        try:
            self._has = frozenset(camera.features.names())
        except CameraError as error:
            raise LightError(f"the lines of camera {camera.name} can't be read: {error}") from error
        missing = [name for name in _NEEDED if name not in self._has]
        if missing:
            raise LightError(
                f"camera {camera.name} has no {missing[0]}, so no lamp can be switched by its lines; choose another "
                "light.driver"
            )
        self.off()

    @property
    def emulated(self) -> bool:
        """True when the camera is: an emulated line lights nothing."""
        return self._camera.emulated

    def prepare(self, recipe: Recipe) -> None:
        """See the contract.

        Where the camera's sequencer switches the lamps it takes no triggers from here to :meth:`arm`, which is dark.
        """
        self._open()
        self._stepping = self._running = False
        self._lit = None
        if self._triggered and differing(recipe) is not None:
            self._hand_over(recipe)
            return
        try:
            for channel in recipe.channels:
                try:
                    self.apply(channel.lights, channel.strobe_us)
                    check_exposure(channel, 0.0)
                except LightError as error:
                    raise named(channel, error) from error
        finally:
            with contextlib.suppress(LightError):
                self.off()

    def apply(self, lights: Mapping[str, float], strobe_us: float | None = None) -> None:
        """See the contract. Raises `LightError` for an intensity between 0 and 1, too."""
        try:
            self._open()
            if self._stepping:  # somebody at a slider; the next run prepares its recipe anew
                self._take_back()
            self._check(lights, strobe_us)
            wanted = {line: self._source(line, strobe_us) for line, level in lights.items() if level}
            if self._lit is None:
                self._darken()
            self._time(strobe_us)
            self._switch(wanted)
        except HardwareError as error:
            self._lit = None
            if not self._closed:
                with contextlib.suppress(HardwareError):
                    self._darken()
            if isinstance(error, LightError):
                raise
            raise LightError(f"the lines of camera {self._camera.name} can't be switched: {error}") from error

    def arm(self, recipe: Recipe) -> None:
        """See the contract."""
        if not self._triggered or differing(recipe) is None:
            self.apply(*only_scheme(recipe))
            return
        self._open()
        if not self._stepping:
            self.prepare(recipe)
        try:
            if not self._running:
                if self._settings.mode == "continuous":
                    self._write("SequencerMode", "On")
                self._camera.features.execute("AcquisitionStart")
                self._running = True
        except CameraError as error:
            raise LightError(f"camera {self._camera.name} can't take triggers for its lamps: {error}") from error
        require_sequencer(self._camera, recipe)

    def off(self) -> None:
        """See the contract. Everything is written that differs: the camera may be another since, or have lost power.

        Lamps that the camera's sequencer switches are dark when the camera takes no more triggers.
        """
        self._open()
        self._lit = None
        try:
            if self._stepping:
                self._halt()
            else:
                self._darken()
        except CameraError as error:
            raise LightError(f"the lines of camera {self._camera.name} can't be switched off: {error}") from error

    def levels(self) -> dict[str, float]:
        """See the contract."""
        self._open()
        try:
            return {line: float(self._on(output)) for line, output in self._settings.outputs.items()}
        except CameraError as error:
            raise LightError(f"the lines of camera {self._camera.name} can't be read: {error}") from error

    def close(self) -> None:
        """See the contract."""
        if self._closed:
            return
        with contextlib.suppress(HardwareError):
            self.off()
        self._closed = True

    def _hand_over(self, recipe: Recipe) -> None:
        """Let the camera's sequencer have the lines, dark until :meth:`arm`. Raises `LightError`."""
        for channel in recipe.channels:
            try:
                self._check(channel.lights, channel.strobe_us)
                check_exposure(channel, 0.0)
            except LightError as error:
                with contextlib.suppress(HardwareError):
                    self._halt()
                raise named(channel, error) from error
        require_in_step(recipe, self._settings.camera)
        require_sequencer(self._camera, recipe)
        self._stepping = True
        self.off()

    def _halt(self) -> None:
        """Let the camera take no more triggers; continuous lamps are switched off as well. Raises `CameraError`."""
        self._running = False
        self._camera.features.execute("AcquisitionStop")
        if self._settings.mode == "continuous":
            self._write("SequencerMode", "Off")
            self._darken()

    def _take_back(self) -> None:
        """Take the lines from the sequencer, dark. Raises `CameraError`."""
        self._stepping = False
        self._halt()
        if self._settings.mode != "continuous":
            self._write("SequencerMode", "Off")
            self._darken()

    def _open(self) -> None:
        if self._closed:
            raise LightError("the light controller is closed; open the cell again")

    def _check(self, lights: Mapping[str, float], strobe_us: float | None) -> None:
        check_lights(lights, self.lines)
        check_strobe(strobe_us, strobed=self._settings.mode == "pulsed")
        for line, level in lights.items():
            if level not in {0.0, 1.0}:
                raise LightError(
                    f"light line {line} can't shine at {level:g}: a camera's line is 0 or 1; set the brightness at the "
                    "lamp or the exposure in the recipe"
                )

    def _source(self, line: str, strobe_us: float | None) -> str:
        if self._settings.mode == "continuous":
            return _user_output(self._settings.outputs[line])
        return "ExposureActive" if strobe_us is None else f"{_TIMER}Active"

    def _time(self, strobe_us: float | None) -> None:
        if strobe_us is None or strobe_us == self._strobe_us:
            return
        if "TimerDuration" not in self._has:
            raise LightError(
                f"camera {self._camera.name} has no timer for a strobe of {strobe_us:g} us; leave strobe_us out of the "
                "recipe and shorten the exposure"
            )
        self._strobe_us = None
        self._write("TimerSelector", _TIMER)
        self._write("TimerTriggerSource", "ExposureStart")
        self._write("TimerDuration", strobe_us)
        self._strobe_us = strobe_us

    def _switch(self, wanted: Mapping[str, str]) -> None:
        """Change what differs, dark lines first: no moment has more light than one of the two schemes."""
        lit = self._lit or {}
        self._lit = None
        for line in lit.keys() - wanted.keys():
            self._set(self._settings.outputs[line], on=False)
        for line, source in wanted.items():
            if lit.get(line) != source:
                self._set(self._settings.outputs[line], on=True, source=source)
        self._lit = dict(wanted)

    def _set(self, output: LightOutput, *, on: bool, source: str = "") -> None:
        user_output = _user_output(output)
        if self._settings.mode == "continuous":
            self._write("UserOutputSelector", user_output)
            self._write("UserOutputValue", on)
        else:
            self._write("LineSelector", output.camera_line)
            self._write("LineSource", source if on else user_output)

    def _darken(self) -> None:
        """Give every line its dark user output, polarity and direction, in the order that never flashes."""
        self._strobe_us = None
        for output in self._settings.outputs.values():
            user_output = _user_output(output)
            self._write("UserOutputSelector", user_output)
            self._require("UserOutputValue", False)
            self._write("LineSelector", output.camera_line)
            self._require("LineSource", user_output)
            if "LineInverter" in self._has or output.inverted:
                self._require("LineInverter", output.inverted)
            if "LineMode" in self._has:
                self._require("LineMode", "Output")
        self._lit = {}

    def _on(self, output: LightOutput) -> bool:
        self._write("LineSelector", output.camera_line)
        user_output = _user_output(output)
        if self._camera.features.read("LineSource") != user_output:
            return True
        self._write("UserOutputSelector", user_output)
        return bool(self._camera.features.read("UserOutputValue"))

    def _require(self, name: str, value: str | float | bool) -> None:
        """Write a feature only where it differs: reading is cheap, and some lines' direction can't be written."""
        if self._camera.features.read(name) != value:
            self._write(name, value)

    def _write(self, name: str, value: str | float | bool) -> None:
        self._camera.features.write(name, value)


def _user_output(output: LightOutput) -> str:
    return f"UserOutput{output.channel}"
