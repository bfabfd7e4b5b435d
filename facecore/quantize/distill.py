"""Fine-tuning without labels: the student learns to put every face where the teacher puts it (QuantFace, section 3)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from facecore.errors import ModelError, OptionError
from facecore.quantize.student import Student


@dataclass(frozen=True)
class Schedule:
    """How the student is trained: optimizer steps, faces in each, and the rate they start from."""

    steps: int
    batch_size: int = field(default=32, metadata={"help": "Faces in a training step."})
    learning_rate: float = field(default=3e-4, metadata={"help": "Where the cosine decay starts."})
    seed: int = field(default=0, metadata={"help": "Of the order of the faces and the flips."})

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise OptionError(f"steps must be 0 or more, got {self.steps}")
        if self.batch_size < 1:
            raise OptionError(f"batch_size must be 1 or more, got {self.batch_size}")
        if self.seed < 0:
            raise OptionError(f"seed must be 0 or more, got {self.seed}")
        if not 0 < self.learning_rate < 10:
            raise OptionError(f"learning_rate must be above 0 and below 10, got {self.learning_rate:g}")


def embedding_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over faces of the squared distance of the normalised embeddings, which is 2 (1 - cosine).

    QuantFace's loss is this divided by the dimension, which only scales the rate.
    """
    return (F.normalize(student) - F.normalize(teacher)).square().sum(1).mean()


def orders(faces: int, schedule: Schedule) -> Iterator[tuple[np.ndarray, bool]]:
    """The rows of each step and whether they are mirrored: every face once an epoch, in a new order each time."""
    draw = np.random.default_rng(schedule.seed)
    waiting = np.empty(0, np.int64)
    for _ in range(schedule.steps):
        while len(waiting) < min(schedule.batch_size, faces):
            waiting = np.append(waiting, draw.permutation(faces))
        yield waiting[: schedule.batch_size], bool(draw.integers(2))
        waiting = waiting[schedule.batch_size :]


def distill(
    student: Student,
    batches: Iterator[tuple[Tensor, Tensor]],
    schedule: Schedule,
    *,
    on_step: Callable[[float], None] = lambda loss: None,
) -> list[float]:
    """Train the student on pairs of input and the teacher's embeddings, one a step; returns the loss of every step.

    SGD with Nesterov momentum 0.9, weight decay 5e-4, gradients clipped to length 5, cosine decay to nothing. Ranges
    stay as calibrated. Raises ModelError if the loss is not finite.
    """
    parameters = [p for p in student.network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, schedule.learning_rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, schedule.steps))
    losses: list[float] = []
    for images, target in batches:
        loss = embedding_loss(student.network(images.to(student.device)), target.to(student.device))
        losses.append(float(loss.detach()))
        if not np.isfinite(losses[-1]):
            raise ModelError(
                f"fine-tuning diverged in step {len(losses)} of {schedule.steps}; use a lower --learning-rate"
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        decay.step()
        on_step(losses[-1])
    return losses
