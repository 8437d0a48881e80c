"""Diffusion: the base with a LoRA adapter per class paints the contrast, guided by outline, course and background.

Sampling is DDIM (Song et al. 2021) in contrast space over the window of the defect only, whatever the size of the
picture. Thick outlines are painted at a coarser scale. What fine texture the painting lacks against the seed's, because
of that scale or because denoisers smooth, is made up for with random-phase texture of the seed's spectrum.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cell import digest
from cell.frames import Stack
from cell.imaging import contrast
from trainer.generate import adapter, denoiser
from trainer.generate.base import (
    Appearance,
    Cancelled,
    GenerateRequest,
    LogContrast,
    ReportProgress,
    Scene,
    Shape,
)
from trainer.generate.looks import Look, distance_of, random_phase, without_structure
from trainer.generate.procedural import Procedural, texture_share


class Diffusion:
    """See the module and `trainer.generate.arm`; adapters are kept in `folder` and found again by their facts."""

    name = "diffusion"

    def __init__(self, scene: Scene, request: GenerateRequest, folder: Path, base: Path = denoiser.SHIPPED) -> None:
        self._scene = scene
        self._request = request
        self._folder = folder
        self._base: nn.Module = denoiser.load(base).eval()
        self.base_digest = denoiser.digest(self._base)
        self._render = Procedural(scene)
        self._adapted: dict[str, nn.Module] = {}

    def fit(self, defect_class: str, looks: list[Look], progress: ReportProgress, cancelled: Cancelled) -> str:
        """Fit the class's adapter, or load the one that these seeds gave before."""
        self._render.fit(defect_class, looks, progress, cancelled)
        facts = {
            "base": self.base_digest,
            "seeds": sorted(
                (s.seed_id, digest.of_array(s.stack), digest.of_array(s.mask)) for s in (x.seed for x in looks)
            ),
            "steps": self._request.fit_steps,
            "random_seed": self._request.random_seed,
        }
        path = self._folder / f"{defect_class}-{digest.of_record(facts)[:16]}.safetensors"
        if not path.exists():
            adapted = adapter.fit(
                self._base,
                [adapter.lesson(look) for look in looks],
                self._request.fit_steps,
                self._request.random_seed,
                progress,
                cancelled,
                stage=f"adapter {defect_class}",
            )
            adapter.save(adapted, path, self.base_digest)
        # Always from the file: a resumed run must compute with the very same network.
        self._adapted[defect_class] = adapter.load(self._base, path, self.base_digest)
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
        painted = self._paint(self._adapted[defect_class], background, smooth, distance, rng)
        rough = _missing_texture(look, painted - smooth, distance, rng)
        log = (severity * (painted + rough * np.clip(distance + 0.5, 0, 1))).astype(np.float32)
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
        """Return the contrast (K, h, w) that the network paints from noise."""
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
        sample = denoiser.joint_noise((1, len(smooth), *padded), generator)
        for step in schedule.timesteps:
            clean = denoiser.predict(network, sample, conditioned, step.reshape(1))
            # A little fresh noise (eta) keeps texture alive where few steps would average it away.
            sample = schedule.step(clean, step, sample, eta=0.5, generator=generator).prev_sample
        painted = sample[0, :, : sides[0], : sides[1]].numpy() * np.float32(denoiser.UNIT)
        return adapter.resized(painted, *distance.shape)


def _missing_texture(
    look: Look, painted: LogContrast, distance: NDArray[np.float32], rng: np.random.Generator
) -> LogContrast:
    """Return texture (K, h, w) of the variance by which the seed's own fine texture exceeds the painted one's."""
    rough = random_phase(look.texton, (distance.shape[0], distance.shape[1]), rng)
    inside = distance > 0
    wanted = (look.texton**2).sum(axis=(1, 2))
    made = without_structure(painted, inside)[0][:, inside].var(axis=1) if inside.sum() >= 12 else wanted
    share = np.sqrt(np.clip(1.0 - made / np.maximum(wanted, 1e-12), 0.0, 1.0)).astype(np.float32)
    missing: LogContrast = rough * share[:, None, None]
    return missing
