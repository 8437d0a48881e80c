"""The contract of an arm: one way of making a defect's appearance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from cell.frames import Stack
from trainer.generate.base import Appearance, Cancelled, ReportProgress, Shape
from trainer.generate.looks import Look


class Arm(Protocol):
    """One way of making a defect's appearance."""

    name: str
    base_digest: str  # of the weights that ship; empty without

    def prepare(self, looks: Mapping[str, list[Look]], progress: ReportProgress, cancelled: Cancelled) -> None:
        """Do beforehand, for all classes side by side, what :meth:`fit` would do for one after the other."""

    def fit(self, defect_class: str, looks: list[Look], progress: ReportProgress, cancelled: Cancelled) -> str:
        """Learn a class from its measured seeds; return the adapter's digest, empty when there is none."""

    def appearance(
        self, window: Stack, shape: Shape, severity: float, defect_class: str, rng: np.random.Generator
    ) -> Appearance:
        """Return what the defect looks like in `window` (K, h, w) DN; severity 1 is the seed's own contrast."""
