"""Commands that choose faces."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecore.cli.arrays import array, do_merge, do_share, merging, task_of
from facecore.cli.group import embeddings, main, overwrite, stage, threads
from facecore.commands import FILE, PLACE, StageCommand, verbose
from facecore.errors import DataError, OptionError, counted

if TYPE_CHECKING:  # at run time each command imports its own stage: torch takes seconds
    from facecore.select import Job, Nms, Selection, Selector

# In benchmarks/README.md nms was above random faces on no pool of whose pairs of one identity more are above t*.
MANY_PAIRS = 0.4
KEEP_MORE = (
    "raise --keep, or use --min-threshold 0.9, where identities differ in size with --then largest-identities "
    "--min-per-identity 0"
)


@stage("nms", "facecore.select:Nms")
@click.option("--keep", type=float, help="Fraction of the faces to keep, in (0, 1]; the count is exact.")
@click.option("--max-cosine", type=float, help="Instead of --keep: suppress above this cosine, however many stay.")
@click.option("--order", is_flag=True, help="Instead of --keep: write all faces so that every prefix is a subset.")
@embeddings
@click.option("--out", type=PLACE, default="subset.parquet", show_default=True, help="Manifest to write.")
@array
@merging
@threads
@overwrite
def nms_command(
    keep: float | None,
    max_cosine: float | None,
    order: bool,
    embeddings: Path,
    out: Path,
    shard_index: int | None,
    num_shards: int | None,
    merge: bool,
    threads: int | None,
    overwrite: bool,
    options: "Nms",
) -> None:
    """Keep the sparsest faces: of near-duplicates inside an identity, one stays (Face-NMS)."""
    from facecore.select import Job, write_order

    if (keep is not None) + (max_cosine is not None) + order != 1:
        raise OptionError("give one of --keep, --max-cosine and --order")
    if order:
        if merge or shard_index is not None:
            raise OptionError("an order is written by one process; leave out --shard-index, --num-shards and --merge")
        _say_selection(write_order(embeddings, options, out=out, overwrite=overwrite, threads=threads), out)
        return
    job = Job(embeddings, options, out, keep, max_cosine)
    done = _select(job, shard_index, num_shards, merge=merge, threads=threads, overwrite=overwrite)
    if done is None:
        return
    _say_selection(done, out)
    _say_threshold(done.max_cosine, embeddings, "raise --max-cosine" if keep is None else KEEP_MORE)


def _say_threshold(max_cosine: float, embeddings: Path, way_out: str) -> None:
    from facecore.embeddings import Embeddings
    from facecore.select import share_of_pairs_above

    store = Embeddings.open(embeddings)
    if store.identities == store.rows:
        click.echo("no identity has two faces, so there are no near-duplicates")
        return
    share = share_of_pairs_above(store, max_cosine)  # None where none of those looked at has two
    pairs = "" if share is None else f"; of all pairs of one identity {100 * share:.1f} % are above it"
    click.echo(f"t* = {max_cosine:.4f}: a near-duplicate has a kept rival with a cosine above it{pairs}")
    if share is not None and share > MANY_PAIRS:
        click.echo(f"so many are no near-duplicates: random faces may teach as well or better; {way_out}")


def _select(
    job: "Job", shard_index: int | None, num_shards: int | None, *, merge: bool, threads: int | None, overwrite: bool
) -> "Selection | None":
    """Run a selection, or what a job array is to do of it now; None if it is not done then."""
    from facecore.select import select

    task = task_of(shard_index, num_shards)
    if task and merge:
        raise OptionError("--merge is for when the tasks are done; leave out --shard-index and --num-shards")
    if task:
        do_share(job, task, overwrite=overwrite, threads=threads)
        return None
    if merge:
        return do_merge(job, overwrite=overwrite, threads=threads)
    return select(
        job.store,
        job.selector,
        keep=job.keep,
        max_cosine=job.max_cosine,
        out=job.out,
        overwrite=overwrite,
        threads=threads,
    )


class _Methods(click.Group):
    """A command for every selector, made when it is asked for: importing them takes a second."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from facecore.select import SELECTORS

        return list(SELECTORS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from facecore.select import SELECTORS

        return _method(SELECTORS[cmd_name]) if cmd_name in SELECTORS else None


@main.group("select", cls=_Methods, subcommand_metavar="METHOD [OPTIONS]")
def select_group() -> None:
    """Choose faces by another METHOD than nms, with the same files and exact count: what Face-NMS has to beat."""


def _method(selector: type["Selector"]) -> click.Command:
    @click.command(selector.name, cls=StageCommand, help=selector.__doc__)
    @click.option("--keep", type=float, required=True, help="Fraction of the faces to keep, in (0, 1]; exact.")
    @embeddings
    @click.option("--out", type=PLACE, default="subset.parquet", show_default=True, help="Manifest to write.")
    @array
    @merging
    @threads
    @overwrite
    @verbose
    def command(
        keep: float,
        embeddings: Path,
        out: Path,
        shard_index: int | None,
        num_shards: int | None,
        merge: bool,
        threads: int | None,
        overwrite: bool,
        options: "Selector",
    ) -> None:
        from facecore.select import Job

        job = Job(embeddings, options, out, keep)
        done = _select(job, shard_index, num_shards, merge=merge, threads=threads, overwrite=overwrite)
        if done is not None:
            _say_selection(done, out)

    command.options = f"{selector.__module__}:{selector.__qualname__}"
    return command


@main.command("audit")
@click.argument("subset", type=FILE)
@embeddings
@click.option("--no-hash", is_flag=True, help="Do not read the store's files once more for their sha256.")
@threads
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@verbose
def audit_command(subset: Path, embeddings: Path, no_hash: bool, threads: int | None, as_json: bool) -> None:
    """Check every claim of SUBSET and its dropped faces against the embeddings, independently of the selection."""
    from facecore.select.audit import audit

    done = audit(subset, embeddings, hashes=not no_hash, threads=threads)
    click.echo(json.dumps(done.to_json()) if as_json else done.to_text())
    if not done.ok:
        raise DataError(done.verdict)
    if not as_json:
        click.echo(done.verdict)


def _say_selection(done: "Selection", out: Path) -> None:
    from facecore.select import dropped_path

    dropped = ", ".join(f"{count:,} {reason}" for reason, count in done.dropped.items())
    click.echo(
        f"{out}: {done.kept:,} of {counted(done.faces, 'face')}, "
        f"{done.identities_kept:,} of {counted(done.identities, 'identity')}"
    )
    click.echo(f"{dropped_path(out)}: {dropped or 'nobody'}")


@main.command("take")
@click.argument("order", type=PLACE)
@click.option("--keep", type=float, required=True, help="Fraction of its rows, in (0, 1].")
@click.option("--out", type=PLACE, default="subset.parquet", show_default=True, help="Manifest to write.")
@overwrite
@verbose
def take_command(order: Path, keep: float, out: Path, overwrite: bool) -> None:
    """Take the first rows of ORDER, a manifest that nms --order wrote: a subset of any size, each within the next."""
    from facecore.select import take

    click.echo(f"{out}: the first {take(order, keep=keep, out=out, overwrite=overwrite):,} rows of {order}")
