"""The classifier of training: margin softmax over all classes, or over those that a step compares with."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss
from torch import Tensor, nn
from torch.nn import functional as F

from facecore.errors import OptionError


@dataclass(frozen=True)
class MarginSoftmax:
    """A loss of pytorch-metric-learning: how it is made of margin and scale, and what its margin may be."""

    make: Callable[[float, float, int], Any]  # margin, scale, length of an embedding
    margin: float  # of the paper
    limit: float
    unit: str

    def check(self, margin: float) -> None:
        """Raise OptionError if the margin is out of its range."""
        if not 0 <= margin < self.limit:
            raise OptionError(f"margin is {self.unit}, in [0, {self.limit:.4g}); got {margin:g}")


# made for one class, since the classes are changed in every step; ArcFaceLoss takes degrees
LOSSES = {
    "cosface": MarginSoftmax(lambda m, s, d: CosFaceLoss(1, d, margin=m, scale=s), 0.35, 1, "a cosine"),
    "arcface": MarginSoftmax(
        lambda m, s, d: ArcFaceLoss(1, d, margin=math.degrees(m), scale=s), 0.5, math.pi, "an angle in radians"
    ),
}


class Head:
    """A centre for every class, and SGD on the centres of the classes that a step compares with.

    The others have no part in the step: neither activations, gradients, momentum nor decay (Partial FC, An et al.
    2022), so that what a step takes beside the centres and their momentum depends on how many it compares with.
    """

    def __init__(
        self, loss: str, classes: int, dimension: int, *, margin: float, scale: float, seed: int, device: torch.device
    ) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.centres = F.normalize(torch.randn(classes, dimension, generator=draw)).to(device)  # (classes, d)
        self.momentum = torch.zeros_like(self.centres)
        with torch.random.fork_rng(devices=[]):  # the library draws a centre, which is never used
            self._loss = LOSSES[loss].make(margin, scale, dimension).to(device)
        self._compared: Tensor

    def loss(self, embeddings: Tensor, labels: Tensor, compared: Tensor) -> Tensor:
        """The mean loss of embeddings (n, d) of classes `labels` (n,), compared with some classes (m,), sorted."""
        self._compared = compared
        self._loss.W = nn.Parameter(self.centres[compared].T)  # (d, m), as the library has it
        self._loss.num_classes = len(compared)
        loss: Tensor = self._loss(embeddings.float(), torch.searchsorted(compared, labels))
        return loss

    @property
    def compared(self) -> nn.Parameter:
        """The centres (d, m) of the last loss, with its gradient once that was propagated."""
        centres: nn.Parameter = self._loss.W
        return centres

    @torch.no_grad()
    def step(self, rate: float, *, momentum: float, weight_decay: float) -> None:
        """Move these centres as torch.optim.SGD does with Nesterov momentum."""
        assert self.compared.grad is not None
        centres = self.compared.T
        gradient = self.compared.grad.T + weight_decay * centres
        moving = momentum * self.momentum[self._compared] + gradient
        self.momentum[self._compared] = moving
        self.centres[self._compared] = centres - rate * (gradient + momentum * moving)
