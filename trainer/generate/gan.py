"""The adversarial arm: a generator that a critic can't tell from the seeds (WGAN-GP, Gulrajani et al. 2017).

A class each. The generator is told render, surroundings and outline, and draws what a defect has beyond its render from
noise of three scales; the critic judges patches (Isola et al. 2017) of crops under the same conditions. Crops are
flipped, turned and scaled in strength on both sides, which is what keeps a critic of five seeds from knowing them by
heart (Zhao et al. 2020). What paints is the running average of the generator.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cell.jobs import Progress
from trainer.crew import Chore
from trainer.generate import weights
from trainer.generate.base import Cancelled, ReportProgress
from trainer.generate.canvas import Canvas
from trainer.generate.convolutions import Block, as_strong, channels_last, inside_of, rest_of, told_of, unit_of, up
from trainer.generate.fitting import rate_at, stop_if
from trainer.generate.learned import Learned, Planned
from trainer.generate.lessons import Lesson, crops

#: Of networks and fit; another design finds no old file.
DESIGN = "gan-1"
#: Maps of noise at each of the three scales, and the coarsest scale, working pixels.
NOISE, CELL = 4, 4
_WIDTHS, _CRITIC = (24, 48, 64), (32, 64, 96)
_RATE, _MOMENTA = 5e-4, (0.0, 0.9)
#: Updates of the generator for each step that the request names, of the critic for each of the generator's.
_STEPS_EACH, _CRITIC_STEPS = 2, 3
_PENALTY = 10.0
_CROPS = 8
#: Decay of the running average of the generator's weights.
_AVERAGE = 0.98


class Generator(nn.Module):
    """Draws what a defect has beyond its render, K channels jointly."""

    unit: Tensor

    def __init__(self, channels: int, unit: float = 1.0) -> None:
        super().__init__()
        told = 2 * channels + 1
        first, second, third = _WIDTHS
        self.register_buffer("unit", torch.tensor(unit))
        self.enter = nn.Sequential(nn.Conv2d(told + NOISE, first, 3, padding=1), nn.SiLU())
        self.down = nn.Sequential(nn.Conv2d(first, second, 4, stride=2, padding=1), nn.SiLU())
        self.further = nn.Sequential(nn.Conv2d(second + NOISE, third, 4, stride=2, padding=1), nn.SiLU())
        self.coarse = nn.Sequential(nn.Conv2d(third + NOISE, third, 3, padding=1), nn.SiLU(), Block(third))
        self.middle = nn.Sequential(nn.Conv2d(third + second, second, 3, padding=1), nn.SiLU())
        self.fine = nn.Sequential(nn.Conv2d(second + first, first, 3, padding=1), nn.SiLU(), Block(first))
        self.last = nn.Conv2d(first, channels, 3, padding=1)

    def forward(self, told: Tensor, noise: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Return (B, K, h, w) in network units.

        :param told: see `convolutions.told_of`; :param noise: see `noise_for`.
        """
        whole = self.enter(torch.cat([told, noise[0]], dim=1))
        half = self.down(whole)
        quarter = self.coarse(torch.cat([self.further(torch.cat([half, noise[1]], dim=1)), noise[2]], dim=1))
        maps = self.middle(torch.cat([up(quarter), half], dim=1))
        maps = self.fine(torch.cat([up(maps), whole], dim=1))
        drawn: Tensor = self.last(maps) * inside_of(told) * self.unit
        return drawn


