"""The optics part of a calibration: sharpness of each channel, pixels per millimetre, depth of field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cell.calibration import Depth, Sharpness
from cell.errors import CalibrationError
from cell.frames import Stack
from cell.imaging import scale, slanted_edge
from cell.imaging.registration import locate
from cell.recipes import Recipe
from trainer.calibrate_noise import ChannelNoise
from trainer.calibration_series import BALL, FLAT, REPEATS, TARGET, Level

Floats = NDArray[np.float64]

#: A grid whose directions differ by more than this is seen askew, or the pixels are not square.
_SKEW = 0.005
#: Pictures of moving parts that are searched for edges.
_MOST_PARTS = 8
_FEWEST_PART_EDGES = 3


@dataclass(frozen=True, slots=True)
class Optics:
    """Sharpness and point spread (pixels, 0 unknown) of each channel, scale, depth of field, and what was found."""

    channels: tuple[tuple[Sharpness | None, float], ...]
    px_per_mm: float | None
    px_per_mm_source: str
    depth: Depth | None
    findings: tuple[str, ...]


def optics_of(
    recipe: Recipe,
    backgrounds: Sequence[Stack],
    levels: Sequence[Level],
    noises: Sequence[ChannelNoise],
    dot_pitch_mm: float | None,
    part_length_mm: float | None,
) -> Optics:
    """Return what targets, or failing them the parts' own edges, say of the optics."""
    findings: list[str] = []
    targets = sorted((level for level in levels if level.kind == TARGET), key=lambda one: abs(one.conditions.height_mm))
    found = _sharpness(recipe, targets[:1], noises, TARGET)
    if not any(found.values()):
        if targets:
            findings.append(
                "the target shows no slanted edge that serves; show one with edges slanted by 2 to 30 degrees"
            )
        found = _from_parts(recipe, backgrounds, levels, noises)
        if any(found.values()):
            findings.append("the point spread comes from the parts' own edges and is an upper bound; show a target")
    usual = [one for one in found.values() if one is not None]
    px_per_mm, source, sentences = _scale(recipe, backgrounds, targets, dot_pitch_mm, part_length_mm)
    findings += sentences
    unknown = [what for what, known in (("scale in mm", px_per_mm), ("point spread", usual)) if not known]
    if unknown:
        told = " and ".join(unknown)
        findings.append(f"no target was shown: {told} {'is' if len(unknown) == 1 else 'are'} unknown")
    depth, sentences = _depth(recipe, targets, noises)
    channels = tuple(_channel(found.get(name), usual) for name in recipe.channel_names)
    return Optics(channels, px_per_mm, source, depth, (*findings, *sentences))


def _channel(
    own: tuple[Sharpness, float] | None, usual: Sequence[tuple[Sharpness, float]]
) -> tuple[Sharpness | None, float]:
    """Give a channel that shows no edge the point spread of the others: the lens is the same."""
    if own is not None:
        return own
    return None, round(float(np.median([sigma for _, sigma in usual])), 4) if usual else 0.0


def _sharpness(
    recipe: Recipe, levels: Sequence[Level], noises: Sequence[ChannelNoise], source: str
) -> dict[str, tuple[Sharpness, float] | None]:
    found: dict[str, tuple[Sharpness, float] | None] = dict.fromkeys(recipe.channel_names)
    for index, name in enumerate(recipe.channel_names):
        pictures = [
            level.stills[name].mean.astype(np.float64) - noises[index].model.offset_dn
            for level in levels
            if name in level.stills
        ]
        found[name] = _measured(pictures, source, fewest=1)
    return found


def _measured(pictures: Sequence[Floats], source: str, fewest: int) -> tuple[Sharpness, float] | None:
    edges: list[slanted_edge.Edge] = []
    for picture in pictures:
        edges += slanted_edge.edges(picture)
    if len(edges) < fewest:
        return None
    try:
        one = slanted_edge.combined(edges)
    except CalibrationError:
        return None
    sharpness = Sharpness(
        mtf50=round(one.mtf50, 5),
        frequency=tuple(round(float(value), 4) for value in slanted_edge.FREQUENCIES),
        mtf=tuple(round(float(value), 5) for value in one.mtf),
        edges=len(one.edges),
        source=source,
    )
    return sharpness, round(one.sigma_px, 4)


