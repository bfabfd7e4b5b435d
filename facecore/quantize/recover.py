"""Training in floats: what a pruned network needs before its ranges are worth calibrating."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import onnx

from facecore.quantize.bits import FLOAT
from facecore.quantize.distill import Schedule
from facecore.quantize.options import FLOAT_RATE, QuantizeOptions
from facecore.quantize.student import Student
from facecore.quantize.tuning import School, Tuning


def recover(
    model: onnx.ModelProto,
    school: School,
    options: QuantizeOptions,
    schedule: Schedule,
    *,
    saved: dict[str, Any] | None = None,
    on_checkpoint: Callable[[dict[str, Any]], object] = lambda state: None,
) -> onnx.ModelProto:
    """The float network after as many steps as the schedule has, towards the teacher's embeddings.

    `on_checkpoint` is given what `saved` must be for a killed run to go on from there.
    Raises ModelError if the loss is not finite.
    """
    student = Student(model, FLOAT)
    tuning = Tuning(student, school, options, replace(schedule, learning_rate=FLOAT_RATE))
    if saved is not None:
        student.restore(saved["student"])
        tuning.restore(saved)
    tuning.run(lambda: on_checkpoint(tuning.state()), "recover")
    return student.model()
