"""A narrower network: whole channels taken out, those of least weight, from every tensor that they run through.

Channels that an operator passes on one by one belong together, through depthwise convolutions, PReLU and residual sums:
of such a bundle the same places go everywhere, so that what is left is a plain network again.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from facecore.errors import OptionError
from facecore.quantize.counting import Shape, tensor_shapes

# These give a channel from the same channel of everything they take.
BY_CHANNEL = (
    *("Add", "AveragePool", "BatchNormalization", "Clip", "Div", "Flatten", "GlobalAveragePool", "HardSigmoid"),
    *("HardSwish", "Identity", "LeakyRelu", "MaxPool", "Mul", "PRelu", "Relu", "Sigmoid", "Sub"),
)
Arrays = dict[str, npt.NDArray[np.float32]]
Place = tuple[str, int, int]
Rows = npt.NDArray[np.int64]
FINEST = 1024  # shares of the channels that are tried: 1/1024, 2/1024, ...
# Kernels work on 16 channels at a time: MobileFaceNet with 0.43 of its parameters took 1.4 ms a face in integers with
# multiples of 16, 2.1 ms with any number, and 2.3 ms with all. Narrower bundles go by single channels.
STEP, WIDE = 16, 64


@dataclass
class _Bundle:
    """Channels that can only go together."""

    channels: int = 0
    fixed: bool = False  # whether the network would be another without them, or we cannot tell
    # (constant, axis, entries of that axis a channel) of what makes, passes on and reads the channels
    makers: list[Place] = field(default_factory=list)
    between: list[Place] = field(default_factory=list)
    readers: list[Place] = field(default_factory=list)

    @property
    def step(self) -> int:
        """How many channels go at a time."""
        return STEP if self.channels >= WIDE else 1

    def share(self, share: float) -> int:
        """The least number of whole steps that is at least this share of the channels, and one step."""
        return min(self.channels, self.step * max(1, math.ceil(share * self.channels / self.step)))

    def places(self) -> list[Place]:
        """All of them."""
        return [*self.makers, *self.between, *self.readers]

    def fits(self, values: Arrays) -> bool:
        """Whether all agree on the number of channels, as they do unless one is spread over the others."""
        return all(values[name].shape[axis] == each * self.channels for name, axis, each in self.places())


class Pruned(NamedTuple):
    """A narrower network, and by the name of a weight which of its output channels were kept, ascending."""

    model: onnx.ModelProto
    rows: Mapping[str, Rows]


def prune(model: onnx.ModelProto, sparsity: float) -> Pruned:
    """The network of `load_onnx` with at least this share of its parameters taken out, by whole channels.

    Every bundle of channels keeps the same share of them, rounded up to whole steps, the largest that suffices; some
    keep a step more as far as that does. Those stay that have the largest product of what makes a channel and what
    reads it, each a sum of squares: a channel that either is zero for goes first, and changes nothing.
    Raises OptionError unless 0 <= sparsity < 1, or if so much cannot be taken out.
    """
    if not 0 <= sparsity < 1:
        raise OptionError(f"sparsity is the fraction of the parameters to take out, in [0, 1); got {sparsity:g}")
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    bundles = _bundles(model, values)
    counts = _counts(bundles, values, (1 - sparsity) * sum(array.size for array in values.values()))
    if counts is None:
        least = _parameters(values, bundles, [bundle.share(0) for bundle in bundles])
        most = 1 - least / sum(array.size for array in values.values())
        raise OptionError(f"sparsity {sparsity:g} is more than this network can lose; at most {most:.3f}")
    rows: dict[str, Rows] = {}
    for bundle, count in zip(bundles, counts, strict=True):
        kept = _strongest(bundle, values, count)
        rows |= {name: kept for name, axis, _ in (*bundle.makers, *bundle.between) if axis == 0}
        for name, axis, each in bundle.places():
            places = (kept[:, None] * each + np.arange(each)).reshape(-1)
            values[name] = values[name].take(places, axis)
    return Pruned(_rewritten(model, values), rows)


def _bundles(model: onnx.ModelProto, values: Arrays) -> list[_Bundle]:
    """The bundles of which channels may go, with all constants that have an axis of theirs."""
    shapes = tensor_shapes(model)
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    for node in model.graph.node:
        if node.op_type in BY_CHANNEL or _is_depthwise(node, shapes):
            for name in node.input:
                if name not in values:
                    leader[find(name)] = find(node.output[0])
    bundles: dict[str, _Bundle] = {}
    for value in (*model.graph.input, *model.graph.output):
        bundles.setdefault(find(value.name), _Bundle()).fixed = True
    for node in model.graph.node:
        given = bundles.setdefault(find(node.input[0]), _Bundle())
        made = bundles.setdefault(find(node.output[0]), _Bundle())
        _take_in(node, given, made, shapes, values)
    return [bundle for bundle in bundles.values() if not bundle.fixed and bundle.readers and bundle.fits(values)]


def _take_in(
    node: onnx.NodeProto,
    given: _Bundle,
    made: _Bundle,
    shapes: dict[str, Shape],
    values: Arrays,
) -> None:
    """Add a node's constants to the bundles at its ends, or fix these where channels do not pass one by one."""
    constants = [name for name in node.input[1:] if name in values]
    if _is_depthwise(node, shapes) or node.op_type in ("BatchNormalization", "PRelu"):
        # a slope a channel is (channels, 1, 1), or (1, channels, 1, 1)
        made.between += [(name, int(np.argmax(values[name].shape)), 1) for name in constants if values[name].size > 1]
    elif node.op_type in ("Conv", "Gemm") and _groups(node) == 1:
        weight = constants[0]
        made.channels = shapes[node.output[0]][1]
        made.makers += [(name, 0, 1) for name in constants]
        given.readers.append((weight, 1, values[weight].shape[1] // max(1, given.channels)))
    elif node.op_type not in BY_CHANNEL or (node.op_type in ("Add", "Div", "Mul", "Sub") and constants):
        given.fixed = made.fixed = True


def _is_depthwise(node: onnx.NodeProto, shapes: dict[str, Shape]) -> bool:
    return node.op_type == "Conv" and 1 < _groups(node) == shapes[node.input[0]][1] == shapes[node.output[0]][1]


def _groups(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


def _counts(bundles: list[_Bundle], values: Arrays, wanted: float) -> list[int] | None:
    """How many channels each bundle keeps, so that at most this many parameters are left; None if there is no way."""
    shares = ([bundle.share(n / FINEST) for bundle in bundles] for n in range(FINEST, 0, -1))
    counts = next((counts for counts in shares if _parameters(values, bundles, counts) <= wanted), None)
    for place, bundle in enumerate(bundles if counts else []):
        assert counts
        more = [*counts[:place], min(bundle.channels, counts[place] + bundle.step), *counts[place + 1 :]]
        counts = more if _parameters(values, bundles, more) <= wanted else counts
    return counts


def _parameters(values: Arrays, bundles: list[_Bundle], counts: list[int]) -> int:
    """How many parameters are left when the bundles keep this many channels."""
    sides = {name: list(array.shape) for name, array in values.items()}
    for bundle, count in zip(bundles, counts, strict=True):
        for name, axis, each in bundle.places():
            sides[name][axis] = each * count
    return sum(math.prod(shape) for shape in sides.values())


def _strongest(bundle: _Bundle, values: Arrays, count: int) -> Rows:
    """The places of the channels to keep, ascending; a tie goes to the earlier channel."""
    strength = np.ones(bundle.channels)
    for part in (bundle.makers, bundle.between, bundle.readers):
        total = np.zeros(bundle.channels)
        for name, axis, each in part:
            if values[name].ndim in (2, 4):  # weights: a bias or a slope carries nothing by itself
                rows = np.moveaxis(values[name].astype(np.float64), axis, 0).reshape(bundle.channels, each, -1)
                total += np.square(rows).sum((1, 2))
        strength *= total if part and total.any() else 1
    return np.sort(np.argsort(-strength, kind="stable")[:count])


def _rewritten(model: onnx.ModelProto, values: Arrays) -> onnx.ModelProto:
    """The model with these constants, and its depthwise convolutions in as many groups as channels are left."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    shapes = tensor_shapes(model)
    for tensor in result.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
    for node in result.graph.node:
        if _is_depthwise(node, shapes):
            for attribute in node.attribute:
                if attribute.name == "group":
                    attribute.CopyFrom(helper.make_attribute("group", len(values[node.input[1]])))
    onnx.checker.check_model(result, full_check=True)
    return result
