"""The light contract: what every controller's driver promises.

All lines are off after construction, after :meth:`Light.close`, and whenever an error was raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Light(Protocol):
    """One light controller with its lines. Single-threaded, like a camera."""

    @property
    def lines(self) -> tuple[str, ...]:
        """Names of the lines, in the controller's order."""

    @property
    def emulated(self) -> bool:
        """True when nothing lights up."""

    def apply(self, lights: Mapping[str, float]) -> None:
        """Switch the named lines to these relative intensities in [0, 1] and all others off.

        On return the light has settled. Raises `LightError` for an unknown line, for a value the controller clips, and
        when it does not answer.
        """

    def off(self) -> None:
        """Switch every line off. Raises `LightError` when the controller does not confirm."""

    def close(self) -> None:
        """Switch off and release the controller. Never raises; may be called again."""
