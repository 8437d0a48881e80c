"""Copy-paste: the contrast of a real seed, fitted to the new outline. The classic that every generator must beat."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cell.frames import Stack
from trainer.generate.base import Appearance, Cancelled, ReportProgress, Scene, SeedSample, Shape
from trainer.generate.looks import Look, distance_of, look_at


class CopyPaste:
    """Takes each pixel's contrast from the seed's pixel at the same relative place; see `Arm`."""

    name = "copypaste"
    base_digest = ""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._looks: dict[str, list[Look]] = {}

    def fit(self, defect_class: str, seeds: list[SeedSample], progress: ReportProgress, cancelled: Cancelled) -> str:
        """Measure the seeds."""
        del progress, cancelled  # a matter of milliseconds
        self._looks[defect_class] = [look_at(seed, self._scene) for seed in seeds]
        return ""

    def appearance(
        self, window: Stack, shape: Shape, severity: float, defect_class: str, rng: np.random.Generator
    ) -> Appearance:
        """Return the contrast of the shape's own seed, stretched over the new outline."""
        del window  # a pasted defect does not know what it is pasted on
        looks = {look.seed.seed_id: look for look in self._looks[defect_class]}
        look = looks[shape.seed_ids[0]]
        target = np.nonzero(distance_of(shape) > 0)
        source = np.nonzero(look.distance > 0)
        flips = rng.integers(2, size=2)
        coordinates = [
            _stretched(np.arange(length), (t.min(), t.max()), (s.min(), s.max()), bool(flip))
            for length, t, s, flip in zip(shape.soft.shape, target, source, flips, strict=True)
        ]
        grid = np.stack(np.meshgrid(*coordinates, indexing="ij"))
        pasted = np.stack(
            [ndimage.map_coordinates(channel, grid, order=1, mode="nearest") for channel in look.contrast]
        )
        # The seed brings its own texture and its camera's noise.
        return Appearance((severity * pasted).astype(np.float32), texture_kept=0.0, noise_share=1.0)


def _stretched(
    positions: np.ndarray[tuple[int], np.dtype[np.int_]], target: tuple[int, int], source: tuple[int, int], flip: bool
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    relative = (positions - target[0]) / max(target[1] - target[0], 1)
    relative = 1.0 - relative if flip else relative
    return np.asarray(source[0] + relative * (source[1] - source[0]), np.float64)
