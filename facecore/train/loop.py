"""A step of training: the loss of a batch, and what it changes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from facecore.train.head import Head
from facecore.train.loading import Batch
from facecore.train.networks import embedding_length
from facecore.train.options import TrainOptions
from facecore.train.schedule import rate
from facecore.train.world import World

MOMENTUM = 0.9
BACKBONE, CLASSIFIER = "state_dict_backbone", "state_dict_softmax_fc"  # in arcface_torch's checkpoints


@dataclass(frozen=True)
class Learnt:
    """What a step was: means over the processes."""

    loss: float
    gradient: float  # its length before it was shortened
    rate: float

    @property
    def finite(self) -> bool:
        """Whether the step was taken."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient)


class Trainer:
    """A network and its head, on one of several devices that take every step together."""

    def __init__(self, network: nn.Module, classes: int, options: TrainOptions, steps: int, world: World) -> None:
        self._options, self._steps, self._world = options, steps, world
        # channels last: on a CPU mbf trains 1.5 times faster, tiny 1.3 times, r18 1.1 times
        self.network: nn.Module = network.to(world.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.head = Head(
            options.loss,
            classes,
            embedding_length(network),
            margin=options.angle_or_cosine,
            scale=options.scale,
            seed=options.seed,
            device=world.device,
        )
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        self._optimizer = torch.optim.SGD(
            self._parameters, momentum=MOMENTUM, weight_decay=options.weight_decay, nesterov=True
        )
        self._together: nn.Module = network if world.size == 1 else DistributedDataParallel(network)
        network.train()

    def learn(self, batch: Batch) -> Learnt:
        """Take a step; if the loss or its gradient is not finite, no weight is moved."""
        device, options = self._world.device, self._options
        lower = precision(options, device) == "bfloat16"
        with torch.autocast(device.type, torch.bfloat16, enabled=lower):
            embeddings = self._together(batch.images.to(device))
        loss = self.head.loss(embeddings, batch.labels.to(device), batch.compared.to(device))
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)  # loss.backward() has no types
        mean = float(self._world.mean(loss.detach().clone()))
        assert self.head.compared.grad is not None
        self._world.mean(self.head.compared.grad)  # the network's gradients are means already
        norm = float(nn.utils.clip_grad_norm_([*self._parameters, self.head.compared], options.clip))
        share = rate(batch.step, self._steps, warm_up=options.warm_up, decay=options.decay)
        learnt = Learnt(mean, norm, options.learning_rate * share)
        if learnt.finite:
            for group in self._optimizer.param_groups:
                group["lr"] = learnt.rate
            self._optimizer.step()
            self.head.step(learnt.rate, momentum=MOMENTUM, weight_decay=options.weight_decay)
        return learnt

    @property
    def finite(self) -> bool:
        """Whether all weights are."""
        held = [*self.network.state_dict().values(), self.head.centres]
        return all(bool(torch.isfinite(values).all()) for values in held)

    def weights(self) -> dict[str, Any]:
        """Network and classifier under arcface_torch's names, so that its checkpoints and ours are read alike."""
        network = {name: values.detach().cpu().contiguous() for name, values in self.network.state_dict().items()}
        return {BACKBONE: network, CLASSIFIER: {"weight": self.head.centres.cpu()}}

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside the weights."""
        return {"head_momentum": self.head.momentum.cpu(), "optimizer": self._optimizer.state_dict()}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on where weights and state were taken."""
        self.network.load_state_dict(saved[BACKBONE])
        self.head.centres.copy_(saved[CLASSIFIER]["weight"])
        self.head.momentum.copy_(saved["head_momentum"])
        self._optimizer.load_state_dict(saved["optimizer"])


def precision(options: TrainOptions, device: torch.device) -> str:
    """The precision of the network's arithmetic; what is meant by `auto`.

    On a CPU that is float32: bfloat16 is faster only on some (an EPYC with AVX512-BF16: r18 1.9 times, mbf 1.1 times).
    """
    if options.precision != "auto":
        return options.precision
    return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
