"""Ranges of activations from what calibration shows: a literal table of ways."""

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from facecore.quantize.primitives import Affine

LOOKED_AT = 1 << 18  # values of a tensor in a batch; more change neither a percentile nor a sum of errors


class Observer(Protocol):
    """What looks at the values of a tensor."""

    def observe(self, values: Tensor) -> None:
        """Take one batch into account."""
        ...


class Range(Observer, Protocol):
    """An observer that finds where the values of a tensor lie."""

    low: float
    high: float


class Extremes:
    """The lowest and highest value of all batches."""

    def __init__(self) -> None:
        self.low = self.high = 0.0

    def observe(self, values: Tensor) -> None:
        """Take one batch into account."""
        low, high = (float(edge) for edge in torch.aminmax(values.detach()))
        self.low, self.high = min(self.low, low), max(self.high, high)


class MovingRange:
    """The lowest and highest value, averaged over batches: one outlier does not fix them for ever."""

    WEIGHT = 0.05  # of a new batch, once twenty were seen

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self._batches = 0

    def observe(self, values: Tensor) -> None:
        """Take one batch into account."""
        low, high = self._edges(values.detach())
        self._batches += 1
        weight = max(self.WEIGHT, 1 / self._batches)
        self.low += weight * (low - self.low)
        self.high += weight * (high - self.high)

    def _edges(self, values: Tensor) -> tuple[float, float]:
        low, high = torch.aminmax(values)
        return float(low), float(high)


class PercentileRange(MovingRange):
    """Where all but one value in ten thousand on either side lie, averaged over batches."""

    OUTSIDE = 1e-4

    def _edges(self, values: Tensor) -> tuple[float, float]:
        ordered = some_of(values).sort().values
        outside = int(self.OUTSIDE * (len(ordered) - 1))
        return float(ordered[outside]), float(ordered[-1 - outside])


class RangeSearch:
    """The part of a range that loses least: clipping a few large values makes the steps of all the others finer.

    Tries the range shrunk to each of SHARES, and sums the squared error over the batches seen.
    """

    SHARES = tuple(step / 20 for step in range(20, 4, -1))  # 1, 0.95, ... 0.25

    def __init__(self, low: float, high: float, bits: int) -> None:
        self._candidates = [Affine.over(low * share, high * share, bits) for share in self.SHARES]
        self._errors = [0.0] * len(self.SHARES)

    def observe(self, values: Tensor) -> None:
        """Take one batch into account."""
        some = some_of(values)
        for place, candidate in enumerate(self._candidates):
            self._errors[place] += float((candidate.fake(some) - some).square().sum())

    def best(self) -> Affine:
        """The quantizer with the least error; a tie goes to the wider range."""
        return self._candidates[self._errors.index(min(self._errors))]


def some_of(values: Tensor) -> Tensor:
    """At most LOOKED_AT values, drawn by a fixed seed: evenly spaced ones would fall in step with image rows."""
    some = values.detach().flatten()
    if len(some) <= LOOKED_AT:
        return some
    draw = torch.Generator().manual_seed(0)
    return some[torch.randint(len(some), (LOOKED_AT,), generator=draw).to(some.device)]


# `mse` is the moving average, of which RangeSearch then takes the part that loses least.
RANGES: Mapping[str, Callable[[], Range]] = {
    "minmax": Extremes,
    "moving-average": MovingRange,
    "percentile": PercentileRange,
    "mse": MovingRange,
}
