"""ONNX Runtime: the engine that runs everywhere; on a GPU through its CUDA or TensorRT provider.

ONNX Runtime falls back to the CPU without an error when a provider can't be used, which on a line means a deadline
missed at every part. So three things are checked at load: the provider is in this build, the session says it uses it,
and it was really given nodes of the graph (when the build can tell). A first inference runs at load, so that a broken
model is found before it judges and no part pays for lazy initialisation.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell.errors import EngineError, SdkMissing
from cell.settings import EngineSettings
from drivers.engines.base import INPUT, PROBABILITY, SCORE, Inference, InputShape, check_tensor, checked

_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_RECORD_ASSIGNMENT = "session.record_ep_graph_assignment_info"


class OnnxRuntimeEngine:
    """A model in ONNX Runtime, for inputs of one fixed shape. See :class:`drivers.engines.base.Engine`."""

    def __init__(self, settings: EngineSettings, model_file: Path, shape: InputShape, plan_folder: Path) -> None:
        ort = _import()
        self._errors = _errors(ort)
        self._shape = shape
        self.name = f"onnxruntime {ort.__version__}"
        self.provider = settings.providers[0]
        wanted = _wanted(settings, ort)
        try:
            self._session = ort.InferenceSession(
                str(model_file), _options(settings, ort), providers=_with_options(wanted, plan_folder)
            )
        except self._errors as error:
            raise EngineError(f"can't load {model_file.name}: {_line(error)}; export the model again") from error
        self._session.disable_fallback()
        _check_used(self._session, wanted)
        _check_signature(self._session, shape, model_file.name)
        self.infer(np.zeros(shape, np.float32))

    def infer(self, tensor: NDArray[np.float32]) -> Inference:
        """Judge one network input (K, H, W) float32. Raises `EngineError`."""
        if self._session is None:
            raise EngineError("the engine was closed; load the model again")
        check_tensor(tensor, self._shape)
        try:
            probability, score = self._session.run((PROBABILITY, SCORE), {INPUT: tensor[None]})
        except self._errors as error:
            raise EngineError(f"inference failed: {_line(error)}; see the accelerator's log") from error
        return checked(probability, score, self._shape)

    def close(self) -> None:
        """Release the session and its memory."""
        self._session = None


def _import() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise SdkMissing(
            "onnxruntime is not installed; run: pip install 'inspectd[cpu]', or 'inspectd[gpu]' on a GPU"
        ) from error
    module: ModuleType = onnxruntime
    return module


def _errors(ort: ModuleType) -> tuple[type[Exception], ...]:
    # The library's exceptions share no base class of their own.
    state = ort.capi.onnxruntime_pybind11_state
    found = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (*found, RuntimeError, ValueError)


def _wanted(settings: EngineSettings, ort: ModuleType) -> list[str]:
    available = ort.get_available_providers()
    for provider in settings.providers:
        if _PROVIDERS[provider] not in available:
            names = ", ".join(short for short, long in _PROVIDERS.items() if long in available)
            raise EngineError(
                f"this onnxruntime has no provider {provider}, only {names}; install 'inspectd[gpu]' or change "
                "engine.providers"
            )
    return [_PROVIDERS[provider] for provider in settings.providers]


def _options(settings: EngineSettings, ort: ModuleType) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    # Spinning workers burn the cores on which the camera and the trainer run, to win microseconds.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry(_RECORD_ASSIGNMENT, "1")
    if "cpu" not in settings.providers:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def _with_options(wanted: list[str], plan_folder: Path) -> list[tuple[str, dict[str, str]]]:
    options: dict[str, dict[str, str]] = {
        # Grow by what is asked for: the default doubles, and a swap holds two models.
        "CUDAExecutionProvider": {"arena_extend_strategy": "kSameAsRequested"},
        "TensorrtExecutionProvider": {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(plan_folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(plan_folder),
        },
    }
    return [(name, options.get(name, {})) for name in wanted]


def _check_used(session: Any, wanted: list[str]) -> None:
    used = session.get_providers()
    for provider in wanted:
        if provider not in used:
            raise EngineError(
                f"onnxruntime did not take the provider {provider} and uses {', '.join(used)}; check the driver and "
                "the CUDA libraries"
            )
    assigned = _assigned(session)
    if assigned is not None and wanted[0] not in assigned:
        raise EngineError(
            f"onnxruntime gave no part of the model to {wanted[0]} but all to {', '.join(sorted(assigned))}; change "
            "engine.providers or the export"
        )


def _assigned(session: Any) -> set[str] | None:
    ask = getattr(session, "get_provider_graph_assignment_info", None)
    if ask is None:  # before onnxruntime 1.24
        return None
    return {part.ep_name for part in ask()}


def _check_signature(session: Any, shape: InputShape, file: str) -> None:
    inputs = {node.name: node for node in session.get_inputs()}
    outputs = {node.name for node in session.get_outputs()}
    if set(inputs) != {INPUT} or not {PROBABILITY, SCORE} <= outputs:
        raise EngineError(
            f"{file} takes {sorted(inputs)} and gives {sorted(outputs)}, not {INPUT} -> {PROBABILITY}, {SCORE}; it is "
            "no model of this project"
        )
    declared = inputs[INPUT].shape
    fits = len(declared) == 4 and all(
        not isinstance(length, int) or length == needed for length, needed in zip(declared, (1, *shape), strict=True)
    )
    if not fits or inputs[INPUT].type != "tensor(float)":
        raise EngineError(
            f"{file} takes {inputs[INPUT].type} {declared}, the recipe gives float32 {[1, *shape]}; deploy the model "
            "that belongs to the recipe"
        )


def _line(error: Exception) -> str:
    """Return the library's message without its line breaks and code prefix."""
    return " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ").rstrip(".;")
