"""Commands that choose faces."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecore.cli.group import FILE, embeddings, main, overwrite, stage, threads
from facecore.commands import verbose
from facecore.errors import OptionError

if TYPE_CHECKING:  # at run time each command imports its own stage: torch takes seconds
    from facecore.select import Nms, Selection


@stage("nms", "facecore.select:Nms")
@click.option("--keep", type=float, help="Fraction of the faces to keep, in (0, 1]; the count is exact.")
@click.option("--max-cosine", type=float, help="Instead of --keep: suppress above this cosine, however many stay.")
@click.option("--order", is_flag=True, help="Instead of --keep: write all faces so that every prefix is a subset.")
@embeddings
@click.option("--out", type=FILE, default="subset.parquet", show_default=True, help="Manifest to write.")
@threads
@overwrite
def nms_command(
    keep: float | None,
    max_cosine: float | None,
    order: bool,
    embeddings: Path,
    out: Path,
    threads: int | None,
    overwrite: bool,
    options: "Nms",
) -> None:
    """Keep the sparsest faces: of near-duplicates inside an identity, one stays (Face-NMS)."""
    from facecore.select import select, write_order

    if order:
        if keep is not None or max_cosine is not None:
            raise OptionError("--order is instead of --keep and --max-cosine; facecore take cuts it at any fraction")
        _say_selection(write_order(embeddings, options, out=out, overwrite=overwrite, threads=threads), out)
        return
    done = select(embeddings, options, keep=keep, max_cosine=max_cosine, out=out, overwrite=overwrite, threads=threads)
    _say_selection(done, out)
    click.echo(f"t* = {done.max_cosine:.4f}: a near-duplicate has a kept rival with a cosine above it")


def _say_selection(done: "Selection", out: Path) -> None:
    from facecore.select import dropped_path

    dropped = ", ".join(f"{count:,} {reason}" for reason, count in done.dropped.items())
    click.echo(
        f"{out}: {done.kept:,} of {done.faces:,} faces, {done.identities_kept:,} of {done.identities:,} identities"
    )
    click.echo(f"{dropped_path(out)}: {dropped or 'nobody'}")


@main.command("take")
@click.argument("order", type=FILE)
@click.option("--keep", type=float, required=True, help="Fraction of its rows, in (0, 1].")
@click.option("--out", type=FILE, default="subset.parquet", show_default=True, help="Manifest to write.")
@overwrite
@verbose
def take_command(order: Path, keep: float, out: Path, overwrite: bool) -> None:
    """Take the first rows of ORDER, a manifest that nms --order wrote: a subset of any size, each within the next."""
    from facecore.select import take

    click.echo(f"{out}: the first {take(order, keep=keep, out=out, overwrite=overwrite):,} rows of {order}")
