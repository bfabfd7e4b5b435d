"""The command that writes a data set in another format."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from facecore.cli.group import images, overwrite, stage
from facecore.commands import FILE, PLACE
from facecore.errors import OptionError, counted

if TYPE_CHECKING:  # at run time the command imports its own stage
    from facecore.export import ExportOptions


@stage("export", "facecore.export:ExportOptions")
@click.argument("dataset", type=PLACE)
@click.option("--to", required=True, help="recordio, folder, list, webdataset, parquet, or bin with --pairs.")
@click.option("--out", type=FILE, required=True, help="Folder to write, or with --to bin the file.")
@click.option("--format", default="auto", show_default=True, help="Of DATASET: auto, or a format that embed takes.")
@images
@click.option("--pairs", type=FILE, help="For --to bin: LFW's pairs.txt or a CSV, of images in the folder DATASET.")
@overwrite
def export_command(
    dataset: Path,
    to: str,
    out: Path,
    format: str,
    images: Path | None,
    pairs: Path | None,
    overwrite: bool,
    options: "ExportOptions",
) -> None:
    """Write DATASET, or the subset that a manifest lists, as training code reads it; labels count from 0."""
    from facecore.export import ExportOptions, export
    from facecore.readers import open_dataset

    if (to == "bin") != (pairs is not None):
        raise OptionError("--to bin and --pairs go together: a .bin holds pairs of images")
    if pairs is not None:
        if images is not None or format not in ("auto", "folder") or options != ExportOptions():
            raise OptionError("--to bin takes --pairs, the folder DATASET and --overwrite; leave other options out")
        click.echo(_export_pairs(dataset, pairs, out, overwrite=overwrite))
        return
    faces = open_dataset(dataset, format=format, images=images)
    done = export(faces, to, out, options, overwrite=overwrite)
    resumed = f", {done.resumed:,} were there already" if done.resumed else ""
    click.echo(
        f"{out}: {counted(done.faces, 'face')} of {counted(done.identities, 'identity')} as {to}, read back, "
        f"in {done.seconds:.1f} s{resumed}"
    )
    if done.rejected:
        empty = f"; none left of {counted(done.empty, 'identity')}" if done.empty else ""
        click.echo(f"{counted(done.rejected, 'face')} rejected, see {out / 'rejected.parquet'}{empty}")


def _export_pairs(folder: Path, pairs: Path, out: Path, *, overwrite: bool) -> str:
    from facecore.export import write_bin
    from facecore.verify import open_protocol

    protocol = open_protocol(pairs, folder)
    order = np.argsort(protocol.fold, kind="stable")  # a .bin has no folds: they are tenths of its order
    rows = np.stack([protocol.left[order], protocol.right[order]], 1).ravel()
    names = [protocol.images[row] for row in rows.tolist()]
    same = protocol.same[order].tolist()
    count = write_bin(names, same, protocol.read, out, overwrite=overwrite, inputs=[pairs, folder])
    return f"{out}: {len(same):,} pairs of {count:,} images, read back"
