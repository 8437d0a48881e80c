"""Procedural: a rendered course from edge to middle, and random-phase texture of the seeds' spectrum over it.

It keeps no phase of a seed, so it can't copy one; what it can't do is invent structure.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cell.frames import Stack
from cell.imaging import contrast
from cell.imaging.contrast import Maps
from trainer.generate.base import Appearance, Cancelled, ReportProgress, Scene, Shape
from trainer.generate.flank import flank_of, lit
from trainer.generate.looks import (
    TEXTURE_ABOVE_NOISE,
    Look,
    distance_of,
    fine_variance,
    random_phase,
    render,
    sensor_noise,
)


class Procedural:
    """See the module and `trainer.generate.arm`."""

    name = "procedural"
    base_digest = ""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._looks: dict[str, list[Look]] = {}

    def prepare(self, looks: Mapping[str, list[Look]], progress: ReportProgress, cancelled: Cancelled) -> None:
        """Nothing takes long here."""

    def fit(self, defect_class: str, looks: list[Look], progress: ReportProgress, cancelled: Cancelled) -> str:
        """Keep the measured seeds."""
        del progress, cancelled  # nothing takes time here
        self._looks[defect_class] = looks
        return ""

    def appearance(
        self, window: Stack, shape: Shape, severity: float, defect_class: str, rng: np.random.Generator
    ) -> Appearance:
        """Render a course drawn between two seeds' courses, and texture over it."""
        look = self.pick(defect_class, shape)
        distance = distance_of(shape)
        smooth = self.smooth(defect_class, shape, distance, rng)
        rough = random_phase(look.texton, (distance.shape[0], distance.shape[1]), rng)
        log = (severity * (smooth + rough * np.clip(distance + 0.5, 0, 1))).astype(np.float32)
        return Appearance(log, *texture_share(self._scene, window, log, distance, look))

    def smooth(self, defect_class: str, shape: Shape, distance: NDArray[np.float32], rng: np.random.Generator) -> Maps:
        """Return the course of the shape's seed, moved towards another seed's, without texture; (K, h, w)."""
        look = self.pick(defect_class, shape)
        other = self._looks[defect_class][int(rng.integers(len(self._looks[defect_class])))]
        share = float(rng.uniform(0.0, 0.5))
        flank = (1 - share) * self._flank(defect_class, look) + share * self._flank(defect_class, other)
        return render((1 - share) * look.course + share * other.course, distance) + lit(flank, distance)

    def _flank(self, defect_class: str, look: Look) -> NDArray[np.float32]:
        return flank_of(look.slopes, [one.slopes for one in self._looks[defect_class] if one is not look])

    def pick(self, defect_class: str, shape: Shape) -> Look:
        """Return the look of the seed that gave the shape."""
        return next(look for look in self._looks[defect_class] if look.seed.seed_id == shape.seed_ids[0])


def texture_share(
    scene: Scene, window: Stack, log: Maps, distance: NDArray[np.float32], look: Look
) -> tuple[float, float]:
    """Return how much of the background's fine texture has to stay, and the share of noise the contrast carries: none.

    The fine texture inside a defect, without the sensor's noise, is to be `look.fine_ratio` times that of the
    surroundings; what the generated contrast does not bring has to come from the background. Where the surface shows no
    texture above its noise all of it stays: the compositor brings the noise to the law.
    """
    own = contrast.of(
        window, contrast.fill(window.astype(np.float32), np.ones(distance.shape, np.bool_)), scene.recipe.bit_depth
    )
    sensor = float(sensor_noise(window, scene).mean())
    outside = fine_variance(own, np.ones(distance.shape, np.bool_)) - sensor
    if outside < TEXTURE_ABOVE_NOISE * sensor:
        return 1.0, 0.0
    inside = distance > 0
    made = fine_variance(log, inside) if inside.sum() >= 12 else 0.0
    kept = min(look.fine_ratio, 1.5) ** 2 - made / outside
    return float(np.sqrt(np.clip(kept, 0.0, 1.0))), 0.0
