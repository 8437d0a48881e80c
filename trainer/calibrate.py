"""Calibration: from frames to what is known of the cell's noise, light and sharpness.

With repeats of a still part it is measured (EMVA 1288). From backgrounds alone it is *degraded*: the noise comes from
many different parts, or is an upper bound from textures, the light is the mean of many parts, and nothing else is
claimed. What could not be known stands in the findings, a sentence each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from cell.calibration import (
    Calibration,
    CalibrationKind,
    ChannelCalibration,
    Illumination,
    LightDirection,
    NoiseSource,
    setup_digest,
)
from cell.errors import CalibrationError
from cell.frames import Stack
from cell.imaging.stillness import against_parts
from cell.recipes import Recipe
from trainer.calibrate_light import directions_of, lights_of, normals_residual
from trainer.calibrate_noise import ChannelNoise, noises_of
from trainer.calibrate_optics import Optics, optics_of
from trainer.calibration_pictures import curves_svg
from trainer.calibration_series import REPEATS, Level

__all__ = ["VALID_FOR", "Evidence", "Known", "calibrate", "curves_svg"]

#: A calibration is to be made anew after this long: lamps age, lenses are bumped.
VALID_FOR = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Known:
    """Dimensions that a person knows, mm; None when nobody said."""

    dot_pitch_mm: float | None = None
    part_length_mm: float | None = None
    ball_radius_mm: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a calibration is made from.

    `backgrounds` are good parts, (K, H, W) uint8 or uint16 DN each; none are needed where there are series. `levels`
    are series of still scenes, see :mod:`trainer.calibration_series`; with ``repeats`` the calibration is measured.
    `taken_at` says when each background was taken, for the lamps' drift. `from_folder`: the backgrounds are pictures
    from elsewhere, of which no gain is claimed.
    """

    backgrounds: Sequence[Stack] = ()
    levels: Sequence[Level] = ()
    known: Known = Known()
    taken_at: Sequence[datetime] = ()
    from_folder: bool = False
    emulated: bool | None = None


def calibrate(
    recipe: Recipe,
    evidence: Evidence,
    *,
    calibration_id: str,
    now: datetime,
    version: int = 1,
    valid_for: timedelta = VALID_FOR,
) -> Calibration:
    """Make a calibration.

    :raises CalibrationError: when there is nothing to measure on, or the series contradict production.
    """
    backgrounds, levels, known = evidence.backgrounds, evidence.levels, evidence.known
    if not backgrounds and not levels:
        raise CalibrationError("there are no good parts to calibrate from; harvest backgrounds first")
    findings = [sentence for level in levels for sentence in level.findings]
    _require_repeats(levels)
    _require_order(recipe, backgrounds, levels)
    noises = noises_of(recipe, backgrounds, levels, from_folder=evidence.from_folder)
    lights, light_findings = lights_of(recipe, backgrounds, levels, noises, evidence.taken_at)
    optics = optics_of(recipe, backgrounds, levels, noises, known.dot_pitch_mm, known.part_length_mm)
    directions, direction_findings = directions_of(
        recipe, levels, noises, lights, optics.px_per_mm, known.ball_radius_mm
    )
    findings += [f"{one.channel}: {sentence}" for one in noises for sentence in one.findings]
    findings += [*light_findings, *optics.findings, *direction_findings]
    measured = all(one.transfer.source in {NoiseSource.REPEATS, NoiseSource.SENSOR} for one in noises)
    return Calibration(
        calibration_id=calibration_id,
        recipe_id=recipe.recipe_id,
        version=version,
        kind=CalibrationKind.MEASURED if measured else CalibrationKind.DEGRADED,
        channels=tuple(_channels(recipe, noises, lights, optics, directions)),
        px_per_mm=optics.px_per_mm,
        px_per_mm_source=optics.px_per_mm_source,
        depth=optics.depth,
        normals_residual=normals_residual(recipe, levels, noises, lights, directions),
        frames_used=len(backgrounds) + sum(level.frames for level in levels),
        findings=tuple(dict.fromkeys(_shared(findings, recipe))),
        created_at=now,
        valid_until=now + valid_for,
        setup_digest=setup_digest(recipe),
        emulated=evidence.emulated,
    )


def _channels(
    recipe: Recipe,
    noises: Sequence[ChannelNoise],
    lights: Sequence[Illumination],
    optics: Optics,
    directions: Sequence[LightDirection | None],
) -> Iterator[ChannelCalibration]:
    for index, channel in enumerate(recipe.channels):
        sharpness, sigma = optics.channels[index]
        yield ChannelCalibration(
            channel=channel.name,
            noise=noises[index].model,
            transfer=noises[index].transfer,
            illumination=lights[index],
            psf_sigma_px=sigma,
            sharpness=sharpness,
            direction=directions[index],
        )


def _require_repeats(levels: Sequence[Level]) -> None:
    """Refuse repeats of which nothing can be used: who took them wants no degraded calibration in their place."""
    taken = [level for level in levels if level.kind == REPEATS]
    if taken and not any(level.stills for level in taken):
        said = "; ".join(dict.fromkeys(sentence for level in taken for sentence in level.findings))
        raise CalibrationError(f"nothing of the repeats can be used: {said}")


def _require_order(recipe: Recipe, backgrounds: Sequence[Stack], levels: Sequence[Level]) -> None:
    """Refuse repeats of a part whose channels look like other channels in production."""
    for level in levels:
        if level.kind != REPEATS or set(level.stills) != set(recipe.channel_names) or not backgrounds:
            continue
        means = np.stack([level.stills[name].mean for name in recipe.channel_names])
        wrong = against_parts(means[None].astype(np.uint16), backgrounds[:16], recipe.channel_names)
        if wrong:
            raise CalibrationError(wrong[0].sentence)


def _shared(findings: Sequence[str], recipe: Recipe) -> list[str]:
    """Say once what was found on every channel."""
    names = recipe.channel_names
    said: list[str] = []
    for finding in findings:
        name, _, rest = finding.partition(": ")
        everywhere = len(names) > 1 and name in names and all(f"{other}: {rest}" in findings for other in names)
        said.append(f"every channel: {rest}" if everywhere else finding)
    return said
