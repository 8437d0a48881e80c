"""The exported file: the contract of every engine, the same numbers, the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from cell import digest
from cell.errors import ModelError
from cell.settings import EngineSettings
from drivers.engines.registry import load_engine
from tests.trainer.parts import CLASSES, SPEC, held_out_parts, trained
from trainer import export


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> export.ExportedModel:
    return export.export_onnx(trained(), tmp_path_factory.mktemp("model") / "model.onnx")


def test_contract_of_the_file(exported: export.ExportedModel) -> None:
    graph = onnx.load(str(exported.path))
    onnx.checker.check_model(graph, full_check=True)
    assert graph.opset_import[0].version <= 18
    shapes = {
        value.name: [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim]
        for value in (*graph.graph.input, *graph.graph.output)
    }
    assert shapes["stack"] == [1, 2, "height", "width"]
    assert shapes["probability"][:2] == [1, 2]
    assert shapes["score"] == [1, 2]
    assert set(exported.operators) <= export.PLAIN_OPERATORS
    assert exported.digest == digest.of_file(exported.path)
    assert not list(exported.path.parent.glob("*.part"))


def test_the_same_weights_give_the_same_bytes(exported: export.ExportedModel, tmp_path: Path) -> None:
    assert export.export_onnx(trained(), tmp_path / "again.onnx").digest == exported.digest


@pytest.mark.parametrize("size", [(32, 32), (96, 128), (320, 64)])
def test_any_size_gives_the_trained_numbers(exported: export.ExportedModel, size: tuple[int, int]) -> None:
    tensor = np.random.default_rng(0).normal(0, 1, (2, *size)).astype(np.float32)
    engine = load_engine(EngineSettings(), exported.path, tensor.shape)
    try:
        answer = engine.infer(tensor)
    finally:
        engine.close()
    with torch.inference_mode():
        probability, score = trained().network(torch.from_numpy(tensor)[None])
    assert np.abs(answer.probability - probability[0].numpy()).max() < 1e-4
    assert np.abs(answer.score - score[0].numpy()).max() < 1e-4


def test_the_exported_model_judges_held_out_parts(exported: export.ExportedModel) -> None:
    tensors = [(sample, SPEC.apply(sample.stack)) for sample in held_out_parts()]
    engine = load_engine(EngineSettings(), exported.path, tensors[0][1].shape)
    try:
        for sample, tensor in tensors:
            answer = engine.infer(tensor)
            assert (answer.score.max() > 0.5) == bool(sample.labels.any())
            if sample.labels.any():
                assert CLASSES[int(answer.score.argmax())] == CLASSES[int(sample.labels.max()) - 1]
    finally:
        engine.close()


def test_a_strange_operator_is_refused_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "PLAIN_OPERATORS", frozenset({"Conv"}))
    with pytest.raises(ModelError, match="not usable: operators Add"):
        export.export_onnx(trained(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
