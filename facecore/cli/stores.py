"""Commands that make and change embedding stores."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecore.claims import claimed
from facecore.cli.arrays import array, task_of
from facecore.cli.group import arch, images, main, model, overwrite, stage
from facecore.commands import FILE, PLACE, verbose
from facecore.errors import OptionError, counted
from facecore.pool import Task

if TYPE_CHECKING:  # at run time each command imports its own stage: torch takes seconds
    from facecore.embed import EmbedOptions
    from facecore.importing import ImportOptions
    from facecore.readers import Dataset

LITTLE = 0.01  # a mean probability that says nothing
EACH_ALONE = (
    "every face is of an identity of its own: if it should not be, see whether the labels hold more than the identity"
)
NOT_SURE = ": the head is of another network, its classes are in another order, or it has learnt little"


@stage("embed", "facecore.embed:EmbedOptions")
@click.argument("dataset", type=PLACE)
@model
@click.option("--out", type=PLACE, default="embeddings", show_default=True, help="Store to write.")
@click.option(
    "--format",
    default="auto",
    show_default=True,
    help="auto, manifest, list, folder, recordio, bin, webdataset, parquet, zip or lmdb.",
)
@images
@arch
@click.option(
    "--processes",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Shards embedded at a time, each by a process with the network in memory. Changes no byte.",
)
@array
@overwrite
def embed_command(
    dataset: Path,
    model: Path,
    out: Path,
    format: str,
    images: Path | None,
    arch: str | None,
    processes: int,
    shard_index: int | None,
    num_shards: int | None,
    overwrite: bool,
    options: "EmbedOptions",
) -> None:
    """Embed every face of DATASET: images in a folder or an archive, or a manifest. Goes on where it was stopped."""
    from facecore.embed import embed
    from facecore.readers import open_dataset

    task = task_of(shard_index, num_shards)
    if task and overwrite:
        raise OptionError("--overwrite would remove what other tasks write; leave it out, and remove the store before")
    faces = open_dataset(dataset, format=format, images=images)
    if task:
        _embed_share(faces, model, out, options, task, arch, processes)
        return
    done = embed(faces, model, out, options, arch=arch, overwrite=overwrite, processes=processes)
    of_whom = f"{counted(done.faces, 'face')} of {counted(done.identities, 'identity')}"
    resumed = f", {done.resumed_shards} of {done.shards} shards were there already" if done.resumed_shards else ""
    click.echo(f"{out}: {of_whom} in {done.seconds:.1f} s{resumed}")
    if done.rejected:
        click.echo(f"{counted(done.rejected, 'face')} rejected, see {out / 'rejected.parquet'}")
    if done.probability is not None:
        click.echo(f"mean probability {done.probability:.4f}" + (NOT_SURE if done.probability < LITTLE else ""))


def _embed_share(
    faces: "Dataset",
    model: Path,
    out: Path,
    options: "EmbedOptions",
    task: Task,
    arch: str | None,
    processes: int,
) -> None:
    from facecore.embed import embed_share

    done = embed_share(faces, model, out, options, task=task, arch=arch, processes=processes)
    then = "run the other tasks" if done.missing else "run the same command without --shard-index and --num-shards"
    click.echo(
        f"{out}: {done.done:,} of {done.shards:,} shards embedded in {done.seconds:.1f} s, "
        f"{done.missing:,} to do: {then}"
    )


@stage("import", "facecore.importing:ImportOptions")
@click.argument("vectors", type=FILE)
@click.option("--labels", type=FILE, help="Whose each row of a .npy is: a .npy, .txt, .csv or .parquet file.")
@click.option("--out", type=FILE, default="embeddings", show_default=True, help="Store to write.")
@click.option("--images", type=FILE, help="Root that sources are relative to, where the images are at hand.")
@overwrite
def import_command(
    vectors: Path, labels: Path | None, out: Path, images: Path | None, overwrite: bool, options: "ImportOptions"
) -> None:
    """Make a store of VECTORS that exist: a .npy file, Parquet (a file or a folder), or a folder of clip-retrieval."""
    from facecore.importing import import_vectors

    done = import_vectors(vectors, out, options, labels=labels, images=images, overwrite=overwrite)
    of_whom = f"{counted(done.faces, 'face')} of {counted(done.identities, 'identity')}"
    click.echo(f"{out}: {of_whom} in {done.seconds:.1f} s")
    how = f"partitioned (buckets: {done.buckets:,})" if done.buckets else "grouped already"
    click.echo(f"{counted(done.rows, 'row')}, {how}; {done.normalised:,} vectors were not of unit length")
    if done.rejected:
        click.echo(f"{counted(done.rejected, 'row')} rejected, see {out / 'rejected.parquet'}")
    if done.identities == done.faces > 1:
        click.echo(EACH_ALONE)


@main.command("forget")
@click.argument("names", nargs=-1)
@click.option("--from", "from_file", type=FILE, help="File with more names, one a line.")
@click.option("--embeddings", type=FILE, multiple=True, help="Store to remove them from; may be repeated.")
@click.option("--manifest", type=FILE, multiple=True, help="Manifest, with its dropped faces; may be repeated.")
@click.option("--receipt", type=FILE, default="forgotten.json", show_default=True, help="File to write.")
@click.option("--hash-names", is_flag=True, help="Write the sha256 of names in the receipt, not the names.")
@click.option("--allow-absent", is_flag=True, help="Names that are in no file are listed in the receipt, not refused.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@verbose
def forget_command(
    names: tuple[str, ...],
    from_file: Path | None,
    embeddings: tuple[Path, ...],
    manifest: tuple[Path, ...],
    receipt: Path,
    hash_names: bool,
    allow_absent: bool,
    dry_run: bool,
) -> None:
    """Remove people, or else faces, by their NAMES (identity, else face_id) from stores and manifests."""
    from facecore.forget import forget, read_names

    everyone = [*names, *(read_names(from_file) if from_file else [])]
    with claimed(*embeddings, *manifest):  # which it changes
        done = forget(
            everyone,
            stores=embeddings,
            manifests=manifest,
            receipt=receipt,
            hash_names=hash_names,
            allow_absent=allow_absent,
            dry_run=dry_run,
        )
    for entry in done.files:
        if entry.file.endswith(".parquet"):
            cleared = f", {entry.rivals_cleared:,} rivals cleared" if entry.rivals_cleared else ""
            click.echo(f"{entry.file}: {counted(entry.rows_removed, 'row')} removed{cleared}")
    nowhere = f", and {len(done.absent):,} who were nowhere" if done.absent else ""
    gone = len(done.names) - len(done.absent)
    click.echo("dry run: nothing was touched" if dry_run else f"{receipt}: receipt of {gone:,} forgotten{nowhere}")
