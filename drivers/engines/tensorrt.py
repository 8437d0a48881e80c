"""Native TensorRT: parse, build, serialise, deserialise, execute.

Runs on TensorRT 10.3 to 11 (JetPack 6 and 7, industrial PCs) and on TensorRT-RTX through one shim; only what all of
them share is used. Networks are strongly typed: the precision stands in the ONNX file. A plan is an executable: it is
built on this box from the ONNX file whose digest the manifest names and never taken from elsewhere. Its name carries
that digest, the device and the library's version, so that an upgrade builds a new one.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cell import digest
from cell.errors import EngineError, SdkMissing
from cell.settings import EngineSettings
from drivers.engines.base import INPUT, PROBABILITY, SCORE, Inference, InputShape, check_tensor, checked

_WORKSPACE_BYTES = 1 << 30
_MODULES = ("tensorrt", "tensorrt_rtx")
_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2


def import_trt(names: Sequence[str] = _MODULES) -> Any:
    """Return the first TensorRT module there is. Raises `SdkMissing`."""
    for name in names:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise SdkMissing("the engine tensorrt needs NVIDIA's library; install it with JetPack or: pip install tensorrt")


def build_plan(trt: Any, model_file: Path, shape: InputShape) -> bytes:
    """Return the serialised plan of an ONNX file for inputs (1, K, H, W). Needs no GPU with TensorRT-RTX.

    Raises `EngineError` with the parser's or builder's first complaint.
    """
    log = _log_of(trt)
    builder = trt.Builder(log)
    flags = 0
    strongly_typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    if strongly_typed is not None:
        flags |= 1 << int(strongly_typed)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model_file.read_bytes()):
        reason = parser.get_error(0).desc() if parser.num_errors else "no reason given"
        raise EngineError(f"TensorRT can't read {model_file}: {_line(reason)}; export the model again")
    names = {network.get_input(i).name for i in range(network.num_inputs)}
    outputs = {network.get_output(i).name for i in range(network.num_outputs)}
    if names != {INPUT} or outputs != {PROBABILITY, SCORE}:
        raise EngineError(f"{model_file} has inputs {sorted(names)} and outputs {sorted(outputs)}; export it again")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    profile = builder.create_optimization_profile()
    fixed = (1, *shape)
    profile.set_shape(INPUT, fixed, fixed, fixed)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"TensorRT built no engine from {model_file}: {log.last or 'no reason given'}; see the log")
    return bytes(plan)


class CudaRuntime(Protocol):
    """The five calls of libcudart that an inference needs; sizes in bytes, addresses as integers."""

    def device_name(self) -> str:
        """Name of the current device. Raises `EngineError` when there is none."""

    def allocate(self, size: int) -> int:
        """Return the address of device memory."""

    def free(self, address: int) -> None:
        """Give device memory back."""

    def to_device(self, address: int, array: NDArray[Any]) -> None:
        """Copy a contiguous array to the device and wait."""

    def to_host(self, array: NDArray[Any], address: int) -> None:
        """Wait for the device and copy into a contiguous array."""


class Cudart:
    """See `CudaRuntime`: NVIDIA's library itself, by ctypes."""

    def __init__(self) -> None:
        for name in ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0"):
            with contextlib.suppress(OSError):
                self._library = ctypes.CDLL(name)
                return
        raise SdkMissing("the engine tensorrt needs the CUDA runtime; install it with JetPack or: pip install tensorrt")

    def device_name(self) -> str:
        """See the protocol. The name is the first field of cudaDeviceProp in every version."""
        device = ctypes.c_int()
        self._call("cudaGetDevice", ctypes.byref(device))
        properties = ctypes.create_string_buffer(8192)
        self._call("cudaGetDeviceProperties", properties, device)
        return properties.raw[:256].split(b"\0")[0].decode(errors="replace")

    def allocate(self, size: int) -> int:
        """See the protocol."""
        address = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(size))
        return int(address.value or 0)

    def free(self, address: int) -> None:
        """See the protocol."""
        self._call("cudaFree", ctypes.c_void_p(address))

    def to_device(self, address: int, array: NDArray[Any]) -> None:
        """See the protocol."""
        self._copy(address, array.ctypes.data, array.nbytes, _HOST_TO_DEVICE)

    def to_host(self, array: NDArray[Any], address: int) -> None:
        """See the protocol."""
        self._call("cudaDeviceSynchronize")
        self._copy(array.ctypes.data, address, array.nbytes, _DEVICE_TO_HOST)

    def _copy(self, target: int, source: int, size: int, kind: int) -> None:
        self._call("cudaMemcpy", ctypes.c_void_p(target), ctypes.c_void_p(source), ctypes.c_size_t(size), kind)

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise EngineError(f"CUDA call {name} failed with error {code}; check the GPU with nvidia-smi or tegrastats")


