"""What a network's BatchNorms remember of the faces that it was trained on, and how far other images are from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx import helper
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from facecore.errors import ModelError, OptionError
from facecore.images import Preprocess
from facecore.models import OnnxNetwork
from facecore.models.backbone import DEFAULT_SIZE
from facecore.models.onnx_backbone import read_onnx, recorded_preprocess
from facecore.models.onnx_normalise import normalised
from facecore.models.torch_backbone import best_device, check_architecture, load_checkpoint

FLOOR = 1e-3  # of a layer's mean variance, added to each channel's: a dead channel would outweigh all others
KEPT = "facecore_kept_"  # begins the names of the tensors in front of a BatchNormalization


@dataclass(frozen=True)
class Statistics:
    """The running mean and deviation of a BatchNorm's input, a channel each."""

    mean: Tensor  # (channels,)
    deviation: Tensor  # (channels,)

    @classmethod
    def of(cls, mean: Tensor, variance: Tensor) -> "Statistics":
        """Those of running statistics as a network stores them."""
        return cls(mean.detach(), (variance + FLOOR * variance.mean() + 1e-12).sqrt().detach())

    def distance(self, values: Tensor) -> Tensor:
        """How far a batch's own mean and deviation are from these, in deviations: squares, a mean over channels."""
        mean, deviation = _moments(values)
        return (((mean - self.mean) / self.deviation) ** 2 + (deviation / self.deviation - 1) ** 2).mean()


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and deviation of each channel of (n, channels) or (n, channels, height, width)."""
    axes = [axis for axis in range(values.ndim) if axis != 1]
    variance, mean = torch.var_mean(values, axes, correction=0)
    return mean, (variance + 1e-8).sqrt()


class Remembering:
    """A network that is listened to at every BatchNorm, its parameters fixed."""

    def __init__(
        self, network: nn.Module, size: int, expected: Sequence[Statistics], preprocess: Preprocess | None = None
    ) -> None:
        self.size, self.preprocess = size, preprocess
        self._network, self._expected = network.requires_grad_(False), expected
        self._distances: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._expected)

    def hear(self, number: int, values: Tensor) -> None:
        """Take in the input of the BatchNorm of this number."""
        self._distances.append(self._expected[number].distance(values))

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Input (n, 3, size, size) to embeddings (n, d) and the mean distance over all BatchNorms."""
        self._distances = []
        embeddings = self._network(images)
        return embeddings, torch.stack(self._distances).mean()


def load_remembering(path: Path, *, arch: str | None) -> Remembering:
    """The network of an ONNX file with BatchNormalization nodes, or of an arcface_torch checkpoint.

    Raises ModelError if the file is neither, or if BatchNorm was folded into the weights, which forgets the statistics;
    OptionError if `arch` is missing or in vain.
    """
    suffix = path.suffix.lower()
    if suffix not in LOADERS:
        raise ModelError(f"{path} does not end in {', '.join(LOADERS)}; statistics are read from these formats only")
    if not path.is_file():
        raise ModelError(f"no model at {path}; facecore downloads none, name a file that is there")
    return LOADERS[suffix](path, arch)


def _of_checkpoint(path: Path, arch: str | None) -> Remembering:
    network = load_checkpoint(path, check_architecture(path, arch)).to(best_device())
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    expected = [Statistics.of(*_running(layer)) for layer in layers]
    remembering = Remembering(network, DEFAULT_SIZE, expected)

    def listener(number: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: remembering.hear(number, inputs[0])

    for number, layer in enumerate(layers):
        layer.register_forward_pre_hook(listener(number))
    return remembering


def _running(layer: _BatchNorm) -> tuple[Tensor, Tensor]:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return layer.running_mean, layer.running_var


def _of_graph(path: Path, arch: str | None) -> Remembering:
    if arch is not None:
        raise OptionError(f"{path} holds its own network; leave out --arch, which is for .pt and .pth")
    model = read_onnx(path)
    if not any(node.op_type == "BatchNormalization" for node in model.graph.node):
        raise ModelError(
            f"{path} has no BatchNormalization: it was folded into the weights, which forgets the statistics that "
            "images are made from; name the checkpoint, or an ONNX file that kept these nodes"
        )
    network = OnnxNetwork(normalised(_kept_apart(model), path)).eval().to(best_device())
    layers = [node for node in network.nodes if node.op == "BatchNormalization"]
    expected = [
        Statistics.of(*(network.get_buffer(f"constant_{name}") for name in layer.inputs[3:5])) for layer in layers
    ]
    remembering = Remembering(network, network.size, expected, recorded_preprocess(model, path))
    numbers = {layer.inputs[0]: number for number, layer in enumerate(layers)}

    def listen(name: str, values: Tensor) -> Tensor:
        if name in numbers:
            remembering.hear(numbers[name], values)
        return values

    network.on_activation = listen
    return remembering


def _kept_apart(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with a Clip without bounds, which gives what it takes, in front of each BatchNormalization.

    Behind a Conv or Gemm, `normalised` would fold it into their weights.
    """
    apart = onnx.ModelProto()
    apart.CopyFrom(model)
    nodes = []
    for node in model.graph.node:
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        if node.op_type == "BatchNormalization":
            kept = KEPT + node.output[0]
            nodes.append(helper.make_node("Clip", [node.input[0]], [kept]))
            copied.input[0] = kept
        nodes.append(copied)
    del apart.graph.node[:]
    apart.graph.node.extend(nodes)
    return apart


LOADERS: dict[str, Callable[[Path, str | None], Remembering]] = {
    ".onnx": _of_graph,
    ".pt": _of_checkpoint,
    ".pth": _of_checkpoint,
}
