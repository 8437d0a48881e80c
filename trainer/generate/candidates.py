"""From a request to candidates: plan, paint, compose, check, describe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from cell.calibration import Calibration
from cell.defects import Draft, Mask
from cell.errors import ConfigurationError, DataError, JobCancelled
from cell.frames import Stack
from cell.jobs import Progress
from cell.recipes import Recipe
from trainer.generate.arm import Arm
from trainer.generate.base import (
    BackgroundSample,
    Cancelled,
    GenerateRequest,
    ReportProgress,
    Scene,
    SeedSample,
)
from trainer.generate.beside import made_beside
from trainer.generate.big import StableDiffusion
from trainer.generate.checks import check_grounds, check_pictures
from trainer.generate.control import check_plan
from trainer.generate.copypaste import CopyPaste
from trainer.generate.diffusion import Diffusion
from trainer.generate.gan import Gan
from trainer.generate.looks import Look, look_at
from trainer.generate.making import Maker
from trainer.generate.procedural import Procedural
from trainer.generate.randomise import Spread, randomised, spread_of
from trainer.generate.vae import Vae

ARMS = ("diffusion", "procedural", "copypaste", "vae", "gan", "stable-diffusion")
#: Arms of which several processes find room, and how many candidates each must have for its start to be worth it.
_BESIDE, _WORTH_BESIDE = frozenset({"diffusion", "procedural", "copypaste", "vae", "gan"}), 12
Measured = Callable[[Scene, Mapping[str, list[Look]]], None]
#: Of a class; the research note's leaders begin at three, and an adapter needs one part to be stopped by.
_FEWEST_SEEDS = 3


def allowed_places(recipe: Recipe, stack: Stack) -> Mask:
    """Return where a defect may lie on a good part, (H, W) bool: on the part, inside the ROI, outside exclusions."""
    allowed = np.ones(stack.shape[1:], np.bool_)
    if recipe.roi is not None:
        allowed[:] = False
        roi = recipe.roi
        allowed[roi.y : roi.y + roi.height, roi.x : roi.x + roi.width] = True
    for zone in recipe.exclusions:
        allowed[zone.y : zone.y + zone.height, zone.x : zone.x + zone.width] = False
    if recipe.carrier_max_dn is not None:
        part = (stack > recipe.carrier_max_dn).any(axis=0)
        allowed &= ndimage.binary_fill_holes(ndimage.binary_opening(part, iterations=2))
    return allowed


def make_candidates(  # noqa: PLR0913 (the one entry; half of it is keyword-only with defaults)
    request: GenerateRequest,
    seeds: Sequence[SeedSample],
    backgrounds: Sequence[BackgroundSample],
    calibration: Calibration,
    recipe: Recipe,
    *,
    workdir: Path,
    base: Path | None = None,
    checkpoint: Path | None = None,
    skip: int = 0,
    progress: ReportProgress = lambda _progress: None,
    cancelled: Cancelled = lambda: False,
    measured: Measured = lambda _scene, _looks: None,
) -> Iterator[Draft]:
    """Fit what the arm needs and yield `per_class` candidates of each class, the same for the same request.

    :param checkpoint: folder of an inpainting checkpoint, for the arm `stable-diffusion` alone.
    :param workdir: adapters are kept there and found again after an interruption.
    :param measured: is told of the scene and what the seeds look like, before the first candidate.
    :param skip: leave out the first candidates, in order: they were stored before an interruption.
    :raises ConfigurationError: without the checkpoint that the arm needs.
    :raises DataError: for an unknown arm, a class with fewer than three seeds or all of one part, or no backgrounds.
    :raises JobError: when a class gives nothing visible in many attempts.
    :raises JobCancelled: when `cancelled` says so.
    """
    classes = request.classes or recipe.class_names
    needed = _needed(request, classes)
    scene = _checked(request, seeds, backgrounds, calibration, recipe, needed)
    arm = _arm(request, scene, workdir, base, checkpoint)
    looks = {name: [look_at(seed, scene) for seed in scene.seeds[name]] for name in needed}
    measured(scene, looks)
    arm.prepare(looks, progress, cancelled)
    adapters = {name: arm.fit(name, looks[name], progress, cancelled) for name in needed}
    maker = Maker(arm, scene, request, looks, adapters)
    spread = spread_of(scene.backgrounds, calibration) if request.randomise else None
    total, done, started = request.per_class * len(classes), skip, time.monotonic()
    # Classes alternate, so that an interrupted job leaves a balanced set.
    orders = [(classes[index % len(classes)], index // len(classes)) for index in range(skip, total)]
    if arm.name in _BESIDE and request.workers > 1 and len(orders) >= _WORTH_BESIDE * request.workers:
        room = _Room(request, scene, looks, workdir, base)
        drafts = made_beside(room, orders, scene.backgrounds, request.workers, cancelled)
    else:
        drafts = _one_by_one(maker, orders, cancelled)
    for index, draft in enumerate(drafts, start=skip):
        yield _randomised(draft, scene, request, index, spread) if spread is not None else draft
        done += 1
        pace = (done - skip) / max(time.monotonic() - started, 1e-9)
        left, stage = (total - done) / pace, f"generate {request.arm}"
        progress(Progress(stage=stage, done=done, total=total, seconds_left=left, per_second=pace))


def _needed(request: GenerateRequest, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the classes that seeds and adapters are needed of: those that only come along with another's too."""
    beside = {name for own in classes for name in request.control_of(own).together}
    return (*classes, *sorted(beside - set(classes)))


