"""Commands that run a sweep, and draw it."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecore.cli.group import arch, embeddings, images, model, stage
from facecore.commands import FILE

if TYPE_CHECKING:  # at run time each command imports its own stage: torch takes seconds
    from facecore.curve import Sweep
    from facecore.quantize import QuantizeOptions


@stage("curve", "facecore.quantize:QuantizeOptions")
@embeddings
@model
@images
@click.option(
    "--fractions", default="0.05,0.1,0.2,0.4,0.6,0.8,1", show_default=True, help="Of the faces, each in (0, 1]."
)
@click.option(
    "--methods",
    default="nms,random",
    show_default=True,
    help="How to choose: METHODs of facecore select, nms:RANK, nms:0.9, which is with that --min-threshold, or "
    "nms:0.9:largest-identities, with that --then. "
    "All are compared with random.",
)
@click.option(
    "--seeds",
    type=click.IntRange(max=1000),
    default=3,
    show_default=True,
    help="Networks a point: --seed and those after it.",
)
@click.option(
    "--budget",
    help="epochs: every point trains --epochs over its own faces. steps: all train as many steps, --steps or what "
    "--epochs come to at the largest fraction.  [default: steps if --steps is given, else epochs]",
)
@click.option(
    "--min-per-identity", type=int, help="Faces that every identity keeps at least.  [default: as the method has it]"
)
@click.option("--min-share", type=float, default=0.0, help="Share of its faces that every identity keeps at least.")
@click.option(
    "--verify",
    "checks",
    multiple=True,
    metavar="NAME=PAIRS[,IMAGES]",
    help="Pairs as for facecore verify, to measure the accuracy on; once at least.",
)
@click.option("--out", type=FILE, default="curve", show_default=True, help="Folder to write, or to go on in.")
@click.option("--jobs", type=int, default=1, show_default=True, help="Points to work on at a time.")
@arch
def curve_command(
    embeddings: Path,
    model: Path,
    images: Path | None,
    fractions: str,
    methods: str,
    seeds: int,
    budget: str | None,
    min_per_identity: int | None,
    min_share: float,
    checks: tuple[str, ...],
    out: Path,
    jobs: int,
    arch: str | None,
    options: "QuantizeOptions",
) -> None:
    """Draw accuracy against the fraction of the data: select, quantize and verify, point by point."""
    from facecore.accuracy import Check
    from facecore.curve import CurveOptions, Store, Sweep, parse_fractions

    pool = Store(embeddings, tuple(methods.split(",")), min_per_identity, min_share)
    asked = CurveOptions(parse_fractions(fractions), seeds, budget, options)
    run_curve(Sweep(pool, model, out, asked, tuple(map(Check.parse, checks)), images, arch), jobs=jobs)


def run_curve(sweep: "Sweep", *, jobs: int = 1) -> None:
    """Run a sweep: a line about every point on standard error, then the table."""
    from facecore.curve import curve, text_of

    click.echo(text_of(curve(sweep, jobs=jobs, on_point=partial(click.echo, err=True))))
    click.echo(f"{sweep.out}: curve.png, curve.svg, curve.csv, curve.parquet, differences.csv")
