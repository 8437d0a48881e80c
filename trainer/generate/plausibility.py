"""Plausibility scores: what may be wrong with a candidate, measured on its pixels against the class's seeds.

====================  ====================================================================================
visibility            change of the mask's most changed twentieth, over all channels, in sigmas of the sensor's noise
beyond_seeds          natural logarithm by which that lies above the strongest or below the weakest seed's
seam                  step across the outer edge of what was changed, more than the background has there, in sigmas
outside               share of the mask where no defect can be: beside the part, in an exclusion zone
placement             natural logarithm by which such a place is rarer than the place of the median seed
nearest_seed          distance to the most similar seed, 0 a copy, 1 nothing in common (`resemblance`)
memorised             the same over the median distance of a seed to its own nearest: well below 1 is a copy
gap                   texture, sharpness and how the lights agree: distance from the real crops' mean, in their spreads
clipped               share of the mask's pixels that are black or saturated on any channel
doubt                 all of them together, in [0, 1] (`trainer.doubt`)
====================  ====================================================================================

All are measured on the picture and its background alone, spoilt ones' too: nothing else may tell those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Draft, Mask
from cell.frames import Stack
from cell.imaging import contrast, noise
from trainer import doubt
from trainer.gap.crops import Crop, crop_of
from trainer.gap.looks import figures
from trainer.generate.base import BackgroundSample, Scene
from trainer.generate.looks import Look
from trainer.generate.outlines import longest, spans_of
from trainer.generate.resemblance import Prints, appearance_of, between, cell_of, print_of

#: Spread of places about the seeds' and share of places that follow none, as the plan draws them.
_SPREAD, _UNIFORM = 0.08, 0.3
#: Pixels around a defect that are looked at.
_MARGIN = 4
#: Of one figure, in spreads of the real crops: one alone says no more than that.
_MOST = 8.0
#: Of a distance between seeds; where all look the same, less is noise.
_LEAST_APART = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """What diversity is measured by: a defect's print (K, n, n) and its appearance (F,)."""

    defect_class: str
    print: NDArray[np.float32]
    appearance: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class ClassJudge:
    """What is known of a class's seeds."""

    cell_px: int
    seeds: NDArray[np.float32]  # prints (N, K, n, n)
    prints: Prints
    appearances: NDArray[np.float32]  # (N, F)
    apart: float  # median distance of a seed to its nearest
    visible: tuple[float, float]
    places: NDArray[np.float64]  # (N, 2) shares of the part
    usual_place: float
    middle: NDArray[np.float64]  # figures (F,)
    spread: NDArray[np.float64]


