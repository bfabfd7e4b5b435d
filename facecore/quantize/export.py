"""From a trained student to the integer model: the same graph, with QuantizeLinear and DequantizeLinear around it.

Written by hand with onnx.helper, since the graph that comes out is the graph that went in: every tensor keeps its name,
so that each layer can be compared with the student's, and no exporter stands between training and deployment.
Where an operator has no integer kernel it is spelled in operators that have one: see `_integer_prelu` and `_normalise`.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper

from facecore.quantize.counting import tensor_shapes
from facecore.quantize.primitives import LEAST_RANGE, Affine, Symmetric, highest_weight
from facecore.quantize.widths import CLAMPS, MATRIX_OPERATORS, MOVES

# An int32 bias must hold b / (s_x s_w); a dead channel's tiny s_w would overflow it.
LARGEST_BIAS = 1 << 30
# Channels that a group of a grouped convolution should have: onnxruntime multiplies group by group, and on two channels
# a group the 3 x 3 convolution of arcface_torch's MobileFaceNet took 17 of 25 ms; zeros fill a group up to these.
LEAST_GROUP = 16


def to_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """The float model written as the integer one is, PReLU included: what a fair comparison of speed runs."""
    return to_integer(model, {}, {})


def to_integer(
    model: onnx.ModelProto, quantizers: Mapping[str, Affine], weights: Mapping[str, Symmetric]
) -> onnx.ModelProto:
    """The QDQ form of a float model: int8 weights, int32 biases, and a quantizer for each tensor that has one.

    `quantizers` are those of tensors, `weights` those of the weights of every Conv and Gemm that reads a quantized one.
    Below 8 bits the integers are clamped to their range and stored in 8: the arithmetic is that of 8-bit kernels.
    """
    writer = _Writer(model, quantizers, weights)
    graph = helper.make_graph(
        writer.nodes, model.graph.name, list(model.graph.input), list(model.graph.output), writer.constants
    )
    integer = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    integer.producer_name = "facecore"
    onnx.checker.check_model(integer)
    return integer


class _Writer:
    """Builds the nodes and constants of the integer graph, node by node in the order of the float one."""

    def __init__(
        self, model: onnx.ModelProto, quantizers: Mapping[str, Affine], weights: Mapping[str, Symmetric]
    ) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._floats = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self._shapes = tensor_shapes(model)
        self._quantizers = dict(quantizers)
        self._weights = weights
        self._outputs = {value.name for value in model.graph.output}
        self._read_as: dict[str, str] = {}  # a tensor of the float graph -> its dequantized form
        self._written: set[str] = set()
        self._clamps: dict[str, tuple[float, float]] = {}  # a tensor that a Clip or Relu makes -> its limits
        for value in model.graph.input:
            if value.name in self._quantizers:
                self._quantize(value.name, value.name)
        for node in model.graph.node:
            if node.op_type in CLAMPS and node.output[0] in self._quantizers:
                self._clamps[node.output[0]] = self._limits(node)
            self._node(node)

    def _limits(self, node: onnx.NodeProto) -> tuple[float, float]:
        """Between which values a Clip or Relu holds its input."""
        if node.op_type == "Relu":
            return 0.0, math.inf
        low, high = [*node.input[1:], "", ""][:2]
        return self._floats[low].item() if low else -math.inf, self._floats[high].item() if high else math.inf

    def _node(self, node: onnx.NodeProto) -> None:
        name, source = str(node.output[0]), str(node.input[0])
        if node.op_type in MOVES and name not in self._outputs and source in self._quantizers:
            self._quantizers[name] = self._quantizers[source]  # moved values keep their quantizer
        quantized, given = name in self._quantizers, source in self._quantizers
        raw = f"{name}/float" if quantized else name
        if node.op_type in MATRIX_OPERATORS and given:
            self._matrix(node, raw)
        elif node.op_type == "BatchNormalization" and given and self._is_map(source):
            self._normalise(node, raw)
        elif node.op_type == "PRelu" and given and quantized and self._has_integer_prelu(node):
            return self._integer_prelu(node)
        elif node.op_type == "PRelu":
            self._prelu(node, raw)
        elif node.op_type in ("Identity", *CLAMPS) and quantized:
            raw = self._read(source)  # a clamp is one of integers, see `_bounds`
        else:
            self._add(node.op_type, [self._read(value) for value in node.input], raw, node)
        if quantized:
            self._quantize(raw, name)

    def _is_map(self, name: str) -> bool:
        """Whether a tensor is (n, channels, height, width)."""
        return len(self._shapes.get(name, ())) == 4

    def _matrix(self, node: onnx.NodeProto, output: str) -> None:
        weight, bias = self._floats[node.input[1]], self._floats[node.input[2]]
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        self._product(node, output, (weight, bias), self._weights[node.input[1]], attributes)

    def _normalise(self, node: onnx.NodeProto, output: str) -> None:
        """A BatchNormalization that no convolution could take up, as a convolution of each channel with one weight."""
        scale, bias, mean, var = (self._floats[name].astype(np.float64) for name in node.input[1:])
        epsilon = next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5)
        gain = scale / np.sqrt(var + epsilon)
        self._by_channel(node, output, gain, bias - mean * gain)

    def _has_integer_prelu(self, node: onnx.NodeProto) -> bool:
        slopes = self._floats[node.input[1]]
        return self._is_map(node.input[0]) and slopes.size == max(1, *slopes.shape[-3:-2]) and (slopes <= 1).all()

    def _integer_prelu(self, node: onnx.NodeProto) -> None:
        """PReLU as max(x, a x) of integers, both rounded to the steps of the result; a x is a convolution by channel.

        No runtime has an integer kernel that fuses for the operator itself.
        """
        name, source = str(node.output[0]), str(node.input[0])
        slopes = np.broadcast_to(self._floats[node.input[1]].reshape(-1), self._shapes[source][1])
        self._by_channel(node, f"{name}/float", slopes, None)
        scale, zero = self._steps(name)
        self._add("QuantizeLinear", [f"{name}/float", scale, zero], f"{name}/scaled")
        self._add("QuantizeLinear", [self._read(source), scale, zero], f"{name}/same")
        self._add("Max", [f"{name}/same", f"{name}/scaled"], f"{name}/integer")
        self._dequantize(name)

    def _by_channel(
        self,
        node: onnx.NodeProto,
        output: str,
        gain: npt.NDArray[np.floating],
        bias: npt.NDArray[np.floating] | None,
    ) -> None:
        """Each channel times its gain, which is exact: 127 of either sign, times a scale of its own."""
        weight = gain.astype(np.float32).reshape(-1, 1, 1, 1)
        scales = np.maximum(np.abs(weight).reshape(-1), LEAST_RANGE) / highest_weight(8)
        quantizer = Symmetric(torch.from_numpy(scales.astype(np.float32)), 8)
        self._product(node, output, (weight, bias), quantizer, {"group": len(weight), "kernel_shape": [1, 1]})

    def _product(
        self,
        node: onnx.NodeProto,
        output: str,
        constants: tuple[npt.NDArray[np.float32], npt.NDArray[np.floating] | None],
        quantizer: Symmetric,
        attributes: dict[str, Any],
    ) -> None:
        """The convolution or matrix product of a node's input with an integer weight, and a bias if there is one."""
        (weight, bias), highest = constants, quantizer.highest
        name, s_x = str(node.output[0]), self._quantizers[node.input[0]].scale
        scales = quantizer.scales.numpy()
        if bias is not None:
            least = (np.abs(bias.astype(np.float64)) / s_x / LARGEST_BIAS).astype(np.float32)
            scales = np.maximum(scales, least)
        shape = (-1, *[1] * (weight.ndim - 1))
        integers = np.clip(np.rint(weight * (1 / scales).reshape(shape)), -highest, highest).astype(np.int8)
        operator = "Gemm" if node.op_type == "Gemm" else "Conv"
        if operator == "Conv":
            integers, attributes["group"] = in_larger_groups(integers, attributes.get("group", 1))
        zeros = operator == "Gemm"  # which onnxruntime makes an integer one only with zero points, if all 0
        inputs = [self._read(node.input[0]), self._constants(f"{name}/weight", integers, scales, spelled_out=zeros)]
        if bias is not None:
            bias_scales = (scales * np.float32(s_x)).astype(np.float32)
            bias_integers = np.rint(bias / bias_scales.astype(np.float64)).astype(np.int32)
            inputs.append(self._constants(f"{name}/bias", bias_integers, bias_scales, spelled_out=zeros))
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))

    def _prelu(self, node: onnx.NodeProto, output: str) -> None:
        """PReLU without its operator, which is slow in floats too: max(x, a x), if a <= 1."""
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

    def _quantize(self, source: str, name: str) -> None:
        """Quantize `source` and let whoever reads `name` read the dequantized values."""
        self._add("QuantizeLinear", [source, *self._steps(name)], f"{name}/integer")
        self._dequantize(name)

    def _steps(self, name: str) -> tuple[str, str]:
        """The scale and the zero point of a tensor, as constants."""
        quantizer = self._quantizers[name]
        return (
            self._constant(f"{name}/scale", np.float32(quantizer.scale)),
            self._constant(f"{name}/zero_point", np.uint8(quantizer.zero_point)),
        )

    def _dequantize(self, name: str) -> None:
        """Clamp the integers of a tensor to its bounds, and dequantize them; an output keeps its name.

        Rounding keeps order, so that a Clip of values, which onnxruntime would compute in floats together with the
        convolution before it, is this clamp of the integers that they become.
        """
        integers, (lowest, highest) = f"{name}/integer", self._bounds(name)
        for operator, bound, needed in (("Max", lowest, lowest > 0), ("Min", highest, highest < 255)):
            if needed:
                limit = self._constant(f"{name}/{operator.lower()}", np.uint8(bound))
                self._add(operator, [integers, limit], f"{name}/{operator.lower()}/clamped")
                integers = f"{name}/{operator.lower()}/clamped"
        back = name if name in self._outputs else f"{name}/dequantized"
        self._add("DequantizeLinear", [integers, f"{name}/scale", f"{name}/zero_point"], back)
        self._read_as[name] = back

    def _bounds(self, name: str) -> tuple[int, int]:
        """The lowest and the highest integer that a tensor takes."""
        quantizer, limits = self._quantizers[name], self._clamps.get(name, (-math.inf, math.inf))
        low, high = (np.float32(limit) / np.float32(quantizer.scale) for limit in limits)
        lowest, highest = (np.clip(np.rint(edge) + quantizer.zero_point, 0, quantizer.highest) for edge in (low, high))
        return int(lowest), int(highest)

    def _constants(
        self, name: str, integers: npt.NDArray[np.integer], scales: npt.NDArray[np.float32], *, spelled_out: bool
    ) -> str:
        """A dequantized constant with a scale an output channel, and its zero points if `spelled_out`."""
        inputs = [self._constant(f"{name}/integer", integers), self._constant(f"{name}/scales", scales)]
        if spelled_out:
            inputs.append(self._constant(f"{name}/zero_points", np.zeros(len(scales), integers.dtype)))
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}/dequantized"], axis=0))
        return f"{name}/dequantized"

    def _constant(self, name: str, values: npt.ArrayLike) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values).reshape(np.shape(values)), name))
        self._written.add(name)
        return name

    def _add(self, operator: str, inputs: list[str], output: str, like: onnx.NodeProto | None = None) -> None:
        node = helper.make_node(operator, inputs, [output])
        if like is not None:
            node.name = output
            node.attribute.extend(like.attribute)
        self.nodes.append(node)


def in_larger_groups(weight: npt.NDArray[np.int8], groups: int) -> tuple[npt.NDArray[np.int8], int]:
    """The weight (out, in a group, h, w) of the same convolution in fewer groups, filled up with zeros, and how many.

    Left as they are: one group, and one channel a group, for which runtimes have kernels of their own.
    """
    out, inside = weight.shape[:2]
    together = next((n for n in range(1, groups) if groups % n == 0 and n * inside >= LEAST_GROUP), groups)
    if inside == 1 or together == 1:
        return weight, groups
    larger = np.zeros((out, together, inside, *weight.shape[2:]), weight.dtype)
    member = np.arange(out) // (out // groups) % together  # the place of each output's group among those put together
    larger[np.arange(out), member] = weight
    return larger.reshape(out, together * inside, *weight.shape[2:]), groups // together
