"""Fit the segmentation network to seeds, accepted candidates and good parts.

    samples -> CropSampler -> network -> loss -> AdamW -> exponential average -> FittedModel

Deterministic by seed on one machine with one number of threads. A run can be cancelled between two updates and goes on
from its last checkpoint as if it had never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from cell.defects import Sample
from cell.errors import ConfigurationError, JobCancelled
from cell.frames import Stack
from cell.imaging.preprocess import FloatMaps, Preprocessing
from cell.jobs import Progress
from trainer import checkpoints
from trainer.base import detector
from trainer.losses import LossWeights, segmentation_loss
from trainer.network import DetectorConfig, DetectorNetwork
from trainer.samples import Batch, CropSampler, Sampling

#: Updates for each part that shows a defect: many are then learned as well as a few (see :func:`lengthened`).
_UPDATES_A_PART = 139

ReportProgress = Callable[[Progress], None]
Cancelled = Callable[[], bool]


def ignore_progress(_: Progress) -> None:
    """Drop progress reports."""


def never_cancelled() -> bool:
    """Let the work run to its end."""
    return False


@dataclass(frozen=True, slots=True)
class FitConfig:
    """How to fit. The defaults take about five minutes on one idle core."""

    updates: int = 3200
    batch: int = 12
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    average: float = 0.99  # decay of the exponential average of the weights, which is what is kept
    seed: int = 0
    threads: int = 1
    checkpoint_every: int = 100  # updates
    network: DetectorConfig = field(default_factory=DetectorConfig)
    sampling: Sampling = field(default_factory=Sampling)
    loss: LossWeights = field(default_factory=LossWeights)
    start: Literal["shipped", "random"] = "random"  # weights: those of trainer/base, or none

    def record(self) -> str:
        """Return all that shapes a run, the weights it starts from included, as one line."""
        shaping = replace(self, sampling=replace(self.sampling, cache_bytes=0))
        return f"{shaping!r} {detector.digest_of() if self.start == 'shipped' else ''}"


def lengthened(config: FitConfig, samples: Sequence[Sample]) -> FitConfig:
    """Return `config` with as many more updates as its real defective parts need.

    Every update draws the same number of crops, so with twice the parts each is seen half as often, and the loss ends
    far higher (docs/notes/detector.md). Up to 23 parts, five a class, nothing changes.
    """
    parts = {sample.group for sample in samples if not sample.synthetic and sample.labels.any()}
    return replace(config, updates=max(config.updates, _UPDATES_A_PART * len(parts)))


@dataclass(frozen=True, slots=True, eq=False)
class FittedModel:
    """A trained judge: network in evaluation mode and all that is needed to use it."""

    network: DetectorNetwork
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    config: FitConfig
    losses: tuple[float, ...]  # running mean of the loss, one value for every tenth of the updates

    def predict(self, stack: Stack) -> tuple[FloatMaps, FloatMaps]:
        """Judge one raw stack (K, H, W) uint8 or uint16.

        :returns: probability (D, H, W) float32 in frame coordinates, score (D,) float32, both in [0, 1].
        """
        tensor = self.preprocessing.apply(stack)
        with torch.inference_mode():
            probability, score = self.network(torch.from_numpy(tensor)[None])
        maps = self.preprocessing.to_frame(probability[0].numpy(), stack.shape[1], stack.shape[2])
        return maps, score[0].numpy()


def fit(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    classes: Sequence[str],
    config: FitConfig | None = None,
    *,
    progress: ReportProgress = ignore_progress,
    cancelled: Cancelled = never_cancelled,
    checkpoint: Path | None = None,
    stage: str = "fit",
) -> FittedModel:
    """Train a detector.

    :param samples: real and synthetic images with label maps (0 good, i + 1 class i of `classes`).
    :param preprocessing: the one that will also stand in the model's manifest.
    :param checkpoint: file that holds the state of the run (safetensors); when it exists and belongs to the same
        configuration and samples the run goes on from it, else it starts anew. Removed at the end.
    :raises DataError: when there is nothing to learn from.
    :raises JobCancelled: when `cancelled` says so; a checkpoint is written first.
    """
    config = config or FitConfig()
    if config.sampling.size % preprocessing.multiple_of:
        raise ConfigurationError(
            f"the crop size {config.sampling.size} is no multiple of {preprocessing.multiple_of}; change sampling.size"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        run = _Run(samples, preprocessing, classes, config)
        with _Threads(config.threads):
            run.work(progress, cancelled, checkpoint, stage)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return run.fitted()


def go_on(
    model: FittedModel,
    samples: Sequence[Sample],
    config: FitConfig,
    *,
    progress: ReportProgress = ignore_progress,
    cancelled: Cancelled = never_cancelled,
    stage: str = "fit",
) -> FittedModel:
    """Return a model that goes on from the weights of `model` with other samples; `model` stays as it is.

    :param config: of the further updates; its network is that of `model`.
    :raises DataError: when there is nothing to learn from.
    :raises JobCancelled: when `cancelled` says so.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        run = _Run(samples, model.preprocessing, model.classes, config)
        run.network.load_state_dict(model.network.state_dict())
        run.average.load_state_dict(model.network.state_dict())
        with _Threads(config.threads):
            run.work(progress, cancelled, None, stage)
    return run.fitted()


