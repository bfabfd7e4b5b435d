"""The quantization stage: a data set and a network in, an integer network and a report out."""

import contextlib
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from facecore.checkpoint import Checkpoint
from facecore.errors import DataError
from facecore.images import Floats
from facecore.models import Backbone, load_backbone, load_onnx, record_preprocess
from facecore.progress import progress
from facecore.provenance import (
    Provenance,
    canonical_json,
    filling,
    refuse_to_overwrite,
    sha256_of,
    write_text_whole,
    written_whole,
)
from facecore.quantize.artefacts import (
    CHECKPOINT,
    PACKED,
    REPORT,
    artefact_names,
    artefacts,
    check_report,
    sizes,
    to_json,
)
from facecore.quantize.equalise import equalise
from facecore.quantize.export import to_float, to_integer
from facecore.quantize.faces import Faces, Rows, evenly, manifest_preprocess
from facecore.quantize.options import QuantizeOptions
from facecore.quantize.reconstruct import FACES, narrowed
from facecore.quantize.recover import recover
from facecore.quantize.report import computation, cosine_summary, latency, layer_decibels
from facecore.quantize.student import SEARCHED, Student
from facecore.quantize.teacher import Teacher
from facecore.quantize.tuning import School, Tuning
from facecore.quantize.widths import apart, check_products
from facecore.readers import Dataset

CALIBRATION_BATCH = 32  # of which a range is a mean, so not the user's to change with --batch-size
LISTENED_TO = 8  # faces at which the noise of every tensor is measured

log = logging.getLogger(__name__)


def quantize(
    dataset: Dataset,
    model: Path,
    out: Path,
    options: QuantizeOptions,
    *,
    arch: str | None = None,
    overwrite: bool,
    measure: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda report: {},
) -> dict[str, Any]:
    """Quantize a network, fine-tune it on the faces of a data set, and write its `artefacts` and report.json to `out`.

    A run that was killed goes on from its last checkpoint, to the same bytes. Returns the report, whose cosines are
    those of the file written, on faces that were not trained on if the data set has ten or more; `measure` is given it
    when all other files are written, and says what is to be added.
    Raises ModelError if the network cannot be quantized, DataError if faces cannot be read or a file exists.
    """
    report_path, cache = out / REPORT, out / "teacher.npz"
    check_report(report_path)
    going_on = (out / CHECKPOINT).exists()  # which says below whether the files are of the same run
    names = (*artefact_names(options.bits), REPORT)
    refuse_to_overwrite(*(out / name for name in names), overwrite=overwrite or going_on, inputs=[model])
    run = _Run(dataset, model, options, arch)
    checkpoint = Checkpoint(out / CHECKPOINT, run.fingerprint, overwrite=overwrite)
    recovery = Checkpoint(out / "recovery.pt", run.fingerprint, overwrite=overwrite)
    log.info("%s: %s", model, json.dumps(asdict(run.schedule)))
    run.begin(checkpoint.load(), recovery, cache)
    run.fine_tune(checkpoint, cache)
    integer = run.integer()
    files = artefacts(integer, run.calibrated, options.bits)
    report = {
        **run.facts(),
        "bytes": {"float": run.float_bytes, **sizes(files)},
        "computation": computation(integer),
        "decibels": run.decibels(),
        "latency_ms": run.latency(integer),
    }
    for name in (REPORT, PACKED):  # never a report beside a model that it is not of, nor a packed one of other bits
        (out / name).unlink(missing_ok=True)
    for name, content in files.items():
        with written_whole(out / name) as part:
            part.write_bytes(content)
    report |= measure(report)
    write_text_whole(report_path, to_json(report))
    recovery.remove()
    cache.unlink(missing_ok=True)
    checkpoint.remove()  # last: a run that is killed before comes by here again
    return report


