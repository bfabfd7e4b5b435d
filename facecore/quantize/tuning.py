"""Fine-tuning from checkpoint to checkpoint: faces to the student, a look at held-out ones, the best student kept."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from facecore.progress import progress
from facecore.quantize.batches import balanced, orders
from facecore.quantize.distill import Distillation, Schedule
from facecore.quantize.faces import Faces, Rows
from facecore.quantize.losses import LOSSES
from facecore.quantize.options import QuantizeOptions
from facecore.quantize.report import cosines
from facecore.quantize.student import Student
from facecore.quantize.teacher import Teacher

Lesson = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # input, the teacher's embeddings of it, and who it is


@dataclass(frozen=True)
class School:
    """The faces to train on and those held out, and the teacher of both."""

    faces: Faces
    teacher: Teacher
    training: Rows
    held_out: Rows

    def cosine(self, student: Student) -> float:
        """Mean cosine of the student's embeddings of the held-out faces to the teacher's; 0 if none can be read."""
        found = [np.empty(0, np.float32)]
        for rows, images in self.faces.batches(self.held_out, 64):
            if len(rows):
                with torch.inference_mode():
                    embeddings = student.network(torch.from_numpy(images).to(student.device)).cpu().numpy()
                found.append(cosines(embeddings, self.teacher.embed(rows, images, mirrored=False)))
        together = np.concatenate(found)
        return float(together.mean()) if len(together) else 0.0


class Tuning:
    """A student's way through its schedule, which can be left and taken up again at any checkpoint."""

    def __init__(self, student: Student, school: School, options: QuantizeOptions, schedule: Schedule) -> None:
        self._student, self._school, self._schedule = student, school, schedule
        self._patience = options.patience
        self._every = options.checkpoint_every
        self._loss = LOSSES[options.loss](options.ekd_weight)
        self._identities = school.faces.identities if self._loss.needs_identities else np.zeros(len(school.faces), int)
        self._distillation = Distillation(student, self._loss, schedule)
        self._best: dict[str, Any] = {}
        self.checks: list[dict[str, float]] = []  # the step and the cosine on held-out faces, at every checkpoint
        self.used: set[int] = set()
        self.seconds = 0.0

    @property
    def losses(self) -> list[float]:
        """The loss of every step so far."""
        return self._distillation.losses

    def run(self, on_checkpoint: Callable[[], object], name: str = "fine-tune") -> None:
        """Train to the end of the schedule, or until patience ends; then the student is the best of those checked.

        That is the one with the highest cosine on the held-out faces, if there are any; calibration alone counts too.
        `name` is what the progress bar calls it.
        """
        began = time.perf_counter() - self.seconds
        if not self.checks:
            self._check(on_checkpoint)
        with progress(self._schedule.steps, name, "steps") as bar:
            bar.update(self._distillation.step)
            for lesson in self._lessons():
                if self._is_over():
                    break
                self._distillation.learn(*lesson)
                bar.set_postfix(loss=f"{(self.losses or [0])[-1]:.4f}")
                bar.update(1)
                if self._distillation.step % self._every == 0 or self._distillation.step == self._schedule.steps:
                    self.seconds = time.perf_counter() - began
                    self._check(on_checkpoint)
        self.seconds = time.perf_counter() - began
        if self._best:
            self._student.restore(self._best)

    def _check(self, on_checkpoint: Callable[[], object]) -> None:
        check: dict[str, float] = {"step": self._distillation.step}
        if len(self._school.held_out):
            check["cosine"] = self._school.cosine(self._student)
            if check["cosine"] > max((before["cosine"] for before in self.checks), default=-1):
                self._best = self._student.state()
        self.checks.append(check)
        on_checkpoint()

    def _is_over(self) -> bool:
        """Whether the last `patience` checkpoints were no better than one before them."""
        if self._patience is None or not self._best:
            return False
        found = [check["cosine"] for check in self.checks]
        return len(found) - 1 - int(np.argmax(found)) >= self._patience

    def _lessons(self) -> Iterator[Lesson]:
        """The input of every step that is still to be taken, where the teacher puts it, and who it is."""
        rows = self._school.training
        if self._loss.needs_identities:
            plan = list(balanced(rows, self._identities, self._schedule))[self._distillation.step :]
        else:
            plan = list(orders(rows, self._schedule))[self._distillation.step :]
        if not plan:
            return
        every = np.concatenate([rows for rows, _ in plan])
        batches = self._school.faces.batches(every, len(plan[0][0]))
        for (_, mirrored), (rows, images) in zip(plan, batches, strict=True):
            images = np.ascontiguousarray(images[..., ::-1]) if mirrored else images
            self.used.update(rows.tolist())
            target = self._school.teacher.embed(rows, images, mirrored=mirrored)
            yield torch.from_numpy(images), torch.from_numpy(target), torch.from_numpy(self._identities[rows])

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside the float network that the student was made of."""
        return {
            "student": self._student.state(),
            "best": self._best,
            "distillation": self._distillation.state(),
            "checks": self.checks,
            "used": sorted(self.used),
            "seconds": self.seconds,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken; the student must have been restored to it already."""
        self._distillation.restore(state["distillation"])
        self._best, self.checks, self.used = state["best"], list(state["checks"]), set(state["used"])
        self.seconds = state["seconds"]
