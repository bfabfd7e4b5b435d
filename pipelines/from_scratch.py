"""Which faces teach most: the same small network trained from scratch on every choice of faces.

python pipelines/from_scratch.py STORE OUT --verify NAME=PAIRS,IMAGES --methods nms,nms:twin,random --keep 0.6,0.4

A seed draws weights, batches and choices. 720 --steps at --keep 0.6 are as many epochs as 1,200 at 1. Finished points
are kept, and verified again if the test is another one; benchmarks/which_rank.py tells them.
"""

from pathlib import Path

import click
from scratch_point import learn

from facecore.accuracy import Check
from facecore.cli.group import Recipe
from facecore.curve import Point, Store, parse_fractions
from facecore.train import TrainOptions


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
