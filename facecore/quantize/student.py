"""The student: a network that computes as its integer twin will, and whose weights and scales can be trained."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from facecore.models import OnnxNetwork
from facecore.quantize.bits import Bits
from facecore.quantize.primitives import Affine, Symmetric, fake_activation, fake_weight, weight_scales
from facecore.quantize.ranges import RANGES, Observer, RangeSearch
from facecore.quantize.widths import MATRIX_OPERATORS, MOVES, activation_bits, weight_bits

# Pixels (p - 127.5) / 127.5 over [-1, 1] in 255 steps all lie half-way between two integers, where every runtime rounds
# its own way; over 254 steps none does.
OFF_TIES = 255 / 254
SEARCHED = 4  # batches on which the best part of a range is sought
SCALE_UNIT = 0.05  # of a scale's logarithm: a rate that moves a weight by one step changes a scale by 5 %


class Student:
    """A network with quantizers on its weights and tensors: first it observes ranges, then it computes with them.

    From `calibrate` on, the parameters of a Conv or Gemm weight are in steps of its output channels' scales, so that a
    training rate means the same in every channel of every network, at any number of bits. With the bits FLOAT it has
    no quantizers, is never calibrated, and can be trained as it is.
    """

    def __init__(self, model: onnx.ModelProto, bits: Bits, *, edges_8_bit: bool = False) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = OnnxNetwork(model).eval().to(self.device)
        self._bits_of: dict[str, int] = {}
        self._weight_bits: dict[str, int] = {}
        if not bits.is_float:
            self._bits_of = activation_bits(model.graph, bits.activations, edges_8_bit=edges_8_bit)
            self._weight_bits = weight_bits(model.graph, bits.weights, edges_8_bit=edges_8_bit)
        self._inputs = {  # what a bias is added to: a tensor times a weight
            node.inputs[2]: (node.inputs[0], node.inputs[1])
            for node in self.network.nodes
            if node.op in MATRIX_OPERATORS
        }
        self._moved = {node.output: node.inputs[0] for node in self.network.nodes if node.op in MOVES}
        self._zero_points: dict[str, int] = {}
        self._scales: dict[str, nn.Parameter] = {}  # logarithms, by tensor (1,) and by weight (channels,)

    # Calibration

    def calibrate(
        self,
        batches: Sequence[Tensor],
        *,
        ends: tuple[float, float] = (-1.0, 1.0),
        ranges: str = "mse",
        on_batch: Callable[[], object] = lambda: None,
    ) -> None:
        """Set the quantizers of every tensor and weight from batches of input (n, 3, size, size).

        `ends` is the input that pixels of 0 and 255 become, by default preprocessing unless given: the input's range
        whatever the batches hold. `ranges` names how those of all other tensors are found, from RANGES. `on_batch` is
        called after each batch of either pass.
        """
        found = {name: RANGES[ranges]() for name in self._bits_of if name != self.network.input}
        self._watch(batches, found, on_batch)
        quantizers = {name: Affine.over(range_.low, range_.high, self._bits_of[name]) for name, range_ in found.items()}
        if ranges == "mse":
            searches = {name: RangeSearch(of.low, of.high, self._bits_of[name]) for name, of in found.items()}
            self._watch(batches[:SEARCHED], searches, on_batch)
            quantizers = {name: search.best() for name, search in searches.items()}
        quantizers[self.network.input] = Affine.over(ends[0] * OFF_TIES, ends[1] * OFF_TIES, 8)
        self._zero_points = {name: quantizer.zero_point for name, quantizer in quantizers.items()}
        for name, quantizer in quantizers.items():
            self._scales[name] = self._learned(torch.tensor([quantizer.scale]))
        for name, bits in self._weight_bits.items():
            weight = self.network.weights[name]
            scales = weight_scales(weight, bits)
            self._scales[name] = self._learned(scales)
            weight.data /= scales.reshape(-1, *[1] * (weight.ndim - 1))
        self._hook()

    def _learned(self, scales: Tensor) -> nn.Parameter:
        return nn.Parameter(scales.to(self.device).log())

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

    # Computing as the integer model

    def _hook(self) -> None:
        self.network.on_activation = self._fake_activation
        self.network.on_weight = self._fake_weight
        self.network.on_bias = self._fake_bias

    def _fake_activation(self, name: str, values: Tensor) -> Tensor:
        if name not in self._zero_points:
            return values
        return fake_activation(values, self._scales[name].exp(), self._zero_points[name], self._bits_of[name])

    def _fake_weight(self, name: str, steps: Tensor) -> Tensor:
        return fake_weight(steps, self._scales[name].exp(), self._weight_bits[name])

    def _fake_bias(self, name: str, bias: Tensor) -> Tensor:
        """Round a bias to the steps of the integer accumulator, s_x s_w, which are coarse where the bits are few."""
        tensor, weight = self._inputs[name]
        while tensor in self._moved:
            tensor = self._moved[tensor]
        steps = (self._scales[weight].detach() + self._scales[tensor].detach()).exp()
        return bias + (torch.round(bias / steps) * steps - bias).detach()

    # What is trained, kept and written

    def parameters(self) -> list[tuple[nn.Parameter, float]]:
        """What is trained, each with its unit: what one step of a weight is worth in the parameter's own numbers.

        A step, for weights; for scales SCALE_UNIT; for all else, the step of its own values if rounded to 8 bits.
        """
        weights = [(self.network.weights[name], 1.0) for name in self._weight_bits]
        scales = [(scale, SCALE_UNIT) for name, scale in self._scales.items() if name != self.network.input]
        others = [
            (values, (float(values.detach().abs().max()) or 1.0) / 127)
            for name, values in self.network.weights.items()
            if name not in self._weight_bits
        ]
        return [*weights, *scales, *others]

    @property
    def quantizers(self) -> dict[str, Affine]:
        """The quantizer of every quantized tensor."""
        return {
            name: Affine(math.exp(float(self._scales[name].detach())), zero_point, self._bits_of[name])
            for name, zero_point in self._zero_points.items()
        }

    @property
    def weight_quantizers(self) -> dict[str, Symmetric]:
        """The quantizer of every weight of a Conv or Gemm."""
        return {
            name: Symmetric(self._scales[name].detach().exp().cpu(), bits) for name, bits in self._weight_bits.items()
        }

    def model(self) -> onnx.ModelProto:
        """The float graph with the values that the quantized weights stand for, and the other parameters as trained."""
        model = self.network.write_back()
        with torch.no_grad():
            rounded = {name: self._fake_weight(name, self.network.weights[name]) for name in self._weight_bits}
        for tensor in model.graph.initializer:
            if tensor.name in rounded:
                values = np.ascontiguousarray(rounded[tensor.name].cpu().numpy())
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return model

    def state(self) -> dict[str, Any]:
        """A copy of all that calibration and training have set."""
        return {
            "weights": {name: values.detach().clone() for name, values in self.network.weights.items()},
            "scales": {name: values.detach().clone() for name, values in self._scales.items()},
            "zero_points": dict(self._zero_points),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state, of this student or of another of the same network and bits."""
        self._zero_points = dict(state["zero_points"])
        for name, values in state["weights"].items():
            self.network.weights[name].data.copy_(values)
        for name, values in state["scales"].items():
            if name in self._scales:
                self._scales[name].data.copy_(values)
            else:
                self._scales[name] = nn.Parameter(values.to(self.device).clone())
        if self._scales:
            self._hook()
