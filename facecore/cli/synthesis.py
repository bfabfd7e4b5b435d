"""The command that makes faces."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecore.cli.group import arch, overwrite, stage
from facecore.commands import FILE
from facecore.errors import counted

if TYPE_CHECKING:  # at run time each command imports its own stage: torch takes seconds
    from facecore.synthesis import SynthesisOptions


@stage("synthesize", "facecore.synthesis:SynthesisOptions")
@click.option("--count", type=int, required=True, help="Faces to have in the end; those there already count.")
@click.option("--out", type=FILE, default="synthetic", show_default=True, help="Folder to write.")
@click.option("--generator", type=FILE, help="Make them by a generator: .onnx, .pt2, or TorchScript (.pt, .pth, .ts).")
@click.option("--from-model", type=FILE, help="Make them from a network's BatchNorm statistics: .onnx, or .pt/.pth.")
@click.option("--parametric", is_flag=True, help="Draw them: no file is needed.")
@click.option("--teacher", type=FILE, help="Network that says which to drop, by --min-norm and --max-cosine.")
@arch
@overwrite
def synthesize_command(
    count: int,
    out: Path,
    generator: Path | None,
    from_model: Path | None,
    parametric: bool,
    teacher: Path | None,
    arch: str | None,
    overwrite: bool,
    options: "SynthesisOptions",
) -> None:
    """Make faces of nobody, without labels, to calibrate and fine-tune on. Goes on where it was stopped."""
    from facecore.synthesis import Origin, synthesize

    origin = Origin(generator, from_model, parametric, arch)
    done = synthesize(origin, out, options, count=count, teacher=teacher, overwrite=overwrite)
    there = f", {done.resumed:,} of them were there already" if done.resumed else ""
    mended = f", {done.mended:,} made again, whose images were missing or cut short" if done.mended else ""
    click.echo(f"{out / 'manifest.parquet'}: {counted(done.faces, 'face')}{there}{mended}")
    if teacher:
        dropped = ", ".join(f"{number:,} {reason}" for reason, number in done.dropped.items())
        click.echo(f"{out / 'dropped.parquet'}: {dropped or 'nobody'}")
