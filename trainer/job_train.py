"""The training job: from a verified manifest to a model package.

    manifest -> gate -> samples -> fit, and beside it cross-validation (threshold) -> ONNX
             -> evaluation on held-out real parts -> parity on real frames -> golden images -> package -> row

The manifest is checked when the job starts and once more before the model is registered: a decision that was taken
back meanwhile stops it.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from cell import digest
from cell.clock import utc_now
from cell.defects import Sample
from cell.errors import JobError, ModelError
from cell.imaging.preprocess import Preprocessing
from cell.jobs import Progress
from cell.models import EvaluationReport, ModelManifest, ParityReport, RateBound, TrainingSet
from cell.recipes import Recipe
from cell.store.files import write_bytes
from cell.store.limits import warnings
from drivers.engines.registry import load_engine
from trainer import parity
from trainer.context import JobContext
from trainer.crossval import CrossValidation, Team, ThresholdRule, decide, fold_tasks, hold_out
from trainer.datasets import Loaded, held_out_samples, training_samples, verified
from trainer.evaluate import evaluate
from trainer.export import ExportedModel, export_onnx
from trainer.fit import FitConfig, FittedModel, lengthened
from trainer.package import ONNX_FILE, Contents, Golden, golden_images, write_package
from trainer.parameters import TrainParameters, of_job

#: Real frames on which the exported model is compared with the trained one.
PARITY_FRAMES = 40
#: Golden images of a package: enough to see a wrong network, few enough to run before every swap.
GOLDEN_FRAMES = 6
#: Arms whose candidates carry nothing of a seed but what ``pasted_from`` names: folds can leave them out.
_SEPARABLE_ARMS = frozenset({"procedural", "copypaste"})


def train(context: JobContext) -> dict[str, Any]:
    """Do the job; return what its row keeps as the result."""
    parameters = of_job(context.job)
    if not isinstance(parameters, TrainParameters):
        raise JobError(f"job {context.job.job_id} has the parameters of another kind of job; ask for a new one")
    recipe = context.recipe
    manifest = verified(context.store, parameters.manifest_id, recipe)
    context.go_on()
    learning = training_samples(context.store, manifest, recipe, _counting(context, "reading the training set"))
    held_out = held_out_samples(context.store, recipe, manifest.classes, _counting(context, "reading held-out parts"))
    preprocessing = Preprocessing.for_recipe(recipe)
    samples = [one.sample for one in learning]
    config = _config(parameters, samples, context.settings.trainer.threads)
    arms = {one.sample.tags["arm"] for one in learning if one.sample.synthetic}
    rule = ThresholdRule(seeds_are_held_out=arms <= _SEPARABLE_ARMS)
    model, validation = _learned(context, samples, preprocessing, manifest, config, rule)
    exported = _stamped(export_onnx(model, context.work / ONNX_FILE), context.job.job_id, manifest)
    evaluation = evaluate(
        model.predict,
        [one.sample for one in held_out],
        manifest.classes,
        validation.threshold,
        validation.source,
        progress=_counting(context, "evaluating on held-out parts"),
    )
    real = (held_out + [one for one in learning if not one.sample.synthetic])[:PARITY_FRAMES]
    agreement = _parity(context, model, exported, real, validation.threshold)
    golden = _golden(context, model, exported, real, validation.threshold)
    contents = Contents(
        onnx=exported.path.read_bytes(),
        training_set=manifest,
        golden=golden,
        report=_report(context, model, exported, evaluation, agreement),
    )
    package = _manifest(recipe, manifest, model, exported, evaluation, agreement, contents)
    return _deliver(context, contents, package)


def _config(parameters: TrainParameters, samples: list[Sample], workers: int) -> FitConfig:
    config = FitConfig(seed=parameters.random_seed % 2**31)
    # Crops are kept ready in memory, by each of the processes that fit side by side.
    config = replace(config, sampling=replace(config.sampling, cache_bytes=config.sampling.cache_bytes // workers))
    return replace(config, updates=parameters.updates) if parameters.updates else lengthened(config, samples)


def _counting(context: JobContext, stage: str) -> Any:
    def count(done: int, total: int) -> None:
        context.go_on()
        context.progress(Progress(stage=stage, done=done, total=total))

    return count


def _learned(
    context: JobContext,
    samples: list[Sample],
    preprocessing: Preprocessing,
    manifest: TrainingSet,
    config: FitConfig,
    rule: ThresholdRule,
) -> tuple[FittedModel, CrossValidation]:
    """Fit to everything, and beside it the folds that freeze the threshold; what an interrupted run kept is taken."""
    whole = hold_out("whole", 0, set(), samples, preprocessing, manifest.classes, config, "fit")
    folds = fold_tasks(samples, preprocessing, manifest.classes, config, rule)
    team = Team(context.settings.trainer.threads, context.work, context.progress, context.cancelled)
    fitted, *found = team.work([whole, *folds], "fit and cross-validation")
    return fitted.model, decide(folds, found, samples, rule, team)


def _stamped(exported: ExportedModel, job_id: str, manifest: TrainingSet) -> ExportedModel:
    """Write into the ONNX file which job and training set it comes from.

    The file's digest is the model's identity: the same weights, trained again and measured on more held-out parts, are
    another model with another report.
    """
    network = onnx.load(str(exported.path))
    origin = {"inspectd.job": job_id, "inspectd.training_set": manifest.content_digest()}
    onnx.helper.set_model_props(network, origin)
    data: bytes = network.SerializeToString(deterministic=True)
    write_bytes(exported.path, data)
    return replace(exported, digest=digest.of_bytes(data))


def _parity(
    context: JobContext, model: FittedModel, exported: ExportedModel, real: list[Loaded], threshold: float
) -> ParityReport:
    context.progress(Progress(stage="parity", done=0, total=len(real)))
    agreement = parity.check(
        model, exported.path, [one.sample for one in real], threshold, settings=context.settings.engine
    )
    if not agreement.passed:
        raise ModelError(
            f"the exported model differs from the trained one on {agreement.engine} by "
            f"{agreement.max_probability_difference:.2g} and flips {agreement.verdict_flips} verdicts; "
            "keep the running model and report this"
        )
    return agreement


def _golden(
    context: JobContext, model: FittedModel, exported: ExportedModel, real: list[Loaded], threshold: float
) -> list[Golden]:
    """Choose golden images over the whole range of scores, the ones nearest to the threshold among them."""
    scored: list[tuple[float, Golden]] = []
    tensor = model.preprocessing.apply(real[0].sample.stack)
    shape = (tensor.shape[0], tensor.shape[1], tensor.shape[2])
    engine = load_engine(context.settings.engine, exported.path, shape, context.work)
    try:
        for one in real:
            scores = engine.infer(model.preprocessing.apply(one.sample.stack)).score
            # float32 values written as the shortest decimals that give them back.
            scored.append((float(scores.max()), Golden(one.stored, tuple(float(score) for score in scores))))
    finally:
        engine.close()
    scored.sort(key=lambda entry: entry[0])
    spread = np.linspace(0, len(scored) - 1, min(len(scored), GOLDEN_FRAMES - 2)).round().astype(int)
    nearest = sorted(range(len(scored)), key=lambda index: abs(scored[index][0] - threshold))[:2]
    return [scored[index][1] for index in sorted({*spread.tolist(), *nearest})]


def _report(
    context: JobContext,
    model: FittedModel,
    exported: ExportedModel,
    evaluation: EvaluationReport,
    agreement: ParityReport,
) -> dict[str, Any]:
    return {
        "job": context.job.model_dump(mode="json", include={"job_id", "parameters", "created_at"}),
        "evaluation": evaluation.model_dump(mode="json"),
        "parity": agreement.model_dump(mode="json"),
        "fit": {
            "config": asdict(model.config),
            "losses": list(model.losses),
            "parameters": exported.parameters,
            "operators": list(exported.operators),
        },
    }


def _manifest(
    recipe: Recipe,
    training_set: TrainingSet,
    model: FittedModel,
    exported: ExportedModel,
    evaluation: EvaluationReport,
    agreement: ParityReport,
    contents: Contents,
) -> ModelManifest:
    return ModelManifest(
        model_id=f"{recipe.recipe_id[:48]}-{exported.digest[:12]}",
        recipe_id=recipe.recipe_id,
        recipe_version=recipe.version,
        onnx_file=ONNX_FILE,
        onnx_digest=exported.digest,
        classes=training_set.classes,
        channels=recipe.channel_names,
        preprocessing=model.preprocessing,
        threshold=evaluation.threshold,
        golden=golden_images(contents.golden),
        training_set_digest=training_set.content_digest(),
        reviewed_by_people=training_set.reviewed_by_people,
        emulated=training_set.emulated or not training_set.reviewed_by_people,
        evaluation=evaluation,
        parity=agreement,
        created_at=utc_now(),
    )


def _deliver(context: JobContext, contents: Contents, package: ModelManifest) -> dict[str, Any]:
    context.go_on()
    context.store.gate.verify_training_set(contents.training_set)
    folder = write_package(context.store.state, contents, package)
    known = [one for one in context.store.models(package.recipe_id) if one.onnx_digest == package.onnx_digest]
    if not known:
        context.store.register_model(package, folder)
    model = known[0] if known else package
    _forget(context.work)
    said = warnings(context.recipe, package.classes)
    return {
        "model_id": model.model_id,
        "onnx_digest": model.onnx_digest,
        "threshold": model.threshold,
        "validated": model.evaluation.validated,
        "findings": list(model.evaluation.findings),
        "false_acceptance": _rate(model.evaluation.false_acceptance),
        "false_rejection": _rate(model.evaluation.false_rejection),
        "auroc": model.evaluation.auroc,
        "parity_difference": model.parity.max_probability_difference if model.parity else None,
        "known_already": bool(known),
    } | ({"warnings": said} if said else {})


def _rate(bound: RateBound) -> dict[str, Any]:
    return bound.model_dump(mode="json")


def _forget(work: Path) -> None:
    # What is left serves no resumption: the model lies in its package.
    for file in work.glob("*"):
        if file.is_file():
            file.unlink(missing_ok=True)