class Judge:
    """Scores the candidates of a run.

    :param looks: of each class, as the run measured its seeds.
    """

    def __init__(self, scene: Scene, looks: Mapping[str, Sequence[Look]]) -> None:
        self._scene = scene
        table = {name: figures([_seed_crop(look) for look in own], **_GAP) for name, own in looks.items()}
        # Few seeds: how figures vary within a class is taken from all classes together.
        within = np.concatenate([rows - rows.mean(axis=0) for rows in table.values()])
        degrees = max(len(within) - len(table), 1)
        spread = np.maximum(np.sqrt((within**2).sum(axis=0) / degrees), 0.05)
        self.classes = {
            name: self._of_class(own, table[name].mean(axis=0), spread) for name, own in looks.items() if own
        }

    def _of_class(self, looks: Sequence[Look], middle: NDArray[np.float64], spread: NDArray[np.float64]) -> ClassJudge:
        masks = [look.distance > 0 for look in looks]
        cell_px = cell_of(max(longest(mask) for mask in masks))
        prints = np.stack([print_of(look.contrast, mask, cell_px) for look, mask in zip(looks, masks, strict=True)])
        apart = between(prints).min(axis=1) if len(prints) > 1 else np.ones(1)
        strengths = [self._seed_visibility(look, mask) for look, mask in zip(looks, masks, strict=True)]
        places = np.asarray([look.outline.place for look in looks], np.float64)
        usual = float(
            np.median([_log_density(place, np.delete(places, index, 0)) for index, place in enumerate(places)])
        )
        return ClassJudge(
            cell_px=cell_px,
            seeds=prints,
            prints=Prints.of(prints),
            appearances=np.stack([appearance_of(look.contrast, mask) for look, mask in zip(looks, masks, strict=True)]),
            apart=max(float(np.median(apart)), _LEAST_APART),
            visible=(min(strengths), max(strengths)),
            places=places,
            usual_place=usual,
            middle=middle,
            spread=spread,
        )

    def _seed_visibility(self, look: Look, mask: Mask) -> float:
        black = contrast.black_offset_dn(self._scene.recipe.bit_depth)
        squares = []
        for channel, log, level in zip(self._scene.calibration.channels, look.contrast, look.level, strict=True):
            smooth = ndimage.gaussian_filter(log * mask, 0.7)[mask]
            squares.append((smooth * (level + black) / noise.sigma_dn(channel.noise, np.asarray(level))) ** 2)
        return _visibility(np.stack(squares))

    def scores(self, draft: Draft, background: BackgroundSample) -> tuple[dict[str, float], list[Fingerprint]]:
        """Return a draft's scores, the worst of its defects, and each defect's fingerprint."""
        found, prints = [], []
        for name, mask, support in _defects(draft):
            stood = _as_altered(draft, background) if draft.provenance.randomised else background
            one, fingerprint = self._defect(draft.stack, mask, support, name, stood)
            found.append(one)
            prints.append(fingerprint)
        worst = {
            name: (min if doubt.LIMITS.get(name, (0.0, 1.0))[0] > doubt.LIMITS.get(name, (0.0, 1.0))[1] else max)(
                one[name] for one in found
            )
            for name in found[0]
        }
        worst["nearest_seed"] = min(one["nearest_seed"] for one in found)
        scores = draft.scores | {name: round(value, 4) for name, value in worst.items()}
        return scores | {doubt.DOUBT: round(doubt.combined(scores), 4)}, prints

    def _defect(
        self, stack: Stack, mask: Mask, support: Mask, name: str, background: BackgroundSample
    ) -> tuple[dict[str, float], Fingerprint]:
        known, depth = self.classes[name], self._scene.recipe.bit_depth
        window = _around(support)
        cut, clean = stack[:, window[0], window[1]], background.stack[:, window[0], window[1]]
        inside, changed = mask[window], support[window]
        fingerprint = self._fingerprint(cut, clean, inside, name)
        nearest = float(known.prints.distances(fingerprint.print).min())
        sigma = self._sigma(clean)
        change = ndimage.gaussian_filter(cut.astype(np.float32) - clean, (0, 0.7, 0.7))
        visibility = _visibility((change / sigma)[:, inside] ** 2)
        low, high = known.visible
        rows, columns = np.nonzero(mask[window])
        spans = spans_of(background.allowed)
        place = [
            (offset.start + float(at.mean()) - first) / max(last - first, 1)
            for offset, at, (first, last) in zip(window, (rows, columns), spans, strict=True)
        ]
        full = (1 << depth) - 1
        crop = crop_of(stack, mask, background.part_id, on_part=background.allowed | mask)
        return {
            "visibility": visibility,
            "beyond_seeds": abs(float(np.log(max(visibility, 1e-6) / np.clip(visibility, low, high)))),
            "seam": _seam(cut, clean, changed, sigma),
            "outside": float((~background.allowed[window])[inside].mean()),
            "placement": known.usual_place - _log_density(np.asarray(place), known.places),
            "nearest_seed": nearest,
            "memorised": nearest / known.apart,
            "gap": _distance(figures([crop], **_GAP)[0], known),
            "clipped": float(np.any((cut <= 0) | (cut >= full), axis=0, keepdims=True)[0, inside].mean()),
        }, fingerprint

    def fingerprint(self, stack: Stack, mask: Mask, name: str, background: BackgroundSample) -> Fingerprint:
        """Return the fingerprint of a defect on a picture (K, H, W) that was made on a background."""
        rows, columns = _around(mask)
        return self._fingerprint(stack[:, rows, columns], background.stack[:, rows, columns], mask[rows, columns], name)

    def _fingerprint(self, cut: Stack, clean: Stack, inside: Mask, name: str) -> Fingerprint:
        log = contrast.of(cut, clean.astype(np.float32), self._scene.recipe.bit_depth)
        return Fingerprint(name, print_of(log, inside, self.classes[name].cell_px), appearance_of(log, inside))

    def _sigma(self, clean: Stack) -> NDArray[np.float32]:
        channels = zip(self._scene.calibration.channels, clean, strict=True)
        return np.stack([noise.sigma_dn(one.noise, pixels) for one, pixels in channels]).astype(np.float32)


