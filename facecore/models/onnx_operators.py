"""The ONNX operators that facecore can train and quantize, as torch functions: a literal table."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Attributes = Mapping[str, Any]
Operator = Callable[[Sequence[Tensor], Attributes], Tensor]


def _conv(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    x, weight, bias = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    before, after = _pads(x, list(weight.shape[2:]), attributes)
    if before != after:
        x, before = _padded(x, before, after, 0.0), [0, 0]
    return F.conv2d(x, weight, bias, strides, before, dilations, attributes.get("group", 1))


def _gemm(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    return F.linear(*inputs)  # a normalised Gemm is x weight' + bias, see onnx_normalise


def _batch_norm(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    x, scale, bias, mean, var = inputs
    return F.batch_norm(x, mean, var, scale, bias, training=False, eps=attributes.get("epsilon", 1e-5))


def _prelu(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    x, slope = inputs
    done: Tensor = _PRelu.apply(x, slope.reshape((1,) * (x.ndim - slope.ndim) + tuple(slope.shape)))  # type: ignore[no-untyped-call]
    return done


class _PRelu(torch.autograd.Function):
    """PReLU with a slope that broadcasts; its gradient takes a third of the time of torch's, which goes by value."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        if slope.numel() == slope.shape[1]:  # one slope a channel, or one in all: torch has a kernel for that
            return F.prelu(x, slope.reshape(-1))
        return torch.where(x >= 0, x, slope * x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        above: Tensor = torch.ops.aten.threshold_backward(gradient, x, 0)
        below = gradient - above
        return above.addcmul_(below, slope), (below * x).sum_to_size(slope.shape)


def _clip(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    # torch.clamp gives the same, but its gradient takes three passes over the activations instead of one
    return F.hardtanh(inputs[0], attributes.get("min", -torch.inf), attributes.get("max", torch.inf))


def _reshape(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    x = inputs[0]
    return x.reshape([x.shape[axis] if side == 0 else side for axis, side in enumerate(attributes["shape"])])


def _average_pool(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    x = inputs[0]
    kernel, strides = attributes["kernel_shape"], attributes.get("strides", [1, 1])
    before, after = _pads(x, kernel, attributes)
    total = F.avg_pool2d(_padded(x, before, after, 0.0), kernel, strides)
    if attributes.get("count_include_pad", 0) or not any(before + after):
        return total
    share = F.avg_pool2d(_padded(torch.ones_like(x[:1, :1]), before, after, 0.0), kernel, strides)
    return total / share  # the mean over the pixels that are there


def _max_pool(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    x = inputs[0]
    kernel, strides = attributes["kernel_shape"], attributes.get("strides", [1, 1])
    padded = _padded(x, *_pads(x, kernel, attributes), -torch.inf)
    pooled: Tensor = F.max_pool2d(padded, kernel, strides, 0, attributes.get("dilations", [1, 1]))
    return pooled


def _hard_sigmoid(inputs: Sequence[Tensor], attributes: Attributes) -> Tensor:
    line: Tensor = inputs[0] * attributes.get("alpha", 0.2) + attributes.get("beta", 0.5)
    return line.clamp(0, 1)


OPERATORS: dict[str, Operator] = {
    "Add": lambda inputs, _: inputs[0] + inputs[1],
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Conv": _conv,
    "Div": lambda inputs, _: inputs[0] / inputs[1],
    "Flatten": lambda inputs, _: inputs[0].flatten(1),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda inputs, _: inputs[0].mean((2, 3), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda inputs, _: F.hardswish(inputs[0]),
    "Identity": lambda inputs, _: inputs[0],
    "LeakyRelu": lambda inputs, attributes: F.leaky_relu(inputs[0], attributes.get("alpha", 0.01)),
    "MaxPool": _max_pool,
    "Mul": lambda inputs, _: inputs[0] * inputs[1],
    "PRelu": _prelu,
    "Relu": lambda inputs, _: inputs[0].relu(),
    "Reshape": _reshape,
    "Sigmoid": lambda inputs, _: inputs[0].sigmoid(),
    "Sub": lambda inputs, _: inputs[0] - inputs[1],
}


def _pads(x: Tensor, kernel: Sequence[int], attributes: Attributes) -> tuple[list[int], list[int]]:
    """The padding before and after each of the two axes."""
    auto = attributes.get("auto_pad", "NOTSET")
    if auto == "NOTSET":
        pads = attributes.get("pads", [0, 0, 0, 0])
        return list(pads[:2]), list(pads[2:])
    if auto == "VALID":
        return [0, 0], [0, 0]
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    total = [
        max(0, (-(-side // stride) - 1) * stride + (size - 1) * dilation + 1 - side)
        for side, size, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True)
    ]
    less, more = [pad // 2 for pad in total], [pad - pad // 2 for pad in total]
    return (less, more) if auto == "SAME_UPPER" else (more, less)


def padded(x: Tensor, kernel: Sequence[int], attributes: Attributes) -> Tensor:
    """What a convolution with these attributes slides its kernel over: x, with zeros around."""
    return _padded(x, *_pads(x, kernel, attributes), 0.0)


def _padded(x: Tensor, before: Sequence[int], after: Sequence[int], value: float) -> Tensor:
    if not any((*before, *after)):
        return x
    return F.pad(x, (before[1], after[1], before[0], after[0]), value=value)
