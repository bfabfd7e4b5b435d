"""From a trained student to the integer model: the same graph, with QuantizeLinear and DequantizeLinear around it.

Written by hand with onnx.helper, since the graph that comes out is the graph that went in: every tensor keeps its name,
so that each layer can be compared with the student's, and no exporter stands between training and deployment.
"""

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper

from facecore.quantize.bits import Bits
from facecore.quantize.primitives import Affine, weight_scales
from facecore.quantize.student import MATRIX_OPERATORS, MOVES

# An int32 bias must hold b / (s_x s_w); a dead channel's tiny s_w would overflow it.
LARGEST_BIAS = 1 << 30


def to_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """The float model written as the integer one is, PReLU included: what a fair comparison of speed runs."""
    return to_integer(model, {}, Bits())


def to_integer(model: onnx.ModelProto, quantizers: dict[str, Affine], bits: Bits) -> onnx.ModelProto:
    """The QDQ form of a float model: int8 weights, int32 biases, and a quantizer for each tensor that has one.

    Below 8 bits the integers are clamped to their range and stored in 8: the arithmetic is that of 8-bit kernels.
    """
    writer = _Writer(model.graph, quantizers, bits)
    graph = helper.make_graph(
        writer.nodes, model.graph.name, list(model.graph.input), list(model.graph.output), writer.constants
    )
    integer = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    integer.producer_name = "facecore"
    onnx.checker.check_model(integer)
    return integer


class _Writer:
    """Builds the nodes and constants of the integer graph, node by node in the order of the float one."""

    def __init__(self, graph: onnx.GraphProto, quantizers: dict[str, Affine], bits: Bits) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._floats = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._quantizers = dict(quantizers)
        self._bits = bits
        self._outputs = {value.name for value in graph.output}
        self._read_as: dict[str, str] = {}  # a tensor of the float graph -> its dequantized form
        self._written: set[str] = set()
        for value in graph.input:
            if value.name not in self._floats:
                self._round_trip(value.name, value.name)
        for node in graph.node:
            self._node(node)

    def _node(self, node: onnx.NodeProto) -> None:
        name = node.output[0]
        if node.op_type in MOVES and name not in self._outputs and node.input[0] in self._quantizers:
            self._quantizers[name] = self._quantizers[node.input[0]]  # moved values keep their quantizer
        quantized = name in self._quantizers
        raw = f"{name}/float" if quantized else name
        if node.op_type in MATRIX_OPERATORS and node.input[0] in self._quantizers:
            self._matrix(node, raw)
        elif node.op_type == "PRelu":
            self._prelu(node, raw)
        else:
            self._add(node.op_type, [self._read(value) for value in node.input], raw, node)
        if quantized:
            self._round_trip(raw, name)

    def _matrix(self, node: onnx.NodeProto, output: str) -> None:
        name = str(node.output[0])
        weight, bias = self._floats[node.input[1]], self._floats[node.input[2]]
        s_x = self._quantizers[node.input[0]].scale
        least = (np.abs(bias.astype(np.float64)) / s_x / LARGEST_BIAS).astype(np.float32)
        highest = (1 << (self._bits.weights - 1)) - 1
        scales = np.maximum(weight_scales(torch.tensor(weight), self._bits.weights).numpy(), least)
        shape = (-1, *[1] * (weight.ndim - 1))
        integers = np.clip(np.rint(weight * (1 / scales).reshape(shape)), -highest, highest).astype(np.int8)
        bias_scales = (scales * np.float32(s_x)).astype(np.float32)
        bias_integers = np.rint(bias / bias_scales.astype(np.float64)).astype(np.int32)
        zeros = node.op_type == "Gemm"  # which onnxruntime makes an integer one only with zero points, if all 0
        inputs = [
            self._read(node.input[0]),
            self._dequantized(f"{name}/weight", integers, scales, spelled_out=zeros),
            self._dequantized(f"{name}/bias", bias_integers, bias_scales, spelled_out=zeros),
        ]
        self._add(node.op_type, inputs, output, node)

    def _prelu(self, node: onnx.NodeProto, output: str) -> None:
        """PReLU without its operator, for which no runtime has an integer kernel that fuses: max(x, a x), if a <= 1."""
        x, slope = self._read(node.input[0]), self._floats[node.input[1]]
        if (slope <= 1).all():
            self._add("Mul", [x, self._constant(f"{output}/slope", slope)], f"{output}/scaled")
            self._add("Max", [x, f"{output}/scaled"], output)
        else:
            zero = self._constant(f"{output}/zero", np.zeros((), np.float32))
            self._add("Relu", [x], f"{output}/positive")
            self._add("Min", [x, zero], f"{output}/negative")
            self._add("Mul", [f"{output}/negative", self._constant(f"{output}/slope", slope)], f"{output}/scaled")
            self._add("Add", [f"{output}/positive", f"{output}/scaled"], output)

    def _read(self, name: str) -> str:
        if name in self._floats and name not in self._written:
            self._constant(name, self._floats[name])
        return self._read_as.get(name, name)

    def _round_trip(self, source: str, name: str) -> None:
        """Quantize `source` and let whoever reads `name` read the dequantized values; an output keeps its name."""
        quantizer = self._quantizers.get(name)
        if quantizer is None:
            return
        scale = self._constant(f"{name}/scale", np.float32(quantizer.scale))
        zero = self._constant(f"{name}/zero_point", np.uint8(quantizer.zero_point))
        self._add("QuantizeLinear", [source, scale, zero], f"{name}/integer")
        integers = f"{name}/integer"
        if quantizer.bits < 8:
            highest = self._constant(f"{name}/highest", np.uint8(quantizer.highest))
            self._add("Min", [integers, highest], f"{name}/clamped")
            integers = f"{name}/clamped"
        back = name if name in self._outputs else f"{name}/dequantized"
        self._add("DequantizeLinear", [integers, scale, zero], back)
        self._read_as[name] = back

    def _dequantized(
        self, name: str, integers: npt.NDArray[np.integer], scales: npt.NDArray[np.float32], *, spelled_out: bool
    ) -> str:
        inputs = [self._constant(f"{name}/integer", integers), self._constant(f"{name}/scales", scales)]
        if spelled_out:
            inputs.append(self._constant(f"{name}/zero_points", np.zeros(len(scales), integers.dtype)))
        node = helper.make_node("DequantizeLinear", inputs, [f"{name}/dequantized"], axis=0)
        self.nodes.append(node)
        return str(node.output[0])

    def _constant(self, name: str, values: npt.ArrayLike) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values).reshape(np.shape(values)), name))
        self._written.add(name)
        return name

    def _add(self, operator: str, inputs: list[str], output: str, like: onnx.NodeProto | None = None) -> None:
        node = helper.make_node(operator, inputs, [output], name=output)
        if like is not None:
            node.attribute.extend(like.attribute)
        self.nodes.append(node)
