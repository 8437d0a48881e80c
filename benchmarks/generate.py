"""How fast candidates are made, and what that costs.

    python -m benchmarks.generate --json FILE [--count 300] [--threads 4]

A rendered product under four lights at 1 MP, five seeds of each class; adapters are fitted, then candidates are made
and kept in a learning store as the generation job keeps them: files durable, then rows. Beside it, in the same run: the
same at 50 MP, of which only the defects' surroundings should be computed, and the stock way of a diffusers pipeline,
which runs the same network over the whole picture at every step.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cell.calibration import Calibration, CalibrationKind, ChannelCalibration, Illumination
from cell.clock import utc_now
from cell.defects import Split
from cell.frames import Stack, StoredStack
from cell.recipes import Recipe
from cell.store.files import write_bytes
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from drivers.sim.products.catalogue import PRODUCTS
from drivers.sim.render.lamps import rig
from drivers.sim.sensor import Sensor
from drivers.sim.studio import EXPOSURE_US, Order, StudioProduct, recipe_for
from trainer.generate import denoiser
from trainer.generate.base import BackgroundSample, GenerateRequest, Scene, SeedSample
from trainer.generate.candidates import allowed_places, make_candidates
from trainer.generate.diffusion import Diffusion
from trainer.generate.looks import look_at
from trainer.generate.plausibility import Judge

_LIGHTS = "4"
_BIT_DEPTH = 12
_SEEDS = 5
_BACKGROUNDS = 4
_SIDE, _LARGE = 1024, 7168


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A product in a store, ready for generation."""

    recipe: Recipe
    calibration: Calibration
    seeds: list[SeedSample]
    backgrounds: list[BackgroundSample]
    store: LearningStore

    @property
    def scene(self) -> Scene:
        """What the arms know."""
        names = self.recipe.class_names
        by_class = {name: tuple(one for one in self.seeds if one.defect_class == name) for name in names}
        return Scene(self.recipe, self.calibration, by_class, tuple(self.backgrounds))


@contextmanager
def staged(classes: Sequence[str], side: int, folder: Path) -> Iterator[Stage]:
    """Render a product of `side` x `side` px and put backgrounds and confirmed seeds of it into a new store."""
    product = StudioProduct(PRODUCTS["brushed"], rig(_LIGHTS), size=(_SIDE, _SIDE), sensor=Sensor.of_depth(_BIT_DEPTH))
    recipe = recipe_for(product, "speed")
    kept = tuple(one for one in recipe.defect_classes if one.name in classes)
    recipe = recipe.model_copy(update={"defect_classes": kept, "height": side, "width": side})
    store = LearningStore(StateDir.create(folder / "state"))
    try:
        seeds: list[SeedSample] = []
        backgrounds: list[BackgroundSample] = []
        for index in range(_BACKGROUNDS if side == _SIDE else 1):
            part_id = f"good-{index:06d}"
            stack = _enlarged(_taken(product, part_id, ()), side)
            row = store.add_background("speed", part_id, _stored(recipe, stack), Split.LEARN)
            backgrounds.append(BackgroundSample(row.background_id, part_id, stack, allowed_places(recipe, stack)))
        for name in classes:
            for _ in range(_SEEDS):
                part_id, orders = f"good-{100 + len(seeds):06d}", (Order(name, severity=1.5),)
                stack = _enlarged(_taken(product, part_id, orders), side)
                mask = np.pad(product.make(part_id, orders).defects[0].mask, _margins(side))
                proposed = store.propose_seed("speed", part_id, _stored(recipe, stack), mask, name, Split.LEARN)
                store.confirm_seed(proposed.seed_id, name, mask, "benchmark")
                seeds.append(SeedSample(proposed.seed_id, part_id, name, stack, mask))
        yield Stage(recipe, _calibration(recipe, product.sensor), seeds, backgrounds, store)
    finally:
        store.close()


def _taken(product: StudioProduct, part_id: str, orders: Sequence[Order]) -> Stack:
    part, generator = product.make(part_id, orders), np.random.default_rng(7)
    return np.stack([part.expose({line: 1.0}, EXPOSURE_US, 0.0, generator) for line in product.lines]).astype(np.uint16)


