"""Pools of parts that a line might show: mostly good, a few defective, each with its truth.

Two kinds: rendered by the emulated cell, where every part's good twin is known, and the path-traced products of
``benchmarks/heldout``, which no part of inspectd was made on.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harvest.visible import by_good_parts, by_twin
from benchmarks.heldout.stacks import stack_parts
from cell.defects import Mask, Sample
from cell.frames import Stack
from cell.imaging.folders import read_folder
from cell.recipes import Channel, DefectClass, Recipe
from drivers.sim.products.catalogue import named
from drivers.sim.studio import EXPOSURE_US, StudioProduct, recipe_for

HELDOUT = Path(__file__).parents[1] / "heldout" / "data"
#: (height, width) of the rendered parts, and the emulated cell's random seed; nothing was tuned on this seed.
SIZE, SEED = (192, 240), 1
_HELDOUT_CHANNELS = ("coaxial", "dome", "ring", "bar")


@dataclass(frozen=True, slots=True, eq=False)
class PoolPart:
    """A part and the truth about it. `sigmas`: how visible its defect is on its best channel, 0 for a good part.

    `noise_sigmas` is the same over the sensor's noise alone, as if the surface had no texture; 0 where nobody knows.
    """

    part_id: str
    stack: Stack
    defect_class: str = ""
    truth: Mask | None = None
    sigmas: float = 0.0
    noise_sigmas: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """What a line shows of one product, in order."""

    name: str
    recipe: Recipe
    parts: tuple[PoolPart, ...]

    @property
    def good(self) -> tuple[PoolPart, ...]:
        """The parts without a defect."""
        return tuple(part for part in self.parts if not part.defect_class)

    @property
    def bad(self) -> tuple[PoolPart, ...]:
        """The parts with one."""
        return tuple(part for part in self.parts if part.defect_class)


def rendered(description: str, parts: int, share: float) -> Pool:
    """Render `parts` of a product such as ``cast-4+ring``, a `share` of them defective, classes in turn.

    Raises `ConfigurationError` for an unknown product.
    """
    blueprint, lamps = named(description)
    product = StudioProduct(blueprint, lamps, SEED, size=SIZE)
    bad = max(1, round(parts * share))
    kinds = blueprint.defects
    names = [f"good-{index:06d}" for index in range(parts - bad)]
    names += [f"{kinds[index % len(kinds)]}-{index // len(kinds):06d}" for index in range(bad)]
    np.random.default_rng(SEED).shuffle(names)
    return Pool(description, recipe_for(product), tuple(_render(product, name) for name in names))


def heldout(name: str, draws: int = 8) -> Iterator[Pool]:
    """Give `draws` pools of a path-traced product: all its good parts, and one test part of each class in turn.

    Raises `DataError` when the pictures are missing.
    """
    dataset = read_folder(HELDOUT / name)
    good = stack_parts(dataset.load_all([*dataset.backgrounds, *(i for i in dataset.test if not i.defect_class)]))
    bad = {
        kind: stack_parts(dataset.load_all([item for item in dataset.test if item.defect_class == kind]))
        for kind in dataset.classes
    }
    recipe = _heldout_recipe(name, good[0], dataset.classes)
    whole: Stack = np.stack([sample.stack for sample in good])  # type: ignore[assignment]
    for draw in range(min(draws, *(len(samples) for samples in bad.values()))):
        chosen = [PoolPart(sample.group, sample.stack) for sample in good]
        for kind, samples in bad.items():
            sample = samples[draw]
            truth: Mask = sample.labels > 0
            sigmas = by_good_parts(sample.stack, truth, whole)
            chosen.append(PoolPart(sample.group, sample.stack, kind, truth, sigmas))
        order = np.random.default_rng(draw).permutation(len(chosen))
        yield Pool(f"{name} {draw + 1}", recipe, tuple(chosen[index] for index in order))


def _render(product: StudioProduct, name: str) -> PoolPart:
    part, generator = product.part(name), np.random.default_rng(zlib.crc32(name.encode()))
    frames = [part.expose({line: 1.0}, EXPOSURE_US, 0.0, generator) for line in product.lines]
    stack: Stack = np.stack(frames)  # type: ignore[assignment]
    kind = product.defect_class(name)
    if kind is None:
        return PoolPart(name, stack)
    twin = product.make(name)
    rates = np.stack([part.rate(line) for line in product.lines])
    without = np.stack([twin.rate(line) for line in product.lines])
    sigmas = by_twin(rates * EXPOSURE_US, without * EXPOSURE_US, product.sensor)
    return PoolPart(name, stack, kind, product.place_mask(name), *sigmas)


def _heldout_recipe(name: str, sample: Sample, classes: tuple[str, ...]) -> Recipe:
    channels, height, width = sample.stack.shape
    lights = _HELDOUT_CHANNELS[:channels]
    return Recipe(
        recipe_id=name,
        product=name,
        height=height,
        width=width,
        channels=tuple(Channel(name=light, exposure_us=EXPOSURE_US, lights={light: 1.0}) for light in lights),
        defect_classes=tuple(DefectClass(name=kind) for kind in classes),
    )
