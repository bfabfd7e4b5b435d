"""Training in floats: what a pruned network needs before its ranges are worth calibrating."""

from dataclasses import replace

import numpy as np
import onnx
import torch
from torch import nn

from facecore.progress import progress
from facecore.quantize.batches import orders
from facecore.quantize.bits import Bits
from facecore.quantize.distill import Distillation, Schedule
from facecore.quantize.losses import Cosine
from facecore.quantize.student import Student
from facecore.quantize.tuning import School

RATE = 0.3
"""Of training, in 8-bit steps: a hundred times that of fine-tuning, since here weights have somewhere to go."""


class _Unquantized(Student):
    """A student before calibration, which computes in floats; a weight's step is what it would be at 8 bits."""

    def parameters(self) -> list[tuple[nn.Parameter, float]]:
        return [(values, (float(values.detach().abs().max()) or 1.0) / 127) for values in self.network.weights.values()]


def recover(model: onnx.ModelProto, school: School, schedule: Schedule) -> onnx.ModelProto:
    """The float network after as many steps as the schedule has, towards the teacher's embeddings.

    Raises ModelError if the loss is not finite.
    """
    student = _Unquantized(model, Bits())
    distillation = Distillation(student, Cosine(), replace(schedule, learning_rate=RATE))
    plan = list(orders(school.training, schedule))
    if not plan:
        return model
    batches = school.faces.batches(np.concatenate([rows for rows, _ in plan]), len(plan[0][0]))
    with progress(len(plan), "recover", "steps") as bar:
        for (_, mirrored), (rows, images) in zip(plan, batches, strict=True):
            images = np.ascontiguousarray(images[..., ::-1]) if mirrored else images
            target = school.teacher.embed(rows, images, mirrored=mirrored)
            distillation.learn(torch.from_numpy(images), torch.from_numpy(target), torch.zeros(len(rows)))
            bar.set_postfix(loss=f"{(distillation.losses or [0])[-1]:.4f}")
            bar.update(1)
    return student.network.write_back()
