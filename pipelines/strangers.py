"""Make a test of strangers: the pairs of a benchmark without the people whom a pool of faces has, too.

facecore overlap --embeddings POOL --against BENCHMARK
python pipelines/strangers.py lfw/pairs.txt lfw/images strangers.csv --overlap overlap.parquet

`facecore overlap --drop` takes such people out of the pool; this takes them out of the test, where the pool is what is
compared. BENCHMARK is the folder of images that the pairs name, or its store; a person is a folder in it. Folds stay
as they were.
"""

import csv
import io
from pathlib import Path, PurePosixPath

import click
import pyarrow as pa
import pyarrow.parquet as pq

from facecore.cli.group import Recipe, overwrite
from facecore.errors import DataError, OptionError, counted
from facecore.parquet import check_expansion
from facecore.provenance import refuse_to_overwrite, write_text_whole
from facecore.verify import open_protocol

FILE = click.Path(path_type=Path)
IDENTITY = "benchmark_identity"


@click.command(cls=Recipe)
@click.argument("pairs", type=click.Path(path_type=Path, exists=True))
@click.argument("images", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=FILE)
@click.option(
    "--overlap", type=FILE, default="overlap.parquet", show_default=True, help="As facecore overlap wrote it."
)
@overwrite
def main(pairs: Path, images: Path, out: Path, overlap: Path, overwrite: bool) -> None:
    """Write the pairs of strangers to OUT, a table of left, right, same and fold."""
    refuse_to_overwrite(out, overwrite=overwrite, inputs=[pairs, overlap])
    protocol = open_protocol(pairs, images)
    known = in_both(overlap)
    people = [str(PurePosixPath(name).parent) for name in protocol.images]
    left_out = known & set(people)
    if known and not left_out:
        raise OptionError(f"nobody in {overlap} is in {pairs}; check that it was made with --against {images}")
    rows = [
        (protocol.images[left], protocol.images[right], int(same), int(fold))
        for left, right, same, fold in zip(protocol.left, protocol.right, protocol.same, protocol.fold, strict=True)
        if not left_out & {people[left], people[right]}
    ]
    if not rows:
        raise OptionError(f"every pair of {pairs} has somebody in {overlap}; nothing is left to test on")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("left", "right", "same", "fold"), *rows])
    write_text_whole(out, text.getvalue())
    without = f"{counted(len(left_out), 'identity')} of {len(set(people)):,}"
    click.echo(f"{out}: {len(rows):,} of {len(protocol):,} pairs, without {without}")


def in_both(overlap: Path) -> set[str]:
    """The identities of the benchmark that facecore overlap found; raises DataError if the file is none of its."""
    try:
        check_expansion(overlap)
        return set(pq.read_table(overlap, columns=[IDENTITY])[0].to_pylist())
    except (pa.ArrowException, OSError, IndexError):
        raise DataError(f"{overlap} is no evidence of overlap; facecore overlap writes it") from None


if __name__ == "__main__":
    main()
