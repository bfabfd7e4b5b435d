"""The command that trains a network."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecore.cli.group import images, overwrite, stage
from facecore.commands import FILE, PLACE
from facecore.errors import OptionError

if TYPE_CHECKING:  # at run time the command imports its own stage: torch takes seconds
    from facecore.accuracy import Check
    from facecore.train import Measure, TrainOptions


@stage("train", "facecore.train:TrainOptions")
@click.argument("dataset", type=PLACE, required=False)
@click.option("--manifest", type=PLACE, help="Instead of DATASET: faces that a manifest lists.")
@images
@click.option("--out", type=FILE, default="proxy", show_default=True, help="Folder to write.")
@click.option("--init", type=FILE, help="Checkpoint to start from: of this command, or arcface_torch's.")
@click.option(
    "--verify",
    "checks",
    multiple=True,
    metavar="NAME=PAIRS[,IMAGES]",
    help="Pairs as for facecore verify, at every checkpoint; the best network on the first is kept. May be repeated.",
)
@overwrite
def train_command(
    dataset: Path | None,
    manifest: Path | None,
    images: Path | None,
    out: Path,
    init: Path | None,
    checks: tuple[str, ...],
    overwrite: bool,
    options: "TrainOptions",
) -> None:
    """Train a network on DATASET or the faces of a manifest, to embed with. Goes on where it was stopped."""
    from facecore.accuracy import Check
    from facecore.readers import open_dataset
    from facecore.train import check_out, is_first, train
    from facecore.train.summary import summary

    if dataset and manifest:
        raise OptionError("DATASET and --manifest are two ways to name the faces; give one")
    given = dataset or manifest
    if given is None:
        raise OptionError("nothing to train on; give DATASET, or --manifest")
    check_out(out, overwrite=overwrite)  # before the data set is read
    faces = open_dataset(given, images=images)
    measures = {check.name: _accuracy(check) for check in map(Check.parse, checks)}
    if len(measures) < len(checks):
        raise OptionError("protocols need names of their own; two have the same")
    report = train(faces, out, options, init=init, measures=measures, overwrite=overwrite)
    if is_first():  # of the processes that torchrun started
        click.echo(f"{out}: {summary(report)}")


def _accuracy(check: "Check") -> "Measure":
    """What `verify` finds of a network on a protocol, which is opened now."""
    from facecore.provenance import sha256_of_file
    from facecore.train import Measure
    from facecore.verify import verify

    protocol = check.open()
    return Measure(lambda backbone: verify(backbone, protocol).to_json(), sha256_of_file(check.pairs))