class Critic(nn.Module):
    """Scores each patch of a crop: the higher, the more like the seeds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second, third = _CRITIC
        self.layers = nn.Sequential(
            nn.Conv2d(3 * channels + 1, first, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(first, second, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(second, third, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(third, 1, 3, padding=1),
        )

    def forward(self, rest: Tensor, told: Tensor) -> Tensor:
        """Return the mean score of the patches that touch the outline's inside, (B,); `rest` in the critic's unit."""
        scores = self.layers(torch.cat([rest, told], dim=1))
        weight = nn.functional.max_pool2d(inside_of(told), CELL)
        mean: Tensor = (scores * weight).sum(dim=(1, 2, 3)) / (weight.sum(dim=(1, 2, 3)) + 1.0)
        return mean


def noise_for(told: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return unit noise for crops of the size of `told`: of single pixels, of two by two, and of `CELL` by `CELL`."""
    batch, _, height, width = told.shape

    def drawn(scale: int) -> Tensor:
        return torch.randn((batch, NOISE, height // scale, width // scale), generator=generator)

    return drawn(1), drawn(2), drawn(CELL)


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """Fit one class's generator and write it."""

    lessons: list[Lesson]
    steps: int
    random_seed: int
    path: Path
    stage: str

    def __call__(self, progress: ReportProgress, cancelled: Cancelled) -> None:
        network = fit(self.lessons, self.steps, self.random_seed, progress, cancelled, stage=self.stage)
        weights.save(network.state_dict(), self.path, DESIGN)


class _Contest:
    """Generator and critic, and what they draw their crops from."""

    def __init__(self, lessons: list[Lesson], random_seed: int) -> None:
        channels = len(lessons[0].target)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random_seed)
            self.generator = channels_last(as_strong(Generator(channels, unit_of(lessons))))
            self.critic = channels_last(as_strong(Critic(channels)))
        self.average = copy.deepcopy(self.generator)
        self._lessons = lessons
        self._rng, self._noise = np.random.default_rng(random_seed), torch.Generator().manual_seed(random_seed)
        self._of_generator, self._of_critic = (
            torch.optim.Adam(network.parameters(), lr=_RATE, betas=_MOMENTA)
            for network in (self.generator, self.critic)
        )

    def step(self, rate: float) -> None:
        """Let the critic learn, then the generator."""
        for optimiser in (self._of_generator, self._of_critic):
            for group in optimiser.param_groups:
                group["lr"] = rate
        for _ in range(_CRITIC_STEPS):
            target, condition = crops(self._lessons, _CROPS, self._rng)
            told = told_of(condition)
            real = rest_of(target, told) / self.generator.unit
            with torch.no_grad():
                drawn = self.generator(told, noise_for(told, self._noise)) / self.generator.unit
            loss = (self.critic(drawn, told) - self.critic(real, told)).mean() + _PENALTY * self._penalty(
                real, drawn, told
            )
            self._of_critic.zero_grad(set_to_none=True)
            loss.backward()
            self._of_critic.step()
        told = told_of(crops(self._lessons, _CROPS, self._rng)[1])
        score = self.critic(self.generator(told, noise_for(told, self._noise)) / self.generator.unit, told).mean()
        self._of_generator.zero_grad(set_to_none=True)
        (-score).backward()
        self._of_generator.step()
        with torch.no_grad():
            for kept, now in zip(self.average.parameters(), self.generator.parameters(), strict=True):
                kept.lerp_(now, 1.0 - _AVERAGE)

    def _penalty(self, real: Tensor, drawn: Tensor, told: Tensor) -> Tensor:
        """Return how far the critic's slope is from 1 between real and drawn crops (Gulrajani et al. 2017)."""
        share = torch.rand((len(real), 1, 1, 1), generator=self._noise)
        between = (share * real + (1 - share) * drawn).requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(between, told).sum(), between, create_graph=True)
        return ((slope.flatten(1).norm(dim=1) - 1.0) ** 2).mean()


def fit(
    lessons: list[Lesson],
    steps: int,
    random_seed: int,
    progress: ReportProgress,
    cancelled: Cancelled,
    *,
    stage: str,
) -> Generator:
    """Return a generator of a class's defects. Raises `JobCancelled`."""
    contest = _Contest(lessons, random_seed)
    for step in range(steps):
        stop_if(cancelled, stage)
        contest.step(rate_at(_RATE, step, steps))
        progress(Progress(stage=stage, done=step + 1, total=steps))
    return contest.average.eval()


class Gan(Learned[Generator]):
    """See the module and `trainer.generate.learned`."""

    name = "gan"
    multiple = CELL

    @property
    def _base(self) -> str:
        return DESIGN

    def _chore(self, defect_class: str, lessons: list[Lesson], path: Path) -> Chore[None]:
        steps = self._request.fit_steps * _STEPS_EACH
        return _Fit(lessons, steps, self._request.random_seed, path, f"generator {defect_class}")

    def _load(self, path: Path, channels: int) -> Generator:
        network = Generator(channels)
        network.load_state_dict(weights.read(path, DESIGN, network.state_dict()))
        return network

    def _added(self, network: Generator, canvas: Canvas, planned: Planned, rng: np.random.Generator) -> Tensor:
        """Draw from noise."""
        del planned
        told = told_of(canvas.condition)
        noise = noise_for(told, torch.Generator().manual_seed(int(rng.integers(1 << 62))))
        drawn: Tensor = network(told, noise)
        return drawn
