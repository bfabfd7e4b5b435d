"""The quantization stage: a data set and a network in, an integer network and a report out."""

import contextlib
import json
import logging
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from facecore.errors import DataError, OptionError
from facecore.images import Floats, Preprocess
from facecore.models import Backbone, load_backbone, load_onnx, record_preprocess
from facecore.progress import progress
from facecore.provenance import Provenance, refuse_to_overwrite, write_text_whole, written_whole
from facecore.quantize.bits import Bits
from facecore.quantize.distill import Schedule, distill, orders
from facecore.quantize.export import to_float, to_integer
from facecore.quantize.faces import Faces, Rows
from facecore.quantize.report import cosine_summary, latency
from facecore.quantize.student import SEARCHED, Student
from facecore.quantize.teacher import Teacher
from facecore.readers import Dataset

CALIBRATION_BATCH = 32  # of which a range is a mean, so not the user's to change with --batch-size

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class QuantizeOptions:
    """How to quantize and fine-tune."""

    bits: Bits = field(
        default_factory=Bits, metadata={"help": "Per weight and activation, w8a8 to w2a2.", "parse": Bits.parse}
    )
    epochs: float = field(default=1.0, metadata={"help": "Times every face is used; a fraction is allowed."})
    steps: int | None = field(default=None, metadata={"help": "Optimizer steps, instead of epochs."})
    batch_size: int = field(default=32, metadata={"help": "Faces in a step."})
    learning_rate: float = field(default=3e-4, metadata={"help": "Where the cosine decay starts."})
    calibration_faces: int = field(default=512, metadata={"help": "Faces whose activations set the ranges."})
    seed: int = field(default=0, metadata={"help": "Of the order of the faces and the flips."})
    workers: int = field(default=2, metadata={"help": "Threads that read and decode images."})
    max_rejected: float = field(default=0.01, metadata={"help": "Stop when more than this fraction is rejected."})
    preprocess: Preprocess | None = None  # None: as the network's file, else the manifest's maker, recorded it

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epochs) and self.epochs >= 0):
            raise OptionError(f"epochs must be 0 or more, got {self.epochs:g}")
        for name in ("calibration_faces", "workers"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.max_rejected <= 1:
            raise OptionError(
                f"max_rejected is the fraction of the faces that may be rejected, in [0, 1]; got {self.max_rejected}"
            )
        self.schedule(1)

    def schedule(self, faces: int) -> Schedule:
        """The steps that the epochs come to on this many faces."""
        steps = math.ceil(self.epochs * faces / max(1, self.batch_size)) if self.steps is None else self.steps
        return Schedule(steps, self.batch_size, self.learning_rate, self.seed)


def quantize(
    dataset: Dataset, model: Path, out: Path, options: QuantizeOptions, *, arch: str | None = None, overwrite: bool
) -> dict[str, Any]:
    """Quantize a network, fine-tune it on the faces of a data set, and write `out`/model.onnx and `out`/report.json.

    Returns the report, whose cosines are those of the file written, on evenly spaced faces of the data set.
    Raises ModelError if the network cannot be quantized, DataError if faces cannot be read or a file exists.
    """
    target, report_path = out / "model.onnx", out / "report.json"
    refuse_to_overwrite(target, report_path, overwrite=overwrite)
    run = _Run(dataset, model, options, arch)
    log.info("%s: %s", model, json.dumps(run.facts()["schedule"]))
    began = time.perf_counter()
    run.calibrate()
    calibrated = run.measure(run.integer())
    seconds = {"calibrate": time.perf_counter() - began}
    log.info("calibrated in %.1f s: mean cosine to full precision %.4f", seconds["calibrate"], calibrated["mean"])
    began = time.perf_counter()
    losses = run.fine_tune()
    seconds["fine_tune"] = time.perf_counter() - began
    integer = run.integer()
    report = {
        **run.facts(),
        "cosine_to_teacher": {"calibrated": calibrated, "fine_tuned": run.measure(integer)},
        "loss": {"first": losses[0], "last": float(np.mean(losses[-10:]))} if losses else None,
        "bytes": {"float": run.float_bytes, "quantized": len(integer.SerializeToString())},
        "latency_ms": run.latency(integer),
        "seconds": seconds,
    }
    report_path.unlink(missing_ok=True)  # never a report beside a model that it is not of
    with written_whole(target) as part:
        part.write_bytes(integer.SerializeToString())
    write_text_whole(report_path, json.dumps(report, indent=2, sort_keys=True, allow_nan=False) + "\n")
    return report


class _Run:
    """One quantization: the teacher, the student, and the faces they share."""

    def __init__(self, dataset: Dataset, model: Path, options: QuantizeOptions, arch: str | None) -> None:
        self._dataset, self._options = dataset, options
        self._backbone = load_backbone(model, arch=arch)
        self._float = load_onnx(model, arch=arch)
        self.float_bytes = len(to_float(self._float).SerializeToString())
        self._student = Student(self._float, options.bits)
        self._preprocess = options.preprocess or self._backbone.preprocess or _recorded(dataset, self._backbone)
        self._faces = Faces(
            dataset,
            size=self._backbone.size,
            preprocess=self._preprocess,
            workers=options.workers,
            max_rejected=options.max_rejected,
        )
        self._schedule = options.schedule(len(self._faces))
        self._teacher = Teacher(self._backbone, len(self._faces))
        self._used: set[int] = set()

    def calibrate(self) -> None:
        """Set the ranges of the student's tensors."""
        rows = self._faces.evenly(self._options.calibration_faces)
        batches = self._faces.batches(rows, CALIBRATION_BATCH)
        readable = [torch.from_numpy(images) for found, images in batches if len(found)]
        if not readable:
            source, reason = next(iter(self._faces.rejected.items()))
            raise DataError(f"none of {len(rows):,} faces can be read, first {source}: {reason}; mend the data set")
        with progress(len(readable) + len(readable[:SEARCHED]), "calibrate", "batches") as bar:
            self._student.calibrate(readable, on_batch=bar.update)

    def fine_tune(self) -> list[float]:
        """Train the student; returns the loss of every step."""
        with progress(self._schedule.steps, "fine-tune", "steps") as bar:

            def on_step(loss: float) -> None:
                bar.set_postfix(loss=f"{loss:.4f}")
                bar.update(1)

            return distill(self._student, self._lessons(), self._schedule, on_step=on_step)

    def _lessons(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The input of every step, and where the teacher puts it."""
        plan = list(orders(len(self._faces), self._schedule))
        if not plan:
            return
        size = len(plan[0][0])
        every = np.concatenate([rows for rows, _ in plan])
        for (_, mirrored), (rows, images) in zip(plan, self._faces.batches(every, size), strict=True):
            if len(rows):
                images = np.ascontiguousarray(images[..., ::-1]) if mirrored else images
                self._used.update(rows.tolist())
                yield (
                    torch.from_numpy(images),
                    torch.from_numpy(self._teacher.embed(rows, images, mirrored=mirrored)),
                )

    def integer(self) -> onnx.ModelProto:
        """The student as it is now, as an integer model that says how it was made."""
        integer = to_integer(self._student.network.write_back(), self._student.quantizers, self._options.bits)
        record_preprocess(integer, self._preprocess)
        options = {key: value for key, value in asdict(self._options).items() if key not in ("workers", "preprocess")}
        made = Provenance("quantize", {**options, "bits": str(self._options.bits)}, self._inputs())
        integer.metadata_props.add(key="facecore", value=made.to_json())
        return integer

    def measure(self, integer: onnx.ModelProto) -> dict[str, float]:
        """Cosine of the integer model's embeddings, run as a file is, to the teacher's."""
        rows: Rows = self._faces.evenly(self._options.calibration_faces)
        pairs: list[tuple[Floats, Floats]] = []
        with _as_backbone(integer) as backbone, progress(len(rows), "measure", "faces") as bar:
            for found, images in self._faces.batches(rows, 64):
                bar.update(len(found))
                if len(found):
                    pairs.append((backbone.embed(images), self._teacher.embed(found, images, mirrored=False)))
        student, teacher = (np.concatenate(side) for side in zip(*pairs, strict=True))
        return cosine_summary(student, teacher)

    def latency(self, integer: onnx.ModelProto) -> dict[str, dict[str, float]]:
        """Milliseconds a face, float against integer."""
        with _as_backbone(to_float(self._float)) as before, _as_backbone(integer) as after:
            return latency({"float": before, "quantized": after}, self._backbone.size)

    def _inputs(self) -> dict[str, str]:
        return {"model": self._backbone.sha256, "dataset": self._dataset.sha256}

    def facts(self) -> dict[str, Any]:
        """What went in, and how it was trained."""
        return {
            "bits": str(self._options.bits),
            "inputs": self._inputs(),
            "parameters": sum(values.numel() for values in self._student.network.parameters()),
            "preprocess": asdict(self._preprocess),
            "faces": len(self._faces),
            "faces_used": len(self._used),
            "rejected": [
                {"source": source, "reason": reason} for source, reason in sorted(self._faces.rejected.items())
            ],
            "schedule": asdict(self._schedule),
        }


@contextlib.contextmanager
def _as_backbone(model: onnx.ModelProto) -> Iterator[Backbone]:
    """A model in memory as what would be loaded from its file."""
    with tempfile.TemporaryDirectory(prefix="facecore-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        yield load_backbone(path)


def _recorded(dataset: Dataset, backbone: Backbone) -> Preprocess:
    """What the manifest's maker fed to this very network; the field's default for another network or no record."""
    facts = dataset.facts
    if facts.get("model", {}).get("sha256") == backbone.sha256 and "preprocess" in facts:
        return Preprocess(**facts["preprocess"])
    return Preprocess()
