"""The light part of a calibration: profile, intensity, steadiness of each channel, and where its light comes from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from cell.calibration import Illumination, LightDirection, LightSource
from cell.errors import CalibrationError
from cell.frames import Stack
from cell.imaging import illumination, photometric
from cell.imaging.registration import locate
from cell.recipes import Recipe
from trainer.calibrate_noise import ChannelNoise, darks_of, offset_at
from trainer.calibration_series import BALL, FLAT, REPEATS, Level

Floats = NDArray[np.float64]

_STEADY = 0.01
#: Series shorter than this tell no change an hour: it would be flicker, multiplied by thousands.
_SHORTEST_S = 60.0
_SECONDS_AN_HOUR, _SECONDS_A_DAY = 3600.0, 86_400.0


def lights_of(
    recipe: Recipe,
    backgrounds: Sequence[Stack],
    levels: Sequence[Level],
    noises: Sequence[ChannelNoise],
    taken_at: Sequence[datetime],
) -> tuple[tuple[Illumination, ...], tuple[str, ...]]:
    """Return every channel's illumination, and what was found. Raises `CalibrationError` when there is nothing."""
    places = [locate(stack, recipe.carrier_max_dn) for stack in backgrounds]
    found = [(stack, place.mask) for stack, place in zip(backgrounds, places, strict=True) if place is not None]
    times = [at for at, place in zip(taken_at, places, strict=False) if place is not None]
    lights, findings, exposures = [], [], []
    for index, channel in enumerate(recipe.channels):
        offset = noises[index].model.offset_dn
        flat, sentences = _flat(channel.name, levels, noises[index], recipe)
        findings += sentences
        part_levels: tuple[float, ...] = ()
        exposures.append(channel.exposure_us)
        if found or flat is None:
            frames = [stack[index] for stack, _ in found]
            from_parts, part_levels = _parts(channel.name, frames, [mask for _, mask in found], offset, levels)
            flat = flat or from_parts
        light = flat.model_copy(
            update={
                "flicker": _flicker(levels, channel.name),
                "drift_per_hour": _drift(levels, channel.name),
                "drift_per_day": _daily(part_levels, times, offset),
            }
        )
        lights.append(light)
        findings += _steadiness(channel.name, light)
    shares = illumination.relative(lights, exposures, [one.model.offset_dn for one in noises])
    same = {light.source for light in lights}
    told = [
        light.model_copy(update={"relative_intensity": round(float(share), 4) if len(same) == 1 else None})
        for light, share in zip(lights, shares, strict=True)
    ]
    if LightSource.PARTS in same:
        findings.append(
            "no flat target was shown: the light's profile is the mean of many parts and holds the shading that "
            "they share"
        )
    return tuple(told), tuple(findings)


def directions_of(
    recipe: Recipe,
    levels: Sequence[Level],
    noises: Sequence[ChannelNoise],
    lights: Sequence[Illumination],
    px_per_mm: float | None,
    ball_radius_mm: float | None,
) -> tuple[tuple[LightDirection | None, ...], tuple[str, ...]]:
    """Return where each channel's light comes from, where a ball was shown, and what was found."""
    nothing = (None,) * len(recipe.channels)
    shown = [level for level in levels if level.kind == BALL and set(level.stills) == set(recipe.channel_names)]
    if not shown:
        missing = [level for level in levels if level.kind == BALL]
        sentence = "a ball was shown, but not on every channel: light directions are unknown"
        return nothing, (sentence,) if missing else ()
    level = shown[0]
    radius_mm = ball_radius_mm or _number(level.facts.get("ball_radius_mm"))
    if radius_mm is None or px_per_mm is None:
        return nothing, (
            "a ball was shown, but its radius or the scale in mm is unknown: light directions are unknown; give the "
            "ball's radius, and show a target with dots",
        )
    lit = _even(recipe, level, levels, noises, lights)
    try:
        ball = photometric.find_ball(lit)
        found = photometric.directions(lit, ball, radius_mm * px_per_mm)
    except CalibrationError as error:
        return nothing, (f"light directions are unknown: {error}",)
    directions = tuple(
        LightDirection(
            x=round(float(one.vector[0]), 5),
            y=round(float(one.vector[1]), 5),
            z=round(float(one.vector[2]), 5),
            residual=round(one.residual, 5),
        )
        if one.directional
        else None
        for one in found
    )
    spread = [name for name, one in zip(recipe.channel_names, directions, strict=True) if one is None]
    finding = f"{', '.join(spread)}: the light comes from no one side, so it has no direction"
    return directions, (finding,) if spread else ()


def normals_residual(
    recipe: Recipe,
    levels: Sequence[Level],
    noises: Sequence[ChannelNoise],
    lights: Sequence[Illumination],
    directions: Sequence[LightDirection | None],
) -> float | None:
    """Return the median share of a still part's light that its normals leave unexplained; None without directions."""
    solved = normals_of(recipe, levels, noises, lights, directions)
    if solved is None:
        return None
    _, albedo, left = solved
    seen = albedo > 0.1 * float(np.percentile(albedo, 95))
    return round(float(np.median(left[seen])), 5)