def _checked(
    request: GenerateRequest,
    seeds: Sequence[SeedSample],
    backgrounds: Sequence[BackgroundSample],
    calibration: Calibration,
    recipe: Recipe,
    needed: tuple[str, ...],
) -> Scene:
    """Return what is generated from and on, all that can be refused beforehand being refused. Raises `DataError`."""
    if not backgrounds:
        raise DataError("there are no backgrounds to generate on; run harvest first")
    check_plan(request.control, request.class_control, recipe, calibration.px_per_mm)
    scene = Scene(recipe, calibration, _by_class(seeds, needed), tuple(backgrounds))
    check_pictures(scene)
    check_grounds(request, needed, scene.backgrounds)
    return scene


@dataclass(frozen=True, slots=True, eq=False)
class _Room:
    """What a process of :mod:`beside` makes candidates from; adapters are in their files by then."""

    request: GenerateRequest
    scene: Scene
    looks: dict[str, list[Look]]
    workdir: Path
    base: Path | None

    def open(self) -> Maker:
        """Load the arm, as it was fitted."""
        torch.set_num_threads(1)
        arm = _arm(self.request, self.scene, self.workdir, self.base, None)
        adapters = {name: arm.fit(name, own, lambda _progress: None, lambda: False) for name, own in self.looks.items()}
        return Maker(arm, self.scene, self.request, self.looks, adapters)


def _one_by_one(maker: Maker, orders: Sequence[tuple[str, int]], cancelled: Cancelled) -> Iterator[Draft]:
    for defect_class, number in orders:
        if cancelled():
            raise JobCancelled("generation was stopped; resume the job to go on")
        yield maker.candidate(defect_class, number)


def _randomised(draft: Draft, scene: Scene, request: GenerateRequest, index: int, spread: Spread) -> Draft:
    # A stream of its own: the defects are the same ones with and without it.
    rng = np.random.default_rng([request.random_seed, index, 0x5EED])
    return randomised(draft, request.randomise, spread, scene.calibration, scene.recipe.bit_depth, rng)


def _by_class(seeds: Sequence[SeedSample], classes: Sequence[str]) -> dict[str, tuple[SeedSample, ...]]:
    found = {name: tuple(seed for seed in seeds if seed.defect_class == name) for name in classes}
    for name, members in found.items():
        parts = {seed.part_id for seed in members}
        if not members:
            raise DataError(f"there are no confirmed seeds of class {name}; confirm some or leave the class out")
        if len(members) < _FEWEST_SEEDS:
            raise DataError(
                f"class {name} has {len(members)} confirmed seeds, and from fewer than {_FEWEST_SEEDS} nobody can tell "
                "what varies; confirm more or leave the class out"
            )
        if len(parts) < 2:
            raise DataError(
                f"all {len(members)} seeds of class {name} are of part {next(iter(parts))}, so what belongs to the "
                "defect and what to the part can't be told; confirm some of another part or leave the class out"
            )
    return found


def _arm(request: GenerateRequest, scene: Scene, workdir: Path, base: Path | None, checkpoint: Path | None) -> Arm:
    if request.arm == "diffusion":
        return Diffusion(scene, request, workdir, base) if base else Diffusion(scene, request, workdir)
    if request.arm == "procedural":
        return Procedural(scene)
    if request.arm == "copypaste":
        return CopyPaste()
    if request.arm == "vae":
        return Vae(scene, request, workdir)
    if request.arm == "gan":
        return Gan(scene, request, workdir)
    if request.arm == "stable-diffusion":
        if checkpoint is None:
            raise ConfigurationError(
                "the arm stable-diffusion needs a checkpoint; set trainer.checkpoint_folder to the folder of a Stable "
                "Diffusion inpainting checkpoint in diffusers' layout"
            )
        return StableDiffusion(scene, request, workdir, checkpoint)
    raise DataError(f"there is no generator {request.arm!r}; choose one of {', '.join(ARMS)}")
