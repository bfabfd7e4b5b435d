"""What quantization cost and saved, measured on the files that were written."""

import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from facecore.errors import ModelError
from facecore.images import Floats
from facecore.models import Backbone, OnnxNetwork, session_options
from facecore.progress import progress
from facecore.quantize.counting import multiply_adds
from facecore.quantize.student import Student

FLOAT_PRODUCTS = ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul")  # kernels of onnxruntime
LATENCY_RUNS = {1: 15, 64: 5}  # by batch


def cosines(a: Floats, b: Floats) -> Floats:
    """The cosine of each row of a to the same row of b, (n,); raises ModelError if a row has none."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    bad = int((~(np.isfinite(lengths) & (lengths > 0))).sum())
    if bad:
        raise ModelError(
            f"the network's embeddings of {bad:,} of {len(a):,} faces are zero or not finite; "
            "check that the network and its preprocessing belong together"
        )
    return np.asarray(np.einsum("ij,ij->i", a, b) / lengths, np.float32)


def cosine_summary(student: Floats, teacher: Floats) -> dict[str, float]:
    """Mean and 1st percentile of the cosine of the student's embeddings to the teacher's."""
    values = cosines(student, teacher)
    return {"mean": float(values.mean()), "p01": float(np.quantile(values, 0.01))}


def layer_decibels(model: onnx.ModelProto, student: Student, images: Tensor) -> dict[str, float]:
    """Signal to quantization noise of every tensor of the student, in dB: what it and all before it lost together.

    `model` is the float network that the student was made of, `images` a batch (n, 3, size, size). A tensor without
    any noise is left out.
    """
    signals: dict[str, Tensor] = {}
    found: dict[str, float] = {}
    teacher, computing = OnnxNetwork(model).eval().to(student.device), student.network.on_activation

    def remember(name: str, values: Tensor) -> Tensor:
        signals[name] = values
        return values

    def compare(name: str, values: Tensor) -> Tensor:
        values, signal = computing(name, values), signals.pop(name)
        noise = float((signal - values).square().sum())
        if noise > 0:
            found[name] = float(10 * torch.log10(signal.square().sum() / noise))
        return values

    teacher.on_activation, student.network.on_activation = remember, compare
    try:
        with torch.inference_mode():
            teacher(images.to(student.device))
            student.network(images.to(student.device))
    finally:
        student.network.on_activation = computing
    return found


def computation(integer: onnx.ModelProto) -> dict[str, Any]:
    """What an integer model computes for one image, and with which kernels of onnxruntime, as profiled there."""
    in_integers, every = multiply_adds(integer)
    run = kernels(integer)
    in_floats = sum(run.get(name, 0) for name in FLOAT_PRODUCTS)
    return {"multiply_adds": every, "integer_share": in_integers / every, "kernels": run, "float_products": in_floats}


def kernels(model: onnx.ModelProto) -> dict[str, int]:
    """How often onnxruntime runs each of its operators on a CPU for one image, by name."""
    options = session_options()
    options.enable_profiling = True
    given = model.graph.input[0]
    size = given.type.tensor_type.shape.dim[-1].dim_value
    with tempfile.TemporaryDirectory(prefix="facecore-") as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        session.run(None, {given.name: np.zeros((1, 3, size, size), np.float32)})
        events = json.loads(Path(session.end_profiling()).read_text())
    run = Counter(event["args"]["op_name"] for event in events if event["name"].endswith("_kernel_time"))
    return dict(sorted(run.items()))


def latency(models: Mapping[str, Backbone], size: int) -> dict[str, dict[str, float]]:
    """Median milliseconds an image of each model at each batch size, the models taking turns run by run."""
    with progress(sum(LATENCY_RUNS.values()) + len(LATENCY_RUNS), "time", "rounds") as bar:
        return {f"batch_{batch}": _latency(models, size, batch, bar.update) for batch in LATENCY_RUNS}


def _latency(models: Mapping[str, Backbone], size: int, batch: int, on_round: Callable[[], object]) -> dict[str, float]:
    images = np.random.default_rng(0).uniform(-1, 1, (batch, 3, size, size)).astype(np.float32)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for run in range(LATENCY_RUNS[batch] + 1):
        for name, model in models.items():
            began = time.perf_counter()
            model.embed(images)
            if run:  # the first warms up
                seconds[name].append(time.perf_counter() - began)
        on_round()
    return {name: 1e3 * statistics.median(of) / batch for name, of in seconds.items()}
