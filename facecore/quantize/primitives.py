"""The arithmetic of quantizers: ranges, scales, and rounding with a straight-through gradient (QuantFace)."""

from dataclasses import dataclass

import torch
from torch import Tensor

# The floor that QuantFace puts under a range, so that a constant tensor has a scale.
LEAST_RANGE = 1e-8


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
        """The values after a round trip through the integers; the gradient passes straight where not clipped."""
        return torch.fake_quantize_per_tensor_affine(values, self.scale, self.zero_point, 0, self.highest)


class MovingRange:
    """The lowest and highest value of a tensor, averaged over batches: one outlier does not fix them for ever."""

    WEIGHT = 0.05  # of a new batch, once twenty were seen

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self._batches = 0

    def observe(self, values: Tensor) -> None:
        """Take one batch into account."""
        low, high = (float(edge) for edge in torch.aminmax(values.detach()))
        self._batches += 1
        weight = max(self.WEIGHT, 1 / self._batches)
        self.low += weight * (low - self.low)
        self.high += weight * (high - self.high)

    def affine(self, bits: int) -> Affine:
        """The quantizer of the range seen."""
        assert self._batches, "no batch was observed"
        return Affine.over(self.low, self.high, bits)


class RangeSearch:
    """The part of a range that loses least: clipping a few large values makes the steps of all the others finer.

    Tries the range shrunk to each of SHARES, and sums the squared error over the batches seen, of each of which it
    looks at LOOKED_AT values at the most, drawn by a fixed seed: evenly spaced ones would fall in step with image rows.
    """

    SHARES = tuple(step / 20 for step in range(20, 4, -1))  # 1, 0.95, ... 0.25
    LOOKED_AT = 1 << 18

    def __init__(self, low: float, high: float, bits: int) -> None:
        self._candidates = [Affine.over(low * share, high * share, bits) for share in self.SHARES]
        self._errors = [0.0] * len(self.SHARES)

    def observe(self, values: Tensor) -> None:
        """Take one batch into account."""
        some = values.flatten()
        if len(some) > self.LOOKED_AT:
            draw = torch.Generator().manual_seed(0)
            some = some[torch.randint(len(some), (self.LOOKED_AT,), generator=draw).to(some.device)]
        for place, candidate in enumerate(self._candidates):
            self._errors[place] += float((candidate.fake(some) - some).square().sum())

    def best(self) -> Affine:
        """The quantizer with the least error; a tie goes to the wider range."""
        return self._candidates[self._errors.index(min(self._errors))]


def weight_scales(weight: Tensor, bits: int) -> Tensor:
    """Scale of each output channel, (channels,): symmetric and narrow, so that a sign can be folded into it."""
    highest = (1 << (bits - 1)) - 1
    return weight.detach().flatten(1).abs().amax(1).clamp(min=LEAST_RANGE) / highest


def fake_weight(weight: Tensor, bits: int) -> Tensor:
    """A weight after a round trip through its integers, by output channel, with a straight-through gradient."""
    highest = (1 << (bits - 1)) - 1
    scales = weight_scales(weight, bits)
    zero = torch.zeros_like(scales, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scales, zero, 0, -highest, highest)
