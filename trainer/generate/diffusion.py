"""Diffusion: the base with a LoRA adapter per class paints the contrast, guided by outline, course and background.

Sampling is DDIM (Song et al. 2021) in contrast space over the window of the defect only, whatever the size of the
picture. Thick outlines are painted at a coarser scale. What fine texture the painting lacks against the seed's, because
of that scale or because denoisers smooth, is made up for with random-phase texture of the seed's spectrum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cell import digest
from cell.frames import Stack
from cell.imaging import contrast
from trainer.crew import side_by_side
from trainer.generate import adapter, denoiser, lora
from trainer.generate.base import (
    Appearance,
    Cancelled,
    GenerateRequest,
    LogContrast,
    ReportProgress,
    Scene,
    Shape,
)
from trainer.generate.looks import Look, distance_of, with_seeds_energy, without_structure
from trainer.generate.procedural import Procedural, texture_share

#: Painting starts from the render under noise of this share of the schedule (SDEdit, Meng et al. 2022), so that the
#: coarse course is the one asked for and the network spends its steps on what the render lacks.
_START = 0.75
#: Coarsest texture (Gaussian sigma, working pixels) that is taken from the network inside wide outlines.
_COARSEST = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class _AdapterFit:
    """Fit one class's adapter and write it."""

    base: Path
    lessons: list[adapter.Lesson]
    request: GenerateRequest
    path: Path
    defect_class: str

    def __call__(self, progress: ReportProgress, cancelled: Cancelled) -> None:
        network = denoiser.load(self.base).eval()
        steps, seed, stage = self.request.fit_steps, self.request.random_seed, f"adapter {self.defect_class}"
        adapted = adapter.fit(network, self.lessons, steps, seed, progress, cancelled, stage=stage)
        lora.save(adapted, self.path, denoiser.digest(network))


class Diffusion:
    """See the module and `trainer.generate.arm`; adapters are kept in `folder` and found again by their facts."""

    name = "diffusion"

    def __init__(self, scene: Scene, request: GenerateRequest, folder: Path, base: Path = denoiser.SHIPPED) -> None:
        self._scene = scene
        self._request = request
        self._folder = folder
        self._base_file = base
        self._base: nn.Module = denoiser.load(base).eval()
        self.base_digest = denoiser.digest(self._base)
        self._render = Procedural(scene)
        self._adapted: dict[str, nn.Module] = {}

    def prepare(self, looks: Mapping[str, list[Look]], progress: ReportProgress, cancelled: Cancelled) -> None:
        """Fit the adapters that are not there yet, side by side."""
        chores = [self._chore(name, own) for name, own in looks.items() if not self._path(own).exists()]
        side_by_side(chores, self._request.workers, "adapters", progress=progress, cancelled=cancelled)

    def fit(self, defect_class: str, looks: list[Look], progress: ReportProgress, cancelled: Cancelled) -> str:
        """Fit the class's adapter, or load the one that these seeds gave before."""
        self._render.fit(defect_class, looks, progress, cancelled)
        path = self._path(looks)
        if not path.exists():
            self._chore(defect_class, looks)(progress, cancelled)
        # Always from the file: a resumed run must compute with the very same network.
        self._adapted[defect_class] = adapter.load(self._base, path, self.base_digest)
        return digest.of_file(path)

    def _path(self, looks: list[Look]) -> Path:
        return lora.path_of(self._folder, self.base_digest, looks, self._request.fit_steps, self._request.random_seed)

    def _chore(self, defect_class: str, looks: list[Look]) -> _AdapterFit:
        lessons = [adapter.lesson(look) for look in looks]
        return _AdapterFit(self._base_file, lessons, self._request, self._path(looks), defect_class)

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
        painted = self._paint(self._adapted[defect_class], background, smooth, distance, rng)
        added = with_seeds_energy(look, painted - smooth, distance, rng, adapter.scale_of(distance))
        log = (severity * (smooth + added * np.clip(distance + 0.5, 0, 1))).astype(np.float32)
        return Appearance(log, *texture_share(self._scene, window, log, distance, look))

    @torch.no_grad()
    def _paint(
        self,
        network: nn.Module,
        background: LogContrast,
        smooth: LogContrast,
        distance: NDArray[np.float32],
        rng: np.random.Generator,
    ) -> LogContrast:
        """Return the contrast (K, h, w) that the network paints over the noisy render."""
        scale = adapter.scale_of(distance)
        sides = [max(8, round(length * scale)) for length in distance.shape]
        padded = [-(-side // denoiser.MULTIPLE) * denoiser.MULTIPLE for side in sides]
        small = adapter.resized(distance[None], *sides)[0] * scale
        condition = denoiser.condition_of(adapter.resized(background, *sides), adapter.resized(smooth, *sides), small)
        grow = [(0, 0), (0, 0), (0, padded[0] - sides[0]), (0, padded[1] - sides[1])]
        conditioned = torch.from_numpy(np.pad(condition, grow, mode="edge"))[None]
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        schedule = denoiser.scheduler()
        schedule.set_timesteps(self._request.sampling_steps)
        remaining = [step for step in schedule.timesteps if step < _START * denoiser.STEPS] or schedule.timesteps[-1:]
        render = conditioned[:, :, 1]
        sample = schedule.add_noise(render, denoiser.joint_noise(render.shape, generator), remaining[0].reshape(1))
        for step in remaining:
            clean = denoiser.predict(network, sample, conditioned, step.reshape(1))
            # A little fresh noise (eta) keeps texture alive where few steps would average it away.
            sample = schedule.step(clean, step, sample, eta=0.5, generator=generator).prev_sample
        added = (sample - render)[0, :, : sides[0], : sides[1]].numpy() * np.float32(denoiser.UNIT)
        if scale < 1.0:
            # The network does not see across a wide outline, so what is coarse there is the course's alone.
            added = without_structure(added, small > 0, _COARSEST)[0]
        return smooth + adapter.resized(added, *distance.shape)
