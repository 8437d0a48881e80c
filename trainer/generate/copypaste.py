"""Copy-paste: the contrast of a real seed, warped with its outline. The classic that every generator must beat."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cell.frames import Stack
from trainer.generate.base import Appearance, Cancelled, ReportProgress, Shape
from trainer.generate.leftover import pasted
from trainer.generate.looks import Look

#: Share of white noise's variance that interpolation between four pixels leaves, mean over all places between them.
_LEFT = 4 / 9


class CopyPaste:
    """Takes each pixel's contrast from the seed's pixel that it was warped from; see `trainer.generate.arm`."""

    name = "copypaste"
    base_digest = ""

    def __init__(self) -> None:
        self._looks: dict[str, dict[str, Look]] = {}

    def prepare(self, looks: Mapping[str, list[Look]], progress: ReportProgress, cancelled: Cancelled) -> None:
        """Nothing takes long here."""

    def fit(self, defect_class: str, looks: list[Look], progress: ReportProgress, cancelled: Cancelled) -> str:
        """Keep the measured seeds."""
        del progress, cancelled  # nothing takes time here
        self._looks[defect_class] = {look.seed.seed_id: look for look in looks}
        return ""

    def appearance(
        self, window: Stack, shape: Shape, severity: float, defect_class: str, rng: np.random.Generator
    ) -> Appearance:
        """Return the contrast of the shape's own seed under the shape's own warp."""
        del window, rng  # a pasted defect does not know what it is pasted on
        look = self._looks[defect_class][shape.seed_ids[0]]
        share = _LEFT if look.relief is None else _LEFT * look.relief.lamps.noise_left
        # The seed brings its own texture and its camera's noise, as far as interpolation leaves it.
        lay = None if look.streaks is None else 0.0
        contrast = (severity * pasted(look, shape)).astype(np.float32)
        return Appearance(contrast, texture_kept=0.0, noise_share=share, lay_kept=lay)
