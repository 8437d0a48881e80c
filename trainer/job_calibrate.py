"""The calibration job: what the cell's good parts, and repeats of still scenes where there are any, say of its physics.

Series of still scenes are frame sets below ``calibrations/<recipe>/``, which ``inspectctl calibrate take`` puts there
(:mod:`cell.store.calibration_files`). With repeats of a still part the calibration is measured; without any it is a
degraded one, which says what it does not know.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cell import digest
from cell.calibration import Calibration, Picture, SeriesKind
from cell.clock import utc_now
from cell.defects import Split
from cell.errors import JobError
from cell.frames import Stack
from cell.jobs import Progress
from cell.store.files import write_bytes
from trainer.calibrate import Evidence, Known, curves_svg
from trainer.calibrate import calibrate as measure
from trainer.calibration_series import Level, read
from trainer.context import JobContext
from trainer.datasets import check_fits
from trainer.parameters import CalibrateParameters, of_job

#: More parts than this sharpen nothing: the newest are taken.
MOST_BACKGROUNDS = 200


def calibrate(context: JobContext) -> dict[str, Any]:
    """Do the job; return what its row keeps as the result."""
    parameters = of_job(context.job)
    if not isinstance(parameters, CalibrateParameters):
        raise JobError(f"job {context.job.job_id} has the parameters of another kind of job; ask for a new one")
    recipe, store = context.recipe, context.store
    backgrounds, taken_at, emulated = _backgrounds(context)
    levels = _levels(context)
    told = [level.facts["emulated"] for level in levels if isinstance(level.facts.get("emulated"), bool)]
    emulated = emulated or (True in told if told else emulated)
    context.progress(Progress(stage="measuring", done=0, total=len(recipe.channels)))
    # Named after the job, so that one that was interrupted behind its last step makes no second one.
    calibration_id = f"cal-{context.job.job_id}-{digest.of_record(context.job.created_at.isoformat())[:8]}"
    before = [one for one in store.calibrations(recipe.recipe_id) if one.calibration_id != calibration_id]
    calibration = measure(
        recipe,
        Evidence(
            backgrounds=backgrounds,
            levels=levels,
            known=Known(parameters.dot_pitch_mm, parameters.part_length_mm, parameters.ball_radius_mm),
            taken_at=taken_at,
            from_folder=emulated is True and context.settings.emulated.product == "folder",
            emulated=emulated,
        ),
        calibration_id=calibration_id,
        now=utc_now(),
        version=1 + max((one.version for one in before), default=0),
    )
    context.go_on()
    calibration = _with_picture(context, calibration)
    known = {one.calibration_id: one for one in store.calibrations(recipe.recipe_id)}
    if calibration.calibration_id not in known:
        store.add_calibration(calibration)
    kept = known.get(calibration.calibration_id, calibration)
    context.progress(Progress(stage="measuring", done=len(recipe.channels), total=len(recipe.channels)))
    return {
        "calibration_id": kept.calibration_id,
        "version": kept.version,
        "digest": kept.record_digest(),
        "kind": kept.kind.value,
        "frames_used": kept.frames_used,
        "valid_until": kept.valid_until.isoformat() if kept.valid_until else "",
        "findings": list(kept.findings),
        "curves": kept.pictures[0].path if kept.pictures else "",
    }


def _with_picture(context: JobContext, calibration: Calibration) -> Calibration:
    """Write the curves and name them in the calibration, whose hash then covers them."""
    drawn = curves_svg(calibration).encode()
    file = context.store.state.calibrations / calibration.recipe_id / f"{calibration.calibration_id}.svg"
    write_bytes(file, drawn)
    picture = Picture(name="curves", path=context.store.state.relative(file), digest=digest.of_bytes(drawn))
    return calibration.model_copy(update={"pictures": (picture,)})


def _backgrounds(context: JobContext) -> tuple[list[Stack], list[datetime], bool | None]:
    found = context.store.backgrounds(context.recipe.recipe_id, Split.LEARN)[-MOST_BACKGROUNDS:]
    stacks: list[Stack] = []
    emulated: set[bool] = set()
    for index, background in enumerate(found):
        context.go_on()
        context.progress(Progress(stage="reading backgrounds", done=index, total=len(found)))
        stored = context.store.read_image(background.image)
        stacks.append(check_fits(stored, context.recipe, background.background_id))
        if isinstance(told := stored.metadata.get("emulated"), bool):
            emulated.add(told)
    return stacks, [background.taken_at for background in found], (True in emulated) if emulated else None


def _levels(context: JobContext) -> list[Level]:
    folder = context.store.state.calibrations / context.recipe.recipe_id
    levels: list[Level] = []
    for kind in SeriesKind:

        def go_on(done: int, total: int, stage: str = f"reading {kind}") -> None:
            context.go_on()
            context.progress(Progress(stage=stage, done=done, total=total))

        levels += read(folder, kind, context.recipe, go_on)
    return levels
