"""From a request to candidates: plan, paint, compose, check, describe."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from cell.calibration import Calibration
from cell.defects import Draft, GeneratorParameters, Mask, Provenance
from cell.errors import DataError, JobCancelled, JobError
from cell.frames import Stack
from cell.imaging.compositor import Composite, compose
from cell.jobs import Progress
from cell.recipes import Recipe
from trainer.generate import plan
from trainer.generate.arm import Arm
from trainer.generate.base import (
    BackgroundSample,
    Cancelled,
    GenerateRequest,
    ReportProgress,
    Scene,
    SeedSample,
    Shape,
)
from trainer.generate.copypaste import CopyPaste
from trainer.generate.diffusion import Diffusion
from trainer.generate.looks import Look, look_at
from trainer.generate.procedural import Procedural
from trainer.generate.sharpness import fitted, fitting_of, widened

VERSION = "2"
ARMS = ("diffusion", "procedural", "copypaste")
#: Attempts for one candidate before the class is given up: almost every attempt succeeds.
_ATTEMPTS = 25
_LEAST_PIXELS = 4
#: Of a class; the research note's leaders begin at three, and an adapter needs one part to be stopped by.
_FEWEST_SEEDS = 3
#: Least share of the planned outline that must be seen to have changed.
_LEAST_SEEN = 0.2
_MOST_CLIPPED = 0.5


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
    skip: int = 0,
    progress: ReportProgress = lambda _progress: None,
    cancelled: Cancelled = lambda: False,
) -> Iterator[Draft]:
    """Fit what the arm needs and yield `per_class` candidates of each class, the same for the same request.

    :param workdir: adapters are kept there and found again after an interruption.
    :param skip: leave out the first candidates, in order: they were stored before an interruption.
    :raises DataError: for an unknown arm, a class with fewer than three seeds or all of one part, or no backgrounds.
    :raises JobError: when a class gives nothing visible in many attempts.
    :raises JobCancelled: when `cancelled` says so.
    """
    classes = request.classes or recipe.class_names
    scene = Scene(recipe, calibration, _by_class(seeds, classes), tuple(backgrounds))
    if not backgrounds:
        raise DataError("there are no backgrounds to generate on; run harvest first")
    arm = _arm(request, scene, workdir, base)
    looks = {name: [look_at(seed, scene) for seed in scene.seeds[name]] for name in classes}
    arm.prepare(looks, progress, cancelled)
    adapters = {name: arm.fit(name, looks[name], progress, cancelled) for name in classes}
    total, done, started = request.per_class * len(classes), skip, time.monotonic()
    for index in range(skip, total):
        if cancelled():
            raise JobCancelled("generation was stopped; resume the job to go on")
        # Classes alternate, so that an interrupted job leaves a balanced set.
        defect_class, number = classes[index % len(classes)], index // len(classes)
        yield _candidate(arm, scene, request, number, looks[defect_class], adapters[defect_class])
        done += 1
        left = (time.monotonic() - started) / (done - skip) * (total - done)
        progress(Progress(stage=f"generate {request.arm}", done=done, total=total, seconds_left=left))


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


def _arm(request: GenerateRequest, scene: Scene, workdir: Path, base: Path | None) -> Arm:
    if request.arm == "diffusion":
        return Diffusion(scene, request, workdir, base) if base else Diffusion(scene, request, workdir)
    if request.arm == "procedural":
        return Procedural(scene)
    if request.arm == "copypaste":
        return CopyPaste()
    raise DataError(f"there is no generator {request.arm!r}; choose one of {', '.join(ARMS)}")


def _candidate(
    arm: Arm, scene: Scene, request: GenerateRequest, number: int, looks: list[Look], adapter_digest: str
) -> Draft:
    defect_class, outlines = looks[0].seed.defect_class, [look.outline for look in looks]
    entropy = [request.random_seed, scene.recipe.class_names.index(defect_class), number]
    refused: Counter[str] = Counter()
    for attempt in range(_ATTEMPTS):
        # Each attempt has its own stream, so that a refusal changes nothing else.
        rng = np.random.default_rng([*entropy, attempt])
        background = scene.backgrounds[int(rng.integers(len(scene.backgrounds)))]
        shape = plan.draw(outlines, background, request, rng)
        if shape is None:
            refused["no place"] += 1
            continue
        severity = float(np.exp(rng.uniform(*np.log(request.severity))))
        how = fitting_of(scene, looks, shape)
        shape = widened(shape, how.reach_px, *background.allowed.shape)
        window = background.stack[:, shape.window[0], shape.window[1]]
        painted = arm.appearance(window, shape, severity, defect_class, rng)
        look, soft = fitted(painted, shape, background.allowed[shape.window], window, scene, how)
        made = compose(
            window,
            look.contrast,
            soft,
            scene.calibration,
            scene.recipe.bit_depth,
            rng,
            texture_kept=look.texture_kept,
            noise_share=look.noise_share,
        )
        reason = _broken(made, shape)
        if reason:
            refused[reason] += 1
            continue
        parameters = _parameters(arm.name, defect_class, made, shape, severity, entropy, attempt)
        provenance = Provenance(
            background_id=background.background_id,
            seed_ids=shape.seed_ids,
            base_digest=arm.base_digest,
            adapter_digest=adapter_digest,
            calibration_digest=scene.calibration.record_digest(),
            parameters=parameters,
            generator_version=VERSION,
            conditions=how.facts(),
        )
        return _draft(background, shape, made, provenance, severity)
    reasons = ", ".join(f"{count} times {reason}" for reason, count in refused.most_common())
    raise JobError(
        f"class {defect_class} gave no usable candidate in {_ATTEMPTS} attempts ({reasons}); check its seeds"
    )


def _broken(made: Composite, shape: Shape) -> str:
    """Return why a result is provably useless, or an empty string."""
    if made.mask.sum() < max(_LEAST_PIXELS, _LEAST_SEEN * shape.mask.sum()):
        return "invisible"
    if made.clipped_share > _MOST_CLIPPED:
        return "clipped"
    return ""


def _parameters(
    arm: str, defect_class: str, made: Composite, shape: Shape, severity: float, entropy: list[int], attempt: int
) -> GeneratorParameters:
    rows, columns = np.nonzero(made.mask)
    return GeneratorParameters(
        arm=arm,
        defect_class=defect_class,
        severity=severity,
        center_x=float(shape.left + columns.mean()),
        center_y=float(shape.top + rows.mean()),
        orientation_deg=shape.orientation_deg,
        size_px=float(np.sqrt(made.support.sum())),
        morphology=shape.morphology | {"number": float(entropy[2]), "attempt": float(attempt)},
        random_seed=entropy[0],
    )


def _draft(
    background: BackgroundSample, shape: Shape, made: Composite, provenance: Provenance, severity: float
) -> Draft:
    stack = background.stack.copy()
    stack[:, shape.window[0], shape.window[1]] = made.pixels
    mask, support = np.zeros((2, *stack.shape[1:]), np.bool_)
    mask[shape.window] = made.mask
    support[shape.window] = made.support
    area = float(made.mask.sum())
    scores = {
        "visibility": made.d_prime / np.sqrt(area * len(stack)),  # mean change a pixel, in noise sigmas
        "relative_severity": severity,
        "clipped": made.clipped_share,
        "kept_of_plan": area / max(float(shape.mask.sum()), 1.0),
    }
    return Draft(
        stack=stack,
        mask=mask,
        support=support,
        defect_class=provenance.parameters.defect_class,
        severity=made.d_prime,
        scores=scores,
        provenance=provenance,
    )
