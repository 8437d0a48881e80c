"""The noise part of a calibration: one photon transfer a sensor, and what each channel says for itself.

Channels that the same camera takes at the same gain share a sensor: their series are fitted together, and a channel
whose own repeats say otherwise keeps its own model, with a finding. Without repeats the noise comes from many good
parts, or is a level from textures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cell.calibration import NoiseModel, NoiseSource, PhotonTransfer
from cell.errors import CalibrationError
from cell.frames import Pixels, Stack
from cell.imaging import noise, nonuniformity
from cell.imaging.noise_of_parts import fit_parts
from cell.imaging.photon_transfer import Still, TransferFit, fit
from cell.recipes import Channel, Recipe
from trainer.calibration_series import DARK, FLAT, Level

#: A channel's own gain departs from its sensor's when it does so by this share and by so many standard errors.
_DEPARTS, _SURE = 0.05, 4.0
#: Frames of production that are looked at for noise.
_MOST_PARTS = 48


@dataclass(frozen=True, slots=True)
class ChannelNoise:
    """What is known of one channel's noise."""

    channel: str
    model: NoiseModel
    transfer: PhotonTransfer
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Sensor:
    """The series of the channels that share a sensor."""

    lit: dict[str, list[Still]]
    flat: dict[str, list[Still]]
    dark: list[Still]


def noises_of(
    recipe: Recipe, backgrounds: Sequence[Stack], levels: Sequence[Level], *, from_folder: bool
) -> tuple[ChannelNoise, ...]:
    """Return every channel's noise, in the recipe's order. Raises `CalibrationError` when a channel has nothing."""
    groups: dict[tuple[str, float, str], list[Channel]] = {}
    for channel in recipe.channels:
        groups.setdefault((channel.camera, channel.gain_db, channel.plane), []).append(channel)
    found: dict[str, ChannelNoise] = {}
    for members in groups.values():
        sensor = _sensor(members, levels)
        if any(sensor.lit.values()):
            found |= _measured(members, sensor, levels, recipe.bit_depth)
            continue
        for channel in members:
            frames = [stack[recipe.channel_names.index(channel.name)] for stack in backgrounds]
            found[channel.name] = _estimated(channel.name, frames, recipe, from_folder=from_folder)
    return tuple(found[name] for name in recipe.channel_names)


def offset_at(darks: Sequence[Still], exposure_us: float) -> Still | None:
    """Return the dark series whose exposure is nearest; None when there is none."""
    return min(darks, key=lambda one: abs(np.log(max(one.exposure_us, 1e-3) / max(exposure_us, 1e-3))), default=None)


def darks_of(levels: Sequence[Level], names: Sequence[str]) -> list[Still]:
    """Return all dark series of these channels."""
    return [level.stills[name] for level in levels if level.kind == DARK for name in names if name in level.stills]


def _sensor(members: Sequence[Channel], levels: Sequence[Level]) -> _Sensor:
    names = [channel.name for channel in members]
    lit: dict[str, list[Still]] = {name: [] for name in names}
    flat: dict[str, list[Still]] = {name: [] for name in names}
    for level in levels:
        for name in names:
            if level.kind != DARK and name in level.stills:
                lit[name].append(level.stills[name])
                if level.kind == FLAT:
                    flat[name].append(level.stills[name])
    return _Sensor(lit, flat, darks_of(levels, names))


def _measured(
    members: Sequence[Channel], sensor: _Sensor, levels: Sequence[Level], bit_depth: int
) -> dict[str, ChannelNoise]:
    together = fit([one for stills in sensor.lit.values() for one in stills], sensor.dark, bit_depth=bit_depth)
    unevenness = _prnu(sensor, together)
    found = {}
    for channel in members:
        own = _own(sensor.lit[channel.name], sensor.dark, bit_depth)
        steps = _same_light(levels, channel.name)
        offsets = [_dark_level(sensor.dark, one.exposure_us, together.model.offset_dn) for one in steps]
        straight = nonuniformity.linearity_error(steps, offsets, together.model.saturation_dn)
        chosen, findings = _choose(own, together)
        findings += _linearity_findings(straight)
        transfer = chosen.transfer.model_copy(update={"prnu": unevenness, "linearity_error": straight})
        found[channel.name] = ChannelNoise(channel.name, chosen.model, transfer, tuple(findings))
    return found


def _dark_level(darks: Sequence[Still], exposure_us: float, otherwise: float) -> float:
    nearest = offset_at(darks, exposure_us)
    return otherwise if nearest is None else float(nearest.mean.mean())


