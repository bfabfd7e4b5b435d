"""Fine-tuning without labels: the student learns to put every face where the teacher puts it (QuantFace, section 3)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from facecore.errors import ModelError, OptionError
from facecore.quantize.losses import Loss
from facecore.quantize.student import Student


@dataclass(frozen=True)
class Schedule:
    """How the student is trained: optimizer steps, faces in each, and the rate, which warms up and then decays.

    The rate is in quantization steps: the most that a weight moves in one optimizer step, or nearly (Adam's bound).
    """

    steps: int
    batch_size: int = 32
    learning_rate: float = 0.02
    warm_up: float = 0.05  # fraction of the steps
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise OptionError(f"steps must be 0 or more, got {self.steps}")
        if self.batch_size < 1:
            raise OptionError(f"batch_size must be 1 or more, got {self.batch_size}")
        if self.seed < 0:
            raise OptionError(f"seed must be 0 or more, got {self.seed}")
        if not 0 < self.learning_rate < 10:
            raise OptionError(f"learning_rate must be above 0 and below 10, got {self.learning_rate:g}")
        if not 0 <= self.warm_up <= 1:
            raise OptionError(f"warm_up is the fraction of the steps, in [0, 1]; got {self.warm_up:g}")

    def rate(self, step: int) -> float:
        """The share of the learning rate in a step, the first of which is 0: a line up, then half a cosine down."""
        rising = round(self.warm_up * self.steps)
        if step < rising:
            return (step + 1) / (rising + 1)
        return (1 + math.cos(math.pi * (step - rising) / max(1, self.steps - rising))) / 2


class Distillation:
    """The training of a student at some step of its schedule: Adam on all that `student.parameters` names.

    Adam, since its step has the length of the rate whatever the gradient, and here the rate is in quantization steps.
    """

    BETAS = (0.9, 0.99)  # some hundred steps are a whole training here, which a second moment over 1,000 would outlast

    def __init__(self, student: Student, loss: Loss, schedule: Schedule) -> None:
        self._student, self._loss, self._schedule = student, loss.to(student.device), schedule
        groups = [{"params": [values], "unit": unit} for values, unit in student.parameters()]
        # the slope of an 8-bit weight's step is some millionths, to which Adam's usual 1e-8 would not be small
        self._optimizer = torch.optim.Adam(groups, lr=schedule.learning_rate, betas=self.BETAS, eps=1e-12)
        self.step = 0  # how many were taken
        self.losses: list[float] = []

    def learn(self, images: Tensor, target: Tensor, identities: Tensor) -> None:
        """Take one step on input (n, 3, size, size), the teacher's embeddings of it (n, d) and who it is (n,).

        Without faces (all of a batch were unreadable) it changes nothing. Raises ModelError if the loss is not finite.
        """
        self.step += 1
        if not len(images):
            return
        device = self._student.device
        loss = self._loss(self._student.network(images.to(device)), target.to(device), identities.to(device))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ModelError(
                f"fine-tuning diverged in step {self.step} of {self._schedule.steps}; use a lower --learning-rate"
            )
        for group in self._optimizer.param_groups:
            group["lr"] = self._schedule.learning_rate * self._schedule.rate(self.step - 1) * group["unit"]
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self.losses.append(value)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside the student."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "loss": self._loss.state_dict(),
            "step": self.step,
            "losses": list(self.losses),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken."""
        self._optimizer.load_state_dict(dict(state["optimizer"]))
        self._loss.load_state_dict(state["loss"])
        self.step, self.losses = state["step"], list(state["losses"])
