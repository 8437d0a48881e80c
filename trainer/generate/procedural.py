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
from trainer.generate.streaks import under_defect

#: Two seeds' courses are mixed only when the cosine between them is at least this.
_LEAST_ALIKE = 0.5


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
        log = (severity * look.textured(smooth, rough * np.clip(distance + 0.5, 0, 1))).astype(np.float32)
        return on_surface(self._scene, window, log, distance, look)

    def smooth(self, defect_class: str, shape: Shape, distance: NDArray[np.float32], rng: np.random.Generator) -> Maps:
        """Return the course of the shape's seed, moved towards another seed's, without texture; (K, h, w)."""
        look = self.pick(defect_class, shape)
        alike = [one for one in self._looks[defect_class] if mixable(look.course, one.course)]
        other = alike[int(rng.integers(len(alike)))]
        share = float(rng.uniform(0.0, 0.5))
        flank = (1 - share) * self._flank(defect_class, look) + share * self._flank(defect_class, other)
        return render((1 - share) * look.course + share * other.course, distance) + lit(flank, distance)

    def _flank(self, defect_class: str, look: Look) -> NDArray[np.float32]:
        return flank_of(look.slopes, [one.slopes for one in self._looks[defect_class] if one is not look])

    def pick(self, defect_class: str, shape: Shape) -> Look:
        """Return the look of the seed that gave the shape."""
        return next(look for look in self._looks[defect_class] if look.seed.seed_id == shape.seed_ids[0])


def mixable(course: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Return whether two courses (K, BINS) may be mixed: a bright chip and a dark one give a chip that nobody sees."""
    least = _LEAST_ALIKE * float(np.linalg.norm(course)) * float(np.linalg.norm(other))
    return other is course or float((course * other).sum()) >= least


def on_surface(scene: Scene, window: Stack, log: Maps, distance: NDArray[np.float32], look: Look) -> Appearance:
    """Return a contrast with how much of the background's texture stays; it carries none of the sensor's noise.

    The fine texture inside a defect, without the sensor's noise, is to be `look.fine_ratio` times that of the
    surroundings; what the generated contrast does not bring has to come from the background, after the defect did to
    the background's lay what it does. Where the surface shows no texture above its noise all of it stays: the
    compositor brings the noise to the law.
    """
    lay = None if look.streaks is None else look.streaks.kept
    sensor = float(sensor_noise(window, scene).mean())
    outside = _own_texture(window.astype(np.float32), scene) - sensor
    if outside < TEXTURE_ABOVE_NOISE * sensor:
        return Appearance(log, 1.0, 0.0, lay)
    inside = distance > 0
    made = fine_variance(log, inside) if inside.sum() >= 12 else 0.0
    everywhere = np.ones(distance.shape, np.bool_)
    lit = under_defect(window, np.ones_like(distance), everywhere, lay, scene.recipe.bit_depth)
    under = max(_own_texture(lit, scene) - sensor, TEXTURE_ABOVE_NOISE * sensor)
    kept = (min(look.fine_ratio, 1.5) ** 2 * outside - made) / under
    most = 1.0 if lay is None else min(lay, 1.0)
    return Appearance(log, min(float(np.sqrt(max(kept, 0.0))), most), 0.0, lay)


def _own_texture(pixels: Maps, scene: Scene) -> float:
    everywhere = np.ones(pixels.shape[1:], np.bool_)
    return fine_variance(contrast.of(pixels, contrast.fill(pixels, everywhere), scene.recipe.bit_depth), everywhere)
