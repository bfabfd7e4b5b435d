"""Commands for looking at what was made."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecore.cli.group import main, overwrite, stage
from facecore.commands import FILE, PLACE, verbose
from facecore.errors import counted

if TYPE_CHECKING:  # at run time each command imports its own stage
    from facecore.report import ReportOptions


@stage("report", "facecore.report:ReportOptions")
@click.argument("folder", metavar="DIR", type=FILE)
@click.option("--out", type=FILE, default="report.html", show_default=True, help="Page to write.")
@click.option("--images", type=PLACE, help="Root of the faces' images, if not where they were.")
@overwrite
def report_command(folder: Path, out: Path, images: Path | None, overwrite: bool, options: "ReportOptions") -> None:
    """Write one page about whatever facecore left in DIR: a store, subsets, a quantized model, a curve, conflicts."""
    from facecore.report import report

    done = report(folder, out, options, images=images, overwrite=overwrite)
    parts = ", ".join(f"{count} {kind}" if count == 1 else f"{count} {kind}s" for kind, count in done.parts.items())
    click.echo(f"{out}: {parts}; {done.faces:,} pictures of faces, {done.bytes / 1e6:.1f} MB")
    for reason, count in done.unknown.items():
        click.echo(f"{counted(count, 'face')} without a picture: {reason}" if done.faces else f"no pictures: {reason}")
    if done.unreadable:
        click.echo(f"{counted(done.unreadable, 'image')} could not be read; the page says of each why")
    for name, why in done.left_out:
        click.echo(f"left out {name}: {why}", err=True)


@main.command("explain")
@click.argument("face_id")
@click.option("--subset", type=FILE, default="subset.parquet", show_default=True, help="Subset that it was or is in.")
@click.option("--embeddings", type=FILE, help="Store it was selected from: adds how near the others are to it.")
@verbose
def explain_command(face_id: str, subset: Path, embeddings: Path | None) -> None:
    """Say why FACE_ID was kept or dropped: its rank, its rival, the cosine, t*, and the faces around it."""
    from facecore.report import explain

    click.echo(explain(face_id, subset, embeddings=embeddings).to_text())
