"""The gap job: how well what the generator makes can be told from the cell's real defects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from cell.defects import Background, CandidateState, Mask, Seed, SeedState, Split
from cell.errors import DataError, JobError
from cell.frames import Stack
from cell.imaging.registration import locate
from cell.jobs import Progress
from cell.recipes import Recipe
from cell.store.candidates import CandidateRow
from cell.store.files import write_bytes
from trainer.context import JobContext
from trainer.datasets import check_fits
from trainer.gap.crops import Crop, crop_of, plain_corners, plain_crop
from trainer.gap.measure import Evidence, measure_gap
from trainer.gap.sheet import contact_sheet
from trainer.parameters import GapParameters, of_job

#: Good parts that are looked at, windows of each, and whole frames for the crude paste.
MOST_BACKGROUNDS, WINDOWS, FRAMES = 200, 4, 48
#: Synthetic defects for each real one, at most, and candidates that are looked at.
_MOST_EACH, _MOST_CANDIDATES = 4, 4000
_STEPS = 7
_Item = TypeVar("_Item")


def gap(context: JobContext) -> dict[str, Any]:
    """Do the job; return what its row keeps as the result."""
    parameters = of_job(context.job)
    if not isinstance(parameters, GapParameters):
        raise JobError(f"job {context.job.job_id} has the parameters of another kind of job; ask for a new one")
    recipe, store = context.recipe, context.store
    if unknown := sorted(set(parameters.classes) - set(recipe.class_names)):
        known = ", ".join(recipe.class_names)
        raise DataError(f"{recipe.recipe_id} has no defect class {', '.join(unknown)}; it has {known}")
    calibration = store.calibration(recipe.recipe_id)
    backgrounds = {b.background_id: b for b in store.backgrounds(recipe.recipe_id, Split.LEARN)}
    seeds, rows = balanced(
        _seeds(context, parameters), _candidates(context, parameters), np.random.default_rng(parameters.random_seed)
    )
    real = [_seed_crop(context, seed) for seed in _each(context, "reading seeds", seeds)]
    synthetic = [_candidate_crop(context, row, backgrounds) for row in _each(context, "reading candidates", rows)]
    plain, frames = _plain(context, list(backgrounds.values())[-MOST_BACKGROUNDS:])
    done = 0

    def on_step(stage: str) -> None:
        nonlocal done
        context.go_on()
        context.progress(Progress(stage=stage, done=done, total=_STEPS))
        done += 1

    report = measure_gap(
        Evidence(real, synthetic, plain, calibration, recipe.bit_depth, frames), parameters.random_seed, on_step
    )
    picture = context.work.parent / "gap.png"
    write_bytes(picture, contact_sheet(report, real, synthetic))
    return {
        "conclusion": report.conclusion.value,
        "sentence": report.sentence,
        "real": f"{report.real_crops} crops of {report.real_parts} parts",
        "synthetic": f"{report.synthetic_crops} crops on {report.synthetic_parts} parts",
        "measures": [measure.model_dump(mode="json") for measure in report.measures],
        "most_recognisable": [name for name, _ in report.ranking[:20]],
        "calibration": calibration.record_digest(),
        "picture": store.state.relative(picture),
    }


def balanced(
    seeds: Sequence[Seed], rows: Sequence[CandidateRow], rng: np.random.Generator
) -> tuple[list[Seed], list[CandidateRow]]:
    """Return seeds and candidates of the classes that have both, in the same shares: a mix of other classes is no gap.

    Raises `DataError` when no class has both.
    """
    of_seed: dict[str, list[Seed]] = defaultdict(list)
    of_row: dict[str, list[CandidateRow]] = defaultdict(list)
    for seed in seeds:
        of_seed[seed.defect_class].append(seed)
    for row in rows:
        of_row[row.candidate.defect_class].append(row)
    common = sorted(set(of_seed) & set(of_row))
    if not common:
        raise DataError("no class has both confirmed seeds and candidates; confirm seeds and generate candidates first")
    ratio = min(_MOST_EACH, *(len(of_row[name]) / len(of_seed[name]) for name in common))
    chosen = []
    for name in common:
        count = max(1, min(len(of_row[name]), round(ratio * len(of_seed[name]))))
        chosen += [of_row[name][index] for index in sorted(rng.choice(len(of_row[name]), count, replace=False))]
    return [seed for name in common for seed in of_seed[name]], chosen


def _seeds(context: JobContext, parameters: GapParameters) -> list[Seed]:
    found = context.store.seeds(context.recipe.recipe_id, state=SeedState.CONFIRMED)
    return [
        seed
        for seed in found
        if (seed.split is Split.LEARN or parameters.held_out)
        and (not parameters.classes or seed.defect_class in parameters.classes)
    ]


def _candidates(context: JobContext, parameters: GapParameters) -> list[CandidateRow]:
    found = context.store.candidates.list(
        context.recipe.recipe_id, job_id=parameters.job_id or "", limit=_MOST_CANDIDATES
    )
    gone = context.store.withdrawals.of(context.recipe.recipe_id)
    return [
        row
        for row in found
        if not row.candidate.planted_bad
        and row.candidate.provenance.background_id not in gone
        # A picture that was altered as a whole differs from real ones on purpose.
        and not row.candidate.provenance.randomised
        and row.state is not CandidateState.REJECTED
        and (not parameters.classes or row.candidate.defect_class in parameters.classes)
    ]


def _each(context: JobContext, stage: str, items: Sequence[_Item]) -> Iterator[_Item]:
    for index, item in enumerate(items):
        context.go_on()
        context.progress(Progress(stage=stage, done=index, total=len(items)))
        yield item


def _seed_crop(context: JobContext, seed: Seed) -> Crop:
    stack = check_fits(context.store.read_image(seed.image), context.recipe, seed.seed_id)
    mask = context.store.read_mask(seed.mask)
    return crop_of(stack, mask, seed.part_id, on_part=_on_part(context.recipe, stack, mask), name=seed.seed_id)


def _candidate_crop(context: JobContext, row: CandidateRow, backgrounds: Mapping[str, Background]) -> Crop:
    candidate = row.candidate
    stack = check_fits(context.store.read_image(candidate.image), context.recipe, candidate.candidate_id)
    mask = context.store.candidates.defects(candidate)[0][1]
    name = candidate.provenance.background_id
    part = backgrounds[name].part_id if name in backgrounds else name
    return crop_of(stack, mask, part, on_part=_on_part(context.recipe, stack, mask), name=candidate.candidate_id)


def _plain(context: JobContext, backgrounds: Sequence[Background]) -> tuple[list[Crop], list[tuple[str, Any]]]:
    rng = np.random.default_rng(context.job.parameters.get("random_seed", 0))
    crops: list[Crop] = []
    frames: list[tuple[str, Any]] = []
    for background in _each(context, "reading backgrounds", backgrounds):
        stack = check_fits(context.store.read_image(background.image), context.recipe, background.background_id)
        allowed = _on_part(context.recipe, stack)
        for top, left in plain_corners(allowed, WINDOWS, rng):
            crops.append(plain_crop(stack, top, left, background.part_id, background.background_id))
        if len(frames) < FRAMES:
            frames.append((background.part_id, stack.astype(np.float32)))
    return crops, frames


def _on_part(recipe: Recipe, stack: Stack, mask: Mask | None = None) -> Mask:
    place = locate(stack, recipe.carrier_max_dn)
    on_part: Mask = np.ones(stack.shape[1:], np.bool_) if place is None else place.mask.copy()
    if recipe.roi is not None:
        inside = np.zeros_like(on_part)
        roi = recipe.roi
        inside[roi.y : roi.y + roi.height, roi.x : roi.x + roi.width] = True
        on_part &= inside
    for zone in recipe.exclusions:
        on_part[zone.y : zone.y + zone.height, zone.x : zone.x + zone.width] = False
    return on_part if mask is None else on_part | mask
