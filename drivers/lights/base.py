"""The light contract: what every controller's driver promises.

::

    opened, dark --apply(scheme)--> lit --off()--> dark
         |   \\--prepare(recipe)--> dark, its schemes checked
         |    \\--arm(recipe)--> lit, or lit with each of the camera's own triggers
         |     \\--an error is raised--> dark, as far as the controller answers
         close() --> dark, for good

All lines are off after construction (whatever a crashed process left behind), after :meth:`Light.prepare`,
:meth:`Light.off` and :meth:`Light.close`, and whenever an error was raised. A sequence is recipe > sequence of channels
> frame: one scheme, of one or several lines, is applied for each frame.

Where light must not outlive its program, the hardware has to see to it: a strobed line (mode ``pulsed``) is dark
without a trigger, whatever becomes of the host. Continuous light is switched off by the driver when nobody switched it
for ``dark_after_s``, and by a guard process when the program dies; neither helps when the whole host stops.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from cell.errors import LightError
from cell.recipes import Channel, Recipe


class Light(Protocol):
    """One or several light controllers with their lines, up to 32. Single-threaded for its owner, like a camera."""

    @property
    def lines(self) -> tuple[str, ...]:
        """Names of the lines, in the settings' order."""

    @property
    def emulated(self) -> bool:
        """True when nothing lights up; told by the controller, never by configuration."""

    def prepare(self, recipe: Recipe) -> None:
        """Try every channel's scheme on the controller and read it back, so that :meth:`apply` is cheap. Ends dark.

        Raises `LightError` for an unknown line, for a value the controller clips (naming the one asked for and the
        one it took), for a strobe width where lines are not strobed, and when it does not answer.
        """

    def apply(self, lights: Mapping[str, float], strobe_us: float | None = None) -> None:
        """Switch the named lines to these relative intensities in [0, 1] and all others off.

        On return continuous light has settled and strobed lines are armed, read back from the controller where it
        can tell.

        :param strobe_us: pulse width; None lets the lines shine as long as the exposure lasts, or continuously.

        Raises `LightError` like :meth:`prepare`.
        """

    def arm(self, recipe: Recipe) -> None:
        """Light the frames that the camera takes on its own trigger, until :meth:`off`.

        All channels must have one scheme, unless the hardware steps from scheme to scheme with the frames
        (`drivers.lights.stepping`): a host is too slow for that. A driver that knows that the camera is triggered so
        refuses in :meth:`prepare` what it can't follow. To be called again and again while the camera waits, which
        costs little: it tends continuous light and tells of what went wrong since. Raises `LightError` like
        :meth:`prepare`.
        """

    def off(self) -> None:
        """Switch every line off. Raises `LightError` when the controller does not confirm."""

    def levels(self) -> dict[str, float]:
        """Return the relative intensity of each line as the controller tells it now. Raises `LightError`."""

    def close(self) -> None:
        """Switch off and release the controller. Never raises; may be called again."""


def check_lights(lights: Mapping[str, float], lines: Iterable[str]) -> None:
    """Refuse lines that are not there and intensities outside [0, 1]. Raises `LightError` naming the line."""
    known = tuple(lines)
    for line, level in lights.items():
        if line not in known:
            raise LightError(f"there is no light line {line}; the controller has {', '.join(known)}")
        if not 0.0 <= level <= 1.0:
            raise LightError(f"light line {line} can't shine at {level:g}; relative intensities are 0 to 1")


def check_strobe(strobe_us: float | None, *, strobed: bool) -> None:
    """Refuse a pulse width where lines are not strobed, or one that is none. Raises `LightError`."""
    if strobe_us is None:
        return
    if not strobe_us > 0:
        raise LightError(f"a strobe of {strobe_us:g} us is none; the pulse width must be above 0")
    if not strobed:
        raise LightError(
            f"a strobe of {strobe_us:g} us was asked of continuous light; set light.mode to pulsed and wire the "
            "trigger, or leave strobe_us out of the recipe"
        )


def check_exposure(channel: Channel, delay_us: float) -> None:
    """Refuse a pulse that would end after the exposure it belongs to. Raises `LightError`.

    :param delay_us: from the start of the exposure to the start of the pulse.
    """
    if channel.strobe_us is not None and delay_us + channel.strobe_us > channel.exposure_us:
        raise LightError(
            f"a strobe of {channel.strobe_us:g} us that begins {delay_us:g} us after the exposure ends later than the "
            f"exposure of {channel.exposure_us:g} us; lengthen exposure_us or shorten strobe_us"
        )


def only_scheme(recipe: Recipe) -> tuple[Mapping[str, float], float | None]:
    """Return the one scheme of all channels of a recipe. Raises `LightError` naming the first that differs."""
    first = recipe.channels[0]
    for channel in recipe.channels[1:]:
        if (channel.lights, channel.strobe_us) != (first.lights, first.strobe_us):
            raise LightError(
                f"channel {channel.name} has other light than channel {first.name}, and this light can't change it "
                "between the frames of a hardware trigger; give them one scheme, or let software trigger the camera"
            )
    return first.lights, first.strobe_us


def named(channel: Channel, error: LightError) -> LightError:
    """Return the error with the recipe's channel in front, which is what its reader has to change."""
    return LightError(f"channel {channel.name}: {error}", fault=error.fault)
