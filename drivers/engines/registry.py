"""Which engines there are. Apart from the other drivers, because the trainer takes only these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cell.settings import EngineSettings
from drivers.engines.base import Engine, InputShape
from drivers.engines.onnxruntime import OnnxRuntimeEngine
from drivers.engines.tensorrt import TensorRtEngine

ENGINES: dict[str, Callable[[EngineSettings, Path, InputShape, Path], Engine]] = {
    "onnxruntime": OnnxRuntimeEngine,
    "tensorrt": TensorRtEngine,
}


def load_engine(
    settings: EngineSettings, model_file: Path, shape: InputShape, plan_folder: Path | None = None
) -> Engine:
    """Load an ONNX file on the configured accelerator.

    :param shape: (K, H, W) of the network input, as the model's preprocessing makes it for the recipe's frame.
    :param plan_folder: where engines built for this device are kept; beside the model when absent.
    :raises EngineError: the file is not such a model, or a configured provider is missing or would not be used.
    :raises SdkMissing: the back end's library is not installed.
    """
    return ENGINES[settings.backend](settings, model_file, shape, plan_folder or model_file.parent)
