"""Domain randomisation: the whole picture as another day's cell would have taken it. A step of its own, off by default.

After a candidate is made, every pixel of it, background included, may be given other light (level and profile of each
lamp), noise and focus. That breaks the promise that nothing outside the support changes, so it is never done unasked,
and the candidate's provenance tells what was drawn. Light is asked for in units of the spread that production itself
shows among the good parts: 1 is what is ordinary here, more is beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.calibration import Calibration
from cell.defects import Draft
from cell.frames import Stack
from cell.imaging import noise
from trainer.generate.base import BackgroundSample
from trainer.generate.domain import Randomisation

Floats = NDArray[np.float64]

#: Pixels of a background that its light is measured on, at most.
_SAMPLED = 20_000
#: Share of the light that no randomisation takes away.
_LEAST = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """How production differs from part to part, (K,) each: standard deviation of the logarithm of a light's level, and
    of its slope from one side of the frame to the other, down and across (2, K)."""

    level: Floats
    slope: Floats


def spread_of(backgrounds: Sequence[BackgroundSample], calibration: Calibration) -> Spread:
    """Measure the spread on good parts; nothing (0) where there is but one."""
    rows = np.stack([_light(one, calibration) for one in backgrounds])  # (N, K, 3)
    if len(rows) < 2:
        return Spread(np.zeros(rows.shape[1]), np.zeros((2, rows.shape[1])))
    deviation = rows.std(axis=0, ddof=1)
    return Spread(deviation[:, 0], deviation[:, 1:].T)


def _light(background: BackgroundSample, calibration: Calibration) -> Floats:
    """Return the logarithm of each light's level and its slopes, (K, 3), over where a defect may lie."""
    flat = np.flatnonzero(background.allowed)
    flat = flat[:: max(1, flat.size // _SAMPLED)]
    height, width = background.allowed.shape
    rows, columns = flat // width, flat % width
    table = np.stack([np.ones(flat.size), rows / height - 0.5, columns / width - 0.5], axis=1)
    found = []
    for pixels, channel in zip(background.stack, calibration.channels, strict=True):
        light = np.log(np.maximum(pixels.reshape(-1)[flat].astype(np.float64) - channel.noise.offset_dn, 1.0))
        found.append(np.linalg.lstsq(table, light, rcond=None)[0])
    return np.stack(found)


def randomised(
    draft: Draft,
    asked: Randomisation,
    spread: Spread,
    calibration: Calibration,
    bit_depth: int,
    rng: np.random.Generator,
) -> Draft:
    """Return the candidate with its whole picture altered, and what was drawn in its provenance."""
    count = len(draft.stack)
    level = np.exp(asked.light * spread.level * rng.standard_normal(count))
    slope = asked.profile * spread.slope * rng.standard_normal((2, count))
    more = float(rng.uniform(0.0, asked.noise))
    blur = float(rng.uniform(0.0, asked.focus_px))
    pixels = _altered(draft.stack, calibration, bit_depth, level, slope, more, blur, rng)
    told = {"noise": more, "focus_px": blur}
    for index, channel in enumerate(calibration.channels):
        told[f"light_{channel.channel}"] = float(level[index])
        told[f"down_{channel.channel}"], told[f"across_{channel.channel}"] = (float(one) for one in slope[:, index])
    provenance = draft.provenance.model_copy(update={"randomised": {key: round(v, 6) for key, v in told.items()}})
    return replace(draft, stack=pixels, provenance=provenance)


def _altered(
    stack: Stack,
    calibration: Calibration,
    bit_depth: int,
    level: Floats,
    slope: Floats,
    more: float,
    blur: float,
    rng: np.random.Generator,
) -> Stack:
    height, width = stack.shape[1:]
    down, across = np.linspace(-0.5, 0.5, height)[:, None], np.linspace(-0.5, 0.5, width)[None, :]
    altered = np.empty(stack.shape, np.float64)
    for index, (pixels, channel) in enumerate(zip(stack, calibration.channels, strict=True)):
        model = channel.noise
        factor = level[index] * np.maximum(1 + slope[0, index] * down + slope[1, index] * across, _LEAST)
        before = pixels.astype(np.float64)
        light = factor * (before - model.offset_dn)
        if blur > 0:
            light = ndimage.gaussian_filter(light, blur, mode="nearest")
        mean = ndimage.gaussian_filter(light, 1.0, mode="nearest") + model.offset_dn
        was = noise.sigma_dn(model, ndimage.gaussian_filter(before, 1.0, mode="nearest")) ** 2
        wanted = (1 + more) * noise.sigma_dn(model, mean) ** 2
        fresh = (noise.sample(model, mean, rng) - mean) / noise.sigma_dn(model, mean)
        # What noise the blur lets through, dimmed with the light, is not drawn a second time; too much of it stays.
        there = 1 - np.sqrt(np.maximum(1 - factor**2 * was / wanted, 0.0))
        passed = ndimage.gaussian_filter(fresh, np.sqrt(2) * blur, mode="nearest") if blur > 0 else fresh
        altered[index] = light + model.offset_dn + np.sqrt(wanted) * (fresh - there * passed)
    top = float((1 << bit_depth) - 1)
    result: Stack = np.rint(np.clip(altered, 0, top)).astype(stack.dtype)  # type: ignore[assignment]
    return result
