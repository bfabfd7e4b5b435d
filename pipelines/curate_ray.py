"""Embed a data set and keep a part of it on Ray, by many machines at once; the files are those of one machine.

python pipelines/curate_ray.py IMAGES --model M --out OUT --keep 0.6 [--address auto] [--actors 8 --num-gpus 1]

OUT is where all machines see it. A run that was stopped goes on by the same command. README.md here says more.
"""

from pathlib import Path

import click
from on_ray import cluster, embed_on_ray, select_on_ray

from facecore.cli.group import arch, images, model
from facecore.commands import PLACE, StageCommand
from facecore.embed import Assignment, EmbedOptions
from facecore.errors import FacecoreError, OptionError
from facecore.provenance import refuse_to_overwrite
from facecore.readers import open_dataset
from facecore.select import Job, Nms, dropped_path


@click.command(cls=StageCommand)
@click.argument("dataset", type=PLACE)
@model
@click.option("--out", type=PLACE, required=True, help="Folder for the store, the subset and the dropped faces.")
@click.option(
    "--keep", type=click.FloatRange(0, 1, min_open=True), required=True, help="Fraction of the faces to keep."
)
@click.option("--address", default="local", show_default=True, help="Of a cluster; auto inside one.")
@click.option("--actors", type=click.IntRange(1), help="Processes at once; by default one for each CPU, or GPU.")
@click.option("--num-gpus", default=0.0, show_default=True, help="GPUs, or part of one, for a process that embeds.")
@images
@arch
def curate(
    dataset: Path,
    model: Path,
    out: Path,
    keep: float,
    address: str,
    actors: int | None,
    num_gpus: float,
    images: Path | None,
    arch: str | None,
    options: EmbedOptions,
) -> None:
    """Embed DATASET, images or a manifest, into OUT/embeddings, and keep a fraction of it in OUT/subset.parquet."""
    subset = out / "subset.parquet"
    try:
        refuse_to_overwrite(subset, dropped_path(subset), overwrite=False)
        assignment = Assignment.of(open_dataset(dataset, images=images), model, options, arch=arch)
        with cluster(address) as there:
            processors = int(there.get("CPU", 0))
            embedders = int(there.get("GPU", 0) / num_gpus) if num_gpus else processors
            if not embedders and (address == "local" or not actors):
                raise OptionError("Ray has no GPU to give; leave out --num-gpus, or give --actors if the cluster grows")
            needs = {"num_cpus": 1, "num_gpus": num_gpus}
            store = embed_on_ray(assignment, out / "embeddings", actors=actors or embedders, **needs)
            click.echo(f"{store.path}: {store.rows:,} faces of {store.identities:,} identities")
            done = select_on_ray(Job(store.path, Nms(), subset, keep), actors=actors or processors)
            click.echo(f"{subset}: {done.kept:,} of {done.faces:,} faces")
    except (FacecoreError, OSError) as error:
        raise click.ClickException(str(error)) from error


curate.options = "facecore.embed:EmbedOptions"

if __name__ == "__main__":
    curate()
