"""Which faces teach most: the same small network trained from scratch on every choice of faces.

python pipelines/from_scratch.py STORE OUT --verify NAME=PAIRS,IMAGES --methods nms,nms:twin,random --keep 0.6,0.4

A seed draws weights, batches and choices. 720 --steps at --keep 0.6 are as many epochs as 1,200 at 1. Finished points
are kept, and verified again if the test is another one; benchmarks/which_rank.py tells them.
"""

import json
from pathlib import Path

import click

from facecore.accuracy import Check
from facecore.cli.group import Recipe
from facecore.curve import Point, Store, parse_fractions
from facecore.models import load_backbone
from facecore.provenance import sha256_of_file, write_text_whole
from facecore.readers import open_dataset
from facecore.train import TrainOptions, train
from facecore.verify import open_protocol, verify

POINT = "point.json"  # the accuracy of every fold, and how it came about


def learn(pool: Store, images: Path | None, check: Check, point: Point, options: TrainOptions, out: Path) -> float:
    """Choose the faces of a point, train on them and verify, what is not done yet; the accuracy."""
    test = {"protocol": check.name, "pairs_sha256": sha256_of_file(check.pairs)}
    record = json.loads((out / POINT).read_text(encoding="utf-8")) if (out / POINT).exists() else {}
    if not record:
        pool.choose(point, out / "subset.parquet", threads=1)
        report = train(open_dataset(out / "subset.parquet", images=images), out / "network", options)
        record = {**point._asdict(), "min_per_identity": pool.min_per_identity, "min_share": pool.min_share}
        record |= {name: report[name] for name in ("faces", "identities", "steps", "seconds")}
    if not test.items() <= record.items():
        found = verify(load_backbone(out / "network" / "backbone.onnx"), open_protocol(check.pairs, check.images))
        record |= {**test, "accuracy": found.accuracy, "folds": list(found.fold_accuracies)}
        write_text_whole(out / POINT, json.dumps(record, indent=2) + "\n")
    return float(record["accuracy"])


@click.command(cls=Recipe)
@click.argument("store", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--images", type=click.Path(path_type=Path), help="Root of the images, if not where they were.")
@click.option("--verify", "check", required=True, metavar="NAME=PAIRS[,IMAGES]", help="Pairs of other people.")
@click.option("--methods", default="nms,random", show_default=True, help="As for facecore curve.")
@click.option("--keep", default="0.6", show_default=True, help="Fractions; all of it is one point, whatever chooses.")
@click.option("--min-per-identity", type=click.IntRange(0), help="Faces that every identity keeps.")
@click.option("--min-share", type=float, default=0.0, help="Share of its faces that every identity keeps.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--steps", type=click.IntRange(1), default=400, show_default=True, help="Of every training.")
@click.option("--batch-size", type=click.IntRange(2), default=64, show_default=True)
def main(
    store: Path,
    out: Path,
    images: Path | None,
    check: str,
    methods: str,
    keep: str,
    min_per_identity: int | None,
    min_share: float,
    seeds: int,
    steps: int,
    batch_size: int,
) -> None:
    """Train on every choice of faces, and say what each is worth."""
    pool = Store(store, tuple(methods.split(",")), min_per_identity, min_share)
    pool.check(parse_fractions(keep))
    for seed in range(seeds):
        options = TrainOptions(arch="tiny", steps=steps, seed=seed, batch_size=batch_size, scale=32.0, margin=0.2)
        points = [Point(method, fraction, seed) for fraction in parse_fractions(keep) for method in pool.methods]
        for point in dict.fromkeys(Point("all", 1.0, seed) if point.fraction == 1 else point for point in points):
            accuracy = learn(pool, images, Check.parse(check), point, options, out / f"{point.name}-{steps}")
            click.echo(f"{point}: {100 * accuracy:.2f} %")


if __name__ == "__main__":
    main()
