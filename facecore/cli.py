"""The command line: each command parses, calls one function, and prints."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facecore.commands import StageCommand, verbose
from facecore.errors import FacecoreError, OptionError

if TYPE_CHECKING:  # at run time each command imports its own stage: torch takes seconds
    from facecore.demo import DemoOptions
    from facecore.embed import EmbedOptions
    from facecore.importing import ImportOptions
    from facecore.quantize import QuantizeOptions
    from facecore.select import Nms, Selection
    from facecore.verify import VerifyOptions

INTERRUPTED = 130
FILE = click.Path(path_type=Path)

arch = click.option("--arch", help="Network of an arcface_torch checkpoint: r18, r34, r50, r100, r200, mbf, mbf_large.")
overwrite = click.option("--overwrite", is_flag=True, help="Replace what is there.")
images = click.option("--images", type=FILE, help="Root of a manifest's images, if not where they were.")
threads = click.option("--threads", type=click.IntRange(1), help="Cores to use; all by default. Changes no byte.")
embeddings = click.option(
    "--embeddings", type=FILE, default="embeddings", show_default=True, help="Store to select from."
)
model = click.option("--model", type=FILE, required=True, help="Network: .onnx, .pt2, or .pt/.pth with --arch.")


class _Group(click.Group):
    """Renders what a user can mend as one line; a bug keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FacecoreError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:
            raise  # whoever reads our output has had enough, which click takes quietly
        except OSError as error:
            where = f"{error.filename}: {error.strerror}" if error.filename else str(error).splitlines()[0]
            raise click.ClickException(f"{where}; check the path, its permissions and the free space") from error
        except KeyboardInterrupt:
            click.echo("Interrupted; nothing is half-written, and embed goes on where it was", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="facecore")
def main() -> None:
    """Find the faces that matter: select a core set, and fine-tune low-bit networks on it.

    \b
    facecore embed DATASET --model M           vectors of every face
    facecore nms --keep 0.6                    the subset, and a reason for every face left out
    facecore quantize --manifest S --model M   an integer network, fine-tuned on the subset
    facecore verify --model M --pairs P        what it is worth
    """  # noqa: D301 (click wants the control character itself)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)


def _stage(name: str, options: str) -> Callable[[Callable[..., None]], click.Command]:
    """Register a command whose options are also the fields of a stage's dataclass, named as module:class."""

    def register(function: Callable[..., None]) -> click.Command:
        command = main.command(name, cls=StageCommand)(verbose(function))
        assert isinstance(command, StageCommand)
        command.options = options
        return command

    return register


@_stage("embed", "facecore.embed:EmbedOptions")
@click.argument("dataset", type=FILE)
@model
@click.option("--out", type=FILE, default="embeddings", show_default=True, help="Store to write.")
@click.option("--format", default="auto", show_default=True, help="auto, folder, recordio or manifest.")
@images
@arch
@overwrite
def embed_command(
    dataset: Path,
    model: Path,
    out: Path,
    format: str,
    images: Path | None,
    arch: str | None,
    overwrite: bool,
    options: "EmbedOptions",
) -> None:
    """Embed every face of DATASET: a folder, a RecordIO folder or a manifest. Goes on where it was stopped."""
    from facecore.embed import embed
    from facecore.readers import open_dataset

    faces = open_dataset(dataset, format=format, images=images)
    done = embed(faces, model, out, options, arch=arch, overwrite=overwrite)
    resumed = f", {done.resumed_shards} of {done.shards} shards were there already" if done.resumed_shards else ""
    click.echo(f"{out}: {done.faces:,} faces of {done.identities:,} identities in {done.seconds:.1f} s{resumed}")
    if done.rejected:
        click.echo(f"{done.rejected:,} faces rejected, see {out / 'rejected.parquet'}")


@_stage("import", "facecore.importing:ImportOptions")
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
    click.echo(f"{out}: {done.faces:,} faces of {done.identities:,} identities in {done.seconds:.1f} s")
    how = f"partitioned (buckets: {done.buckets:,})" if done.buckets else "grouped already"
    click.echo(f"{done.rows:,} rows, {how}; {done.normalised:,} vectors were not of unit length")
    if done.rejected:
        click.echo(f"{done.rejected:,} rows rejected, see {out / 'rejected.parquet'}")