def _from_parts(
    recipe: Recipe, backgrounds: Sequence[Stack], levels: Sequence[Level], noises: Sequence[ChannelNoise]
) -> dict[str, tuple[Sharpness, float] | None]:
    stills = [level for level in levels if level.kind in {REPEATS, FLAT, BALL}]
    found: dict[str, tuple[Sharpness, float] | None] = {}
    for index, name in enumerate(recipe.channel_names):
        offset = noises[index].model.offset_dn
        pictures = [level.stills[name].mean.astype(np.float64) - offset for level in stills if name in level.stills]
        pictures = pictures or [stack[index].astype(np.float64) - offset for stack in backgrounds[:_MOST_PARTS]]
        found[name] = _measured(pictures, "parts", _FEWEST_PART_EDGES)
    return found


def _scale(
    recipe: Recipe,
    backgrounds: Sequence[Stack],
    targets: Sequence[Level],
    dot_pitch_mm: float | None,
    part_length_mm: float | None,
) -> tuple[float | None, str, list[str]]:
    findings: list[str] = []
    pitch = dot_pitch_mm or next((_number(level.facts.get("dot_pitch_mm")) for level in targets), None)
    if targets and pitch is not None:
        # The channel that shows the target most evenly and brightly: the median of all is as good and needs no choice.
        scales = []
        for still in targets[0].stills.values():
            try:
                scales.append(scale.from_dots(still.mean, pitch))
            except CalibrationError as error:
                findings.append(f"{TARGET}: {error}")
        if scales:
            best = min(scales, key=lambda one: one.residual_px)
            skew = abs(best.along / best.across - 1)
            told = f"the grid's two directions differ by {100 * skew:.1f} %: the target or the camera stands askew"
            return best.px_per_mm, "dots", [told] if skew > _SKEW else []
    if part_length_mm is not None and backgrounds:
        values = []
        for stack in backgrounds[:_MOST_PARTS]:
            place = locate(stack, recipe.carrier_max_dn)
            try:
                values.append(
                    scale.from_length(np.zeros((1, 1), np.bool_) if place is None else place.mask, part_length_mm)
                )
            except CalibrationError as error:
                findings.append(str(error))
        if values:
            return float(np.median([one.px_per_mm for one in values])), "part", []
    return None, "", list(dict.fromkeys(findings))


def _depth(recipe: Recipe, targets: Sequence[Level], noises: Sequence[ChannelNoise]) -> tuple[Depth | None, list[str]]:
    """Fit the blur over the target's heights: sigma^2 = s0^2 + (b (z - z0))^2 / 4, a disc of radius b |z - z0|."""
    heights, spreads = [], []
    for level in targets:
        sigmas = [one[1] for one in _sharpness(recipe, [level], noises, TARGET).values() if one is not None]
        if sigmas:
            heights.append(level.conditions.height_mm)
            spreads.append(float(np.median(sigmas)) ** 2)
    if len(set(heights)) < 3:
        told = "the target was shown at fewer than three heights: the depth of field is unknown"
        return None, [told] if targets else []
    square, slope, level_0 = np.polyfit(heights, spreads, 2)
    if square <= 0:
        return None, ["the target is as sharp at every height it was shown at: the depth of field is larger than that"]
    focus = float(-slope / (2 * square))
    best = float(level_0 - square * focus**2)
    # MTF50 goes as 1/sigma: four fifths of the best is a variance of 25/16 of it.
    reach = float(np.sqrt(max(best, 0.0) * (25 / 16 - 1) / square))
    if reach <= 0:
        return None, ["the heights that the target was shown at do not agree; show it again"]
    return Depth(
        focus_mm=round(focus, 4), blur_px_per_mm=round(2 * float(np.sqrt(square)), 4), range_mm=round(2 * reach, 4)
    ), []


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None
