"""The generation job: from seeds, backgrounds and a calibration to candidates that wait for review.

Candidates are stored one by one, whole, in a fixed order; a resumed job goes on behind the last stored one and finds
its adapters where it left them. Known-bad ones are spoilt on the way into the store and hidden among the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cell.defects import Background, Candidate, GeneratorParameters, Seed, SeedState, Split
from cell.errors import ConfigurationError, DataError, JobError
from cell.imaging.focus import spread_px
from cell.jobs import Progress
from cell.recipes import Recipe
from cell.store.calibrations import current, of_time
from trainer.backgrounds import for_candidates
from trainer.context import JobContext
from trainer.datasets import check_fits
from trainer.generate import denoiser
from trainer.generate.base import BackgroundSample, GenerateRequest, SeedSample
from trainer.generate.candidates import allowed_places, make_candidates
from trainer.generate.told import asked_and_made
from trainer.judging import Judging
from trainer.parameters import GenerateParameters, of_job
from trainer.planted import choose, spoil
from trainer.recipes import check_relative, load_recipe

#: Candidates of each class at the beginning of a job that are never spoilt.
_SPARED = 2


def generate(context: JobContext) -> dict[str, Any]:
    """Do the job; return what its row keeps as the result."""
    parameters = of_job(context.job)
    if not isinstance(parameters, GenerateParameters):
        raise JobError(f"job {context.job.job_id} has the parameters of another kind of job; ask for a new one")
    recipe, store = context.recipe, context.store
    calibration = current(store, recipe)
    beside = {name for one in (parameters.general(), *parameters.class_control.values()) for name in one.together}
    source = recipe
    if parameters.adapters_from is not None:
        source = check_relative(recipe, load_recipe(context.settings.recipes_dir, parameters.adapters_from))
    seeds = _seeds(context, source, (*parameters.classes, *beside) if parameters.classes else recipe.class_names)
    present = {seed.defect_class for seed in seeds}
    classes = parameters.classes or tuple(name for name in recipe.class_names if name in present)
    found = for_candidates(store, recipe.recipe_id, stale=parameters.stale)
    backgrounds = _backgrounds(context, found)
    per_class, spoilt = plant(len(classes), parameters)
    stored = len(store.candidates.list(recipe.recipe_id, job_id=context.job.job_id, limit=per_class * len(classes)))
    request = _request(parameters, per_class, classes, context.settings.trainer.threads)
    judging = Judging(context, backgrounds)
    drafts = make_candidates(
        request,
        seeds,
        list(backgrounds.values()),
        calibration,
        recipe,
        workdir=store.state.adapters / source.recipe_id,
        base=_base(context.settings.trainer.base_folder),
        checkpoint=context.settings.trainer.checkpoint_folder,
        skip=stored,
        progress=context.progress,
        cancelled=context.cancelled,
        measured=judging.prepare,
    )
    for index, genuine in enumerate(drafts, start=stored):
        context.go_on()
        draft = genuine
        if index in spoilt:
            background = backgrounds[genuine.provenance.background_id]
            rng = np.random.default_rng((parameters.random_seed, index))
            draft = spoil(genuine, background.stack, background.allowed, recipe.bit_depth, rng)
        # Spoilt ones are judged by what they show, like the others.
        draft, prints = judging.judged(draft)
        judging.keep(store.candidates.add(context.job.job_id, recipe.recipe_id, draft), prints)
    stale = len(store.backgrounds(recipe.recipe_id, Split.LEARN)) - len(backgrounds)
    return _result(context, per_class * len(classes), request, judging) | (
        {"stale_backgrounds_left_out": stale} if stale else {}
    )


def _request(parameters: GenerateParameters, per_class: int, classes: tuple[str, ...], workers: int) -> GenerateRequest:
    return GenerateRequest(
        arm=parameters.arm,
        per_class=per_class,
        classes=classes,
        random_seed=parameters.random_seed,
        workers=workers,
        control=parameters.general(),
        class_control=parameters.class_control,
        randomise=parameters.randomise,
        adapters_from=parameters.adapters_from or "",
    )


def plant(class_count: int, parameters: GenerateParameters) -> tuple[int, frozenset[int]]:
    """Return how many candidates of each class to make and which, in the order of making, to spoil.

    Classes alternate in that order, and each class keeps at least the number of genuine ones that was asked for.
    """
    shares = [len(part) for part in np.array_split(np.arange(parameters.planted_bad), class_count)]
    per_class = parameters.per_class + max(shares, default=0)
    spoilt = {
        number * class_count + place
        for place, share in enumerate(shares)
        for number in choose(per_class, share, _SPARED, parameters.random_seed + place)
    }
    return per_class, frozenset(spoilt)


def _seeds(context: JobContext, source: Recipe, classes: Sequence[str]) -> list[SeedSample]:
    found = context.store.seeds(source.recipe_id, state=SeedState.CONFIRMED, split=Split.LEARN)
    samples = []
    for index, seed in enumerate(found):
        context.go_on()
        context.progress(Progress(stage="reading seeds", done=index, total=len(found)))
        if seed.defect_class not in classes:
            continue
        stack = check_fits(context.store.read_image(seed.image), source, seed.seed_id)
        mask = context.store.read_mask(seed.mask)
        spread = _spread(context, source, seed)
        samples.append(SeedSample(seed.seed_id, seed.part_id, seed.defect_class, stack, mask, spread))
    if not samples:
        raise DataError(f"no seed of {source.recipe_id} is confirmed; confirm at least three of each class")
    return samples


def _spread(context: JobContext, recipe: Recipe, seed: Seed) -> tuple[float, ...]:
    """Return the point spread at a recipe's seed when it was taken; empty where no calibration is of that time."""
    calibration = of_time(context.store, recipe.recipe_id, seed.taken_at)
    if calibration is None or tuple(one.channel for one in calibration.channels) != recipe.channel_names:
        return ()
    middle = seed.box.y + seed.box.height / 2, seed.box.x + seed.box.width / 2
    return tuple(float(value) for value in spread_px(calibration, recipe.faces, *middle))