def _enlarged(stack: Stack, side: int) -> Stack:
    """Return the picture in the middle of a larger one, with its own mirror images around it."""
    large = np.empty((len(stack), side, side), np.uint16)
    for channel, picture in zip(large, stack, strict=True):
        channel[:] = np.pad(picture, _margins(side), mode="symmetric")
    return large


def _margins(side: int) -> tuple[tuple[int, int], tuple[int, int]]:
    before, after = (side - _SIDE) // 2, (side - _SIDE + 1) // 2
    return (before, after), (before, after)


def _stored(recipe: Recipe, stack: Stack) -> StoredStack:
    count = len(recipe.channels)
    return StoredStack(
        pixels=stack,
        channels=recipe.channel_names,
        bit_depth=recipe.bit_depth,
        exposure_us=(EXPOSURE_US,) * count,
        gain_db=(0.0,) * count,
        metadata={"emulated": True},
    )


def _calibration(recipe: Recipe, sensor: Sensor) -> Calibration:
    flat = Illumination(grid=((1.0,),), mean_dn=0.4 * sensor.saturation_dn)
    return Calibration(
        calibration_id="speed",
        recipe_id=recipe.recipe_id,
        kind=CalibrationKind.MEASURED,
        channels=tuple(
            ChannelCalibration(channel=name, noise=sensor.noise_model(), illumination=flat, psf_sigma_px=0.8)
            for name in recipe.channel_names
        ),
        frames_used=16,
        created_at=utc_now(),
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; return the figures."""
    torch.set_num_threads(1)
    classes = tuple(options.classes)
    with tempfile.TemporaryDirectory(prefix="generate-", dir=options.folder) as name:
        folder = Path(name)
        with staged(classes, _SIDE, folder / "small") as stage:
            fitting = _fit(stage, classes, folder, options.threads)
            small = _make(stage, classes, folder, options.count if options.threads == 1 else options.alone)
            beside = _beside(stage, classes, folder, options.count, options.threads)
            peak_mb = _peak_mb(resource.RUSAGE_SELF)
            stock = _stock(stage, options.stock_steps)
        with staged(classes[:1], options.large, folder / "large") as stage:
            large = _make(stage, classes[:1], folder, options.large_count)
    megapixels = options.large**2 / _SIDE**2
    return {
        "threads": options.threads,
        "classes": list(classes),
        "adapters": fitting,
        "1 MP": small,
        "1 MP, side by side": beside,
        f"{megapixels:.0f} MP": large,
        "stock pipeline, 1 MP": stock,
        "stock over ours, painting": stock["seconds_each"] / small["painting_s_each"],
        "large over small, painting": large["painting_s_each"] / small["painting_s_each"],
        "peak_mb": peak_mb,
        "peak_mb_of_a_process": _peak_mb(resource.RUSAGE_CHILDREN),
    }


def _fit(stage: Stage, classes: Sequence[str], folder: Path, threads: int) -> dict[str, float]:
    request = GenerateRequest(arm="diffusion", per_class=1, classes=tuple(classes), workers=threads)
    looks = {name: [look_at(seed, stage.scene) for seed in stage.scene.seeds[name]] for name in classes}
    started = time.monotonic()
    Diffusion(stage.scene, request, folder).prepare(looks, lambda _: None, lambda: False)
    seconds = time.monotonic() - started
    return {"seconds": seconds, "seconds_a_class": seconds / len(classes)}


def _make(stage: Stage, classes: Sequence[str], folder: Path, count: int) -> dict[str, float]:
    """Make candidates and keep them; `painting_s_each` is without the store's part."""
    request = GenerateRequest(arm="diffusion", per_class=-(-count // len(classes)), classes=tuple(classes))
    drafts = make_candidates(
        request, stage.seeds, stage.backgrounds, stage.calibration, stage.recipe, workdir=folder, base=None
    )
    first = next(drafts)  # adapters are loaded, or fitted when nothing prepared them
    keeping = painting = 0.0
    done = 0
    draft = first
    while True:
        started = time.monotonic()
        stage.store.candidates.add("t00001", stage.recipe.recipe_id, draft)
        kept = time.monotonic()
        keeping += kept - started
        following = next(drafts, None)
        if following is None:
            break
        painting += time.monotonic() - kept
        done += 1
        draft = following
    made = done + 1
    return {
        "candidates": made,
        "painting_s_each": painting / max(done, 1),
        "keeping_s_each": keeping / made,
        "minutes_for_300": 300 * (painting / max(done, 1) + keeping / made) / 60,
        "mask_side_px": float(np.sqrt(first.support.sum())),
    }


def _beside(stage: Stage, classes: Sequence[str], folder: Path, count: int, threads: int) -> dict[str, float]:
    """Make candidates in `threads` processes and keep and judge them as the job does; from the request to the last row.

    `ahead_s` is until the first one: measuring the seeds, loading, starting the processes.
    """
    per_class = -(-count // len(classes))
    request = GenerateRequest(arm="diffusion", per_class=per_class, classes=tuple(classes), workers=threads)
    backgrounds = {one.background_id: one for one in stage.backgrounds}
    judges: list[Judge] = []
    started = first = time.monotonic()
    drafts = make_candidates(
        request,
        stage.seeds,
        stage.backgrounds,
        stage.calibration,
        stage.recipe,
        workdir=folder,
        measured=lambda scene, looks: judges.append(Judge(scene, looks)),
    )
    made = 0
    judging = keeping = 0.0
    for draft in drafts:
        first = first if made else time.monotonic()
        at = time.monotonic()
        scores, _ = judges[0].scores(draft, backgrounds[draft.provenance.background_id])
        judged = time.monotonic()
        stage.store.candidates.add("t00002", stage.recipe.recipe_id, replace(draft, scores=scores))
        judging, keeping = judging + judged - at, keeping + time.monotonic() - judged
        made += 1
    seconds = time.monotonic() - started
    each = (seconds - (first - started)) / max(made - 1, 1)
    return {
        "processes": float(threads),
        "candidates": float(made),
        "seconds": seconds,
        "ahead_s": first - started,
        "seconds_each": each,
        "judging_s_each": judging / max(made, 1),
        "keeping_s_each": keeping / max(made, 1),
        "minutes_for_300": (first - started + 300 * each) / 60,
    }


@torch.no_grad()
def _stock(stage: Stage, steps: int) -> dict[str, float]:
    """Time the plain loop: the whole picture through the network at each of the schedule's steps."""
    network = denoiser.load(denoiser.SHIPPED).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    schedule = denoiser.scheduler()
    schedule.set_timesteps(GenerateRequest(arm="diffusion", per_class=1).sampling_steps)
    shape = (1, len(stage.recipe.channels), stage.recipe.height, stage.recipe.width)
    generator = torch.Generator().manual_seed(1)
    sample = denoiser.joint_noise(shape, generator)
    condition = torch.zeros((*shape[:2], 3, *shape[2:]))
    started = time.monotonic()
    for step in schedule.timesteps[:steps]:
        clean = denoiser.predict(network, sample, condition, step.reshape(1))
        sample = schedule.step(clean, step, sample, generator=generator).prev_sample
    seconds = (time.monotonic() - started) / steps * len(schedule.timesteps)
    return {"seconds_each": seconds, "steps_timed": float(steps), "steps": float(len(schedule.timesteps))}


def _peak_mb(who: int) -> int:
    return round(resource.getrusage(who).ru_maxrss / 1024)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=300, help="candidates at 1 MP")
    parser.add_argument("--large", type=int, default=_LARGE, help="side of the large picture, px")
    parser.add_argument("--large-count", type=int, default=4)
    parser.add_argument("--classes", nargs="+", default=["pit", "scratch", "stain"])
    parser.add_argument("--stock-steps", type=int, default=3, help="of the plain loop that are timed")
    parser.add_argument("--alone", type=int, default=12, help="candidates that one process makes")
    parser.add_argument("--threads", type=int, default=4, help="processes, for adapters and for candidates")
    parser.add_argument("--folder", type=Path, help="where files are written and removed again")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    found = run(options)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    if options.json:
        write_bytes(options.json, json.dumps(found, indent=1).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
