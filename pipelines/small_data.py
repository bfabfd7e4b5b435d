"""How few faces will do: the same network quantized on more and more faces, by every loss and every way to choose.

python pipelines/small_data.py STORE OUT --model M --images IMAGES --verify NAME=PAIRS,IMAGES --faces 500,1000,2000

All take the same number of steps, so that only the faces differ. What is finished under OUT is not done again, and a
network that was killed goes on; benchmarks/how_few.py makes a table of it.
"""

from itertools import product
from pathlib import Path

import click
from point_file import read_point, write_point

from facecore.accuracy import Check, quantize_and_verify
from facecore.cli.group import Recipe
from facecore.curve import Point, Store
from facecore.errors import OptionError
from facecore.provenance import sha256_of_file
from facecore.quantize import Bits, QuantizeOptions
from facecore.readers import open_dataset

FILE = click.Path(path_type=Path)


@click.command(cls=Recipe)
@click.argument("store", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=FILE)
@click.option("--model", type=FILE, required=True, help="Network to quantize.")
@click.option("--images", type=FILE, help="Root of the images, if not where they were.")
@click.option("--verify", "check", required=True, metavar="NAME=PAIRS[,IMAGES]", help="Pairs of other people.")
@click.option("--faces", default="500,1000,2000,5000,10000", show_default=True, help="Numbers of faces.")
@click.option("--methods", default="nms,random", show_default=True, help="As for facecore curve.")
@click.option("--losses", default="cosine,ekd", show_default=True, help="As for facecore quantize.")
@click.option("--bits", default="w6a6", show_default=True)
@click.option("--steps", type=click.IntRange(1), default=60, show_default=True, help="Of every fine-tuning.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
def main(
    store: Path,
    out: Path,
    model: Path,
    images: Path | None,
    check: str,
    faces: str,
    methods: str,
    losses: str,
    bits: str,
    steps: int,
    seeds: int,
) -> None:
    """Quantize on every number of faces, and say what each is worth."""
    pool = Store(store, tuple(methods.split(",")), 0)
    counts = sorted(int(count) if count.isdecimal() else 0 for count in faces.split(","))
    if not 0 < counts[0] <= counts[-1] <= pool.faces:
        raise OptionError(f"--faces are numbers from 1 to {pool.faces:,}, which {store} holds; got {faces}")
    test = Check.parse(check)
    test.open()
    made = {**pool.record, "model": sha256_of_file(model), "pairs_sha256": sha256_of_file(test.pairs)}
    for seed, count, method, loss in product(range(seeds), counts, pool.methods, losses.split(",")):
        folder = out / f"{method.replace(':', '-')}-{count}-{loss}-{bits}-{steps}-s{seed}"
        point = read_point(folder, made)
        if not point:
            pool.choose(Point(method, count / pool.faces, seed), folder / "subset.parquet", threads=1)
            options = QuantizeOptions(bits=Bits.parse(bits), steps=steps, loss=loss, seed=seed, workers=1)
            dataset = open_dataset(folder / "subset.parquet", images=images)
            report = quantize_and_verify(dataset, model, folder, options, [test], overwrite=True)
            how = {"method": method, "faces": len(dataset), "loss": loss, "bits": bits, "steps": steps, "seed": seed}
            point = {**made, **how, "protocol": test.name, "accuracy": report["accuracy"][test.name]}
            write_point(folder, point)
        found = point["accuracy"]
        lost = 100 * (found["float"]["accuracy"] - found["fine_tuned"]["accuracy"])
        click.echo(f"{count:,} faces by {method}, {loss}, seed {seed}: {lost:.2f} points lost")


if __name__ == "__main__":
    main()
