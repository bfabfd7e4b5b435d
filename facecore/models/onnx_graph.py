"""An ONNX graph as plain nodes and numpy constants: read, checked, written."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from facecore.errors import ModelError
from facecore.models.onnx_operators import OPERATORS

IR_VERSION = 10  # read by onnxruntime from 1.18 on

# What each operator's inputs after the first are called; each must be a constant. Operators absent here take
# activations or constants at any place.
ROLES: dict[str, tuple[str, ...]] = {
    "BatchNormalization": ("scale", "bias", "mean", "var"),
    "Clip": ("min", "max"),
    "Conv": ("weight", "bias"),
    "Gemm": ("weight", "bias"),
    "PRelu": ("slope",),
    "Reshape": ("shape",),
}


@dataclass(frozen=True)
class Node:
    """One operator; an input left out is the empty string."""

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """A network from one tensor (n, 3, size, size) to one tensor (n, dimension); nodes are in order of computation."""

    input: str
    output: str
    size: int
    dimension: int
    opset: int
    nodes: list[Node]
    constants: dict[str, npt.NDArray[Any]]
    metadata: dict[str, str] = field(default_factory=dict)

    def uses(self) -> Counter[str]:
        """How often each tensor is read; being the graph's output counts."""
        return Counter([name for node in self.nodes for name in node.inputs] + [self.output])


def read_graph(model: onnx.ModelProto, *, output: str, size: int, dimension: int) -> Graph:
    """Nodes and constants of a model; raises ModelError if a node has several outputs that are used."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in constants]
    used = {name for node in model.graph.node for name in node.input} | {output}
    nodes = []
    for proto in model.graph.node:
        attributes = {attribute.name: _plain(helper.get_attribute_value(attribute)) for attribute in proto.attribute}
        if proto.op_type == "Constant":
            constants[proto.output[0]] = _constant(attributes)
            continue
        if any(name in used for name in proto.output[1:]):
            raise ModelError(f"operator {proto.op_type} has a second output that is used; facecore cannot train that")
        op = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
        nodes.append(Node(op, tuple(proto.input), proto.output[0], attributes))
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return pruned(Graph(inputs[0], output, size, dimension, opset, nodes, constants))


def pruned(graph: Graph) -> Graph:
    """The graph without the nodes and constants that its output does not depend on."""
    needed, nodes = {graph.output}, []
    for node in reversed(graph.nodes):
        if node.output in needed:
            nodes.append(node)
            needed.update(node.inputs)
    constants = {name: value for name, value in graph.constants.items() if name in needed}
    return replace(graph, nodes=nodes[::-1], constants=constants)


def check_supported(graph: Graph) -> None:
    """Raise ModelError unless `OnnxNetwork` can compute every node."""
    unknown = sorted({node.op for node in graph.nodes} - set(OPERATORS))
    if unknown:
        raise ModelError(
            f"facecore cannot train or quantize the operators {', '.join(unknown)}; it knows {', '.join(OPERATORS)}"
        )
    for node in graph.nodes:
        problem = _problem(graph, node)
        if problem:
            raise ModelError(f"facecore cannot train or quantize {node.op} {problem}; export the network without it")


def _problem(graph: Graph, node: Node) -> str:
    """What is beyond `OnnxNetwork` in a node whose operator it knows; empty if nothing is."""
    constants = [graph.constants.get(name) for name in node.inputs[1:] if name]
    if node.op in ROLES and any(value is None for value in constants):
        return "with computed parameters"
    if node.inputs[0] in graph.constants and node.op in ROLES:
        return "of a constant"
    if node.attributes.get("ceil_mode", 0):
        return "with ceil_mode"
    if node.op in ("AveragePool", "MaxPool") and len(node.attributes["kernel_shape"]) != 2:
        return "over other than two axes"
    if node.op == "AveragePool" and any(step != 1 for step in node.attributes.get("dilations", ())):
        return "with dilations"
    if node.op == "Conv" and graph.constants[node.inputs[1]].ndim != 4:
        return "over other than two axes"
    if node.op == "Flatten" and node.attributes.get("axis", 1) != 1:
        return "from another axis than 1"
    if node.op == "Gemm" and node.attributes != {"transB": 1}:
        return "that is not x times a constant matrix plus a constant vector"
    return ""


def write_graph(graph: Graph) -> onnx.ModelProto:
    """The model of a graph, checked by onnx; equal graphs give equal bytes."""
    given = helper.make_tensor_value_info(graph.input, TensorProto.FLOAT, ["n", 3, graph.size, graph.size])
    result = helper.make_tensor_value_info(graph.output, TensorProto.FLOAT, ["n", graph.dimension])
    nodes = [
        helper.make_node(node.op, node.inputs, [node.output], name=node.output, **node.attributes)
        for node in graph.nodes
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in graph.constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "network", [given], [result], constants),
        producer_name="facecore",
        opset_imports=[helper.make_opsetid("", graph.opset)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(model, graph.metadata)
    onnx.checker.check_model(model)
    return model


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _constant(attributes: dict[str, Any]) -> npt.NDArray[Any]:
    """The value of a Constant node, in any of its spellings."""
    ((name, value),) = attributes.items()
    if name == "value":
        return np.asarray(numpy_helper.to_array(value))
    if name in ("value_float", "value_floats"):
        return np.asarray(value, np.float32)
    if name in ("value_int", "value_ints"):
        return np.asarray(value, np.int64)
    raise ModelError(f"facecore cannot read a Constant given as {name}; export the network again")
