"""What integer networks save in bytes and time, and what training them costs, on arcface_torch's networks.

python benchmarks/quantize_speed.py [--archs mbf r18 ...] [--steps-of mbf r18 ...]

The weights are random, since none of these figures depends on them; their BatchNormalizations have seen a few batches,
so that a deep network stays within the numbers. One core. Three measurements, each in turns within one process: bytes
of the files at 8, 6 and 4 bits; milliseconds a face, integer against float with PReLU written alike; and the processor
time of a training step, all quantizers on, against one of the same network in floats.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from record import ONE_THREAD, arguments, in_turns, write_result
from torch import nn

from facecore.models import ARCHITECTURES, load_backbone, load_onnx, packed, to_onnx
from facecore.quantize.bits import FLOAT, Bits
from facecore.quantize.distill import Distillation, Schedule
from facecore.quantize.export import to_float, to_integer
from facecore.quantize.losses import Cosine
from facecore.quantize.report import computation, latency
from facecore.quantize.student import Student
from facecore.quantize.widths import apart

SIZE = 112
BATCH = {"mbf": 32, "mbf_large": 32, "r18": 16}  # of a training step; others 8


def smallest() -> nn.Module:
    """A network for tests of this script."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=8), nn.BatchNorm2d(8), nn.PReLU(8), nn.Flatten(), nn.Linear(1568, 16)
    )


NETWORKS = {**ARCHITECTURES, "smallest": smallest}


def settled(arch: str) -> nn.Module:
    """A network with random weights whose BatchNormalizations have seen four batches."""
    torch.manual_seed(0)
    network = NETWORKS[arch]()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # a plain mean over the batches
    with torch.no_grad():
        for _ in range(4):
            network(pixels(4))
    return network.eval()


def pixels(faces: int) -> torch.Tensor:
    """Random input."""
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (faces, 3, SIZE, SIZE)).astype(np.float32))


def calibrated(model: onnx.ModelProto, bits: str) -> Student:
    """A student with ranges from a few images, which its size and speed do not depend on."""
    student = Student(apart(model) if bits != "w8a8" else model, Bits.parse(bits))
    student.calibrate([pixels(4)], ranges="minmax")
    return student


def integer_of(student: Student) -> onnx.ModelProto:
    """The integer model of a student."""
    return to_integer(student.model(), student.quantizers, student.weight_quantizers)


def files(model: onnx.ModelProto, folder: Path) -> dict[str, Any]:
    """Bytes and milliseconds of the files of one network."""
    integers = {bits: integer_of(calibrated(model, bits)) for bits in ("w8a8", "w6a6", "w4a4")}
    fair = to_float(model)
    onnx.save(fair, folder / "float.onnx")
    onnx.save(integers["w8a8"], folder / "w8a8.onnx")
    backbones = {name: load_backbone(folder / f"{name}.onnx") for name in ("float", "w8a8")}
    return {
        "bytes": {
            "float": len(fair.SerializeToString()),
            "w8a8": len(integers["w8a8"].SerializeToString()),
            **{f"{bits} packed": len(packed(integers[bits])) for bits in ("w6a6", "w4a4")},
        },
        "integer_share": computation(integers["w8a8"])["integer_share"],
        "latency_ms": latency(backbones, SIZE),
    }


def steps(model: onnx.ModelProto, arch: str, turns: int) -> dict[str, Any]:
    """Processor seconds of a training step in floats and in every number of bits, and the ratios, turn by turn."""
    batch = BATCH.get(arch, 8)
    images, whom = pixels(batch), torch.zeros(batch)
    students = {"float": Student(model, FLOAT), **{bits: calibrated(model, bits) for bits in ("w8a8", "w4a4")}}
    with torch.inference_mode():
        target = students["float"].network(images).clone()
    trainings = [Distillation(student, Cosine(), Schedule(10**6, batch, 1e-6)) for student in students.values()]

    def step(training: Distillation) -> float:
        begun = time.process_time()
        training.learn(images, target, whom)
        return time.process_time() - begun

    found = in_turns(turns, *[lambda training=training: step(training) for training in trainings])
    taken = dict(zip(students, found, strict=True))
    return {
        "arch": arch,
        "batch": batch,
        "float_seconds": statistics.median(taken["float"]),
        "over_float": {
            bits: statistics.median(own / plain for own, plain in zip(taken[bits], taken["float"], strict=True))
            for bits in students
            if bits != "float"
        },
    }


def main() -> None:
    """Measure and write the result, in a process in which every library has one thread."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    if hasattr(os, "sched_setaffinity"):  # onnxruntime takes a thread for every core it may use
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    parser = arguments(__doc__, "quantize_speed")
    parser.add_argument("--archs", nargs="*", default=["mbf", "r18", "r34", "r50", "r100", "r200"])
    parser.add_argument("--steps-of", nargs="*", default=["mbf", "r18", "r50"])
    parser.add_argument("--turns", type=int, default=8, help="training steps; the first does not count")
    given = parser.parse_args()
    archs, trained, turns = given.archs, given.steps_of, given.turns
    if given.smoke:
        archs, trained, turns = ["smallest"], ["smallest"], 1
    networks, training = [], []
    for arch in archs:
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "network.onnx"
            onnx.save(to_onnx(settled(arch), SIZE), path)
            model = load_onnx(path)
            networks.append({"arch": arch, **files(model, path.parent)})
            if arch in trained:
                training.append(steps(model, arch, turns))
    write_result(given.out, {"networks": networks, "training": training})


if __name__ == "__main__":
    main()
