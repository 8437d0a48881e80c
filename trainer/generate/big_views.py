"""What an inpainting checkpoint sees of a cell: windows as pictures of three channels, and seeds to learn from.

A picture is the logarithm of the light against the window's own level, per channel, so that a factor on the light is
the same step everywhere and what is painted can be taken back to log contrast without loss.

Such a checkpoint paints three channels at once and knows no lights. Channels are taken three at a time, in the recipe's
order, the last group filled up with its last channel; one light alone is all three. Channels of a group are painted
together and agree as far as the network makes colours agree. Groups agree only through what they share: the outline,
the procedural render from which painting begins, and the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cell.defects import Mask
from cell.imaging import contrast
from cell.imaging.contrast import Maps
from trainer.generate import lora
from trainer.generate.base import Cancelled, ReportProgress
from trainer.generate.inpainter import Guide, Inpainter
from trainer.generate.looks import Look

#: Log contrast between mid-grey and white: so many times the seeds' strongest, within bounds that keep texture visible.
_HEADROOM, _SPANS = 1.5, (0.5, 2.5)
#: So far beyond the outline it is painted, window pixels: an edge is wider than its outline.
_HALO_PX = 1.5
#: Crops of each seed, of different surroundings; each side grows by up to this share of the window's.
_VIEWS, _MOST_GROWTH = 4, 0.3
RANK, ALPHA, RATE = 16, 16, 1e-4
#: The attention's projections, which is where such checkpoints are usually adapted.
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
_BATCH, _CHECKS = 2, 4
#: Share of pictures that are learned with the empty prompt, which guidance needs.
_UNPROMPTED = 0.1
#: What counts outside of the outline, where the network has only to copy, against 1 inside.
_OUTSIDE = 0.2


def groups_of(channels: int) -> list[list[int]]:
    """Return which channels (three each) the pictures of a stack show."""
    return [[min(first + i, channels - 1) for i in range(3)] for first in range(0, channels, 3)]


def span_of(looks: Sequence[Look]) -> float:
    """Return the log contrast that becomes white in a class's pictures, its negative black."""
    strongest = max(float(np.quantile(np.abs(look.contrast[:, look.distance > 0]), 0.99)) for look in looks)
    return float(np.clip(_HEADROOM * strongest, *_SPANS))


def log_of(window: NDArray[np.generic], outside: Mask, bit_depth: int) -> Maps:
    """Return the log contrast (K, h, w) of a window in DN against its level: each channel's median `outside`."""
    known = outside if outside.any() else np.ones_like(outside)
    pixels = window.astype(np.float32)
    level = np.median(pixels[:, known], axis=1).astype(np.float32)
    return contrast.of(pixels, np.broadcast_to(level[:, None, None], pixels.shape), bit_depth)


def mask_of(distance: NDArray[np.float32], side: int) -> Tensor:
    """Return what is to be painted, (1, 1, side, side) 0 or 1, from the distance (h, w) to an outline."""
    maps = (distance > -_HALO_PX).astype(np.float32)[None]
    grown = _square(maps, side, "constant")
    # Thin outlines must not fall between the pixels where a wide window is made smaller.
    return (grown > 0.05).float()[None]


def pictures_of(log: Maps, span: float, side: int) -> Tensor:
    """Return the pictures (G, 3, side, side) of a log contrast (K, h, w)."""
    square = (_square(log, side, "symmetric") / span).clamp(-1, 1)
    return torch.stack([square[group] for group in groups_of(len(log))])


def log_from(pictures: Tensor, shape: tuple[int, int, int], span: float) -> Maps:
    """Return the log contrast of that shape (K, h, w) which pictures show: the inverse of :func:`pictures_of`."""
    channels, height, width = shape
    longest = max(height, width)
    shown = torch.zeros((channels, *pictures.shape[2:]))
    count = torch.zeros(channels)
    for picture, group in zip(pictures, groups_of(channels), strict=True):
        for plane, channel in zip(picture, group, strict=True):
            shown[channel] += plane
            count[channel] += 1
    square = _resized(shown / count[:, None, None], longest)
    log: Maps = (square[:, :height, :width] * span).numpy()
    return log


def _square(maps: Maps, side: int, beyond: str) -> Tensor:
    _, height, width = maps.shape
    longest = max(height, width)
    grown = np.pad(maps, [(0, 0), (0, longest - height), (0, longest - width)], mode=beyond)  # type: ignore[call-overload]
    return _resized(torch.from_numpy(np.ascontiguousarray(grown, np.float32)), side)


def _resized(maps: Tensor, side: int) -> Tensor:
    return nn.functional.interpolate(
        maps[None], (side, side), mode="bilinear", antialias=maps.shape[-1] > side, align_corners=False
    )[0]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A seed in some of its surroundings: log contrast (K, h, w) against its level, distance (h, w) to the outline."""

    part_id: str
    log: Maps
    distance: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A class to be learned: its name, its seeds' views, and the log contrast that is white in its pictures."""

    name: str
    views: tuple[View, ...]
    span: float

    @property
    def stage(self) -> str:
        """What a job's progress calls the fit."""
        return f"adapter {self.name}"


def prompt_of(defect_class: str) -> str:
    """Return the words that a class is learned and painted under."""
    return f"a close-up photo of a surface with a {defect_class.replace('_', ' ').replace('-', ' ')}"