class TensorRtEngine:
    """See `drivers.engines.base.Engine`."""

    provider = "tensorrt"

    def __init__(
        self,
        settings: EngineSettings,
        model_file: Path,
        shape: InputShape,
        plan_folder: Path,
        *,
        trt: Any = None,
        cuda: CudaRuntime | None = None,
    ) -> None:
        del settings  # providers and threads are ONNX Runtime's
        self._trt = trt or import_trt()
        self._cuda = cuda or Cudart()
        self.name = f"{self._trt.__name__} {self._trt.__version__}"
        self._shape = shape
        self._addresses: dict[str, int] = {}
        self._log = _log_of(self._trt)
        self._runtime = self._trt.Runtime(self._log)
        self._engine: Any = self._deserialised(model_file, shape, plan_folder)
        self._context: Any = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"TensorRT has no room to run {model_file}; free GPU memory and load it again")
        self._outputs: dict[str, NDArray[np.float32]] = {}
        try:
            self._bind()
        except EngineError:
            self.close()
            raise

    def infer(self, tensor: NDArray[np.float32]) -> Inference:
        """See the contract."""
        check_tensor(tensor, self._shape)
        if self._context is None:
            raise EngineError("the engine is closed; load the model again")
        self._cuda.to_device(self._addresses[INPUT], np.ascontiguousarray(tensor))
        if not self._context.execute_async_v3(0):
            raise EngineError(f"TensorRT did not run the model: {self._log.last or 'no reason given'}; load it again")
        for name, array in self._outputs.items():
            self._cuda.to_host(array, self._addresses[name])
        return checked(self._outputs[PROBABILITY].copy(), self._outputs[SCORE].copy(), self._shape)

    def close(self) -> None:
        """See the contract."""
        self._context = None
        self._engine = None
        for address in self._addresses.values():
            with contextlib.suppress(EngineError):
                self._cuda.free(address)
        self._addresses = {}

    def _deserialised(self, model_file: Path, shape: InputShape, folder: Path) -> Any:
        try:
            path = folder / self._plan_name(model_file, shape)
            for fresh in (False, True):
                if fresh or not path.is_file():
                    _write(path, build_plan(self._trt, model_file, shape))
                engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
                if engine is not None:
                    return engine
                # A plan that was cut short by a power failure is built once more.
        except OSError as error:
            raise EngineError(f"can't read or keep {error.filename}: {error.strerror}; check path and disk") from error
        raise EngineError(
            f"TensorRT does not load the engine it built from {model_file}: {self._log.last or 'no reason given'}; "
            "check the GPU driver"
        )

    def _plan_name(self, model_file: Path, shape: InputShape) -> str:
        facts = (digest.of_file(model_file), self._cuda.device_name(), self.name, list(shape))
        return f"{digest.of_record(facts)[:32]}.plan"

    def _bind(self) -> None:
        if not self._context.set_input_shape(INPUT, (1, *self._shape)):
            raise EngineError(f"the engine does not take inputs of {self._shape}; build it again")
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            array = np.empty(tuple(self._context.get_tensor_shape(name)), np.float32)
            self._addresses[name] = self._cuda.allocate(array.nbytes)
            self._context.set_tensor_address(name, self._addresses[name])
            if name != INPUT:
                self._outputs[name] = array
        if self._outputs.keys() != {PROBABILITY, SCORE}:
            raise EngineError(f"the engine's outputs are {sorted(self._outputs)}; export the model again")


def _log_of(trt: Any) -> Any:
    class Log(trt.ILogger):
        """Keeps the last complaint for the error's sentence; the library prints nothing."""

        def __init__(self) -> None:
            super().__init__()
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.Severity.ERROR):
                self.last = _line(message)

    return Log()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _line(message: str) -> str:
    lines = message.strip().splitlines()
    return lines[0].rstrip(".") if lines else "no reason given"
