"""Commands that make networks, and say what they are worth."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecore.cli.curves import run_curve
from facecore.cli.group import FILE, arch, images, model, overwrite, stage
from facecore.errors import OptionError

if TYPE_CHECKING:  # at run time each command imports its own stage: torch takes seconds
    from facecore.demo import DemoOptions
    from facecore.quantize import QuantizeOptions
    from facecore.verify import VerifyOptions


@stage("quantize", "facecore.quantize:QuantizeOptions")
@click.option("--manifest", type=FILE, required=True, help="Faces to fine-tune on: a manifest, or any data set.")
@model
@images
@click.option("--out", type=FILE, default="quantized", show_default=True, help="Folder to write.")
@click.option(
    "--verify",
    "checks",
    multiple=True,
    metavar="NAME=PAIRS[,IMAGES]",
    help="Pairs as for facecore verify, to measure the accuracy on, before and after; may be repeated.",
)
@click.option(
    "--fractions", help="Instead: a curve over the first rows of a manifest of nms --order, such as 0.1,0.5,1."
)
@arch
@overwrite
def quantize_command(
    manifest: Path,
    model: Path,
    images: Path | None,
    out: Path,
    checks: tuple[str, ...],
    fractions: str | None,
    arch: str | None,
    overwrite: bool,
    options: "QuantizeOptions",
) -> None:
    """Turn a network into an integer one: calibrate, fine-tune on the faces of a manifest, write model.onnx."""
    from facecore.accuracy import Check, quantize_and_verify
    from facecore.curve import CurveOptions, Order, Sweep, parse_fractions
    from facecore.quantize import summary
    from facecore.readers import open_dataset

    protocols = [Check.parse(check) for check in checks]
    if fractions is not None:
        if overwrite:
            raise OptionError("a curve goes on with what is there; leave out --overwrite, or choose another --out")
        asked = CurveOptions(parse_fractions(fractions), seeds=1, quantize=options)
        run_curve(Sweep(Order(manifest), model, out, asked, tuple(protocols), images, arch))
        return
    faces = open_dataset(manifest, images=images)
    report = quantize_and_verify(faces, model, out, options, protocols, arch=arch, overwrite=overwrite)
    click.echo(f"{out}: {summary(report)}")
    if report["rejected"]:
        click.echo(f"{len(report['rejected']):,} faces could not be read, see {out / 'report.json'}")


@stage("verify", "facecore.verify:VerifyOptions")
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


@stage("demo", "facecore.demo:DemoOptions")
@click.option("--out", type=FILE, default="demo", show_default=True, help="Folder to work in.")
@overwrite
def demo_command(out: Path, overwrite: bool, options: "DemoOptions") -> None:
    """Run everything on faces drawn here: draw, train a proxy, embed, nms, quantize, verify."""
    from facecore.demo import demo

    for line in demo(out, options, overwrite=overwrite):
        click.echo(line)
