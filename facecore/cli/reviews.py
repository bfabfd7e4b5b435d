"""Commands that look a data set over before it is used."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecore.cli.group import arch, images, overwrite, stage, threads
from facecore.commands import FILE, PLACE
from facecore.errors import counted

if TYPE_CHECKING:  # at run time each command imports its own stage: torch takes seconds
    from facecore.review import ConflictOptions, OverlapOptions

embeddings = click.option(
    "--embeddings", type=PLACE, default="embeddings", show_default=True, help="Store to look over."
)


@stage("conflicts", "facecore.review:ConflictOptions")
@embeddings
@click.option("--out", type=PLACE, default="conflicts.parquet", show_default=True, help="Evidence to write.")
@threads
@overwrite
def conflicts_command(
    embeddings: Path, out: Path, threads: int | None, overwrite: bool, options: "ConflictOptions"
) -> None:
    """List likely label errors, best first: one person under two names, and faces under somebody else's name."""
    from facecore.review import conflicts

    done = conflicts(embeddings, out, options, overwrite=overwrite, threads=threads)
    click.echo(f"{out}: {counted(done.one_person, 'pair')} of identities may be one person each")
    click.echo(f"{counted(done.wrong_label, 'face')} may be somebody else's")


@stage("overlap", "facecore.review:OverlapOptions")
@click.option("--against", type=PLACE, required=True, help="Benchmark: its embedding store, or its images.")
@embeddings
@click.option("--model", type=FILE, help="The network that made the store, to embed images; not for a store.")
@images
@arch
@click.option("--out", type=PLACE, default="overlap.parquet", show_default=True, help="Evidence to write.")
@click.option("--drop", type=PLACE, help="Manifest to write: the faces of the store without those found.")
@threads
@overwrite
def overlap_command(
    against: Path,
    embeddings: Path,
    model: Path | None,
    images: Path | None,
    arch: str | None,
    out: Path,
    drop: Path | None,
    threads: int | None,
    overwrite: bool,
    options: "OverlapOptions",
) -> None:
    """Guard a test: list the people and the images of a store that a benchmark has, too, the nearest first."""
    from facecore.review import Against, overlap

    benchmark = Against(against, model, arch, images)
    done = overlap(embeddings, benchmark, out, options, drop=drop, overwrite=overwrite, threads=threads)
    click.echo(
        f"{out}: {done.overlapping_identities:,} of {done.identities:,} identities and {done.overlapping_images:,} of "
        f"{done.faces:,} images are in {against}, too"
    )
    if drop:
        click.echo(f"{drop}: {counted(done.kept, 'face')} without them")
