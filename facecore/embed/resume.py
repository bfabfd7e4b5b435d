"""What an earlier run left behind: a store to go on with, one to replace, or something to leave alone."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from facecore.embed.job import Job
from facecore.embeddings import metadata_path, vectors_path
from facecore.errors import DataError
from facecore.manifest import provenance_of
from facecore.npy import read_npy_header
from facecore.provenance import check_folder, sha256_of_file
from facecore.storage import read_whole

PART = r"(\.[0-9a-f]+)?\.part"  # what `written_whole` calls a file that is being written
SHARD_FILE = re.compile(rf"(img_emb/img_emb_(\d{{5,}})\.npy|metadata/metadata_(\d{{5,}})\.parquet)({PART})?")
OTHER_FILE = re.compile(rf"(meta\.json|rejected\.parquet)({PART})?")


def finished_shards(out: Path, job: Job, *, shared: bool = False) -> dict[int, list[tuple[int, str]]]:
    """The shards that need not be redone, and whom they rejected; raises DataError if one is of another plan or images.

    A store `shared` by the tasks of an array is not theirs to overwrite, and the error says so.
    """
    way_out = "delete it before the tasks run" if shared else "add --overwrite to replace it"
    otherwise = DataError(f"{out} was made from other faces or options; choose another --out, or {way_out}")
    if not _same_plan(out, job):
        raise otherwise
    recorded = {number: entry.get("img_emb") for number, entry in enumerate(read_meta(out).get("shards", []))}
    finished = {}
    for number in sorted({int(match[2] or match[3]) for match in map(SHARD_FILE.fullmatch, _files(out)) if match}):
        if number >= len(job):
            raise otherwise
        try:
            made = provenance_of(metadata_path(out, number))
            vectors = read_npy_header(vectors_path(out, number))
        except (OSError, ValueError, EOFError, pa.ArrowException):
            continue  # missing or damaged: written anew
        if made is None or made.facts.get("fingerprint") != job.fingerprint(number):
            raise otherwise
        rejected = [(row, reason) for row, reason in made.facts["rejected"]]
        right_shape = vectors.shape == (len(job.faces(number)) - len(rejected), job.backbone.dimension)
        if right_shape and recorded.get(number) in (None, sha256_of_file(vectors_path(out, number))):
            image = job.first_image(number, rejected) if made.facts.get("first_image") else None
            if image and image[1] != made.facts["first_image"]:
                raise DataError(
                    f"{out} was made from other images: {image[0]} at {job.dataset.root} is not the one embedded; "
                    f"choose another --out, or {way_out}"
                )
            finished[number] = rejected
    return finished


def _same_plan(out: Path, job: Job) -> bool:
    """Whether meta.json, if there is one that can be read, is of the same faces and options."""
    meta = read_meta(out)
    wanted = {**job.recipe, "dataset": job.dataset.sha256}
    model = meta.get("model", {}).get("sha256")
    return not meta or (wanted.items() <= meta.items() and model == job.backbone.sha256)


def make_room(out: Path, *, overwrite: bool) -> None:
    """Raise DataError if `out` is anything but a store; remove that store's files, and no others, if `overwrite`."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; choose another --out, a folder to be made")
    check_folder(out)
    own = [name for name in _files(out) if OTHER_FILE.fullmatch(name) or SHARD_FILE.fullmatch(name)]
    is_store = read_meta(out) or any(SHARD_FILE.fullmatch(name) for name in own)
    if out.exists() and not is_store and any(path.name not in ("img_emb", "metadata") for path in out.iterdir()):
        raise DataError(f"{out} holds other files and is not an embedding store; choose another --out")
    if overwrite:
        for name in sorted(own, key=lambda name: not OTHER_FILE.fullmatch(name)):  # meta.json goes before the shards
            (out / name).unlink()


def clear_stale(out: Path) -> None:
    """Remove what processes that were killed had begun to write."""
    for name in _files(out):
        if name.endswith(".part") and (OTHER_FILE.fullmatch(name) or SHARD_FILE.fullmatch(name)):
            (out / name).unlink(missing_ok=True)


def _files(out: Path) -> list[str]:
    """What lies where a store has its files, relative to it."""
    folders = (out, out / "img_emb", out / "metadata")
    return [path.relative_to(out).as_posix() for folder in folders for path in folder.glob("*")]


def read_meta(out: Path) -> dict[str, Any]:
    """meta.json, or nothing if it is missing or not that of a store."""
    try:
        meta = json.loads(read_whole(out / "meta.json"))
    except (OSError, ValueError):
        return {}
    return meta if isinstance(meta, dict) and "shards" in meta else {}
