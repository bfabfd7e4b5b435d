"""Commands that make networks, and say what they are worth."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facecore.cli.curves import run_curve
from facecore.cli.group import arch, images, model, overwrite, stage
from facecore.commands import FILE, PLACE
from facecore.errors import OptionError, counted

if TYPE_CHECKING:  # at run time each command imports its own stage: torch takes seconds
    from facecore.demo import DemoOptions
    from facecore.models import Backbone
    from facecore.quantize import QuantizeOptions
    from facecore.verify import Roc, VerifyOptions


@stage("quantize", "facecore.quantize:QuantizeOptions")
@click.option("--manifest", type=PLACE, required=True, help="Faces to fine-tune on: a manifest, or any data set.")
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
        click.echo(f"{counted(len(report['rejected']), 'face')} could not be read, see {out / 'report.json'}")


@stage("verify", "facecore.verify:VerifyOptions")
@model
@click.option("--pairs", type=FILE, help="LFW's pairs.txt, a CSV (left, right, same, fold) or a .bin.")
@click.option("--images", type=FILE, help="Folder that the names in the pairs are relative to; not for .bin.")
@click.option("--suite", type=FILE, help="Instead: a folder; all protocols in it, IJB-B and IJB-C too, as one table.")
@click.option(
    "--table",
    "form",
    type=click.Choice(["text", "markdown", "latex"]),
    help="Form of a suite's table.  [default: text]",
)
@click.option("--roc", type=FILE, help="Draw TAR against FAR as this .png, with its points as .parquet beside it.")
@arch
@overwrite
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify_command(
    model: Path,
    pairs: Path | None,
    images: Path | None,
    suite: Path | None,
    form: str | None,
    roc: Path | None,
    arch: str | None,
    overwrite: bool,
    as_json: bool,
    options: "VerifyOptions",
) -> None:
    """Say how well a network tells people apart: accuracy over folds, and TAR at fixed FAR."""
    from facecore.models import load_backbone
    from facecore.verify import compare, judge, open_protocol, roc_of, run_suite, suite_table

    if form is not None and suite is None:
        raise OptionError("--table is the form of a suite's table, and there is no --suite; leave --table out")
    _check_asked(pairs, images, suite, roc, options, overwrite=overwrite)
    if pairs is not None:
        protocol = open_protocol(pairs, images)  # before the network: quick to read, and to be wrong
        network = load_backbone(model, arch=arch)
        cosines = compare(network, protocol, options)
        found = judge(cosines, protocol)
        _show(found.to_json() if as_json else found.to_text())
        _draw(roc, {pairs.stem: roc_of(cosines, protocol.same)}, network, options)
    elif suite is not None:
        network = load_backbone(model, arch=arch)
        done = run_suite(network, suite, options, tell=partial(click.echo, err=True))
        _show(done.to_json() if as_json else suite_table(done, model.stem, form or "text"))
        _draw(roc, done.curves, network, options)
        if done.failed:
            click.get_current_context().exit(1)


def _check_asked(
    pairs: Path | None,
    images: Path | None,
    suite: Path | None,
    roc: Path | None,
    options: "VerifyOptions",
    *,
    overwrite: bool,
) -> None:
    if (pairs is None) == (suite is None):
        raise OptionError("verify takes a list of --pairs or a --suite of protocols; give one of the two")
    if suite is not None and images is not None:
        raise OptionError("the protocols of a suite have their images beside them; leave out --images")
    if suite is None and (options.detector_score or options.cache is not None):
        raise OptionError("--detector-score and --cache are of IJB-B and IJB-C, in a --suite; leave them out")
    if roc is not None:
        from facecore.verify.roc import check_roc_path

        check_roc_path(roc, overwrite=overwrite)


def _show(done: dict[str, Any] | str) -> None:
    click.echo(done if isinstance(done, str) else json.dumps(done))


def _draw(roc: Path | None, curves: "Mapping[str, Roc]", network: "Backbone", options: "VerifyOptions") -> None:
    if roc is not None:
        from facecore.verify.roc import write_roc

        write_roc(roc, curves, model=network.sha256, options=options)


@stage("demo", "facecore.demo:DemoOptions")
@click.option("--out", type=FILE, default="demo", show_default=True, help="Folder to work in.")
@overwrite
def demo_command(out: Path, overwrite: bool, options: "DemoOptions") -> None:
    """Run everything on faces drawn here: draw, train a proxy, embed, nms, quantize, verify."""
    from facecore.demo import demo

    for line in demo(out, options, overwrite=overwrite):
        click.echo(line)