class _Run:
    """State of one training run."""

    def __init__(
        self, samples: Sequence[Sample], preprocessing: Preprocessing, classes: Sequence[str], config: FitConfig
    ) -> None:
        self.config = config
        self.preprocessing, self.classes = preprocessing, tuple(classes)
        self.sampler = CropSampler(samples, preprocessing, config.sampling, config.seed)
        self.network = DetectorNetwork(len(preprocessing.channels), len(classes), config.network)
        if config.start == "shipped":
            detector.begin_from(self.network)
        self.average = DetectorNetwork(len(preprocessing.channels), len(classes), config.network)
        self.average.load_state_dict(self.network.state_dict())
        self.network.channels_last()
        self.average.channels_last()
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.done = 0
        self.running = math.nan
        self.losses: list[float] = []
        self.identity = checkpoints.identity(samples, preprocessing, classes, config.record())

    def work(self, progress: ReportProgress, cancelled: Cancelled, checkpoint: Path | None, stage: str) -> None:
        if checkpoint is not None and checkpoint.exists():
            checkpoints.restore(checkpoint, self)
        started, first, total = time.monotonic(), self.done, self.config.updates
        while self.done < total:
            if cancelled():
                if checkpoint is not None:
                    checkpoints.save(checkpoint, self)
                raise JobCancelled(
                    f"training was cancelled after {self.done} of {total} updates; resume the job to go on"
                )
            self._update(self.sampler.draw(self.config.batch))
            if checkpoint is not None and self.done % self.config.checkpoint_every == 0:
                checkpoints.save(checkpoint, self)
            if self.done % 10 == 0 or self.done == total:
                pace = (time.monotonic() - started) / (self.done - first)
                note = f"loss {self.running:.3f}"
                progress(
                    Progress(
                        stage=stage, done=self.done, total=total, seconds_left=pace * (total - self.done), note=note
                    )
                )

    def fitted(self) -> FittedModel:
        return FittedModel(self.average.eval(), self.preprocessing, self.classes, self.config, tuple(self.losses))

    def _update(self, batch: Batch) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = _learning_rate(self.config, self.done)
        self.network.train()
        inputs = torch.from_numpy(batch.inputs).to(memory_format=torch.channels_last)
        evidence, kinds = self.network.logits(inputs)
        loss, ghosts = segmentation_loss(evidence, kinds, torch.from_numpy(batch.labels), self.config.loss)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.sampler.feed_back(batch.good_part, ghosts.numpy())
        self._follow(min(self.config.average, (1 + self.done) / (10 + self.done)))
        self.done += 1
        value = loss.item()
        self.running = value if math.isnan(self.running) else 0.98 * self.running + 0.02 * value
        if self.done * 10 // self.config.updates > (self.done - 1) * 10 // self.config.updates:
            self.losses.append(self.running)

    @torch.no_grad()
    def _follow(self, decay: float) -> None:
        for kept, new in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if kept.dtype.is_floating_point:
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)


def _learning_rate(config: FitConfig, update: int) -> float:
    """Warm up over 15 % of the updates, then a half cosine to nearly nothing ("one cycle", Smith 2018)."""
    warm = max(1, round(0.15 * config.updates))
    if update < warm:
        return config.learning_rate * (0.04 + 0.96 * (update + 1) / warm)
    share = (update - warm) / max(1, config.updates - warm)
    return config.learning_rate * (0.002 + 0.998 * 0.5 * (1 + math.cos(math.pi * share)))


class _Threads:
    """Run torch with a number of threads, then put the old number back."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        torch.set_num_threads(self._count)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._before)
