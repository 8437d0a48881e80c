"""What good parts look like: a streaming, bounded model that says how unlike them a picture is.

For surfaces with texture: the log contrast of every channel is split into bands (differences of Gaussians), and each
band's robust spread and tail on good parts is remembered. A pixel's anomaly is its response in units of the good parts'
typical extreme, the largest over bands and channels: a defect that shows under one light only must be found. Statistics
are kept per picture in a reservoir, so that one bad part among many moves no median and memory does not grow.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.defects import Mask
from cell.errors import DataError
from cell.frames import Stack
from cell.imaging import contrast
from cell.imaging.contrast import Maps

#: Gaussian sigmas that bound the bands, pixels; the last band is what is left above the coarsest.
SIGMAS = (1.0, 2.0, 4.0, 8.0, 16.0)
_COARSEST = 32.0
_RESERVOIR = 256
#: Quantile of a good picture's responses that counts as its typical extreme.
_TAIL = 0.9995
#: Good parts whose statistics are needed before anything is called unlike them.
LEAST_PARTS = 8


@dataclass(slots=True)
class BackgroundModel:
    """Statistics of good parts; `tails` (n, K, bands) float32, one row a picture, at most `_RESERVOIR` of them."""

    channels: int
    bit_depth: int
    tails: list[NDArray[np.float32]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    seen: int = 0
    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @property
    def ready(self) -> bool:
        """True when enough good parts were seen."""
        return len(self.tails) >= LEAST_PARTS

    def add(self, stack: Stack, part: Mask) -> None:
        """Take a good part in: `stack` (K, H, W) DN, `part` (H, W) bool. A reservoir keeps a fair sample of all."""
        responses = self._responses(stack, part)
        inside = _inner(part)
        row = np.quantile(np.abs(responses[..., inside]), _TAIL, axis=-1).astype(np.float32)
        score = self.score(stack, part) if self.ready else 1.0
        self.seen += 1
        if len(self.tails) < _RESERVOIR:
            self.tails.append(row)
            self.scores.append(score)
            return
        slot = int(self._rng.integers(self.seen))
        if slot < _RESERVOIR:
            self.tails[slot], self.scores[slot] = row, score

    def anomaly_map(self, stack: Stack, part: Mask) -> NDArray[np.float32]:
        """Return how unlike good parts each pixel is, (H, W) float32: 1 is a good part's typical extreme.

        Raises `DataError` before enough good parts were seen, or for another number of channels.
        """
        if not self.ready:
            raise DataError(f"the background model has seen {len(self.tails)} good parts; it needs {LEAST_PARTS}")
        limits = np.median(np.stack(self.tails), axis=0)
        scaled = np.abs(self._responses(stack, part)) / np.maximum(limits, 1e-4)[..., None, None]
        smooth = ndimage.gaussian_filter(scaled.max(axis=(0, 1)), 1.0)
        anomaly: NDArray[np.float32] = np.where(_inner(part), smooth, 0).astype(np.float32)
        return anomaly

    def score(self, stack: Stack, part: Mask) -> float:
        """Return the anomaly of a picture: the 99.98 % quantile of its map inside the part."""
        anomaly = self.anomaly_map(stack, part)
        inside = _inner(part)
        return float(np.quantile(anomaly[inside], 0.9998)) if inside.any() else 0.0

    def is_typical(self, score: float, spread: float = 4.0) -> bool:
        """Tell whether a score lies within `spread` robust deviations of the good parts' scores."""
        known = np.asarray(self.scores[LEAST_PARTS:])
        if known.size < LEAST_PARTS:
            return True
        middle = float(np.median(known))
        deviation = max(1.4826 * float(np.median(np.abs(known - middle))), 0.05 * middle)
        return score <= middle + spread * deviation

    def propose_mask(self, stack: Stack, part: Mask) -> Mask:
        """Return the most suspicious regions, (H, W) bool; never empty as long as the part is not.

        The threshold is half of the picture's own peak, at least 0.6 of a good part's extreme: a faint defect gets a mask
        too, since somebody said that there is one.
        """
        anomaly = self.anomaly_map(stack, part)
        peak = float(anomaly.max())
        seen = ndimage.binary_closing(anomaly > max(0.5 * peak, min(0.6, 0.9 * peak)), iterations=2)
        labels, count = ndimage.label(seen, structure=np.ones((3, 3)))
        if count == 0:
            return np.asarray(anomaly >= peak) & part
        strength = ndimage.sum_labels(anomaly, labels, np.arange(1, count + 1))
        kept = np.flatnonzero(strength >= 0.2 * strength.max()) + 1
        mask: Mask = ndimage.binary_fill_holes(np.isin(labels, kept))
        return mask

    def save(self, path: Path) -> None:
        """Write the statistics as ``.npz``, atomically."""
        buffer = io.BytesIO()
        shape = np.array([self.channels, self.bit_depth, self.seen])
        np.savez(buffer, shape=shape, tails=np.asarray(self.tails), scores=np.asarray(self.scores))
        temporary = path.with_suffix(".partial")
        temporary.write_bytes(buffer.getvalue())
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> BackgroundModel:
        """Read statistics back. Raises `DataError` when the file is not ours."""
        try:
            with np.load(path, allow_pickle=False) as data:
                channels, bit_depth, seen = (int(value) for value in data["shape"])
                return cls(channels, bit_depth, list(data["tails"]), [float(value) for value in data["scores"]], seen)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path} is not a background model; remove it and harvest again") from error

    def _responses(self, stack: Stack, part: Mask) -> Maps:
        """Return the band responses, (K, bands, H, W) float32 log contrast; 0 outside the part."""
        if stack.shape[0] != self.channels:
            raise DataError(f"the background model has {self.channels} channels, the picture {stack.shape[0]}")
        pixels = stack.astype(np.float32)
        level = contrast.fill(pixels, part) if part.any() else pixels
        # Outside, the part goes on smoothly: its edge must not ring in the bands.
        log = contrast.of(np.where(part, pixels, level), np.ones_like(pixels), self.bit_depth)
        blurred = [ndimage.gaussian_filter(log, (0, s, s), mode="nearest") for s in (*SIGMAS, _COARSEST)]
        bands: Maps = np.stack([fine - coarse for fine, coarse in zip(blurred[:-1], blurred[1:], strict=True)], axis=1)
        return bands


def _inner(part: Mask) -> Mask:
    """Return the part without its outermost pixels, whose neighbours are half guessed."""
    if part.all():
        return part
    inner: Mask = ndimage.binary_erosion(part, iterations=3)
    return inner