def subject_of(defect_class: str, looks: Sequence[Look], bit_depth: int, random_seed: int) -> Subject:
    """Return crops around each seed. They are not turned or mirrored: the lights would then stand elsewhere."""
    rng = np.random.default_rng(random_seed)
    views = tuple(_view(look, bit_depth, rng) for look in looks for _ in range(_VIEWS))
    return Subject(defect_class, views, span_of(looks))


def _view(look: Look, bit_depth: int, rng: np.random.Generator) -> View:
    (top, left), (height, width) = look.corner, look.distance.shape
    _, whole_height, whole_width = look.seed.stack.shape
    grow = (rng.uniform(0, _MOST_GROWTH, 4) * [height, height, width, width]).astype(int)
    up, across = min(grow[0], top), min(grow[2], left)
    down = min(grow[1], whole_height - top - height)
    right = min(grow[3], whole_width - left - width)
    window = look.seed.stack[:, top - up : top + height + down, left - across : left + width + right]
    # Nothing beyond the measured window belongs to the defect.
    distance = np.pad(look.distance, [(up, down), (across, right)], constant_values=-1e3)
    return View(look.seed.part_id, log_of(window, distance <= 0, bit_depth), distance)


def learn(
    inpainter: Inpainter,
    subject: Subject,
    steps: int,
    random_seed: int,
    progress: ReportProgress,
    cancelled: Cancelled,
) -> None:
    """Fit the adapters in the inpainter's network to a class. Raises `JobCancelled`."""
    left_out = lora.left_out((view.part_id for view in subject.views), random_seed)
    lesson = _Lesson(inpainter, subject, random_seed)
    own = [view for view in subject.views if view.part_id != left_out]
    others = [view for view in subject.views if view.part_id == left_out]
    inpainter.unet.train()
    try:
        lora.learn(
            inpainter.unet,
            lambda: lesson.loss(own),
            (lambda: lesson.check(others)) if others else None,
            steps=steps,
            rate=RATE,
            stage=subject.stage,
            progress=progress,
            cancelled=cancelled,
        )
    finally:
        inpainter.unet.eval()


class _Lesson:
    """Draws what is learned from; latents are kept, since the autoencoder does not learn."""

    def __init__(self, inpainter: Inpainter, subject: Subject, random_seed: int) -> None:
        self._inpainter = inpainter
        self._span = subject.span
        self._prompts = (inpainter.prompt(prompt_of(subject.name)), inpainter.prompt(""))
        self._rng = np.random.default_rng(random_seed)
        self._noise = torch.Generator().manual_seed(random_seed)
        self._kept: dict[tuple[int, int], tuple[Tensor, Guide]] = {}

    def loss(self, views: list[View]) -> Tensor:
        """Return the loss of a batch: parts equally often, then their views, then their groups of lights."""
        parts = sorted({view.part_id for view in views})
        total = torch.zeros((), device=self._inpainter.device)
        for _ in range(_BATCH):
            part = parts[int(self._rng.integers(len(parts)))]
            mine = [view for view in views if view.part_id == part]
            view = mine[int(self._rng.integers(len(mine)))]
            group = int(self._rng.integers(len(groups_of(len(view.log)))))
            prompt = self._prompts[int(self._rng.random() < _UNPROMPTED)]
            step = int(self._rng.integers(self._inpainter.schedule.config.num_train_timesteps))
            total = total + self._one(view, group, prompt, step, self._noise)
        return total / _BATCH

    @torch.no_grad()
    def check(self, views: list[View]) -> float:
        """Return the loss on a left-out part's first views at fixed steps and noise."""
        noise = torch.Generator().manual_seed(1)
        last = self._inpainter.schedule.config.num_train_timesteps
        steps = np.linspace(0.1 * last, 0.9 * last, _CHECKS).astype(int)
        chosen = [views[index % len(views)] for index in range(_CHECKS)]
        losses = [
            float(self._one(view, index % len(groups_of(len(view.log))), self._prompts[0], int(step), noise))
            for index, (view, step) in enumerate(zip(chosen, steps, strict=True))
        ]
        return sum(losses) / len(losses)

    def _one(self, view: View, group: int, prompt: Tensor, step: int, generator: torch.Generator) -> Tensor:
        latents, guide = self._encoded(view, group)
        noise = self._inpainter.noise(generator)
        steps = torch.tensor([step], device=latents.device)
        noisy = self._inpainter.schedule.add_noise(latents, noise, steps)
        predicted = self._inpainter.predict(noisy, steps, Guide(guide.mask, guide.masked, prompt))
        weight = _OUTSIDE + (1 - _OUTSIDE) * guide.mask
        error = (predicted - self._inpainter.target(latents, noise, steps)) ** 2
        return (weight * error).mean() / weight.mean()

    def _encoded(self, view: View, group: int) -> tuple[Tensor, Guide]:
        key = (id(view), group)
        if key not in self._kept:
            side = self._inpainter.side
            picture = pictures_of(view.log, self._span, side)[group : group + 1]
            guide = self._inpainter.guide(picture, mask_of(view.distance, side), self._prompts[0])
            self._kept[key] = (self._inpainter.encode(picture), guide)
        return self._kept[key]
