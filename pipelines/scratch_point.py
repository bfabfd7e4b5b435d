"""One point of from_scratch.py: faces chosen, a network trained on them and verified, each unless that was done."""

from dataclasses import asdict
from pathlib import Path

from point_file import read_point, write_point

from facecore.accuracy import Check
from facecore.curve import Point, Store
from facecore.models import load_backbone
from facecore.provenance import sha256_of_file
from facecore.readers import open_dataset
from facecore.train import TrainOptions, train
from facecore.verify import verify

REPORTED = ("faces", "identities", "steps", "seconds")


def learn(pool: Store, images: Path | None, check: Check, point: Point, options: TrainOptions, out: Path) -> float:
    """Choose the faces of a point, train on them and verify, what is not done yet; the accuracy."""
    protocol = check.open()  # before the training, which a mistake here would waste
    test = {"protocol": check.name, "pairs_sha256": sha256_of_file(check.pairs)}
    made = {**pool.record, "min_share": pool.min_share, "training": asdict(options)}
    record = read_point(out, made)
    if not record:
        pool.choose(point, out / "subset.parquet", threads=1)
        report = train(open_dataset(out / "subset.parquet", images=images), out / "network", options, overwrite=True)
        record = {**point._asdict(), **made, **{name: report[name] for name in REPORTED}}
        write_point(out, record)
    if not test.items() <= record.items():
        found = verify(load_backbone(out / "network" / "backbone.onnx"), protocol)
        record |= {**test, "accuracy": found.accuracy, "folds": list(found.fold_accuracies)}
        write_point(out, record)
    return float(record["accuracy"])
