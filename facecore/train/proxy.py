"""Training: pixels and labels in, a network out."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facecore.errors import DataError, OptionError
from facecore.images import Floats, Pixels, Preprocess, to_input
from facecore.progress import progress
from facecore.train.tiny import TinyFaceNet

Labels = npt.NDArray[np.int64]

WARM_UP = 0.1  # part of the steps over which the learning rate rises
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
LARGEST_NORM = 5.0  # of the gradient; the first steps with a margin would overshoot


@dataclass(frozen=True)
class TrainOptions:
    """How long and how hard to train; the defaults are for some thousand faces and a minute on two cores."""

    steps: int = field(default=300, metadata={"help": "Batches to train on."})
    batch_size: int = field(default=64, metadata={"help": "Faces in a batch."})
    dimension: int = field(default=128, metadata={"help": "Length of an embedding."})
    learning_rate: float = field(default=0.1, metadata={"help": "Its peak; it rises first and falls to 0."})
    scale: float = field(default=24.0, metadata={"help": "Factor on the cosines before the softmax."})
    margin: float = field(default=0.2, metadata={"help": "What the cosine to its own class must be better by, 0 to 1."})
    seed: int = field(default=0, metadata={"help": "Of the first weights and of the order of the faces."})

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise OptionError(f"batch_size must be at least 2, batches are normalised; got {self.batch_size}")
        for name in ("steps", "dimension"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "scale"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise OptionError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= self.margin < 1:
            raise OptionError(f"margin is a cosine, in [0, 1); got {self.margin}")
        if self.seed < 0:
            raise OptionError(f"seed must be at least 0, got {self.seed}")


def train_proxy(pixels: Pixels, labels: Labels, options: TrainOptions) -> tuple[nn.Module, Floats]:
    """A network trained to tell the labels apart, in evaluation mode, and the loss of each step.

    Takes pixels (n, 112, 112, 3), RGB, and labels (n,) from 0 to classes - 1; equal arguments give equal weights on
    one machine with one number of torch threads. Raises DataError if there is nothing to tell apart, OptionError if
    the loss leaves the numbers.
    """
    assert len(pixels) == len(labels)
    classes = int(labels.max()) + 1 if len(labels) else 0
    if classes < 2:
        raise DataError(f"{classes} identities cannot be told apart; training needs at least 2")
    with torch.random.fork_rng(devices=[]):  # seeded without touching the caller's generator
        torch.manual_seed(options.seed)
        network = TinyFaceNet(options.dimension)
        centres = nn.Parameter(F.normalize(torch.randn(classes, options.dimension)))
    losses = _fit(network, centres, _batches(pixels, labels, options), options)
    return network.eval(), losses


def margin_loss(embeddings: Tensor, centres: Tensor, labels: Tensor, *, scale: float, margin: float) -> Tensor:
    """The CosFace loss (Wang et al. 2018, eq. 4): softmax over cosines, the own one less the margin, times the scale.

    Takes embeddings (n, d), centres (classes, d) and labels (n,); gives the mean over the batch.
    """
    cosine = F.normalize(embeddings) @ F.normalize(centres).T  # (n, classes)
    own = F.one_hot(labels, len(centres))
    return F.cross_entropy(scale * (cosine - margin * own), labels)


def _fit(
    network: nn.Module, centres: nn.Parameter, batches: Iterator[tuple[Tensor, Tensor]], options: TrainOptions
) -> Floats:
    parameters = [*network.parameters(), centres]
    optimizer = torch.optim.SGD(parameters, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
    losses = np.empty(options.steps, np.float32)
    network.train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a quarter faster so
    with progress(options.steps, "train", "steps") as bar:
        for step, (images, labels) in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate * _warmth(step, options.steps)
            loss = margin_loss(network(images), centres, labels, scale=options.scale, margin=options.margin)
            losses[step] = loss.item()
            if not np.isfinite(losses[step]):
                raise OptionError(
                    f"the loss is {losses[step]} after {step} steps; "
                    f"lower --learning-rate (now {options.learning_rate}) or --scale (now {options.scale})"
                )
            optimizer.zero_grad()
            torch.autograd.backward(loss)  # loss.backward() has no types
            nn.utils.clip_grad_norm_(parameters, LARGEST_NORM)
            optimizer.step()
            bar.update()
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return losses


def _warmth(step: int, steps: int) -> float:
    """The part of the peak learning rate: up in a line, then down along half a cosine."""
    done = (step + 1) / steps
    return done / WARM_UP if done < WARM_UP else 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def _batches(pixels: Pixels, labels: Labels, options: TrainOptions) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch in new orders, every other face mirrored at random, until the steps are done."""
    random = np.random.default_rng(options.seed)
    size = min(options.batch_size, len(pixels))
    order = np.empty(0, np.int64)
    for _ in range(options.steps):
        if len(order) < size:  # what is left of an epoch is too little for a batch and sits this one out
            order = random.permutation(len(pixels))
        rows, order = order[:size], order[size:]
        chosen = pixels[rows]
        mirrored = random.random(size) < 0.5
        chosen[mirrored] = chosen[mirrored, :, ::-1]
        images = torch.from_numpy(to_input(chosen, Preprocess()))
        yield images.to(memory_format=torch.channels_last), torch.from_numpy(labels[rows])
