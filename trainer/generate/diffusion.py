"""Diffusion: the base with a LoRA adapter per class paints the contrast, guided by outline, course and background.

Sampling is DDIM (Song et al. 2021) in contrast space over the window of the defect only, whatever the size of the
picture. Thick outlines are painted at a coarser scale. What fine texture the painting lacks against the seed's, because
of that scale or because denoisers smooth, is made up for with random-phase texture of the seed's spectrum.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trainer.crew import Chore
from trainer.generate import adapter, denoiser, lora, tiles
from trainer.generate.base import Cancelled, GenerateRequest, ReportProgress, Scene
from trainer.generate.canvas import Canvas
from trainer.generate.learned import Learned, Planned
from trainer.generate.lessons import Lesson

#: Painting starts from the render under noise of this share of the schedule (SDEdit, Meng et al. 2022), so that the
#: coarse course is the one asked for and the network spends its steps on what the render lacks.
_START = 0.75


@dataclass(frozen=True, slots=True, eq=False)
class _AdapterFit:
    """Fit one class's adapter and write it."""

    base: Path
    lessons: list[Lesson]
    request: GenerateRequest
    path: Path
    defect_class: str

    def __call__(self, progress: ReportProgress, cancelled: Cancelled) -> None:
        network = denoiser.load(self.base).eval()
        steps, seed, stage = self.request.fit_steps, self.request.random_seed, f"adapter {self.defect_class}"
        adapted = adapter.fit(network, self.lessons, steps, seed, progress, cancelled, stage=stage)
        lora.save(adapted, self.path, denoiser.digest(network))


class Diffusion(Learned[nn.Module]):
    """See the module and `trainer.generate.learned`."""

    name = "diffusion"

    def __init__(self, scene: Scene, request: GenerateRequest, folder: Path, base: Path = denoiser.SHIPPED) -> None:
        super().__init__(scene, request, folder)
        self._base_file = base
        self._network: nn.Module = denoiser.load(base).eval()
        self.base_digest = denoiser.digest(self._network)

    @property
    def _base(self) -> str:
        return self.base_digest

    def _chore(self, defect_class: str, lessons: list[Lesson], path: Path) -> Chore[None]:
        return _AdapterFit(self._base_file, lessons, self._request, path, defect_class)

    def _load(self, path: Path, channels: int) -> nn.Module:
        del channels  # one network serves any number of them
        return adapter.load(self._network, path, self.base_digest)

    def _added(self, network: nn.Module, canvas: Canvas, planned: Planned, rng: np.random.Generator) -> Tensor:
        """Paint over the noisy render."""
        del planned
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        schedule = denoiser.scheduler()
        schedule.set_timesteps(self._request.sampling_steps)
        remaining = [step for step in schedule.timesteps if step < _START * denoiser.STEPS] or schedule.timesteps[-1:]
        render = canvas.render
        sample: Tensor = schedule.add_noise(
            render, denoiser.joint_noise(render.shape, generator), remaining[0].reshape(1)
        )
        for step in remaining:
            clean = tiles.predict(network, sample, canvas.condition, step.reshape(1))
            # A little fresh noise (eta) keeps texture alive where few steps would average it away.
            sample = schedule.step(clean, step, sample, eta=0.5, generator=generator).prev_sample
        return sample - render
