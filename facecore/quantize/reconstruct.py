"""What is left of a pruned network, made to compute what the same channels did before.

Layer by layer from the first, weights and bias become those of least squares from what the layer reads now to what it
made in the whole network, after He et al. 2017 (arXiv 1707.06168), with a ridge towards the weights that it had.
"""

from collections.abc import Callable

import onnx
import torch
from torch import Tensor

from facecore.models import OnnxNetwork
from facecore.models.onnx_graph import Node
from facecore.models.onnx_operators import OPERATORS, padded
from facecore.progress import progress
from facecore.quantize.prune import Pruned, prune

# Faces looked at, and of each the places of a convolution's output: some 6,000 to 12,000 equations for every channel.
# More of either changed the embeddings of MobileFaceNet less than a single step of training does.
FACES, PLACES = 192, 64
RIDGE = 0.03  # of the mean square of what a layer reads


def narrowed(model: onnx.ModelProto, sparsity: float, images: Tensor) -> onnx.ModelProto:
    """The network with this share of its parameters pruned, and what is left reconstructed; see both."""
    pruned = prune(model, sparsity)
    with progress(len(model.graph.node), "reconstruct", "layers") as bar:
        return reconstruct(model, pruned, images, on_layer=bar.update)


def reconstruct(
    model: onnx.ModelProto, pruned: Pruned, images: Tensor, *, on_layer: Callable[[], object] = lambda: None
) -> onnx.ModelProto:
    """The pruned network with weights that make up, as far as they can, for the channels it lost.

    `model` is what was pruned, `images` are input (n, 3, size, size), of which all activations of a layer must fit the
    memory. `on_layer` is called after each node. Dilated and grouped convolutions stay as they are.
    """
    whole, narrow = OnnxNetwork(model).eval(), OnnxNetwork(pruned.model).eval()
    there, here = {whole.input: images}, {narrow.input: images}
    drawn = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for twin, node, done in zip(whole.nodes, narrow.nodes, narrow.done_with, strict=True):
            there[node.output] = _computed(whole, twin, there)
            if _is_fitted(node, here[node.inputs[0]].shape[1], narrow):
                rows = pruned.rows.get(node.inputs[1])
                wanted = there[node.output] if rows is None else there[node.output][:, torch.from_numpy(rows)]
                _fit(narrow, node, here[node.inputs[0]], wanted, drawn)
            here[node.output] = _computed(narrow, node, here)
            for name in done:
                del there[name], here[name]
            on_layer()
    return narrow.write_back()


def _computed(network: OnnxNetwork, node: Node, values: dict[str, Tensor]) -> Tensor:
    inputs = [network.value(name, values) for name in node.inputs if name]
    return OPERATORS[node.op](inputs, node.attributes)


def _is_fitted(node: Node, channels: int, network: OnnxNetwork) -> bool:
    """Whether a node's weights are fitted: a Gemm, or a convolution of all channels or of one to one."""
    if node.op != "Conv":
        return node.op == "Gemm"
    group, made = node.attributes.get("group", 1), len(network.weights[node.inputs[1]])
    return (group == 1 or group == channels == made) and set(node.attributes.get("dilations", [1])) == {1}


def _fit(network: OnnxNetwork, node: Node, read: Tensor, wanted: Tensor, drawn: torch.Generator) -> None:
    """Set the weights and the bias of a node by what it reads and what it shall make."""
    weight, bias = (network.weights[name] for name in node.inputs[1:3])
    if node.op == "Gemm":
        patches, targets = read, wanted
    else:
        patches, targets = _places(read, wanted, weight, node, drawn)
    if node.attributes.get("group", 1) == 1:  # (1, equations, unknowns), (1, equations, channels)
        equations, results = patches.flatten(1)[None], targets[None]
    else:  # each channel for itself: (channels, equations, unknowns), (channels, equations, 1)
        equations, results = patches.flatten(2).transpose(0, 1), targets.T[:, :, None]
    before = weight.data.reshape(len(equations), -1, equations.shape[-1])
    solved, offset = least_squares(equations.double(), results.double(), before.double())
    weight.data.copy_(solved.reshape(weight.shape))
    bias.data.copy_(offset.flatten())


def _places(read: Tensor, wanted: Tensor, weight: Tensor, node: Node, drawn: torch.Generator) -> tuple[Tensor, Tensor]:
    """At some places of every face, what a convolution reads (n, channels, k, k) and what it shall make (n, channels).

    The places are drawn: evenly spaced ones would fall in step with what faces have in common.
    """
    kernel, strides = list(weight.shape[2:]), node.attributes.get("strides", [1, 1])
    windows = padded(read, kernel, node.attributes).unfold(2, kernel[0], strides[0]).unfold(3, kernel[1], strides[1])
    faces, height, width = len(read), *wanted.shape[2:]
    places = torch.rand(faces, height * width, generator=drawn).argsort(1)[:, :PLACES]
    at = torch.arange(faces)[:, None], places // width, places % width
    return windows[at[0], :, at[1], at[2]].flatten(0, 1), wanted[at[0], :, at[1], at[2]].flatten(0, 1)


def least_squares(x: Tensor, y: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """The weights (g, channels, unknowns) and offsets (g, channels) of y from x, with a ridge towards those before.

    x is (g, equations, unknowns), y (g, equations, channels). Solved in the smaller of equations and unknowns.
    """
    mean_x, mean_y = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
    x, y = x - mean_x, y - mean_y
    rest = y - x @ before.mT
    ridge = RIDGE * x.square().sum(1).mean(1)[:, None, None] + 1e-9  # 1e-9: of a layer that reads only zeros, too
    if x.shape[1] < x.shape[2]:
        change = x.mT @ torch.linalg.solve(x @ x.mT + ridge * torch.eye(x.shape[1], dtype=x.dtype), rest)
    else:
        change = torch.linalg.solve(x.mT @ x + ridge * torch.eye(x.shape[2], dtype=x.dtype), x.mT @ rest)
    weights = before + change.mT
    return weights, (mean_y - mean_x @ weights.mT).squeeze(1)
