"""How a window is described to the tests: measured figures, and features learned from the cell's own good parts.

The figures are what physics asks about: light, contrast, sharpness octave by octave, noise and its correlation, how the
lights agree. Shape and size are left out on purpose: they are asked for and not a matter of realism. The learned
features are those of a single-layer network (Coates, Lee and Ng, AISTATS 2011): whitened patches, k-means, averages.
Nothing here was learned outside of the cell (Morozov et al., ICLR 2021, on why).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask
from cell.imaging import contrast
from trainer.gap.crops import Crop, Maps

Table = NDArray[np.float64]

#: Gaussians between which the octaves lie, pixels.
_SIGMAS = (0.6, 1.2, 2.4, 4.8)
OCTAVES = len(_SIGMAS)
_COARSE = 8.0
#: Added to levels before the logarithm, DN.
_BLACK = 2.0
_PATCH, _WORDS, _COMPONENTS = 7, 48, 24
_LEARNED_PATCHES = 20_000


def figures(crops: Sequence[Crop], *, surroundings: bool, together: bool = True) -> Table:
    """Return measured figures, (N, F) float64, of the defects or of their surroundings.

    Without `together` nothing is said of how the lights' finest octaves agree.
    """
    return np.stack([_figures(crop, surroundings=surroundings, together=together) for crop in crops])


def _figures(crop: Crop, *, surroundings: bool, together: bool) -> NDArray[np.float64]:
    region = crop.around if surroundings else crop.inside
    other = crop.around
    if region.sum() < 6:
        region = crop.inside
    if other.sum() < 6:
        other = ~crop.inside if not crop.inside.all() else crop.inside
    pixels = crop.pixels
    if surroundings and crop.inside.any() and not crop.inside.all():
        # The filters must not carry the defect into its surroundings.
        hidden = ndimage.binary_dilation(crop.inside, iterations=1)
        pixels = np.where(hidden, contrast.fill(pixels, ~hidden), pixels) if not hidden.all() else pixels
    rows: list[float] = []
    fine = bands(pixels)
    for channel, octaves in zip(pixels, fine, strict=True):
        log = np.log(np.maximum(channel, 0) + _BLACK)
        base = float(log[other].mean())
        shown = log[region] - base
        low, high = np.quantile(shown, (0.1, 0.9))
        rows += [base, float(shown.mean()), float(low), float(high)]
        energy = [_log_power(octave, region) for octave in octaves]
        outside = [_log_power(octave, other) for octave in octaves]
        rows += energy
        if not surroundings:
            rows += [one - two for one, two in zip(energy, outside, strict=True)]
            rows.append(_rim(log, crop.inside))
        rows += lag1_of(octaves[0] + octaves[1], region)
    return np.asarray([*rows, *(_together(fine, region) if together else ())])


def bands(pixels: Maps) -> NDArray[np.float32]:
    """Return the octaves of every channel, (K, OCTAVES, h, w): differences of Gaussians, the finest first."""
    previous = pixels
    result = []
    for sigma in _SIGMAS:
        smooth = ndimage.gaussian_filter(pixels, (0, sigma, sigma), mode="nearest")
        result.append(previous - smooth)
        previous = smooth
    return np.stack(result, axis=1)


def lag1_of(values: NDArray[np.floating], region: Mask) -> list[float]:
    """Return the correlation of horizontal and of vertical neighbours that both lie in the region."""
    found = []
    for axis in (1, 0):
        one = values[:, :-1] if axis == 1 else values[:-1]
        two = values[:, 1:] if axis == 1 else values[1:]
        both = (region[:, :-1] & region[:, 1:]) if axis == 1 else (region[:-1] & region[1:])
        power = float((values[region] ** 2).mean()) if region.any() else 0.0
        found.append(float((one[both] * two[both]).mean()) / power if both.any() and power > 0 else 0.0)
    return found


def _log_power(values: NDArray[np.floating], region: Mask) -> float:
    return 0.5 * float(np.log((values[region] ** 2).mean() + 1e-2))


def _rim(log: NDArray[np.floating], inside: Mask) -> float:
    slope = np.hypot(*np.gradient(log))
    rim = inside & ~ndimage.binary_erosion(inside, iterations=2)
    return float(np.log(slope[rim].mean() + 1e-3)) if rim.any() else 0.0


def _together(fine: NDArray[np.float32], region: Mask) -> list[float]:
    """Return how far neighbouring channels' finest octave goes together: texture does, noise does not."""
    found = []
    for one, two in zip(fine[:-1, 0], fine[1:, 0], strict=True):
        power = float(np.sqrt((one[region] ** 2).mean() * (two[region] ** 2).mean()))
        found.append(float((one[region] * two[region]).mean()) / power if power > 0 else 0.0)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Codebook:
    """Features learned from good parts: see the module. `centre` (D,), `white` (D, D), `words` (W, D)."""

    centre: NDArray[np.float64]
    white: NDArray[np.float64]
    words: NDArray[np.float64]

    @classmethod
    def learn(cls, crops: Sequence[Crop], seed: int = 0) -> Codebook:
        """Learn from windows of the cell: whitening by its second moments, words by 12 rounds of k-means."""
        rng = np.random.default_rng(seed)
        each = max(8, _LEARNED_PATCHES // max(len(crops), 1))
        patches = []
        for crop in crops:
            found = _patches(crop.pixels)[0]
            patches.append(found[rng.permutation(len(found))[:each]])
        table = np.concatenate(patches)
        centre = table.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov(table - centre, rowvar=False))
        order = np.argsort(-values)
        # The least components are noise in one pixel's worth: a floor keeps whitening from magnifying it.
        scale = 1 / np.sqrt(np.maximum(values[order], 1e-3 * values.max()))
        white = vectors[:, order] * scale
        seen = (table - centre) @ white
        words = seen[rng.choice(len(seen), _WORDS, replace=len(seen) < _WORDS)]
        for _ in range(12):
            nearest = _distances(seen, words).argmin(axis=1)
            for word in range(_WORDS):
                members = seen[nearest == word]
                words[word] = members.mean(axis=0) if len(members) else seen[int(rng.integers(len(seen)))]
        return cls(centre, white, words)

    def features(self, crops: Sequence[Crop], *, surroundings: bool) -> Table:
        """Return (N, F) float64: mean activation of each word, and log power of the leading components."""
        return np.stack([self._of(crop, surroundings=surroundings) for crop in crops])

    def _of(self, crop: Crop, *, surroundings: bool) -> NDArray[np.float64]:
        patches, centres = _patches(crop.pixels)
        region = crop.around if surroundings else crop.inside
        chosen = patches[region.ravel()[centres]]
        if len(chosen) < 4:
            chosen = patches
        seen = (chosen - self.centre) @ self.white
        distance = np.sqrt(_distances(seen, self.words))
        activation = np.maximum(distance.mean(axis=1, keepdims=True) - distance, 0).mean(axis=0)
        power = 0.5 * np.log((seen**2).mean(axis=0) + 1e-6)
        return np.concatenate([activation, power[:_COMPONENTS], [power[_COMPONENTS:].mean()]])


def _patches(pixels: Maps) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return log patches of all channels together, (P, K * 49), and the flat index of each one's middle pixel."""
    log = np.log(np.maximum(pixels, 0) + _BLACK)
    view = np.lib.stride_tricks.sliding_window_view(log, (_PATCH, _PATCH), axis=(1, 2))
    height, width = view.shape[1:3]
    rows, columns = np.meshgrid(np.arange(0, height, 2), np.arange(0, width, 2), indexing="ij")
    chosen = view[:, rows.ravel(), columns.ravel()]  # (K, P, 7, 7)
    flat = chosen.transpose(1, 0, 2, 3).reshape(rows.size, -1).astype(np.float64)
    middle = (rows.ravel() + _PATCH // 2) * pixels.shape[2] + columns.ravel() + _PATCH // 2
    return flat, middle.astype(np.intp)


def _distances(one: NDArray[np.float64], two: NDArray[np.float64]) -> NDArray[np.float64]:
    squared = (one**2).sum(axis=1)[:, None] - 2 * one @ two.T + (two**2).sum(axis=1)[None, :]
    return np.maximum(squared, 0)
