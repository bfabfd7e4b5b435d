"""What quantization cost and saved, measured on the files that were written."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from facecore.errors import ModelError
from facecore.images import Floats
from facecore.models import Backbone
from facecore.progress import progress

LATENCY_BATCHES = (1, 64)
LATENCY_RUNS = 7


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


def latency(models: dict[str, Backbone], size: int) -> dict[str, dict[str, float]]:
    """Median milliseconds an image of each model at each batch size, the models taking turns run by run."""
    with progress(len(LATENCY_BATCHES) * (LATENCY_RUNS + 1), "time", "rounds") as bar:
        return {f"batch_{batch}": _latency(models, size, batch, bar.update) for batch in LATENCY_BATCHES}


def _latency(models: dict[str, Backbone], size: int, batch: int, on_round: Callable[[], object]) -> dict[str, float]:
    images = np.random.default_rng(0).uniform(-1, 1, (batch, 3, size, size)).astype(np.float32)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for run in range(LATENCY_RUNS + 1):
        for name, model in models.items():
            began = time.perf_counter()
            model.embed(images)
            if run:  # the first warms up
                seconds[name].append(time.perf_counter() - began)
        on_round()
    return {name: 1e3 * statistics.median(of) / batch for name, of in seconds.items()}


def one_line(report: dict[str, Any]) -> str:
    """The report in a sentence."""
    size, cosine, speed = report["bytes"], report["cosine_to_teacher"], report["latency_ms"]["batch_1"]
    return (
        f"{report['bits']}: {size['quantized'] / 1e6:.2f} MB, was {size['float'] / 1e6:.2f}; "
        f"{speed['quantized']:.1f} ms a face, was {speed['float']:.1f}; mean cosine to full precision "
        f"{cosine['fine_tuned']['mean']:.4f}, was {cosine['calibrated']['mean']:.4f} before fine-tuning on "
        f"{report['faces_used']:,} faces"
    )
