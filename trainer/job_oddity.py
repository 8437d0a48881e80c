"""The oddity job: learn the anomaly network of a recipe from its backgrounds, for the harvest to go by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cell.clock import utc_now
from cell.defects import Sample, Split
from cell.errors import JobError
from cell.imaging import oddity
from cell.jobs import Progress
from cell.store.files import write_bytes
from trainer.context import JobContext
from trainer.datasets import check_fits
from trainer.export import export_onnx
from trainer.oddity import CONFIG, divided, learn, usual
from trainer.parameters import OddityParameters, of_job

#: Good parts that are learned from, the newest.
MOST_BACKGROUNDS = 300


def learn_oddity(context: JobContext) -> dict[str, Any]:
    """Do the job; return what its row keeps as the result."""
    parameters = of_job(context.job)
    if not isinstance(parameters, OddityParameters):
        raise JobError(f"job {context.job.job_id} has the parameters of another kind of job; ask for a new one")
    recipe, state = context.recipe, context.store.state
    learned, left_out = divided(_good(context))
    preprocessing = oddity.preprocessing_of(recipe)
    # One thread: of more, sleeping while they wait, an update takes twice as long (trainer/crew.py).
    config = replace(CONFIG, seed=parameters.random_seed % 2**31)
    if parameters.updates is not None:
        config = replace(config, updates=parameters.updates)
    model = learn(
        learned,
        preprocessing,
        config,
        progress=context.progress,
        cancelled=context.cancelled,
        checkpoint=context.work / "oddity.safetensors",
    )
    context.progress(Progress(stage="looking at good parts left out", done=0, total=len(left_out)))
    median, spread = usual(model, left_out)
    context.go_on()
    exported = export_onnx(model, context.work / "oddity.onnx")
    facts = oddity.Oddity(
        recipe_id=recipe.recipe_id,
        channels=recipe.channel_names,
        onnx_digest=exported.digest,
        preprocessing=preprocessing,
        median=median,
        spread=spread,
        learned_parts=len({one.group for one in learned}),
        left_out_parts=len({one.group for one in left_out}),
        created_at=utc_now(),
    )
    network, described = oddity.files(state.backgrounds, recipe.recipe_id)
    # The facts last: they name the network by its digest, and one without the other counts as none.
    write_bytes(network, exported.path.read_bytes())
    write_bytes(described, facts.model_dump_json().encode())
    exported.path.unlink(missing_ok=True)
    return {
        "onnx_digest": exported.digest,
        "learned_parts": facts.learned_parts,
        "left_out_parts": facts.left_out_parts,
        "median": round(median, 4),
        "spread": round(spread, 4),
        "file": state.relative(network),
    }


def _good(context: JobContext) -> list[Sample]:
    found = context.store.backgrounds(context.recipe.recipe_id, Split.LEARN)[-MOST_BACKGROUNDS:]
    samples = []
    for index, background in enumerate(found):
        context.go_on()
        context.progress(Progress(stage="reading backgrounds", done=index, total=len(found)))
        stored = context.store.read_image(background.image)
        stack = check_fits(stored, context.recipe, background.background_id)
        labels = np.zeros(stack.shape[1:], np.uint8)
        samples.append(Sample(stack=stack, labels=labels, group=background.part_id, sample_id=background.background_id))
    return samples
