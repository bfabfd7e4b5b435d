"""One point: choose its faces, quantize, verify; and the networks that all points are compared with."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facecore.curve.options import Point
from facecore.curve.sweep import Sweep, read_json
from facecore.images import Preprocess
from facecore.manifest import with_provenance
from facecore.models import Backbone, load_backbone
from facecore.provenance import Provenance, write_text_whole, written_whole
from facecore.quantize import quantize
from facecore.quantize.artefacts import CALIBRATED, CHECKPOINT, MODEL, REPORT, to_json
from facecore.readers import open_dataset
from facecore.verify import VerifyOptions, compare, correct, judge

ACCURACY = "accuracy.json"  # of a reference

Accuracy = dict[str, dict[str, Any]]  # by protocol, then by what was verified: float, calibrated or fine_tuned


def is_finished(sweep: Sweep, point: Point) -> bool:
    """Whether a point was quantized and verified on all protocols."""
    report = sweep.report(point)
    return report is not None and sweep.sha256.keys() <= report.get("accuracy", {}).keys()


def finish(sweep: Sweep, point: Point, *, threads: int) -> None:
    """Do what is left of a point. Its report is completed last, when all protocols were measured.

    Faces are chosen anew until the report says which: that gives the same bytes, and quantize goes on from there.
    """
    folder, report = sweep.folder(point), sweep.report(point)
    if report is None or "point" not in report:
        began = time.perf_counter()
        subset = folder / "subset.parquet"
        sweep.pool.choose(point, subset, threads=threads)
        chosen = {"select": time.perf_counter() - began}
        dataset = open_dataset(subset, images=sweep.images)
        if report is None or (folder / CHECKPOINT).exists():
            options = dataclasses.replace(sweep.quantize, seed=point.seed)
            report = quantize(dataset, sweep.model, folder, options, arch=sweep.arch, overwrite=True)
        report["seconds"] |= chosen
        report["point"] = {
            **point._asdict(),
            "budget": sweep.options.budget,
            "identities": pc.count_distinct(dataset.faces["identity"]).as_py(),
            "made": dataclasses.asdict(sweep.provenance),
        }
        report["accuracy"] = {}
    network = load_backbone(folder / MODEL)
    report["accuracy"] = _measured(sweep, network, "fine_tuned", folder, report["accuracy"], _how(sweep, report))
    write_text_whole(folder / REPORT, to_json(report))


def reference(sweep: Sweep, stage: str, point: Point) -> Accuracy:
    """What the teacher (`float`), or the `calibrated` network of a finished point, is worth; measured once.

    It is kept in a folder of its own, with the sha256 of the network that it is of.
    """
    folder, report = sweep.out / "references" / stage, sweep.report(point)
    assert report is not None, f"{point} is not finished"
    if stage == "float":
        network = load_backbone(sweep.model, arch=sweep.arch)
    else:
        network = load_backbone(sweep.folder(point) / CALIBRATED)
    there = read_json(folder / ACCURACY) or {}
    known: Accuracy = there["accuracy"] if there.get("model") == network.sha256 else {}
    found = _measured(sweep, network, stage, folder, known, _how(sweep, report))
    if found != known:
        write_text_whole(folder / ACCURACY, to_json({"model": network.sha256, "accuracy": found}))
    return found


def _how(sweep: Sweep, report: Mapping[str, Any]) -> VerifyOptions:
    return VerifyOptions(preprocess=Preprocess(**report["preprocess"]), workers=sweep.quantize.workers)


def _measured(
    sweep: Sweep, network: Backbone, stage: str, folder: Path, known: Accuracy, how: VerifyOptions
) -> Accuracy:
    """What is known, and the accuracy on the protocols that are missing; the cosines of their pairs go into files."""
    found = dict(known)
    for check in sweep.checks:
        if check.name not in found:
            protocol = check.open()
            cosines = compare(network, protocol, how)
            result, sha256 = judge(cosines, protocol), sweep.sha256[check.name]
            pairs = pa.table(
                {
                    "fold": protocol.fold,
                    "same": protocol.same,
                    "cosine": cosines,
                    "correct": correct(cosines, protocol, result),
                }
            )
            made = Provenance("verify", {}, {"model": network.sha256, "pairs": sha256}, {"protocol": check.name})
            with written_whole(folder / f"pairs-{check.name}.parquet") as part:
                pq.write_table(pairs.cast(with_provenance(pairs.schema, made)), part, compression="zstd")
            folds = {"fold_accuracies": list(result.fold_accuracies), "sha256": sha256}
            found[check.name] = {stage: result.to_json() | folds}
    return found
