"""The calibration job: what the cell's good parts, and repeats of a still one where there are any, say of its physics.

Repeats are frame sets of one part that did not move, archived TIFF stacks copied to ``calibrations/<recipe>/repeats/``.
With enough of them the calibration is measured; without any it is a degraded one, which says what it does not know.
Frame sets taken with the lights off, in ``dark/`` beside them, give the dark level.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell import digest
from cell.clock import utc_now
from cell.defects import Split
from cell.errors import DataError, JobError
from cell.frames import Stack
from cell.jobs import Progress
from cell.store.files import write_bytes
from cell.store.images import read_stack
from trainer.calibrate import calibrate as measure
from trainer.calibrate import curves_svg
from trainer.context import JobContext
from trainer.datasets import check_fits
from trainer.parameters import CalibrateParameters, of_job

#: More parts than this sharpen nothing: the newest are taken.
MOST_BACKGROUNDS = 200
MOST_REPEATS = 64


def calibrate(context: JobContext) -> dict[str, Any]:
    """Do the job; return what its row keeps as the result."""
    if not isinstance(of_job(context.job), CalibrateParameters):
        raise JobError(f"job {context.job.job_id} has the parameters of another kind of job; ask for a new one")
    recipe = context.recipe
    backgrounds = _backgrounds(context)
    repeats = _still(context, "repeats")
    dark = _still(context, "dark")
    context.progress(Progress(stage="measuring", done=0, total=len(recipe.channels)))
    calibration = measure(
        recipe,
        backgrounds,
        # Named after the job, so that one that was interrupted behind its last step makes no second one.
        calibration_id=f"cal-{context.job.job_id}-{digest.of_record(context.job.created_at.isoformat())[:8]}",
        now=utc_now(),
        repeats=repeats,
        dark=dark,
    )
    context.go_on()
    folder = context.store.state.calibrations / recipe.recipe_id
    write_bytes(folder / f"{calibration.calibration_id}.svg", curves_svg(calibration).encode())
    known = {one.calibration_id: one for one in context.store.calibrations(recipe.recipe_id)}
    if calibration.calibration_id not in known:
        context.store.add_calibration(calibration)
    kept = known.get(calibration.calibration_id, calibration)
    context.progress(Progress(stage="measuring", done=len(recipe.channels), total=len(recipe.channels)))
    return {
        "calibration_id": kept.calibration_id,
        "digest": kept.record_digest(),
        "kind": kept.kind.value,
        "frames_used": kept.frames_used,
        "findings": list(kept.findings),
        "curves": context.store.state.relative(folder / f"{kept.calibration_id}.svg"),
    }


def _backgrounds(context: JobContext) -> list[Stack]:
    found = context.store.backgrounds(context.recipe.recipe_id, Split.LEARN)[-MOST_BACKGROUNDS:]
    stacks: list[Stack] = []
    for index, background in enumerate(found):
        context.go_on()
        context.progress(Progress(stage="reading backgrounds", done=index, total=len(found)))
        stored = context.store.read_image(background.image)
        stacks.append(check_fits(stored, context.recipe, background.background_id))
    return stacks


def _still(context: JobContext, name: str) -> NDArray[Any] | None:
    folder = context.store.state.calibrations / context.recipe.recipe_id / name
    files = sorted(folder.glob("*.tif"))[-MOST_REPEATS:]
    if not files:
        return None
    stacks = []
    for index, file in enumerate(files):
        context.go_on()
        context.progress(Progress(stage=f"reading {name}", done=index, total=len(files)))
        stacks.append(check_fits(read_stack(file), context.recipe, file.name))
    if len({stack.dtype for stack in stacks}) > 1:
        raise DataError(f"the pictures in {folder} were taken with different bit depths; take them again")
    return np.stack(stacks)
