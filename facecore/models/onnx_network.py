"""The trainable twin of an ONNX graph."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from facecore.models.onnx_graph import ROLES, Node, check_supported, read_graph
from facecore.models.onnx_operators import OPERATORS

# What is trained; the mean and variance of BatchNormalization stay as the network's own training left them.
TRAINED = {
    "BatchNormalization": ("scale", "bias"),
    "Conv": ("weight", "bias"),
    "Gemm": ("weight", "bias"),
    "PRelu": ("slope",),
}

Hook = Callable[[str, Tensor], Tensor]


def unchanged(name: str, values: Tensor) -> Tensor:
    """The hook that does nothing."""
    return values


class OnnxNetwork(nn.Module):
    """A graph from `load_onnx` as a torch module, whose parameters go by their ONNX names in `weights`.

    `on_activation` sees the graph's input and the output of every node, `on_weight` and `on_bias` the constants of
    every Conv and Gemm; each is called with the tensor's ONNX name and its values, and what it returns is used instead.
    Raises ModelError if the graph has what `load_onnx` would have refused.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        sides = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
        result = model.graph.output[0]
        graph = read_graph(
            model, output=result.name, size=sides[-1], dimension=result.type.tensor_type.shape.dim[-1].dim_value
        )
        check_supported(graph)
        self.input, self.output = graph.input, graph.output
        self.size, self.dimension = graph.size, graph.dimension
        self.weights = nn.ParameterDict()
        self.on_activation: Hook = unchanged
        self.on_weight: Hook = unchanged
        self.on_bias: Hook = unchanged
        self.nodes = [self._taken_in(node, graph.constants) for node in graph.nodes]
        self.done_with = _last_uses(self.nodes, graph.output)

    def _taken_in(self, node: Node, constants: dict[str, Any]) -> Node:
        """Make a node's constants parameters, buffers or, where torch wants plain numbers, attributes."""
        roles = ("", *ROLES[node.op]) if node.op in ROLES else ()
        if node.op in ("Clip", "Reshape"):
            numbers = {
                role: constants[name].tolist() for role, name in zip(roles[1:], node.inputs[1:], strict=False) if name
            }
            return Node(node.op, node.inputs[:1], node.output, {**node.attributes, **numbers})
        for place, name in enumerate(node.inputs):
            if name in constants:
                values = torch.from_numpy(np.array(constants[name]))
                if place and node.op in TRAINED and roles[place] in TRAINED[node.op]:
                    self.weights[name] = nn.Parameter(values)
                else:
                    self.register_buffer(_buffer_name(name), values)
        return node

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, size, size) to (n, dimension), not normalised."""
        # channels last all the way: the real MobileFaceNet then does 114 images per cpu-second forward instead of 50
        images = images.contiguous(memory_format=torch.channels_last)
        values = {self.input: self.on_activation(self.input, images)}
        for node, done in zip(self.nodes, self.done_with, strict=True):
            inputs = [self.value(name, values) for name in node.inputs if name]
            if node.op in ("Conv", "Gemm"):
                inputs[1] = self.on_weight(node.inputs[1], inputs[1])
                inputs[2] = self.on_bias(node.inputs[2], inputs[2])
            values[node.output] = self.on_activation(node.output, OPERATORS[node.op](inputs, node.attributes))
            for name in done:
                del values[name]
        return values[self.output]

    def value(self, name: str, values: Mapping[str, Tensor]) -> Tensor:
        """A tensor by its name: one of the values computed so far, a parameter or a constant."""
        if name in values:
            return values[name]
        return self.weights[name] if name in self.weights else self.get_buffer(_buffer_name(name))

    def write_back(self) -> onnx.ModelProto:
        """A copy of the graph with the parameters as they are now."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for tensor in model.graph.initializer:
            if tensor.name in self.weights:
                trained = self.weights[tensor.name].detach().cpu().numpy()
                tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(trained, np.float32), tensor.name))
        return model


def _buffer_name(name: str) -> str:
    return f"constant_{name}"  # a tensor may be called like an attribute of nn.Module


def _last_uses(nodes: list[Node], output: str) -> list[list[str]]:
    """The tensors that can go after each node, so that a batch does not hold every activation at once."""
    last = {name: place for place, node in enumerate(nodes) for name in node.inputs}
    made = {node.output for node in nodes} - {output}
    return [
        sorted({name for name in node.inputs if name in made and last[name] == place})
        for place, node in enumerate(nodes)
    ]
