"""A strict `tensorrt` and CUDA runtime: a state machine that raises on every misuse the real ones punish at random.

The numbers come from ONNX Runtime, so that golden outputs agree. Only execution is played here; parser, builder and
serialiser are tested with TensorRT-RTX.
"""

from __future__ import annotations

import ctypes
import threading
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cell.errors import EngineError


class Misuse(AssertionError):
    """The driver did what TensorRT or CUDA forbids."""


class FakeCuda:
    """Device memory as host buffers whose addresses are checked."""

    def __init__(self, name: str = "Fake GPU") -> None:
        self.memory: dict[int, NDArray[np.uint8]] = {}
        self.name = name
        self.refuse_at = -1
        self._next = 0x1000
        self._calls = 0

    def device_name(self) -> str:
        return self.name

    def allocate(self, size: int) -> int:
        self._calls += 1
        if self._calls == self.refuse_at:
            raise EngineError("CUDA call cudaMalloc failed with error 2; check the GPU with nvidia-smi or tegrastats")
        if size <= 0:
            raise Misuse(f"allocation of {size} bytes")
        self._next += 0x100000
        self.memory[self._next] = np.full(size, 0xFF, np.uint8)
        return self._next

    def free(self, address: int) -> None:
        if address not in self.memory:
            raise Misuse("double or foreign free")
        del self.memory[address]

    def to_device(self, address: int, array: NDArray[Any]) -> None:
        self.of(address, array.nbytes)[:] = np.frombuffer(self._contiguous(array).tobytes(), np.uint8)

    def to_host(self, array: NDArray[Any], address: int) -> None:
        ctypes.memmove(self._contiguous(array).ctypes.data, self.of(address, array.nbytes).ctypes.data, array.nbytes)

    def of(self, address: int, size: int) -> NDArray[np.uint8]:
        if address not in self.memory:
            raise Misuse("use of memory that is not allocated")
        if self.memory[address].nbytes != size:
            raise Misuse(f"copy of {size} bytes into {self.memory[address].nbytes}")
        return self.memory[address]

    @staticmethod
    def _contiguous(array: NDArray[Any]) -> NDArray[Any]:
        if not array.flags.c_contiguous:
            raise Misuse("copy of an array that is not contiguous")
        return array


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = Severity


class FakeTrt(SimpleNamespace):
    """The module. `plan` is an ONNX file's bytes behind a magic word; `trouble` makes one call go wrong."""

    MAGIC = b"FAKEPLAN"

    def __init__(self, cuda: FakeCuda, version: str = "10.3.0") -> None:
        super().__init__(__name__="tensorrt", __version__=version, ILogger=ILogger)
        self.cuda = cuda
        self.trouble = ""
        self.built = 0
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        self.MemoryPoolType = SimpleNamespace(WORKSPACE=0)

    def Builder(self, log: Any) -> Any:
        return SimpleNamespace(
            create_network=lambda flags: self._network(flags),
            create_builder_config=lambda: SimpleNamespace(
                set_memory_pool_limit=lambda pool, size: None, add_optimization_profile=lambda profile: 0
            ),
            create_optimization_profile=lambda: SimpleNamespace(set_shape=lambda *shapes: None),
            build_serialized_network=self._build,
        )

    def OnnxParser(self, network: Any, log: Any) -> Any:
        def parse(data: bytes) -> bool:
            network.data = data
            return True

        return SimpleNamespace(parse=parse, num_errors=0)

    def Runtime(self, log: Any) -> Any:
        return SimpleNamespace(deserialize_cuda_engine=lambda plan: self._engine(plan, log))

    def _network(self, flags: int) -> Any:
        if flags != 1 << 1:
            raise Misuse("the network is not strongly typed")
        names = ["probability", "score"]
        return SimpleNamespace(
            data=b"",
            num_inputs=1,
            num_outputs=2,
            get_input=lambda index: SimpleNamespace(name="stack"),
            get_output=lambda index: SimpleNamespace(name=names[index]),
        )

    def _build(self, network: Any, config: Any) -> bytes | None:
        self.built += 1
        return None if self.trouble == "build" else self.MAGIC + network.data

    def _engine(self, plan: bytes, log: Any) -> Any:
        if self.trouble == "deserialize" or not plan.startswith(self.MAGIC) or plan.endswith(b"cut"):
            log.log(Severity.ERROR, "deserializeCudaEngine: magic tag does not match\nsecond line")
            return None
        return FakeEngine(self, plan[len(self.MAGIC) :], log)


class FakeEngine:
    """ICudaEngine of one session."""

    def __init__(self, trt: FakeTrt, onnx_file: bytes, log: Any) -> None:
        self.trt, self.log = trt, log
        self.session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
        self.names = [node.name for node in (*self.session.get_inputs(), *self.session.get_outputs())]
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def create_execution_context(self) -> Any:
        return None if self.trt.trouble == "context" else FakeContext(self)


class FakeContext:
    """IExecutionContext: one thread, every address set, shapes set first."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        self._shape: tuple[int, ...] | None = None
        self._thread = threading.get_ident()

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shape = tuple(shape)
        return list(shape) == self._engine.session.get_inputs()[0].shape and name == "stack"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if self._shape is None:
            raise Misuse("a shape was asked for before the input's was set")
        nodes = (*self._engine.session.get_inputs(), *self._engine.session.get_outputs())
        return tuple(next(node.shape for node in nodes if node.name == name))

    def set_tensor_address(self, name: str, address: int) -> bool:
        if address not in self._engine.trt.cuda.memory:
            raise Misuse(f"the address of {name} is not allocated")
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if threading.get_ident() != self._thread:
            raise Misuse("a context was used by a second thread")
        if set(self._addresses) != set(self._engine.names):
            raise Misuse("an address is not set")
        trt = self._engine.trt
        if trt.trouble == "execute":
            self._engine.log.log(Severity.ERROR, "enqueueV3: cudaError 700")
            return False
        shape = self.get_tensor_shape("stack")
        device = trt.cuda.of(self._addresses["stack"], int(np.prod(shape)) * 4)
        outputs = self._engine.session.run(None, {"stack": device.view(np.float32).reshape(shape)})
        for node, values in zip(self._engine.session.get_outputs(), outputs, strict=True):
            result = np.full_like(values, np.nan) if trt.trouble == "garbage" else values
            trt.cuda.to_device(self._addresses[node.name], np.ascontiguousarray(result))
        return True
