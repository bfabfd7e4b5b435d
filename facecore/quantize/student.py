"""The student: a network that computes as its integer twin will, and can be trained."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import onnx
import torch
from torch import Tensor

from facecore.errors import ModelError
from facecore.models import OnnxNetwork
from facecore.quantize.bits import Bits
from facecore.quantize.primitives import Affine, MovingRange, RangeSearch, fake_weight, weight_scales

MATRIX_OPERATORS = ("Conv", "Gemm")
# These move values about without changing them, so their output has the quantizer of their input.
MOVES = ("Flatten", "Reshape", "MaxPool", "Transpose", "Squeeze")
CLAMPS = ("Relu", "Clip")
# Pixels (p - 127.5) / 127.5 over [-1, 1] in 255 steps all lie half-way between two integers, where every runtime rounds
# its own way; over 254 steps none does.
OFF_TIES = 255 / 254
SEARCHED = 4  # batches on which the best part of a range is sought


class Observer(Protocol):
    """What looks at the values of a tensor."""

    def observe(self, values: Tensor) -> None:
        """Take one batch into account."""
        ...


def activation_bits(graph: onnx.GraphProto, bits: int) -> dict[str, int]:
    """The tensors that are quantized, each with its bits: the input, and what every operator puts out.

    What a ReLU or Clip alone will clamp is left out, since the integer range clamps it. What no convolution or matrix
    product reads, and the input, always have 8 bits: they are accumulators put back to a byte.
    """
    read_by: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input:
            read_by.setdefault(name, []).append(node.op_type)
    constants = {tensor.name for tensor in graph.initializer}
    found = {value.name: 8 for value in graph.input if value.name not in constants}
    for node in graph.node:
        readers = read_by.get(node.output[0], [])
        if node.op_type in MOVES or (readers and all(reader in CLAMPS for reader in readers)):
            continue
        feeds_matrix = _feeds_matrix(node.output[0], graph)
        found[node.output[0]] = bits if feeds_matrix else 8
    return found


def _feeds_matrix(name: str, graph: onnx.GraphProto) -> bool:
    for node in graph.node:
        if name in node.input:
            if node.op_type in MATRIX_OPERATORS:
                return True
            if node.op_type in MOVES and _feeds_matrix(node.output[0], graph):
                return True
    return False


class Student:
    """A network with quantizers on its weights and tensors: first it observes ranges, then it computes with them."""

    def __init__(self, model: onnx.ModelProto, bits: Bits) -> None:
        self.bits = bits
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = OnnxNetwork(model).eval().to(self.device)
        if not any(node.op in MATRIX_OPERATORS for node in self.network.nodes):
            raise ModelError("the network has no convolution or matrix product, so there is nothing to quantize")
        self._bits_of = activation_bits(model.graph, bits.activations)
        self._inputs = {  # what a bias is added to: a tensor times a weight
            node.inputs[2]: (node.inputs[0], node.inputs[1])
            for node in self.network.nodes
            if node.op in MATRIX_OPERATORS
        }
        self._moved = {node.output: node.inputs[0] for node in self.network.nodes if node.op in MOVES}
        self.quantizers: dict[str, Affine] = {}

    def calibrate(self, batches: Sequence[Tensor], *, on_batch: Callable[[], object] = lambda: None) -> None:
        """Set the quantizer of every tensor from batches of input (n, 3, size, size): the range, then its best part.

        The range is that of all batches; which part of it loses least is tried on the first SEARCHED. `on_batch` is
        called after each batch of either pass.
        """
        ranges = {name: MovingRange() for name in self._bits_of}
        self._watch(batches, ranges, on_batch)
        pixels = ranges.pop(self.network.input)  # whose range is known and full
        searches = {name: RangeSearch(found.low, found.high, self._bits_of[name]) for name, found in ranges.items()}
        self._watch(batches[:SEARCHED], searches, on_batch)
        self.quantizers = {name: search.best() for name, search in searches.items()}
        self.quantizers[self.network.input] = Affine.over(pixels.low * OFF_TIES, pixels.high * OFF_TIES, 8)
        self.network.on_activation = self._fake_activation
        self.network.on_weight = self._fake_weight
        self.network.on_bias = self._fake_bias

    def _watch(
        self, batches: Sequence[Tensor], observers: Mapping[str, Observer], on_batch: Callable[[], object]
    ) -> None:
        """Run the float network and show every tensor to the observer of its name."""

        def show(name: str, values: Tensor) -> Tensor:
            if name in observers:
                observers[name].observe(values)
            return values

        self.network.on_activation = show
        with torch.inference_mode():
            for batch in batches:
                self.network(batch.to(self.device))
                on_batch()

    def _fake_activation(self, name: str, values: Tensor) -> Tensor:
        quantizer = self.quantizers.get(name)
        return quantizer.fake(values) if quantizer else values

    def _fake_weight(self, name: str, weight: Tensor) -> Tensor:
        return fake_weight(weight, self.bits.weights)

    def _fake_bias(self, name: str, bias: Tensor) -> Tensor:
        """Round a bias to the steps of the integer accumulator, s_x s_w, which are coarse where the bits are few."""
        tensor, weight = self._inputs[name]
        while tensor in self._moved:
            tensor = self._moved[tensor]
        steps = weight_scales(self.network.weights[weight], self.bits.weights) * self.quantizers[tensor].scale
        return bias + (torch.round(bias / steps) * steps - bias).detach()
