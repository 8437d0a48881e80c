"""Was a picture taken as production takes it? What is learned from another light is not what the line will see."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell.defects import Mask
from cell.frames import Stack, StoredStack
from cell.recipes import Recipe

#: Share by which an exposure as read back may differ from the recipe's: cameras round to their own steps.
EXPOSURE_TOLERANCE = 0.05
#: The same for gain, dB; the coarsest common steps are 0.36 dB.
GAIN_TOLERANCE_DB = 0.4
#: Good parts that are needed to say how bright a channel usually is.
ENOUGH_REFERENCES = 8
#: A channel is lit otherwise when its level is off the good parts' by this share and by so many robust deviations.
_LEVEL_SHARE, _LEVEL_SPREAD = 0.13, 6.0
#: Share of the frame outside a defect below which its level says nothing about the light.
_LEAST_OUTSIDE = 0.4
_SAMPLES = 1 << 16


def levels(stack: Stack, defect: Mask | None = None) -> tuple[float, ...]:
    """Return the mean of each channel outside a defect, DN; empty when the defect covers most of the frame.

    :param stack: (K, H, W) DN; :param defect: (H, W) bool or None.
    """
    step = max(1, math.isqrt(stack[0].size // _SAMPLES))
    sampled = stack[:, ::step, ::step]
    if defect is None:
        means: NDArray[np.float64] = sampled.mean(axis=(1, 2))
    else:
        outside = ~defect[::step, ::step]
        if outside.mean() < _LEAST_OUTSIDE:
            return ()
        means = sampled[:, outside].mean(axis=1)
    return tuple(round(float(value), 3) for value in means)


@dataclass(frozen=True, slots=True)
class Taking:
    """How a picture was taken, as it says itself or as the ledger sealed it."""

    channels: tuple[str, ...]
    size: tuple[int, int]  # (height, width) px
    bit_depth: int
    exposure_us: tuple[float, ...]  # as read back; 0 where nobody read it
    gain_db: tuple[float, ...]
    lights: Mapping[str, Any]  # of each channel, where it was noted

    @classmethod
    def of(cls, stack: StoredStack) -> Taking:
        """Return how a stored picture was taken."""
        height, width = (int(length) for length in stack.pixels.shape[1:])
        noted = stack.metadata.get("lights")
        lights = noted if isinstance(noted, dict) else {}
        return cls(stack.channels, (height, width), stack.bit_depth, stack.exposure_us, stack.gain_db, lights)

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Taking | None:
        """Return what :meth:`facts` gave; None for facts that were sealed before they said it."""
        if "exposure_us" not in facts:
            return None
        height, width = facts["size"]
        rows = (tuple(facts["channels"]), (height, width), facts["bit_depth"])
        return cls(*rows, tuple(facts["exposure_us"]), tuple(facts["gain_db"]), facts["lights"])

    def facts(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "channels": list(self.channels),
            "size": list(self.size),
            "bit_depth": self.bit_depth,
            "exposure_us": list(self.exposure_us),
            "gain_db": list(self.gain_db),
            "lights": dict(self.lights),
        }


def unlike(recipe: Recipe, taking: Taking) -> tuple[str, ...]:
    """Return what differs from the recipe about how a picture was taken, a phrase each; empty when nothing does.

    Exposures of 0 were never read and are passed over; gains are compared where the exposure was read.
    """
    height, width = taking.size
    found: list[str] = []
    if (height, width) != (recipe.height, recipe.width):
        found.append(f"it has {width}x{height} pixels, the recipe {recipe.width}x{recipe.height}")
    if taking.bit_depth != recipe.bit_depth:
        found.append(f"it has {taking.bit_depth} bits, the recipe {recipe.bit_depth}")
    if taking.channels != recipe.channel_names:
        found.append(f"its channels are {', '.join(taking.channels)}, the recipe's {', '.join(recipe.channel_names)}")
        return tuple(found)
    for channel, exposure, gain in zip(recipe.channels, taking.exposure_us, taking.gain_db, strict=True):
        if exposure <= 0:
            continue
        if abs(exposure / channel.exposure_us - 1) > EXPOSURE_TOLERANCE:
            found.append(f"{channel.name} was exposed {exposure:g} us, the recipe says {channel.exposure_us:g} us")
        if abs(gain - channel.gain_db) > GAIN_TOLERANCE_DB:
            found.append(f"{channel.name} was taken with {gain:g} dB gain, the recipe says {channel.gain_db:g} dB")
    return tuple(found) + _other_lights(recipe, taking)


def lit_otherwise(
    found: Sequence[float], references: Sequence[Sequence[float]], channels: Sequence[str]
) -> tuple[str, ...]:
    """Return the channels whose light is not that of the good parts, a phrase each.

    :param found: levels of one picture; :param references: levels of the good parts, newest first.
    """
    usable = [one for one in references if len(one) == len(channels)]
    if len(found) != len(channels) or len(usable) < ENOUGH_REFERENCES:
        return ()
    logs = np.log(np.maximum(np.asarray(usable, np.float64), 0.5))
    usual = np.median(logs, axis=0)
    spread = 1.4826 * np.median(np.abs(logs - usual), axis=0)
    off = np.log(np.maximum(np.asarray(found, np.float64), 0.5)) - usual
    return tuple(
        f"{name} is {abs(math.expm1(difference)):.0%} {'brighter' if difference > 0 else 'darker'} than on good parts"
        for name, difference, wide in zip(channels, off, spread, strict=True)
        if abs(difference) > max(-math.log1p(-_LEVEL_SHARE), _LEVEL_SPREAD * wide)
    )


def _other_lights(recipe: Recipe, taking: Taking) -> tuple[str, ...]:
    """Compare the light settings where the picture says under which it was taken."""
    noted = taking.lights
    return tuple(
        f"{channel.name} was lit by {_said(noted[channel.name])}, the recipe says {_said(channel.lights)}"
        for channel in recipe.channels
        if isinstance(noted.get(channel.name), dict) and noted[channel.name] != channel.lights
    )


def _said(lights: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in sorted(lights.items())) or "nothing"