@_stage("nms", "facecore.select:Nms")
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


@_stage("quantize", "facecore.quantize:QuantizeOptions")
@click.option("--manifest", type=FILE, required=True, help="Faces to fine-tune on: a manifest, or any data set.")
@model
@images
@click.option("--out", type=FILE, default="quantized", show_default=True, help="Folder to write.")
@arch
@overwrite
def quantize_command(
    manifest: Path,
    model: Path,
    images: Path | None,
    out: Path,
    arch: str | None,
    overwrite: bool,
    options: "QuantizeOptions",
) -> None:
    """Turn a network into an integer one: calibrate, fine-tune on the faces of a manifest, write model.onnx."""
    from facecore.quantize import one_line, quantize
    from facecore.readers import open_dataset

    faces = open_dataset(manifest, images=images)
    report = quantize(faces, model, out, options, arch=arch, overwrite=overwrite)
    click.echo(f"{out / 'model.onnx'}: {one_line(report)}")
    if report["rejected"]:
        click.echo(f"{len(report['rejected']):,} faces could not be read, see {out / 'report.json'}")


@_stage("verify", "facecore.verify:VerifyOptions")
@model
@click.option("--pairs", type=FILE, required=True, help="LFW's pairs.txt, a CSV (left, right, same, fold) or a .bin.")
@click.option("--images", type=FILE, help="Folder that the names in the pairs are relative to; not for .bin.")
@arch
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify_command(
    model: Path, pairs: Path, images: Path | None, arch: str | None, as_json: bool, options: "VerifyOptions"
) -> None:
    """Say how well a network tells people apart: accuracy over folds, and TAR at fixed FAR."""
    from facecore.models import load_backbone
    from facecore.verify import open_protocol, verify

    protocol = open_protocol(pairs, images)
    done = verify(load_backbone(model, arch=arch), protocol, options)
    if as_json:
        click.echo(json.dumps(done.to_json()))
    else:
        click.echo(done.to_text())


@main.command("forget")
@click.argument("names", nargs=-1)
@click.option("--from", "from_file", type=FILE, help="File with more names, one a line.")
@click.option("--embeddings", type=FILE, multiple=True, help="Store to remove them from; may be repeated.")
@click.option("--manifest", type=FILE, multiple=True, help="Manifest, with its dropped faces; may be repeated.")
@click.option("--receipt", type=FILE, default="forgotten.json", show_default=True, help="File to write.")
@click.option("--hash-names", is_flag=True, help="Write the sha256 of names in the receipt, not the names.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@verbose
def forget_command(
    names: tuple[str, ...],
    from_file: Path | None,
    embeddings: tuple[Path, ...],
    manifest: tuple[Path, ...],
    receipt: Path,
    hash_names: bool,
    dry_run: bool,
) -> None:
    """Remove people, or else faces, by their NAMES (identity, else face_id) from stores and manifests."""
    from facecore.forget import forget, read_names

    everyone = [*names, *(read_names(from_file) if from_file else [])]
    done = forget(
        everyone, stores=embeddings, manifests=manifest, receipt=receipt, hash_names=hash_names, dry_run=dry_run
    )
    for entry in done.files:
        if entry.file.endswith(".parquet"):
            cleared = f", {entry.rivals_cleared:,} rivals cleared" if entry.rivals_cleared else ""
            click.echo(f"{entry.file}: {entry.rows_removed:,} rows removed{cleared}")
    click.echo("dry run: nothing was touched" if dry_run else f"{receipt}: receipt of {len(done.names):,} forgotten")


@_stage("demo", "facecore.demo:DemoOptions")
@click.option("--out", type=FILE, default="demo", show_default=True, help="Folder to work in.")
@overwrite
def demo_command(out: Path, overwrite: bool, options: "DemoOptions") -> None:
    """Run everything on faces drawn here: draw, train a proxy, embed, nms, quantize, verify."""
    from facecore.demo import demo

    for line in demo(out, options, overwrite=overwrite):
        click.echo(line)


def run() -> None:
    """The program."""
    # Before torch is imported: threads that spin while they wait make training 8 times slower on cores that are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main(prog_name="facecore")
