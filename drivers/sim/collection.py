"""Thousands of rendered pairs to learn from: a part with defects, and its good twin, each under the same lamps.

    python -m drivers.sim.collection DIR --parts 3000 --jobs 3

What a network should know before it sees its first cell is what surfaces, lights and defects look like at all. So here
everything varies far more than in one cell: product, material, magnification, lamps, kinds, number and severity of
defects. The twin is the same part, lying the same way, without the defects; where the two differ by more than the
sensor's noise the defect can be seen under that lamp, and only there is it labelled: a scratch that a lamp does not
show is no defect in that lamp's picture.

Every part is its number: a collection that was cut off goes on, and is the same on every machine.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell.store.files import make_folder, write_bytes
from drivers.sim.defects.catalogue import DEFECTS
from drivers.sim.products.blueprint import Batch, Blueprint
from drivers.sim.products.catalogue import PRODUCTS
from drivers.sim.render.lamps import rig
from drivers.sim.render.workpiece import Canvas, Workpiece
from drivers.sim.studio import EXPOSURE_US, HEIGHT, WIDTH, Order, StudioProduct

#: Kinds of defects by label: label 0 is good, i + 1 is kind i. A warped outline is everywhere and has no place.
KINDS: tuple[str, ...] = tuple(sorted(name for name in DEFECTS if name != "warp"))
#: Lamps of a part: three of different character, so that each part is worth three pictures.
_RIGS = ("2+ring", "1+coax+dome", "1+1low+ring", "2low+dome", "1+1low+coax", "2+dome")
#: Parts of a file.
SHARD = 25
#: A change below this many standard deviations of a pixel's noise, over 3 x 3 pixels, can't be seen.
_VISIBLE_SIGMAS = 2.0
_CHANGED_LIGHT = 0.06  # nor can one below this share of the light there

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A defective part and its twin under K lamps: `bad` and `good` (K, H, W) DN, `labels` (K, H, W), all uint8."""

    bad: Bytes
    good: Bytes
    labels: Bytes


def pair(number: int, random_seed: int) -> Pair:
    """Return the pair of that number; the same for the same two numbers."""
    drawn = np.random.Generator(np.random.SFC64(np.random.SeedSequence([random_seed, number, 20_261])))
    blueprint = _varied(tuple(PRODUCTS.values())[int(drawn.integers(len(PRODUCTS)))], drawn)
    product = StudioProduct(blueprint, rig(_RIGS[int(drawn.integers(len(_RIGS)))]), random_seed + number)
    part_id = f"good-{number % 1_000_000:06d}"
    possible = [name for name in blueprint.defects if name in KINDS]
    count = int(drawn.choice([1, 2, 3], p=[0.5, 0.3, 0.2]))
    orders = [
        Order(possible[int(drawn.integers(len(possible)))], severity=float(np.exp(drawn.normal(-0.1, 0.55))))
        for _ in range(count)
    ]
    with_defects, without = product.make(part_id, orders), product.make(part_id)
    exposure_us = EXPOSURE_US * float(np.exp(drawn.normal(0, 0.25)))
    bad, good, labels = [], [], []
    for line in product.lines:
        electrons = [part.rate(line) * part.response * np.float32(exposure_us) for part in (with_defects, without)]
        label = np.zeros((HEIGHT, WIDTH), np.uint8)
        seen = _visible(electrons[0], electrons[1], product.sensor.read_noise_e)
        for defect in with_defects.defects:
            # Its shadow and its highlight lie beside it.
            near = ndimage.binary_dilation(defect.mask, iterations=2)
            label[near & seen] = KINDS.index(defect.defect_class) + 1
        pixels = [product.sensor.digitise(image + product._dark, 0.0, drawn) for image in electrons]
        bad.append(pixels[0])
        good.append(pixels[1])
        labels.append(label)
    return Pair(np.stack(bad), np.stack(good), np.stack(labels))


def _varied(blueprint: Blueprint, drawn: np.random.Generator) -> Blueprint:
    """Return the product in another material, at another magnification."""
    wild = Batch(*(float(value) for value in np.exp(drawn.normal(0, [0.15, 0.2, 0.35, 0.3]))))
    zoom = float(np.exp(drawn.uniform(-0.6, 0.15)))
    field = (blueprint.field_mm[0] * zoom, blueprint.field_mm[1] * zoom)

    def draw(canvas: Canvas, generator: np.random.Generator, _: Batch) -> Workpiece:
        return blueprint.draw(canvas, generator, wild)

    return replace(blueprint, draw=draw, field_mm=field, jitter_mm=0.1 * field[0], jitter_deg=8.0)


def _visible(bad: NDArray[np.float32], good: NDArray[np.float32], read_noise_e: float) -> NDArray[np.bool_]:
    """Return where the difference of two noiseless pictures (H, W), in electrons, stands above noise and light."""
    change = np.abs(ndimage.uniform_filter(bad - good, 3))
    noise = np.sqrt(np.maximum(good, 0) + read_noise_e**2)
    seen: NDArray[np.bool_] = change > np.maximum(_VISIBLE_SIGMAS * noise, _CHANGED_LIGHT * good)
    return seen


def file_of(folder: Path, shard: int) -> Path:
    """Return where a shard of :data:`SHARD` parts is kept."""
    return folder / f"pairs-{shard:05d}.npz"


def write_shard(folder: Path, random_seed: int, shard: int) -> int:
    """Render and write one shard, unless it is there; return its number."""
    file = file_of(folder, shard)
    if not file.exists():
        pairs = [pair(number, random_seed) for number in range(shard * SHARD, (shard + 1) * SHARD)]
        arrays = {name: np.stack([getattr(one, name) for one in pairs]) for name in ("bad", "good", "labels")}
        write_bytes(file, _packed(arrays))
    return shard


def _packed(arrays: dict[str, Bytes]) -> bytes:
    held = io.BytesIO()
    np.savez_compressed(held, **arrays)  # type: ignore[arg-type]
    return held.getvalue()


def main(arguments: list[str] | None = None, say: Callable[[str], object] = sys.stdout.write) -> int:
    """Render a collection; return the exit status."""
    about = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m drivers.sim.collection", description=about)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args(arguments)
    make_folder(chosen.folder)
    shards = range(-(-chosen.parts // SHARD))
    with multiprocessing.get_context("spawn").Pool(chosen.jobs) as pool:
        for done, _ in enumerate(pool.imap_unordered(partial(write_shard, chosen.folder, chosen.seed), shards), 1):
            say(f"{done} of {len(shards)} files\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
