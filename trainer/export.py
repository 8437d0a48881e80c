"""Export a fitted detector to ONNX: plain operators, any image size, checked before anyone sees the file."""

from __future__ import annotations

import copy
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch

from cell import digest
from cell.errors import ModelError
from drivers.engines.base import INPUT, PROBABILITY, SCORE
from trainer.fit import FittedModel
from trainer.network import STRIDE

#: Understood by TensorRT 10.3 and later, TensorRT-RTX and ONNX Runtime 1.14 and later.
OPSET = 17

#: Operators that the exported network may consist of; TensorRT parses all of them with dynamic sizes.
PLAIN_OPERATORS = frozenset(
    {
        "Add", "AveragePool", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv", "Div", "Exp", "Flatten",
        "Gather", "Identity", "Max", "Mul", "ReduceMax", "ReduceMean", "Relu", "Reshape", "Resize", "Shape", "Sigmoid",
        "Slice", "Sub", "TopK", "Unsqueeze", "Squeeze",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """An ONNX file on disk; `digest` is the SHA-256 of the file and the model's identity in every verdict."""

    path: Path
    digest: str
    parameters: int
    operators: tuple[str, ...]


def export_onnx(model: FittedModel, path: Path) -> ExportedModel:
    """Write `model` as ONNX with input ``stack`` (1, K, H, W) and outputs ``probability`` and ``score``.

    H and W are dynamic (multiples of 32). The file is written beside and renamed, so it is whole or absent. The same
    weights give the same bytes.

    :raises ModelError: when the result breaks the contract (operators, inputs, outputs).
    :raises OSError: when the file can't be written.
    """
    network = copy.deepcopy(model.network).to("cpu").eval()
    example = torch.zeros(1, network.channels, 4 * STRIDE, 5 * STRIDE)
    dynamic = {2: "height", 3: "width"}
    beside = path.with_suffix(".part")
    with warnings.catch_warnings(), torch.inference_mode():
        # The tracing exporter is deprecated but writes the plain graph that TensorRT's parser likes best; it also warns
        # of constants that it folds, which is what is wanted.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (example,),
            str(beside),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[PROBABILITY, SCORE],
            dynamic_axes={INPUT: dynamic, PROBABILITY: dynamic},
            do_constant_folding=True,
        )
    try:
        graph = onnx.load(str(beside))
        _state_shape(graph, SCORE, [1, network.classes])
        _state_shape(graph, PROBABILITY, [1, network.classes, "height", "width"])
        onnx.checker.check_model(graph, full_check=True)
        operators = tuple(sorted({node.op_type for node in graph.graph.node}))
        _refuse_other_contract(graph, operators)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ModelError) as error:
        beside.unlink(missing_ok=True)
        raise ModelError(f"the exported network is not usable: {error}; keep the running model") from error
    with beside.open("wb") as stream:
        stream.write(graph.SerializeToString(deterministic=True))
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return ExportedModel(path, digest.of_file(path), parameters, operators)


def _state_shape(graph: onnx.ModelProto, name: str, shape: list[int | str]) -> None:
    """Write an output's shape into the file: tracing forgets what it can't prove, engines want to know."""
    output = next(value for value in graph.graph.output if value.name == name)
    output.type.tensor_type.ClearField("shape")
    for size in shape:
        dimension = output.type.tensor_type.shape.dim.add()
        if isinstance(size, int):
            dimension.dim_value = size
        else:
            dimension.dim_param = size


def _refuse_other_contract(graph: onnx.ModelProto, operators: tuple[str, ...]) -> None:
    strange = set(operators) - PLAIN_OPERATORS
    if strange:
        raise ModelError(f"operators {', '.join(sorted(strange))} are not on the list of those every engine has")
    names = [value.name for value in graph.graph.input], [value.name for value in graph.graph.output]
    if names != ([INPUT], [PROBABILITY, SCORE]):
        raise ModelError(f"inputs and outputs are {names[0]} and {names[1]}")