def _backgrounds(context: JobContext, found: Sequence[Background]) -> Mapping[str, BackgroundSample]:
    samples = {}
    for index, background in enumerate(found):
        context.go_on()
        context.progress(Progress(stage="reading backgrounds", done=index, total=len(found)))
        name = background.background_id
        stack = check_fits(context.store.read_image(background.image), context.recipe, name)
        samples[name] = BackgroundSample(name, background.part_id, stack, allowed_places(context.recipe, stack))
    return samples


def _base(folder: Path | None) -> Path | None:
    """Return the generator base of a configured folder, None for the shipped one."""
    if folder is None:
        return None
    base = folder / denoiser.SHIPPED.name
    if not base.is_file():
        raise ConfigurationError(f"there is no generator base {base}; correct trainer.base_folder or leave it out")
    return base


def _result(context: JobContext, total: int, request: GenerateRequest, judging: Judging) -> dict[str, Any]:
    # Planted ones are not told apart here either: whoever lists jobs may be the reviewer.
    rows = context.store.candidates.list(context.recipe.recipe_id, job_id=context.job.job_id, limit=total)
    by_class = Counter(row.candidate.defect_class for row in rows)
    result: dict[str, Any] = {"candidates": len(rows), "by_class": dict(by_class)}
    controls = {name: request.control_of(name) for name in context.recipe.class_names}
    made = [one for row in rows for one in _defects(row.candidate)]
    told = asked_and_made(made, controls)
    return result | ({"control": told} if told else {}) | judging.result(rows, told)


def _defects(candidate: Candidate) -> list[GeneratorParameters]:
    regions = [region.provenance.parameters for region in candidate.regions]
    return regions or [candidate.provenance.parameters]