def normals_of(
    recipe: Recipe,
    levels: Sequence[Level],
    noises: Sequence[ChannelNoise],
    lights: Sequence[Illumination],
    directions: Sequence[LightDirection | None],
) -> tuple[Floats, Floats, Floats] | None:
    """Return normals (3, H, W), albedo and residual of the still part by photometric stereo; None when not possible."""
    chosen = [index for index, one in enumerate(directions) if one is not None]
    names = {recipe.channel_names[index] for index in chosen}
    shown = [level for level in levels if level.kind == REPEATS and names <= set(level.stills)]
    flat = all(lights[index].source is LightSource.FLAT for index in chosen)
    if len(chosen) < 3 or not shown or not flat:
        return None
    even = _even(recipe, shown[0], levels, noises, lights, scaled=True)
    vectors = [np.asarray(direction.vector) for direction in directions if direction is not None]
    try:
        return photometric.normals(even[chosen], vectors)
    except CalibrationError:
        return None


def _even(
    recipe: Recipe,
    level: Level,
    levels: Sequence[Level],
    noises: Sequence[ChannelNoise],
    lights: Sequence[Illumination],
    *,
    scaled: bool = False,
) -> Floats:
    """Return a level's light (K, H, W), dark level and the lamps' profiles taken out.

    :param scaled: divide by what the flat target showed in the same exposure, so that it would be 1 everywhere.
    """
    pictures = []
    for index, channel in enumerate(recipe.channels):
        seen = level.stills.get(channel.name)
        if seen is None:
            pictures.append(np.zeros((recipe.height, recipe.width)))
            continue
        dark = offset_at(darks_of(levels, [channel.name]), seen.exposure_us)
        offset = noises[index].model.offset_dn
        net = seen.mean - (offset if dark is None else dark.mean)
        profile = illumination.field(lights[index], *net.shape)
        net = net / np.maximum(profile, 0.05)
        if scaled:
            net = net / max(lights[index].mean_dn - offset, 1e-6) * channel.exposure_us / max(seen.exposure_us, 1e-6)
        pictures.append(net)
    return np.stack(pictures)


def _flat(
    name: str, levels: Sequence[Level], noise: ChannelNoise, recipe: Recipe
) -> tuple[Illumination | None, list[str]]:
    wanted = recipe.channels[recipe.channel_names.index(name)].exposure_us
    shown = [level for level in levels if level.kind == FLAT and name in level.stills]
    # The brightest that is not clipped is the least noisy; its level is told for the recipe's own exposure and light.
    for level in sorted(shown, key=lambda one: -one.stills[name].mean.mean()):
        seen = level.stills[name]
        dark = offset_at(darks_of(levels, [name]), seen.exposure_us)
        offset = noise.model.offset_dn
        try:
            light = illumination.from_flat(
                seen.mean.astype(np.float64),
                offset,
                noise.model.saturation_dn,
                None if dark is None else dark.mean.astype(np.float64),
            )
        except CalibrationError as error:
            if level is min(shown, key=lambda one: one.stills[name].mean.mean()):
                return None, [f"{name}: {error}"]
            continue
        share = wanted / max(seen.exposure_us, 1e-6) / max(level.conditions.light_level, 1e-6)
        return light.model_copy(update={"mean_dn": offset + (light.mean_dn - offset) * share}), []
    return None, []


def _parts(
    name: str, frames: Sequence[Stack], masks: Sequence[NDArray[np.bool_]], offset: float, levels: Sequence[Level]
) -> tuple[Illumination, tuple[float, ...]]:
    if frames:
        return illumination.from_parts(frames, masks, offset)
    still = next((level.stills[name] for level in levels if level.kind == REPEATS and name in level.stills), None)
    if still is None:
        raise CalibrationError(f"there is nothing to know channel {name}'s light from; show a flat target or harvest")
    whole = np.ones(still.mean.shape, np.bool_)
    return illumination.from_parts([still.mean], [whole], offset)  # type: ignore[list-item]


def _series(levels: Sequence[Level], name: str) -> list[Level]:
    return [level for level in levels if level.kind in {REPEATS, FLAT} and name in level.stills]


def _flicker(levels: Sequence[Level], name: str) -> float | None:
    values = [illumination.flicker_of(level.stills[name].levels) for level in _series(levels, name)]
    return round(float(np.median(values)), 6) if values else None


def _drift(levels: Sequence[Level], name: str) -> float | None:
    for level in _series(levels, name):
        if level.seconds and max(level.seconds) - min(level.seconds) >= _SHORTEST_S:
            drift = illumination.drift_of(level.stills[name].levels, level.seconds)
            return 0.0 if drift is None else round(drift * _SECONDS_AN_HOUR, 6)
    return None


def _daily(part_levels: Sequence[float], times: Sequence[datetime], offset: float) -> float | None:
    if len(times) != len(part_levels) or len(times) < 20:
        return None
    seconds = [(at - times[0]).total_seconds() for at in times]
    if max(seconds) - min(seconds) < _SECONDS_A_DAY / 2:
        return None
    drift = illumination.drift_of([level - offset for level in part_levels], seconds)
    return 0.0 if drift is None else round(drift * _SECONDS_A_DAY, 6)


def _steadiness(name: str, light: Illumination) -> list[str]:
    found = []
    if light.flicker is not None and light.flicker > _STEADY:
        found.append(f"{name}: the light flickers by {100 * light.flicker:.1f} % from frame to frame; check its supply")
    if light.drift_per_day is not None and abs(light.drift_per_day) > _STEADY:
        found.append(f"{name}: the light changed by {100 * light.drift_per_day:+.1f} % a day over the good parts")
    return found


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None
