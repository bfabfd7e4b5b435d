"""Make a test of strangers: the pairs of a benchmark without the people whom a pool of faces has, too.

facecore overlap --embeddings POOL --against BENCHMARK
python pipelines/strangers.py lfw/pairs.txt lfw/images strangers.csv --overlap overlap.parquet

`facecore overlap --drop` takes such people out of the pool; this takes them out of the test, where the pool is what is
compared. BENCHMARK is the folder of images that the pairs name, or its store; a person is a folder in it. Folds stay
as they were.
"""

from pathlib import Path, PurePosixPath

import click
import pyarrow.parquet as pq

from facecore.cli.group import Recipe
from facecore.commands import counted
from facecore.errors import OptionError
from facecore.parquet import check_expansion
from facecore.provenance import write_text_whole
from facecore.verify import open_protocol

FILE = click.Path(path_type=Path)


@click.command(cls=Recipe)
@click.argument("pairs", type=click.Path(path_type=Path, exists=True))
@click.argument("images", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=FILE)
@click.option(
    "--overlap", type=FILE, default="overlap.parquet", show_default=True, help="As facecore overlap wrote it."
)
def main(pairs: Path, images: Path, out: Path, overlap: Path) -> None:
    """Write the pairs of strangers to OUT, a table of left, right, same and fold."""
    protocol = open_protocol(pairs, images)
    check_expansion(overlap)
    known = set(pq.read_table(overlap, columns=["benchmark_identity"])[0].to_pylist())
    people = [str(PurePosixPath(name).parent) for name in protocol.images]
    left_out = known & set(people)
    if known and not left_out:
        raise OptionError(f"nobody in {overlap} is in {pairs}; check that it was made with --against {images}")
    lines = ["left,right,same,fold"]
    for left, right, same, fold in zip(protocol.left, protocol.right, protocol.same, protocol.fold, strict=True):
        if not left_out & {people[left], people[right]}:
            lines.append(f"{protocol.images[left]},{protocol.images[right]},{int(same)},{fold}")
    write_text_whole(out, "\n".join(lines) + "\n")
    without = f"{counted(len(left_out), 'identity')} of {len(set(people)):,}"
    click.echo(f"{out}: {len(lines) - 1:,} of {len(protocol):,} pairs, without {without}")


if __name__ == "__main__":
    main()
