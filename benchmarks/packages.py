"""Model packages for the line's benchmark and tests: small networks, honest papers.

The packages pass every check of a deployment: their training sets are issued by the gate from backgrounds and confirmed
seeds, their golden scores come from the exported file, their emulated origin is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from cell import digest
from cell.clock import utc_now
from cell.defects import Split
from cell.frames import StoredStack
from cell.imaging.preprocess import Preprocessing
from cell.models import EvaluationReport, ModelManifest, RateBound, TrainingSet
from cell.recipes import Recipe
from cell.settings import EngineSettings
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from drivers.engines.base import INPUT, PROBABILITY, SCORE
from drivers.engines.onnxruntime import OnnxRuntimeEngine
from trainer.package import ONNX_FILE, Contents, Golden, golden_images, write_package

_UNKNOWN = RateBound(count=0, parts=0, rate=None, lower_95=None, upper_95=None)


def contrast_onnx(channels: int, classes: int, gain: float, offset: float) -> bytes:
    """Return a network that calls bright spots defective: sigmoid(gain * mean over channels - offset), score its max.

    Networks of another gain give other scores for every picture, so that a verdict tells which one judged.
    """
    weights = np.full((classes, channels, 1, 1), gain / channels, np.float32)
    weights *= np.linspace(1.0, 0.5, classes, dtype=np.float32)[:, None, None, None]
    bias = np.full(classes, -offset, np.float32)
    shape = [1, channels, "height", "width"]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", [INPUT, "weights", "bias"], ["logits"], kernel_shape=[1, 1]),
            helper.make_node("Sigmoid", ["logits"], [PROBABILITY]),
            helper.make_node("ReduceMax", [PROBABILITY], [SCORE], axes=[2, 3], keepdims=0),
        ],
        "contrast",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(PROBABILITY, TensorProto.FLOAT, [1, classes, "height", "width"]),
            helper.make_tensor_value_info(SCORE, TensorProto.FLOAT, [1, classes]),
        ],
        [
            helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True),
            helper.make_tensor("bias", TensorProto.FLOAT, bias.shape, bias.tobytes(), raw=True),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    serialised: bytes = model.SerializeToString()
    return serialised


def issue_training_set(learning: LearningStore, recipe: Recipe, pictures: Sequence[StoredStack]) -> TrainingSet:
    """Return a training set that the gate issues: one background and three confirmed seeds of each class.

    :param pictures: frame sets of the recipe; they serve in turn.
    """
    if not learning.backgrounds(recipe.recipe_id):
        learning.add_background(recipe.recipe_id, "packages-good", pictures[0], Split.LEARN)
        mask = np.zeros((recipe.height, recipe.width), np.bool_)
        mask[2:6, 2:6] = True
        for name in recipe.class_names:
            for number in range(3):
                picture = pictures[number % len(pictures)]
                part = f"packages-{name}-{number}"
                seed = learning.propose_seed(recipe.recipe_id, part, picture, mask, name, Split.LEARN)
                learning.confirm_seed(seed.seed_id, name, mask, "packages (not a person)", is_person=False)
    return learning.gate.issue_training_set(recipe, synthetic_ratio=0.0)


def pack(
    state: StateDir,
    learning: LearningStore,
    recipe: Recipe,
    onnx_bytes: bytes,
    pictures: Sequence[StoredStack],
    *,
    model_id: str,
    threshold: float = 0.5,
    scratch: Path,
) -> ModelManifest:
    """Write, register and return a package of `onnx_bytes` with all its papers.

    :param pictures: its golden images.
    :param scratch: an existing folder for the file that is scored before it is packed.
    """
    training_set = issue_training_set(learning, recipe, pictures)
    preprocessing = Preprocessing.for_recipe(recipe)
    golden = tuple(
        Golden(replace(picture, metadata=dict(picture.metadata)), scores)
        for picture, scores in zip(pictures, score(onnx_bytes, preprocessing, pictures, scratch), strict=True)
    )
    manifest = ModelManifest(
        model_id=model_id,
        recipe_id=recipe.recipe_id,
        recipe_version=recipe.version,
        onnx_file=ONNX_FILE,
        onnx_digest=digest.of_bytes(onnx_bytes),
        classes=recipe.class_names,
        channels=recipe.channel_names,
        preprocessing=preprocessing,
        threshold=threshold,
        golden=golden_images(golden),
        training_set_digest=training_set.content_digest(),
        reviewed_by_people=training_set.reviewed_by_people,
        emulated=training_set.emulated,
        evaluation=EvaluationReport(
            threshold=threshold,
            threshold_source="set by hand",
            false_acceptance=_UNKNOWN,
            false_rejection=_UNKNOWN,
            recall_by_class={},
            auroc=None,
            auroc_macro=None,
            pixel_ap=None,
            pixel_ap_macro=None,
            validated=False,
            findings=("made for a benchmark or test, not learned",),
        ),
        parity=None,
        created_at=utc_now(),
    )
    folder = write_package(state, Contents(onnx_bytes, training_set, golden, {}), manifest)
    learning.register_model(manifest, folder)
    return manifest


def score(
    onnx_bytes: bytes, preprocessing: Preprocessing, pictures: Sequence[StoredStack], scratch: Path
) -> list[tuple[float, ...]]:
    """Return the class scores of each picture by a network, on one CPU thread."""
    file = scratch / f"{digest.of_bytes(onnx_bytes)[:16]}.onnx"
    file.write_bytes(onnx_bytes)
    tensors = [preprocessing.apply(picture.pixels) for picture in pictures]
    shape = tensors[0].shape
    engine = OnnxRuntimeEngine(EngineSettings(), file, (shape[0], shape[1], shape[2]), scratch)
    try:
        return [tuple(float(value) for value in engine.infer(tensor).score) for tensor in tensors]
    finally:
        engine.close()
