"""The same network with even channels: where a tensor has one scale, its small channels would have few steps.

Cross-layer equalisation (Nagel et al. 2019, arXiv 1906.04721), but only where it costs nothing: in front of a depthwise
convolution, whose weights have a scale for every channel anyway. In front of a dense one it would coarsen the weights:
in the real MobileFaceNet at w8a8 that cost more (0.0017 of the cosine) than the activations gained (0.0002).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from facecore.models import OnnxNetwork
from facecore.models.onnx_graph import Node
from facecore.quantize.widths import activation_bits

# f(s x) = s f(x) for s > 0, channel by channel; a Clip from 0 does so below its upper bound.
HOMOGENEOUS = ("Clip", "LeakyRelu", "PRelu", "Relu")
MADE_BY_WEIGHTS = ("BatchNormalization", "Conv", "Gemm")
MARGIN = 1.25  # how far above its largest value in calibration a channel may go before a Clip meets it
LARGEST_FACTOR = 100.0  # a channel all but dead stays small

Factors = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Chain:
    """A depthwise convolution, the node whose output it reads, and the tensors between them."""

    maker: Node
    tensors: tuple[str, ...]
    reader: Node
    bound: float  # at which a Clip in between ends a channel; infinite without


def equalise(
    model: onnx.ModelProto, batches: Sequence[Tensor], *, on_batch: Callable[[], object] = lambda: None
) -> onnx.ModelProto:
    """Scale the channels in front of each depthwise convolution to fill their tensor's range, and its weights back.

    The function stays the same for every face whose channels stay below MARGIN times the largest of these batches of
    input (n, 3, size, size); above that, a Clip may come earlier. `on_batch` is called after each batch.
    """
    network = OnnxNetwork(model).eval()
    chains = _chains(network)
    if not chains:
        return model
    quantized = activation_bits(model.graph, 8).keys()
    largest = _largest(network, batches, {name for chain in chains for name in chain.tensors} & quantized, on_batch)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in result.graph.initializer}
    for chain in chains:
        factors = _factors(chain, largest)
        for name in chain.maker.inputs[1:3]:
            _multiply(constants[name], factors)
        _multiply(constants[chain.reader.inputs[1]], 1 / factors)
    return result


def _chains(network: OnnxNetwork) -> list[_Chain]:
    makers = {node.output: node for node in network.nodes}
    uses = [name for node in network.nodes for name in node.inputs] + [network.output]
    found = []
    for reader in network.nodes:
        if reader.op != "Conv" or len(network.weights[reader.inputs[1]]) != reader.attributes.get("group", 1):
            continue
        tensors, bound = [reader.inputs[0]], np.inf
        while uses.count(tensors[-1]) == 1 and tensors[-1] in makers and makers[tensors[-1]].op in HOMOGENEOUS:
            node = makers[tensors[-1]]
            if node.op == "Clip":
                bound = min(bound, node.attributes.get("max", np.inf)) if node.attributes.get("min") == 0 else 0
            tensors.append(node.inputs[0])
        maker = makers.get(tensors[-1])
        if maker and maker.op in MADE_BY_WEIGHTS and bound > 0 and all(uses.count(name) == 1 for name in tensors):
            found.append(_Chain(maker, tuple(tensors), reader, bound))
    return found


def _largest(
    network: OnnxNetwork, batches: Sequence[Tensor], names: set[str], on_batch: Callable[[], object]
) -> dict[str, Factors]:
    """The largest absolute value in each channel of each tensor."""
    found: dict[str, Factors] = {}

    def show(name: str, values: Tensor) -> Tensor:
        if name in names:
            largest = values.abs().amax((0, 2, 3)).double().numpy()
            found[name] = np.maximum(found.get(name, 0), largest)
        return values

    network.on_activation = show
    with torch.inference_mode():
        for batch in batches:
            network(batch)
            on_batch()
    return found


def _factors(chain: _Chain, largest: dict[str, Factors]) -> Factors:
    """What each channel is multiplied by, at least 1: then it fills as much of the range as the largest one does."""
    shares = [
        largest[name] * MARGIN / min(chain.bound, float(largest[name].max()) * MARGIN) if largest[name].any() else 1.0
        for name in chain.tensors
        if name in largest
    ]
    share = np.max(np.broadcast_arrays(*shares), axis=0)
    return np.asarray(1 / np.clip(np.where(share > 0, share, 1), 1 / LARGEST_FACTOR, 1))


def _multiply(constant: onnx.TensorProto, factors: Factors) -> None:
    """Multiply each row of a constant, a channel, by its factor."""
    values = numpy_helper.to_array(constant)
    scaled = values * factors.reshape(-1, *[1] * (values.ndim - 1))
    constant.CopyFrom(numpy_helper.from_array(scaled.astype(values.dtype), constant.name))
