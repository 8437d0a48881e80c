"""The interpolating autoencoder: what lies between two seeds ("450 pictures from 50"), under a planned outline.

A convolutional variational autoencoder (Kingma and Welling 2014), a class each, learns what the seeds have beyond their
render. For a candidate two seeds are put under its outline (the first by the outline's own warp, the second by middle
and axes), encoded, mixed in the latent space, varied by a little of the posterior, and decoded. The weight of the
reconstruction against the latents' cost follows from the error itself (sigma-VAE, Rybkin et al. 2021), so that it need
not be found anew for every product.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trainer.crew import Chore
from trainer.generate import lora, weights
from trainer.generate.base import Cancelled, ReportProgress
from trainer.generate.canvas import Canvas
from trainer.generate.convolutions import Block, channels_last, inside_of, rest_of, told_of, unit_of, up
from trainer.generate.fitting import descend
from trainer.generate.learned import Learned, Planned
from trainer.generate.leftover import laid_under, warped
from trainer.generate.lessons import Lesson, crops

#: Of network and fit; another design finds no old file.
DESIGN = "vae-1"
#: Side of a latent cell, working pixels, and the numbers in it.
CELL, LATENTS = 4, 6
_WIDTHS = (24, 48, 64)
_RATE = 2e-3
#: Updates for each that the request names: its number is meant for the denoiser's, each several times as long.
_STEPS_EACH = 2
#: Crops of an update.
_CROPS = 8
#: Crops of the left-out part, and updates between two looks at them.
_CHECK_CROPS, _CHECK_EVERY = 12, 20
#: Share of the fit over which the latents' cost rises from nothing (Bowman et al. 2016).
_WARM_UP = 0.3
#: Least standard deviation that a reconstruction is held to, in the network's unit.
_LEAST_SIGMA = 0.1
#: Share of the second seed in a mixture, and of the posterior's standard deviation that varies it.
_MIXTURE, _POSTERIOR = (0.1, 0.5), 0.7


class Autoencoder(nn.Module):
    """Encoder and decoder for K channels jointly; both are told render, surroundings and outline."""

    unit: Tensor

    def __init__(self, channels: int, unit: float = 1.0) -> None:
        super().__init__()
        told = 2 * channels + 1
        first, second, third = _WIDTHS
        self.register_buffer("unit", torch.tensor(unit))
        self.encoder = nn.Sequential(
            nn.Conv2d(channels + told, first, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(first, second, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(second, third, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(third, 2 * LATENTS, 3, padding=1),
        )
        self.coarse = nn.Sequential(nn.Conv2d(LATENTS + told, third, 3, padding=1), nn.SiLU(), Block(third))
        self.middle = nn.Sequential(nn.Conv2d(third + told, second, 3, padding=1), nn.SiLU())
        self.fine = nn.Sequential(nn.Conv2d(second + told, first, 3, padding=1), nn.SiLU(), Block(first))
        self.last = nn.Conv2d(first, channels, 3, padding=1)

    def encode(self, rest: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance of the latents, (B, LATENTS, h / CELL, w / CELL) each.

        :param rest: (B, K, h, w) what a defect has beyond its render; :param told: see `convolutions.told_of`.
        """
        mean, log_variance = self.encoder(torch.cat([rest / self.unit, told], dim=1)).chunk(2, dim=1)
        return mean, log_variance.clamp(-8.0, 4.0)

    def decode(self, latents: Tensor, told: Tensor) -> Tensor:
        """Return what the latents say that a defect has beyond its render, (B, K, h, w)."""
        maps = self.coarse(torch.cat([latents, nn.functional.avg_pool2d(told, 4)], dim=1))
        maps = self.middle(torch.cat([up(maps), nn.functional.avg_pool2d(told, 2)], dim=1))
        maps = self.fine(torch.cat([up(maps), told], dim=1))
        decoded: Tensor = self.last(maps) * inside_of(told) * self.unit
        return decoded


def between(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], share: float) -> tuple[Tensor, Tensor]:
    """Return mean and log variance of latents between two seeds', `share` of the way from one to the other.

    Two independent seeds' mean is weaker than either; the mixture is as far from the origin as its parts (White 2016).
    """
    mean = ((1 - share) * one[0] + share * other[0]) / ((1 - share) ** 2 + share**2) ** 0.5
    return mean, (1 - share) * one[1] + share * other[1]


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """Fit one class's autoencoder and write it."""

    lessons: list[Lesson]
    steps: int
    random_seed: int
    path: Path
    stage: str

    def __call__(self, progress: ReportProgress, cancelled: Cancelled) -> None:
        network = fit(self.lessons, self.steps, self.random_seed, progress, cancelled, stage=self.stage)
        weights.save(network.state_dict(), self.path, DESIGN)


