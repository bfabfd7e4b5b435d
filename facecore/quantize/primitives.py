"""The arithmetic of quantizers: scales, and rounding with a gradient for the values and for the scale."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# The floor that QuantFace puts under a range, so that a constant tensor has a scale.
LEAST_RANGE = 1e-8
SHARES = tuple(step / 20 for step in range(20, 7, -1))  # 1, 0.95, ... 0.4 of a weight's range


@dataclass(frozen=True)
class Affine:
    """Integers q in [0, 2^bits - 1] that stand for (q - zero_point) * scale."""

    scale: float
    zero_point: int
    bits: int

    @property
    def highest(self) -> int:
        """The largest integer."""
        return int((1 << self.bits) - 1)

    @classmethod
    def over(cls, low: float, high: float, bits: int) -> "Affine":
        """The quantizer of a range, widened to hold zero, which must be exact: padding and ReLU produce it."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max(high - low, LEAST_RANGE) / ((1 << bits) - 1)
        return cls(scale, round(-low / scale), bits)

    def fake(self, values: Tensor) -> Tensor:
        """The values after a round trip through the integers."""
        return torch.fake_quantize_per_tensor_affine(values, self.scale, self.zero_point, 0, self.highest)


@dataclass(frozen=True)
class Symmetric:
    """Integers q in [-highest, highest] that stand for q * scales[c] in output channel c of a weight.

    Symmetric and narrow, since onnxruntime's integer kernels want weights without zero points.
    """

    scales: Tensor  # (channels,) float32
    bits: int

    @property
    def highest(self) -> int:
        """The largest integer."""
        return highest_weight(self.bits)


def highest_weight(bits: int) -> int:
    """The largest integer of a weight, 127 for 8 bits."""
    return int((1 << (bits - 1)) - 1)


def fake_activation(values: Tensor, scale: Tensor, zero_point: int, bits: int) -> Tensor:
    """Values (any shape) after a round trip through integers of this scale, which is a tensor of one number.

    The gradient of the values passes straight where nothing is clipped; that of the scale is LSQ's (Esser et al. 2020,
    equation 3): the rounding error in steps, or the integer at which a value was clipped.
    """
    done: Tensor = _LearnedStep.apply(values, scale, zero_point, (1 << bits) - 1)  # type: ignore[no-untyped-call]
    return done


class _LearnedStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: Tensor, zero_point: int, highest: int) -> Tensor:
        step, ctx.ends = float(scale), (-zero_point, highest - zero_point)
        # a sixth of the time of torch.fake_quantize_per_tensor_affine, which goes value by value, and the same values
        done = (values * (1 / step)).round_().clamp_(*ctx.ends).mul_(step)
        ctx.save_for_backward(values, done, scale)
        return done

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None, None]:
        values, done, scale = ctx.saved_tensors
        step, (low, high) = float(scale), ctx.ends
        passed = torch.ops.aten.hardtanh_backward(slope, values, (low - 0.5) * step, (high + 0.5) * step)
        # done is q s: inside, LSQ's q - x / s is (done - x) / s; where clipped it is q, so done / s
        total = torch.dot(_flat(slope), _flat(done)) - torch.dot(_flat(passed), _flat(values))
        return passed, (total / scale).reshape(scale.shape), None, None


def _flat(values: Tensor) -> Tensor:
    """All values in one row, without a copy if channels are last, as they are in a network in training."""
    return (values.permute(0, 2, 3, 1) if values.ndim == 4 else values).reshape(-1)


def fake_weight(steps: Tensor, scales: Tensor, bits: int) -> Tensor:
    """A weight given in steps of its output channels' scales (channels,), rounded, clipped and scaled.

    Both learn: the gradient goes straight through rounding to the steps; the scale's is the slope times the integer.
    """
    highest = highest_weight(bits)
    integers = torch.fake_quantize_per_tensor_affine(steps, 1.0, 0, -highest, highest)
    return integers * scales.reshape(-1, *[1] * (steps.ndim - 1))


def weight_scales(weight: Tensor, bits: int) -> Tensor:
    """The scale of each output channel, (channels,), that loses least: its largest value, or less at few bits."""
    rows = weight.detach().flatten(1)
    largest = rows.abs().amax(1).clamp(min=LEAST_RANGE) / highest_weight(bits)
    candidates = torch.stack([largest * share for share in SHARES])  # (shares, channels)
    losses = torch.stack([_lost(rows, scales, bits) for scales in candidates])
    best: Tensor = candidates.gather(0, losses.argmin(0, keepdim=True))[0]  # a tie goes to the wider range
    return best


def _lost(rows: Tensor, scales: Tensor, bits: int) -> Tensor:
    """Squared error of each row (channels, n) when rounded to these scales."""
    return (fake_weight(rows / scales[:, None], scales, bits) - rows).square().sum(1)
