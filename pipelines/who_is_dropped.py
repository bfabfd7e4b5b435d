"""Whom a selection drops: the share of faces kept by faces per identity, pose, quality and brightness.

python pipelines/who_is_dropped.py subset.parquet --images IMAGES --part frontal --part profile

Quality is the length of the embedding, brightness the mean of the middle of the picture: quarters of each, the lowest
first. A --part is a text that the sources of some faces hold. A share far from that of all faces is a group starved.
"""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from facecore.cli.group import Recipe
from facecore.errors import OptionError
from facecore.images import load_batches
from facecore.manifest import read_manifest
from facecore.provenance import write_text_whole
from facecore.readers import open_dataset
from facecore.select import dropped_path

MIDDLE = slice(28, 84)  # of 112 pixels: the face, and little of what is behind it
SIZES = (1, 2, 3, 5, 9, 17, 33, 65)  # where the groups of faces per identity begin


def brightness(images: Path, sources: list[str]) -> npt.NDArray[np.float64]:
    """The mean grey, from 0 to 255, of the middle of every picture, (n,); NaN where it cannot be read."""
    found = np.full(len(sources), np.nan)
    for batch in load_batches(open_dataset(images).read, sources, size=112, batch_size=64, workers=2):
        found[batch.rows] = batch.pixels[:, MIDDLE, MIDDLE].mean((1, 2, 3))
    return found


def quarters(name: str, values: npt.NDArray[np.floating[Any]]) -> dict[str, npt.NDArray[np.bool_]]:
    """Masks of the faces in each quarter of a quantity, the lowest first."""
    borders = np.nanquantile(values, (0.25, 0.5, 0.75))
    return {f"{name}, quarter {n + 1}": np.searchsorted(borders, values, "right") == n for n in range(4)}


@click.command(cls=Recipe)
@click.argument("subset", type=click.Path(path_type=Path, exists=True))
@click.option("--images", type=click.Path(path_type=Path, exists=True), help="Root of the images, for brightness.")
@click.option("--part", "parts", multiple=True, help="Text that the sources of a group hold. May be repeated.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON to write.")
def main(subset: Path, images: Path | None, parts: tuple[str, ...], out: Path | None) -> None:
    """Say what share of every group of faces a subset keeps."""
    kept, dropped = (read_manifest(path)[0] for path in (subset, dropped_path(subset)))
    faces = pa.concat_tables([table.select(["identity", "source", "norm"]) for table in (kept, dropped)])
    stays = np.arange(len(faces)) < len(kept)
    who = np.asarray(pc.rank(faces["identity"], tiebreaker="dense")) - 1
    size, left = np.bincount(who), np.bincount(who[stays], minlength=who.max() + 1)
    sources = faces["source"].to_pylist()
    groups = {"all": np.ones(len(faces), np.bool_)}
    for first, beyond in zip(SIZES, (*SIZES[1:], np.inf), strict=True):
        most = "" if beyond == first + 1 else " or more" if np.isinf(beyond) else f" to {beyond - 1}"
        groups[f"identity of {first}{most} faces"] = (size[who] >= first) & (size[who] < beyond)
    groups |= {part: np.array([part in source for source in sources]) for part in parts}
    groups |= quarters("length of the embedding", faces["norm"].to_numpy())
    groups |= quarters("brightness", brightness(images, sources)) if images else {}
    shares = {name: (int(mask.sum()), float(stays[mask].mean())) for name, mask in groups.items() if mask.any()}
    for part in set(parts) - shares.keys():
        raise OptionError(f"no source in {subset} holds {part!r}; look at its column source")
    for name, (count, share) in shares.items():
        click.echo(f"{name:<32} {count:>9,} faces, {100 * share:5.1f} % kept")
    starved = {part: int((left / size < float(part)).sum()) for part in ("0.25", "0.5")}
    for part, count in starved.items():
        click.echo(f"{count:,} of {len(size):,} identities keep less than {part} of their faces")
    if out:
        rows = [{"group": name, "faces": count, "kept": share} for name, (count, share) in shares.items()]
        write_text_whole(out, json.dumps({"groups": rows, "identities": len(size), "identities_below": starved}) + "\n")


if __name__ == "__main__":
    main()