def _visibility(squares: NDArray[np.floating]) -> float:
    """Return how visible a defect is of its squared changes (K, P); not of how widely its mask was drawn."""
    return float(np.quantile(np.sqrt(squares.mean(axis=0)), 0.95))


_GAP = {"surroundings": False, "together": True}


def _seed_crop(look: Look) -> Crop:
    return crop_of(look.seed.stack, look.seed.mask, look.seed.part_id)


def _distance(rows: NDArray[np.float64], known: ClassJudge) -> float:
    off = np.clip((rows - known.middle) / known.spread, -_MOST, _MOST)
    return float(np.sqrt((off**2).mean()))


def _log_density(place: NDArray[np.float64], places: NDArray[np.float64]) -> float:
    """Return the logarithm of how often the plan puts a defect there; 0 is everywhere alike."""
    squared = ((places - place) ** 2).sum(axis=1) / (2 * _SPREAD**2)
    near = float(np.exp(-squared).mean()) / (2 * np.pi * _SPREAD**2) if len(places) else 1.0
    return float(np.log(_UNIFORM + (1 - _UNIFORM) * near))


def _as_altered(draft: Draft, background: BackgroundSample) -> BackgroundSample:
    """Return the background in the light that the whole of a draft was put into."""
    levels = [background.stack, draft.stack]
    before, after = (np.maximum(np.median(one[:, ~draft.support], axis=1), 1.0) for one in levels)
    lit = background.stack * (after / before)[:, None, None]
    top = np.iinfo(background.stack.dtype).max
    return replace(background, stack=np.clip(np.rint(lit), 0, top).astype(background.stack.dtype))


def _defects(draft: Draft) -> list[tuple[str, Mask, Mask]]:
    if not draft.regions:
        return [(draft.defect_class, draft.mask, draft.support)]
    found = []
    for region in draft.regions:
        mask, support = np.zeros((2, *draft.mask.shape), np.bool_)
        mask[region.window], support[region.window] = region.mask, region.support
        if mask.any():
            found.append((region.defect_class, mask, support))
    return found


def _around(support: Mask) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(support.any(axis=1)), np.flatnonzero(support.any(axis=0))
    return (
        slice(max(0, int(rows[0]) - _MARGIN), int(rows[-1]) + _MARGIN + 1),
        slice(max(0, int(columns[0]) - _MARGIN), int(columns[-1]) + _MARGIN + 1),
    )


def _seam(cut: Stack, clean: Stack, changed: Mask, sigma: NDArray[np.float32]) -> float:
    """Return by how much the mean step over the edge of what was changed exceeds the background's, in sigmas.

    :param cut: (K, h, w) DN; :param clean: its background; :param sigma: (K, h, w) DN.
    """
    new, old, count = np.zeros(len(cut)), np.zeros(len(cut)), 0
    for axis in (0, 1):
        edge = np.diff(changed.astype(np.int8), axis=axis) != 0
        where = (slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))
        scale = np.sqrt(2) * sigma[:, where[0], where[1]][:, edge]
        new += (np.abs(np.diff(cut.astype(np.float32), axis=axis + 1))[:, edge] / scale).sum(axis=1)
        old += (np.abs(np.diff(clean.astype(np.float32), axis=axis + 1))[:, edge] / scale).sum(axis=1)
        count += int(edge.sum())
    return float(((new - old) / max(count, 1)).max())