class _Run:
    """One quantization: the teacher, the student, and the faces they share."""

    def __init__(self, dataset: Dataset, model: Path, options: QuantizeOptions, arch: str | None) -> None:
        self._dataset, self._options = dataset, options
        self._backbone = load_backbone(model, arch=arch)
        self._float = load_onnx(model, arch=arch)
        check_products(self._float.graph)
        self.float_bytes = len(to_float(self._float).SerializeToString())
        self._preprocess = (
            options.preprocess or self._backbone.preprocess or manifest_preprocess(dataset, self._backbone)
        )
        self._faces = Faces(
            dataset,
            size=self._backbone.size,
            preprocess=self._preprocess,
            workers=options.workers,
            max_rejected=options.max_rejected,
        )
        training, held_out = self._faces.held_out(options.held_out, options.seed)
        self._school = School(self._faces, Teacher(self._backbone, len(self._faces)), training, held_out)
        self._calibration = evenly(training, options.calibration_faces)
        self.schedule = options.schedule(len(training))
        self._student: Student
        self._tuning: Tuning
        self._begun: dict[str, Any]  # what calibration found, for the checkpoints

    def begin(self, saved: dict[str, Any] | None, recovery: Checkpoint, cache: Path) -> None:
        """Prune and calibrate, or go on from a checkpoint."""
        self._school.teacher.load(cache, self.fingerprint)
        if saved is None:
            began = time.perf_counter()
            model = self._calibrate(self._pruned(recovery, cache))
            integer = self.integer()
            self._begun = {"model": model.SerializeToString(), "integer": integer.SerializeToString()}
            self._begun["calibrated"] = self.measure(integer)
            self._begun["seconds"] = time.perf_counter() - began
        else:
            self._begun = saved["begun"]
            self._student = self._new_student(onnx.load_from_string(self._begun["model"]))
            self._student.restore(saved["tuning"]["student"])
            self._faces.reject(saved["rejected"])
        self._tuning = Tuning(self._student, self._school, self._options, self.schedule)
        if saved is not None:
            self._tuning.restore(saved["tuning"])
        log.info("before fine-tuning: mean cosine to full precision %.4f", self._begun["calibrated"]["mean"])

    def _calibrate(self, narrow: onnx.ModelProto) -> onnx.ModelProto:
        """Make the student, with the ranges of its tensors; returns the float network that it computes."""
        if self._options.bits.is_float:
            self._student = self._new_student(narrow)
            return narrow
        readable = self._readable(self._calibration)
        with progress(2 * len(readable) + len(readable[:SEARCHED]), "calibrate", "batches") as bar:
            model = equalise(narrow, readable, on_batch=bar.update)
            model = apart(model) if self._options.bits.activations < 8 else model
            self._student = self._new_student(model)
            self._student.calibrate(readable, ends=self._faces.ends, ranges=self._options.ranges, on_batch=bar.update)
        return model

    def _readable(self, rows: Rows) -> list[torch.Tensor]:
        """The input of these faces, in batches; raises DataError if none can be read."""
        batches = self._faces.batches(rows, CALIBRATION_BATCH)
        readable = [torch.from_numpy(images) for found, images in batches if len(found)]
        if not readable:
            source, reason = next(iter(self._faces.rejected.items()))
            raise DataError(f"none of {len(rows):,} faces can be read, first {source}: {reason}; mend the data set")
        return readable

    def _pruned(self, recovery: Checkpoint, cache: Path) -> onnx.ModelProto:
        """The network to begin with: the teacher's own, or a narrower one.

        What is quantized next learns to do without the rest first; what stays in floats is fine-tuned to that end.
        """
        if not self._options.sparsity:
            return self._float
        some = torch.cat(self._readable(evenly(self._calibration, FACES)))
        narrow = narrowed(self._float, self._options.sparsity, some)
        if self._options.bits.is_float:
            return narrow

        def save(state: dict[str, Any]) -> None:
            self._school.teacher.save(cache, self.fingerprint)
            recovery.save({"tuning": state, "rejected": self._faces.rejected})

        saved = recovery.load()
        if saved is not None:
            self._faces.reject(saved["rejected"])
        state = saved["tuning"] if saved is not None else None
        return recover(narrow, self._school, self._options, self.schedule, saved=state, on_checkpoint=save)

    def _new_student(self, model: onnx.ModelProto) -> Student:
        return Student(model, self._options.bits, edges_8_bit=self._options.edges_8_bit)

    def fine_tune(self, checkpoint: Checkpoint, cache: Path) -> None:
        """Train the student, writing all that a killed run needs at every checkpoint."""

        def save() -> None:
            self._school.teacher.save(cache, self.fingerprint)
            checkpoint.save({"begun": self._begun, "tuning": self._tuning.state(), "rejected": self._faces.rejected})

        self._tuning.run(save)

    def integer(self) -> onnx.ModelProto:
        """The student as it is now, as an integer model that says how it was made; with the bits float, a float one."""
        student = self._student
        integer = student.model()
        if not self._options.bits.is_float:
            integer = to_integer(integer, student.quantizers, student.weight_quantizers)
        record_preprocess(integer, self._preprocess)
        made = Provenance("quantize", self._recorded_options(), self._inputs())
        integer.metadata_props.add(key="facecore", value=made.to_json())
        return integer

    def measure(self, integer: onnx.ModelProto) -> dict[str, float]:
        """Cosine of the integer model's embeddings, run as a file is, to the teacher's, on the held-out faces."""
        rows = self._school.held_out if len(self._school.held_out) else self._calibration
        pairs: list[tuple[Floats, Floats]] = []
        with _as_backbone(integer) as backbone, progress(len(rows), "measure", "faces") as bar:
            for found, images in self._faces.batches(rows, 64):
                bar.update(len(found))
                if len(found):
                    target = self._school.teacher.embed(found, images, mirrored=False)
                    pairs.append((backbone.embed(images), target))
        student, teacher = (np.concatenate(side) for side in zip(*pairs, strict=True))
        return cosine_summary(student, teacher)

    @property
    def calibrated(self) -> bytes:
        """The integer model as it was before fine-tuning."""
        return bytes(self._begun["integer"])

    def decibels(self) -> dict[str, float]:
        """Signal to quantization noise of every tensor of the student, on a few faces; none where all are floats."""
        if self._options.bits.is_float:
            return {}
        ((_, images),) = self._faces.batches(self._calibration[:LISTENED_TO], LISTENED_TO)
        return layer_decibels(onnx.load_from_string(self._begun["model"]), self._student, torch.from_numpy(images))

    def latency(self, integer: onnx.ModelProto) -> dict[str, dict[str, float]]:
        """Milliseconds a face before and after, with PReLU written alike."""
        float_ = self._float if self._options.bits.is_float else to_float(self._float)
        with _as_backbone(float_) as before, _as_backbone(integer) as after:
            return latency({"float": before, "quantized": after}, self._backbone.size)

    @property
    def fingerprint(self) -> str:
        """What a checkpoint must be of: the inputs, and the options but for how many faces may be rejected."""
        options = self._recorded_options()
        del options["max_rejected"]  # a run that stopped over it goes on with a larger one
        facts = {"options": options, "inputs": self._inputs(), "preprocess": asdict(self._preprocess)}
        return sha256_of(canonical_json(facts))

    def _recorded_options(self) -> dict[str, Any]:
        options = {key: value for key, value in asdict(self._options).items() if key not in ("workers", "preprocess")}
        return {**options, "bits": str(self._options.bits)}

    def _inputs(self) -> dict[str, str]:
        return {"model": self._backbone.sha256, "dataset": self._dataset.sha256}

    def facts(self) -> dict[str, Any]:
        """What went in, and how it was trained."""
        losses = self._tuning.losses
        return {
            "bits": str(self._options.bits),
            "sparsity": self._options.sparsity,
            "inputs": self._inputs(),
            "parameters": sum(values.numel() for values in self._student.network.parameters()),
            "preprocess": asdict(self._preprocess),
            "faces": len(self._faces),
            "faces_used": len(self._tuning.used),
            "faces_held_out": len(self._school.held_out),
            "rejected": [
                {"source": source, "reason": reason} for source, reason in sorted(self._faces.rejected.items())
            ],
            "schedule": asdict(self.schedule),
            "loss": {"first": losses[0], "last": float(np.mean(losses[-10:]))} if losses else None,
            "checkpoints": self._tuning.checks,
            "cosine_to_teacher": {"calibrated": self._begun["calibrated"], "fine_tuned": self.measure(self.integer())},
            "seconds": {"calibrate": self._begun["seconds"], "fine_tune": self._tuning.seconds},
        }


@contextlib.contextmanager
def _as_backbone(model: onnx.ModelProto) -> Iterator[Backbone]:
    """A model in memory as what would be loaded from its file."""
    with tempfile.TemporaryDirectory(prefix="facecore-") as folder:
        path = Path(folder) / "model.onnx"
        with filling(path):
            onnx.save(model, path)
        yield load_backbone(path)
