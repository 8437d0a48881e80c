"""Parity finds an exported model that is not the trained one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cell.errors import DataError, EngineError
from tests.trainer.parts import held_out_parts, plate, trained
from trainer import export, parity


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export.export_onnx(trained(), tmp_path_factory.mktemp("model") / "model.onnx").path


def test_the_exported_model_equals_the_trained_one(onnx_file: Path) -> None:
    frames = [*held_out_parts(), plate(300, "pit", size=(64, 200))]
    report = parity.check(trained(), onnx_file, frames, threshold=0.5)
    assert report.passed
    assert report.frames == len(frames)
    assert report.verdict_flips == 0
    assert 0 <= report.max_probability_difference < 1e-4
    assert report.engine.startswith("onnxruntime")


@pytest.fixture(scope="module")
def changed_file(onnx_file: Path) -> Path:
    """The same model with its evidence shifted by 0.05."""
    model = onnx.load(str(onnx_file))
    biases = [weight for weight in model.graph.initializer if weight.name.endswith("evidence.bias")]
    assert len(biases) == 1
    biases[0].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(biases[0]) + np.float32(0.05), biases[0].name))
    changed = onnx_file.with_name("changed.onnx")
    onnx.save(model, str(changed))
    return changed


def test_a_changed_weight_is_found(changed_file: Path) -> None:
    report = parity.check(trained(), changed_file, held_out_parts(), threshold=0.5)
    assert not report.passed
    assert report.max_probability_difference > 1e-3


def test_one_flipped_verdict_is_enough_to_fail(changed_file: Path) -> None:
    sample = held_out_parts()[-1]
    just_above = float(trained().predict(sample.stack)[1].max()) + 1e-5
    report = parity.check(trained(), changed_file, [sample], threshold=just_above, tolerance=1.0)
    assert report.verdict_flips == 1
    assert not report.passed


def test_synthetic_frames_prove_nothing_and_a_broken_file_is_named(onnx_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one real frame"):
        parity.check(trained(), onnx_file, [replace(plate(1), synthetic=True)], threshold=0.5)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(EngineError, match=r"broken\.onnx"):
        parity.check(trained(), broken, held_out_parts(), threshold=0.5)
