"""How small a proxy data set will do: faces kept by proxies of a share of the identities, and by a full network.

python pipelines/proxy_share.py FACES TEACHER_STORE OUT --shares 0.1,0.3,1

For every share a small network is trained, embeds all faces and keeps a part of them; printed is how many of those the
teacher's store would keep, too. The stores stay in OUT, where pipelines/from_scratch.py can learn from what they keep.
"""

import json
from pathlib import Path

import click

from facecore.cli.group import Recipe
from facecore.curve import Point, Store, parse_fractions
from facecore.embed import EmbedOptions, embed
from facecore.embeddings import Embeddings
from facecore.errors import DataError
from facecore.manifest import read_manifest
from facecore.provenance import write_text_whole
from facecore.readers import Dataset, open_dataset
from facecore.train import TrainOptions, train


def kept(store: Path, method: str, keep: float, out: Path) -> set[str]:
    """The face_ids that a method keeps of a store, by its seed 0."""
    Store(store, (method,)).choose(Point(method, keep, 0), out, threads=1)
    return set(read_manifest(out)[0]["face_id"].to_pylist())


def check_teacher(teacher: Path, dataset: Dataset) -> None:
    """Raise DataError if the store is not whole, or has faces that the data set has not."""
    store, known = Embeddings.open(teacher), set(dataset.faces["face_id"].to_pylist())
    if other := {name for n in range(len(store)) for name in store.faces(n)["face_id"].to_pylist()} - known:
        raise DataError(f"{teacher} has a face {min(other)}, FACES have none; give the store of these faces")


@click.command(cls=Recipe)
@click.argument("faces", type=click.Path(path_type=Path, exists=True))
@click.argument("teacher", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--shares", default="0.1,0.3,1", show_default=True, help="Of the identities, that proxies learn from.")
@click.option("--methods", default="nms,nms:twin,nms:central", show_default=True, help="As for facecore curve.")
@click.option("--keep", type=click.FloatRange(0, 1, min_open=True), default=0.6, show_default=True)
@click.option("--steps", type=click.IntRange(1), default=400, show_default=True, help="Of every training.")
@click.option("--batch-size", type=click.IntRange(2), default=64, show_default=True)
def main(
    faces: Path, teacher: Path, out: Path, shares: str, methods: str, keep: float, steps: int, batch_size: int
) -> None:
    """Train a proxy for every share, and compare what is kept."""
    dataset, rows = open_dataset(faces), []
    Store(teacher, tuple(methods.split(",")))  # says which methods there are, before hours of training
    check_teacher(teacher, dataset)
    for share in parse_fractions(shares):
        folder = out / f"{share:g}-{steps}"
        report = folder / "proxy" / "report.json"
        if not report.exists():
            options = TrainOptions(
                arch="tiny", identities=share, steps=steps, batch_size=batch_size, scale=32.0, margin=0.2, workers=1
            )
            train(dataset, folder / "proxy", options)
        try:
            learnt = (told := json.loads(report.read_text()))["inputs"]["dataset"], told["options"]["batch_size"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{report} is damaged; delete {folder} and run again") from error
        if learnt != (dataset.sha256, batch_size):
            raise DataError(f"{folder} learnt from other faces, or with another --batch-size; choose another OUT")
        embed(dataset, folder / "proxy" / "backbone.onnx", folder / "store", EmbedOptions())
        for method in methods.split(","):
            name = f"{method.replace(':', '-')}-{keep:g}.parquet"
            ours, theirs = kept(folder / "store", method, keep, folder / name), kept(teacher, method, keep, out / name)
            both = len(ours & theirs) / len(theirs)
            rows.append({"identities": share, "method": method, "keep": keep, "agree": both})
            click.echo(f"{share:g} of the identities, {method}: {100 * both:.1f} % of what the teacher keeps")
    write_text_whole(out / "agreement.json", json.dumps({"faces": len(dataset), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
