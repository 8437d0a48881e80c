"""Real parts for the drivers' tests: pylon's emulator, viky.cti, ONNX files made on the spot."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import genicam
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from drivers.lights.gardasoft import GardasoftLight
from drivers.sim.fake_gardasoft import FakeGardasoft

# pylon reads it once, when the first camera is looked for.
os.environ["PYLON_CAMEMU"] = "1"

VIKY = Path(genicam.__file__).parent / "viky.cti"

ModelMaker = Callable[..., Path]


@pytest.fixture
def model(tmp_path: Path) -> ModelMaker:
    """Return a maker of small models that follow the engine contract, or break it as told."""

    def make(
        shape: tuple[int, int, int] = (2, 16, 24), classes: int = 3, gain: float = 1.0, name: str = "stack"
    ) -> Path:
        channels, height, width = shape
        generator = np.random.default_rng(7)
        weights = {
            "w1": generator.normal(0, 0.3, (8, channels, 3, 3)).astype(np.float32),
            "axes": np.array([2, 3], np.int64),
            "w2": (gain * generator.normal(0, 1, (classes, 8, 1, 1))).astype(np.float32),
        }
        nodes = [
            helper.make_node("Conv", [name, "w1"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "w2"], ["c"]),
            helper.make_node("Sigmoid", ["c"], ["probability"]),
            helper.make_node("ReduceMax", ["probability", "axes"], ["score"], keepdims=0),
        ]
        graph = helper.make_graph(
            nodes,
            "small",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, height, width])],
            [
                helper.make_tensor_value_info("probability", TensorProto.FLOAT, [1, classes, height, width]),
                helper.make_tensor_value_info("score", TensorProto.FLOAT, [1, classes]),
            ],
            [numpy_helper.from_array(values, key) for key, values in weights.items()],
        )
        path = tmp_path / "model.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
        return path

    return make


@pytest.fixture
def fake() -> Iterator[FakeGardasoft]:
    """A Gardasoft controller on a real socket."""
    controller = FakeGardasoft()
    yield controller
    controller.close()


@pytest.fixture
def opened() -> Iterator[list[GardasoftLight]]:
    """Lights that a test opens, closed after it."""
    lights: list[GardasoftLight] = []
    yield lights
    for light in lights:
        light.close()
