"""The engines: ONNX Runtime for real; TensorRT's builder for real, its execution on a strict fake."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from cell.errors import EngineError, SdkMissing
from cell.settings import EngineSettings
from drivers.engines.onnxruntime import OnnxRuntimeEngine
from drivers.engines.registry import load_engine
from drivers.engines.tensorrt import TensorRtEngine, build_plan, import_trt
from tests.drivers.conftest import ModelMaker
from tests.drivers.faketrt import FakeCuda, FakeTrt

SHAPE = (2, 16, 24)
SETTINGS = EngineSettings()


def _input(seed: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(0, 1, SHAPE).astype(np.float32)


def _refused(words: str, *arguments: object) -> None:
    with pytest.raises(EngineError, match=words) as caught:
        OnnxRuntimeEngine(*arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_onnxruntime_judges_and_its_outputs_belong_to_the_caller(model: ModelMaker) -> None:
    engine = load_engine(SETTINGS, model(), SHAPE)
    first = engine.infer(_input(1))
    kept = first.probability.copy()
    second = engine.infer(_input(2))
    assert first.probability.shape == (3, 16, 24)
    assert np.allclose(first.score, first.probability.max(axis=(1, 2)))
    assert (first.probability == kept).all()
    assert not np.allclose(first.score, second.score)
    assert engine.provider == "cpu"
    assert engine.name.startswith("onnxruntime ")
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(_input())


def test_what_is_no_model_of_ours_is_refused(model: ModelMaker, tmp_path: Path) -> None:
    good = model().read_bytes()
    _refused(r"the recipe gives float32 \[1, 4, 16, 24\]", SETTINGS, tmp_path / "model.onnx", (4, 16, 24), tmp_path)
    for name, content in (("cut.onnx", good[: len(good) // 2]), ("text.onnx", b"hello" * 50), ("empty.onnx", b"")):
        (tmp_path / name).write_bytes(content)
        _refused(f"can't load {name}", SETTINGS, tmp_path / name, SHAPE, tmp_path)
    _refused("can't load none.onnx", SETTINGS, tmp_path / "none.onnx", SHAPE, tmp_path)
    _refused("it is no model of this project", SETTINGS, model(name="image"), SHAPE, tmp_path)


def test_a_network_that_gives_no_probabilities_must_not_judge(model: ModelMaker, tmp_path: Path) -> None:
    _refused("not a finite number between 0 and 1", SETTINGS, model(gain=float("nan")), SHAPE, tmp_path)
    engine = OnnxRuntimeEngine(SETTINGS, model(), SHAPE, tmp_path)
    with pytest.raises(EngineError, match="not a finite number"):
        engine.infer(np.full(SHAPE, np.nan, np.float32))
    for wrong in (np.zeros((3, 16, 24), np.float32), np.zeros(SHAPE, np.float64)):
        with pytest.raises(EngineError, match="use the model's own preprocessing"):
            engine.infer(wrong)  # type: ignore[arg-type]


def test_a_provider_that_is_missing_or_not_used_is_an_error(
    model: ModelMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    available = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" in available:
        pytest.skip("this machine has CUDA")
    cuda = EngineSettings(providers=("cuda", "cpu"))
    _refused("no provider cuda, only cpu", cuda, model(), SHAPE, tmp_path)
    # A build that claims CUDA on a machine where it can't be used: onnxruntime itself would go on with the CPU.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*available, "CUDAExecutionProvider"])
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        _refused("did not take the provider CUDAExecutionProvider", cuda, model(), SHAPE, tmp_path)


def test_a_missing_library_is_named_with_its_command(model: ModelMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    path = model()
    for name in ("onnxruntime", "tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SdkMissing, match=r"pip install 'inspectd\[cpu\]'"):
        load_engine(SETTINGS, path, SHAPE)
    with pytest.raises(SdkMissing, match="pip install tensorrt"):
        load_engine(EngineSettings(backend="tensorrt"), path, SHAPE)


def test_tensorrt_rtx_builds_a_plan_without_a_gpu(model: ModelMaker) -> None:
    pytest.importorskip("tensorrt_rtx")
    trt = import_trt(("tensorrt_rtx",))
    plan = build_plan(trt, model(), SHAPE)
    assert len(plan) > 1000
    bad = model().with_name("bad.onnx")
    bad.write_bytes(b"no network")
    with pytest.raises(EngineError, match="can't read") as caught:
        build_plan(trt, bad, SHAPE)
    assert "\n" not in str(caught.value)
    with pytest.raises(EngineError, match="has inputs"):
        build_plan(trt, model(name="image"), SHAPE)
    with pytest.raises(EngineError):
        build_plan(trt, model(), (4, 16, 24))


def test_tensorrt_rtx_without_a_driver_says_so_in_one_line(model: ModelMaker, tmp_path: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a GPU")
    with pytest.raises(EngineError, match="does not load the engine it built") as caught:
        TensorRtEngine(SETTINGS, model(), SHAPE, tmp_path, trt=trt, cuda=FakeCuda())
    assert "\n" not in str(caught.value)


def _tensorrt(path: Path, folder: Path, trouble: str = "") -> tuple[TensorRtEngine, FakeTrt, FakeCuda]:
    cuda = FakeCuda()
    trt = FakeTrt(cuda)
    trt.trouble = trouble
    return TensorRtEngine(SETTINGS, path, SHAPE, folder, trt=trt, cuda=cuda), trt, cuda


def test_tensorrt_executes_as_onnxruntime_does_and_gives_all_memory_back(model: ModelMaker, tmp_path: Path) -> None:
    path = model()
    engine, trt, cuda = _tensorrt(path, tmp_path)
    reference = OnnxRuntimeEngine(SETTINGS, path, SHAPE, tmp_path)
    for seed in range(3):
        ours, theirs = engine.infer(_input(seed)), reference.infer(_input(seed))
        assert np.allclose(ours.probability, theirs.probability, atol=1e-6)
        assert np.allclose(ours.score, theirs.score, atol=1e-6)
    transposed = np.ascontiguousarray(_input().transpose(2, 1, 0)).transpose(2, 1, 0)
    assert np.allclose(engine.infer(transposed).score, reference.infer(_input()).score, atol=1e-6)
    engine.close()
    engine.close()
    assert cuda.memory == {}
    assert trt.built == 1
    with pytest.raises(EngineError, match="closed"):
        engine.infer(_input())


def test_a_plan_is_kept_for_this_device_and_version_and_built_again_when_cut_short(
    model: ModelMaker, tmp_path: Path
) -> None:
    path = model()
    _tensorrt(path, tmp_path)
    _, again, _ = _tensorrt(path, tmp_path)
    assert again.built == 0
    (plan,) = tmp_path.glob("*.plan")
    plan.write_bytes(plan.read_bytes()[:-3] + b"cut")
    _, mended, _ = _tensorrt(path, tmp_path)
    assert mended.built == 1
    for other in (FakeTrt(FakeCuda("Other GPU")), FakeTrt(FakeCuda(), version="10.4.0")):
        TensorRtEngine(SETTINGS, path, SHAPE, tmp_path, trt=other, cuda=other.cuda)
        assert other.built == 1


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("build", "built no engine"),
        ("deserialize", "does not load the engine it built.*magic tag does not match"),
        ("context", "no room to run"),
    ],
)
def test_tensorrt_that_does_not_load_is_one_line(model: ModelMaker, tmp_path: Path, trouble: str, words: str) -> None:
    with pytest.raises(EngineError, match=words) as caught:
        _tensorrt(model(), tmp_path, trouble)
    assert "\n" not in str(caught.value)


def test_tensorrt_that_fails_at_work_never_answers(model: ModelMaker, tmp_path: Path) -> None:
    engine, trt, _ = _tensorrt(model(), tmp_path)
    for trouble, words in (("execute", "did not run the model: .*cudaError 700"), ("garbage", "not a finite number")):
        trt.trouble = trouble
        with pytest.raises(EngineError, match=words):
            engine.infer(_input())
    trt.trouble = ""
    engine.infer(_input())


def test_tensorrt_out_of_memory_leaves_nothing_behind(model: ModelMaker, tmp_path: Path) -> None:
    cuda = FakeCuda()
    cuda.refuse_at = 3
    with pytest.raises(EngineError, match="cudaMalloc"):
        TensorRtEngine(SETTINGS, model(), SHAPE, tmp_path, trt=FakeTrt(cuda), cuda=cuda)
    assert cuda.memory == {}


def test_tensorrt_without_its_file_or_disk_is_one_line(model: ModelMaker, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"can't read or keep .*none.onnx"):
        _tensorrt(tmp_path / "none.onnx", tmp_path)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(EngineError, match="can't read or keep"):
        _tensorrt(model(), tmp_path / "file" / "plans")
