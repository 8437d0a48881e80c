"""The big option: an inpainting checkpoint of the Stable Diffusion class from a local folder paints the defect.

The window of the planned outline, three lights at a time (:mod:`trainer.generate.big_views`), is brought to the
checkpoint's resolution, painted inside the outline, and brought back. What counts is the painted picture against the
same window sent through the autoencoder unchanged, so that what the autoencoder loses is not taken for a defect.
Plan, severity, texture and compositor are those of every arm. A class is a LoRA adapter on the attention, fitted to its
seeds under a prompt that names it.

Neither this project's figures nor its tests come from a real checkpoint: docs/notes/generator.md says what was run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from cell import digest
from cell.errors import JobCancelled, JobError
from cell.frames import Stack
from cell.imaging.contrast import Maps
from cell.jobs import Progress
from trainer.generate import big_views, lora
from trainer.generate.base import Appearance, Cancelled, GenerateRequest, ReportProgress, Scene, Shape
from trainer.generate.inpainter import Inpainter
from trainer.generate.looks import Look, distance_of
from trainer.generate.procedural import Procedural, on_surface
from trainer.generate.spectrum import as_the_seeds

#: Fitting steps for each that the request names: its number is meant for the compact network, twenty times faster to
#: change. As many as the published few-shot recipes take (500 to 2000); not measured here.
_STEPS_EACH = 5
#: Painting starts from the render under the noise of this share of the schedule.
_START = 0.8
#: Bounds of the factor that brings the painted contrast to the seed's.
_GAINS = (0.5, 2.0)
#: The compositor's own border between surface and fine texture (Gaussian sigma, pixels).
_FINE_PX = 2.0


class StableDiffusion:
    """See the module and `trainer.generate.arm`; adapters are kept in `folder` and found again by their facts."""

    name = "stable-diffusion"

    def __init__(self, scene: Scene, request: GenerateRequest, folder: Path, checkpoint: Path) -> None:
        self._scene = scene
        self._request = request
        self._folder = folder
        with _within_memory():
            self._inpainter = Inpainter(checkpoint)
        self.base_digest = self._inpainter.digest
        lora.inject(self._inpainter.unet, big_views.TARGETS, big_views.RANK, big_views.ALPHA, request.random_seed)
        self._fresh = lora.state_of(self._inpainter.unet)
        self._render = Procedural(scene)
        self._adapters: dict[str, lora.State] = {}
        self._spans: dict[str, float] = {}
        self._progress: ReportProgress = lambda _progress: None
        self._cancelled: Cancelled = lambda: False

    def prepare(self, looks: Mapping[str, list[Look]], progress: ReportProgress, cancelled: Cancelled) -> None:
        """Nothing side by side: memory bears one copy of such a network."""

    def fit(self, defect_class: str, looks: list[Look], progress: ReportProgress, cancelled: Cancelled) -> str:
        """Fit the class's adapter, or load the one that these seeds gave before."""
        self._progress, self._cancelled = progress, cancelled
        self._render.fit(defect_class, looks, progress, cancelled)
        self._spans[defect_class] = big_views.span_of(looks)
        steps, seed = self._request.fit_steps * _STEPS_EACH, self._request.random_seed
        path = lora.path_of(self._folder, self.base_digest, looks, steps, seed)
        if not path.exists():
            lora.put(self._inpainter.unet, self._fresh)
            with _within_memory():
                subject = big_views.subject_of(defect_class, looks, self._scene.recipe.bit_depth, seed)
                big_views.learn(self._inpainter, subject, steps, seed, progress, cancelled)
            lora.save(self._inpainter.unet, path, self.base_digest)
        # Always from the file: a resumed run must compute with the very same network.
        lora.restore(self._inpainter.unet, path, self.base_digest)
        self._adapters[defect_class] = lora.state_of(self._inpainter.unet)
        return digest.of_file(path)

    def appearance(
        self, window: Stack, shape: Shape, severity: float, defect_class: str, rng: np.random.Generator
    ) -> Appearance:
        """Paint one defect. Raises `JobCancelled` between two steps."""
        distance = distance_of(shape)
        look = self._render.pick(defect_class, shape)
        smooth = self._render.smooth(defect_class, shape, distance, rng)
        with _within_memory():
            painted = self._paint(window, smooth, distance, defect_class, rng)
        added = _as_strong(painted, look, distance) - smooth
        log = (severity * as_the_seeds(look, smooth, added, distance, rng)).astype(np.float32)
        return on_surface(self._scene, window, log, distance, look)

    def _paint(
        self,
        window: Stack,
        smooth: Maps,
        distance: NDArray[np.float32],
        defect_class: str,
        rng: np.random.Generator,
    ) -> Maps:
        """Return the painted log contrast (K, h, w) against the smooth surface."""
        inpainter, span = self._inpainter, self._spans[defect_class]
        lora.put(inpainter.unet, self._adapters[defect_class])
        surface = big_views.log_of(window, distance <= 0, self._scene.recipe.bit_depth)
        mask = big_views.mask_of(distance, inpainter.side)
        prompt, empty = inpainter.prompt(big_views.prompt_of(defect_class)), inpainter.prompt("")
        noise = inpainter.noise(torch.Generator().manual_seed(int(rng.integers(1 << 62))))
        painted, unchanged = [], []
        # One picture at a time: memory is that of one, whatever the number of lights.
        before = big_views.pictures_of(surface, span, inpainter.side)
        rendered = big_views.pictures_of(surface + smooth, span, inpainter.side)
        for picture, begin in zip(before[:, None], rendered[:, None], strict=True):
            latents = inpainter.paint(
                inpainter.encode(begin),
                noise,
                inpainter.guide(picture, mask, prompt),
                empty,
                steps=self._request.sampling_steps,
                start=_START,
                go_on=self._go_on,
            )
            painted.append(inpainter.decode(latents))
            unchanged.append(inpainter.decode(inpainter.encode(picture)))
        after = big_views.log_from(torch.cat(painted), surface.shape, span)
        same = big_views.log_from(torch.cat(unchanged), surface.shape, span)
        contrast: Maps = after - ndimage.gaussian_filter(same, (0, _FINE_PX, _FINE_PX), mode="nearest")
        return contrast

    def _go_on(self, step: int, steps: int) -> None:
        """Say that a step of a painting begins: without a graphics card a candidate takes minutes."""
        if self._cancelled():
            raise JobCancelled("generation was stopped; resume the job to go on")
        self._progress(Progress(stage="painting", done=step, total=steps))


def _as_strong(painted: Maps, look: Look, distance: NDArray[np.float32]) -> Maps:
    """Return the painted contrast with the seed's root mean square inside the outline, as far as the bounds allow."""
    inside = distance > 0
    if not inside.any():
        return painted
    wanted = float(np.sqrt((look.contrast[:, look.distance > 0] ** 2).mean()))
    made = float(np.sqrt((painted[:, inside] ** 2).mean()))
    strong: Maps = painted * np.float32(np.clip(wanted / max(made, 1e-6), *_GAINS))
    return strong


@contextmanager
def _within_memory() -> Iterator[None]:
    """Tell in one sentence that the graphics card's memory did not do."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise JobError(
            "the graphics card has too little free memory for this checkpoint; end what else runs on it and resume the "
            "job, or take the arm diffusion"
        ) from error