def fit(
    lessons: list[Lesson],
    steps: int,
    random_seed: int,
    progress: ReportProgress,
    cancelled: Cancelled,
    *,
    stage: str,
) -> Autoencoder:
    """Return an autoencoder that knows a class's lessons. Raises `JobCancelled`.

    With three parts and more one is left out, and the weights are kept that leave least of it unexplained.
    """
    channels = len(lessons[0].target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_seed)
        network = channels_last(Autoencoder(channels, unit_of(lessons)))
    rng, generator = np.random.default_rng(random_seed), torch.Generator().manual_seed(random_seed)
    left_out = lora.left_out((item.part_id for item in lessons), random_seed)
    learned = [item for item in lessons if item.part_id != left_out]
    checked = crops([one for one in lessons if one.part_id == left_out], _CHECK_CROPS, rng) if left_out else None
    done, best, kept = 0, unexplained(network, *checked) if checked else 1.0, _copy_of(network)

    def after(steps_done: int) -> None:
        nonlocal done, best, kept
        done = steps_done
        if checked and done % _CHECK_EVERY == 0 and (left := unexplained(network, *checked)) < best:
            best, kept = left, _copy_of(network)

    descend(
        list(network.parameters()),
        lambda: _loss(network, *crops(learned, _CROPS, rng), generator, min(1.0, done / max(1.0, _WARM_UP * steps))),
        steps=steps,
        rate=_RATE,
        stage=stage,
        progress=progress,
        cancelled=cancelled,
        after=after,
    )
    if checked:
        network.load_state_dict(kept)
    return network.eval()


@torch.no_grad()
def unexplained(network: Autoencoder, target: Tensor, condition: Tensor) -> float:
    """Return the share of what crops have beyond their render that does not come back from their latents."""
    told = told_of(condition)
    rest = rest_of(target, told)
    decoded = network.decode(network.encode(rest, told)[0], told)
    return float(((decoded - rest) ** 2).sum() / ((rest**2).sum() + 1e-9))


def _copy_of(network: nn.Module) -> weights.State:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _loss(
    network: Autoencoder, target: Tensor, condition: Tensor, generator: torch.Generator, cost_share: float
) -> Tensor:
    """Return the negative evidence bound a pixel, the likelihood's sigma at its best (Rybkin et al. 2021)."""
    told = told_of(condition)
    rest = rest_of(target, told)
    mean, log_variance = network.encode(rest, told)
    noise = torch.randn(mean.shape, generator=generator)
    decoded = network.decode(mean + noise * (0.5 * log_variance).exp(), told)
    inside = inside_of(told)
    pixels = inside.sum() * rest.shape[1] + 1.0
    error = (((decoded - rest) / network.unit) ** 2).sum() / pixels
    cost = 0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance).sum() / pixels
    return 0.5 * (error + _LEAST_SIGMA**2).log() + cost_share * cost


class Vae(Learned[Autoencoder]):
    """See the module and `trainer.generate.learned`."""

    name = "vae"
    multiple = CELL

    @property
    def _base(self) -> str:
        return DESIGN

    def _chore(self, defect_class: str, lessons: list[Lesson], path: Path) -> Chore[None]:
        steps = self._request.fit_steps * _STEPS_EACH
        return _Fit(lessons, steps, self._request.random_seed, path, f"autoencoder {defect_class}")

    def _load(self, path: Path, channels: int) -> Autoencoder:
        network = Autoencoder(channels)
        network.load_state_dict(weights.read(path, DESIGN, network.state_dict()))
        return network

    def _added(self, network: Autoencoder, canvas: Canvas, planned: Planned, rng: np.random.Generator) -> Tensor:
        """Decode what lies between two seeds."""
        told = told_of(canvas.condition)
        others = [one for one in planned.looks if one.seed.part_id != planned.look.seed.part_id] or planned.looks
        second = others[int(rng.integers(len(others)))]
        under = (warped(planned.look, planned.shape, planned.distance), laid_under(second, planned.distance, rng))
        encoded = [network.encode(torch.from_numpy(canvas.scaled(one))[None] * inside_of(told), told) for one in under]
        mean, log_variance = between(encoded[0], encoded[1], float(rng.uniform(*_MIXTURE)))
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        noise = torch.randn(mean.shape, generator=generator)
        return network.decode(mean + _POSTERIOR * (0.5 * log_variance).exp() * noise, told)