def _own(stills: Sequence[Still], darks: Sequence[Still], bit_depth: int) -> TransferFit | None:
    if not stills:
        return None
    try:
        return fit(stills, darks, bit_depth=bit_depth)
    except CalibrationError:
        return None  # wholly clipped: the sensor's other channels speak for it


def _choose(own: TransferFit | None, together: TransferFit) -> tuple[TransferFit, list[str]]:
    if own is None:
        sentence = "its own repeats can't be used; its noise is that of the camera's other channels"
        return replace(together, transfer=_of(together, NoiseSource.SENSOR)), [sentence]
    findings = list(own.findings)
    shared = together.model.gain_dn_per_e
    # Its own small span of means is no loss where the sensor's other channels have a wider one.
    if together.gain_error < own.gain_error:
        findings = [sentence for sentence in findings if "too little to tell gain" not in sentence]
    departs = abs(own.model.gain_dn_per_e / shared - 1) if shared > 0 else 0.0
    if own.gain_error < _DEPARTS and departs > max(_DEPARTS, _SURE * own.gain_error):
        findings.append(
            f"its noise follows a gain of {own.model.gain_dn_per_e:.4g} DN per electron, the camera's channels "
            f"together {shared:.4g}: its lamp flickers within a frame, or the part trembled; its own is kept"
        )
        return own, findings
    model = own.model.model_copy(
        update={
            "gain_dn_per_e": shared,
            "read_noise_dn": together.model.read_noise_dn,
            "offset_dn": together.model.offset_dn,
        }
    )
    transfer = own.transfer.model_copy(
        update={
            "gain_error": together.transfer.gain_error,
            "read_noise_error": together.transfer.read_noise_error,
            "saturation_e": (model.saturation_dn - model.offset_dn) / shared if shared > 0 else None,
        }
    )
    return replace(own, model=model, transfer=transfer), findings


def _of(fitted: TransferFit, source: NoiseSource) -> PhotonTransfer:
    return fitted.transfer.model_copy(update={"source": source})


def _prnu(sensor: _Sensor, together: TransferFit) -> float | None:
    values = []
    for stills in sensor.flat.values():
        for one in stills:
            dark = offset_at(sensor.dark, one.exposure_us)
            value = nonuniformity.prnu(one, together.model, dark)
            if value is not None:
                values.append((float(one.mean.mean()), value))
    if not values:
        return None
    # The brightest tell most: photon noise fades against the pattern.
    brightest = max(level for level, _ in values)
    return float(np.median([value for level, value in values if level > 0.7 * brightest]))


def _same_light(levels: Sequence[Level], name: str) -> list[Still]:
    """Return the channel's series of one scene at full light, whichever scene has the most exposures."""
    scenes: dict[str, list[Still]] = {}
    for level in levels:
        if level.kind != DARK and name in level.stills and level.conditions.light_level == 1.0:
            scenes.setdefault(level.kind, []).append(level.stills[name])
    return max(scenes.values(), key=len, default=[])


def _linearity_findings(error: float | None) -> list[str]:
    if error is None or error <= 0.01:
        return []
    return [
        f"its answer departs from a straight line by {100 * error:.1f} %: switch gamma and look-up tables off in the "
        "camera, or the lamp does not shine as long as the exposure"
    ]


def _estimated(name: str, frames: Sequence[Pixels], recipe: Recipe, *, from_folder: bool) -> ChannelNoise:
    if not frames:
        raise CalibrationError(f"there is nothing to measure channel {name} on; take repeats, or harvest good parts")
    above = -1.0 if recipe.carrier_max_dn is None else float(recipe.carrier_max_dn)
    spread = [frames[int(index)] for index in np.linspace(0, len(frames) - 1, min(len(frames), _MOST_PARTS))]
    single = noise.estimate_from_singles(spread, bit_depth=recipe.bit_depth, above_dn=above)
    level = ChannelNoise(name, single.model, PhotonTransfer(source=NoiseSource.TEXTURE), single.findings)
    # A picture that went through a codec has no noise of the sensor's left at the frequencies that count; one that was
    # sharpened or smoothed shows it there by the shape of its spectrum.
    if from_folder or single.coded:
        return level
    production = fit_parts(spread, bit_depth=recipe.bit_depth, above_dn=above)
    if production is None:
        return level
    return ChannelNoise(name, production.model, production.transfer, production.findings)
