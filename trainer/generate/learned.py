"""What all learning arms share: a network a class, kept as a file, paints what the procedural render lacks.

::

    looks -> lessons -> chore (a process each) -> file -> network
    window, outline -> render -> canvas -> what the network adds -> the seed's energy -> Appearance

The arms differ in the network, in how it is fitted and in how it is asked to paint; nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cell import digest
from cell.frames import Stack
from cell.imaging import contrast
from cell.imaging.contrast import Maps
from trainer.crew import Chore, side_by_side
from trainer.generate import denoiser, weights
from trainer.generate.base import Appearance, Cancelled, GenerateRequest, ReportProgress, Scene, Shape
from trainer.generate.canvas import Canvas, canvas_of
from trainer.generate.lessons import Lesson, lesson
from trainer.generate.looks import Look, distance_of
from trainer.generate.procedural import Procedural, on_surface
from trainer.generate.spectrum import as_the_seeds

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """One defect to be painted: its outline, the look of its first seed and those of the whole class.

    `distance` (h, w) pixels to the outline, `smooth` (K, h, w) log contrast of the render.
    """

    shape: Shape
    distance: NDArray[np.float32]
    smooth: Maps
    look: Look
    looks: list[Look]


class Learned(ABC, Generic[Network]):
    """See the module and `trainer.generate.arm`; weights are kept in `folder` and found again by their facts."""

    name: str
    base_digest: str = ""
    #: Sides of the canvas are a multiple of this.
    multiple: int = denoiser.MULTIPLE

    def __init__(self, scene: Scene, request: GenerateRequest, folder: Path) -> None:
        self._scene = scene
        self._request = request
        self._folder = folder
        self._render = Procedural(scene)
        self._looks: dict[str, list[Look]] = {}
        self._networks: dict[str, Network] = {}

    @property
    @abstractmethod
    def _base(self) -> str:
        """What the weights are made from and for: the base's digest, or the name of the design."""

    @abstractmethod
    def _chore(self, defect_class: str, lessons: list[Lesson], path: Path) -> Chore[None]:
        """Return the work of fitting a class and writing its file."""

    @abstractmethod
    def _load(self, path: Path, channels: int) -> Network:
        """Return the network of a file, ready to paint. Raises `ModelError`."""

    @abstractmethod
    def _added(self, network: Network, canvas: Canvas, planned: Planned, rng: np.random.Generator) -> Tensor:
        """Return what the network adds to the render, (1, K, H, W) in network units."""

    def prepare(self, looks: Mapping[str, list[Look]], progress: ReportProgress, cancelled: Cancelled) -> None:
        """Fit the classes whose files are not there yet, side by side."""
        chores = [self._learning(name, own) for name, own in looks.items() if not self._path(own).exists()]
        side_by_side(chores, self._request.workers, "adapters", progress=progress, cancelled=cancelled)

    def fit(self, defect_class: str, looks: list[Look], progress: ReportProgress, cancelled: Cancelled) -> str:
        """Fit the class, or load what these seeds gave before."""
        self._render.fit(defect_class, looks, progress, cancelled)
        self._looks[defect_class] = looks
        path = self._path(looks)
        if not path.exists():
            self._learning(defect_class, looks)(progress, cancelled)
        # Always from the file: a resumed run must compute with the very same network.
        self._networks[defect_class] = self._load(path, len(looks[0].contrast)).eval()
        return digest.of_file(path)

    def appearance(
        self, window: Stack, shape: Shape, severity: float, defect_class: str, rng: np.random.Generator
    ) -> Appearance:
        """Paint one defect."""
        distance = distance_of(shape)
        look = self._render.pick(defect_class, shape)
        smooth = self._render.smooth(defect_class, shape, distance, rng)
        pixels = window.astype(np.float32)
        background = contrast.of(
            pixels, contrast.fill(pixels, np.ones(distance.shape, np.bool_)), self._scene.recipe.bit_depth
        )
        canvas = canvas_of(background, smooth, distance, self.multiple)
        planned = Planned(shape, distance, smooth, look, self._looks[defect_class])
        with torch.no_grad():
            added = canvas.back(self._added(self._networks[defect_class], canvas, planned, rng))
        log = (severity * as_the_seeds(look, smooth, added, distance, rng, canvas.scale)).astype(np.float32)
        return on_surface(self._scene, window, log, distance, look)

    def _path(self, looks: list[Look]) -> Path:
        return weights.path_of(self._folder, self._base, looks, self._request.fit_steps, self._request.random_seed)

    def _learning(self, defect_class: str, looks: list[Look]) -> Chore[None]:
        return self._chore(defect_class, [lesson(look) for look in looks], self._path(looks))
