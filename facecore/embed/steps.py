"""What embedding consists of, for engines to schedule: begin, any shard by itself and in any order, complete."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from facecore.embed.job import Job
from facecore.embed.resume import clear_stale, finished_shards, read_meta
from facecore.embeddings import Embeddings, write_meta, write_shard
from facecore.errors import DataError
from facecore.manifest import COLUMNS, write_manifest
from facecore.provenance import Provenance

Rejected = list[tuple[int, str]]  # the positions of faces in their shard, and why
REJECTED = "rejected.parquet"


def begin(job: Job, out: Path, *, shared: bool = False) -> dict[int, Rejected]:
    """The shards that need not be embedded, and whom they rejected; raises DataError if `out` is of another plan.

    A store `shared` by the tasks of an array is not theirs to overwrite, and the error says so.
    """
    finished = finished_shards(out, job, shared=shared)
    if len(finished) < len(job):
        (out / "meta.json").unlink(missing_ok=True)  # a store with a shard to write is not complete
    return finished


def embed_shard(job: Job, out: Path, number: int, bar: "tqdm[None] | None" = None) -> Rejected:
    """Embed a shard and write it; returns whom it rejected. Others may be writing the same one, which does no harm."""
    faces = job.faces(number)
    units, measured, rejected = job.embed(faces, bar)
    kept = np.ones(len(faces), bool)
    kept[[row for row, _ in rejected]] = False
    image = job.first_image(number, rejected)
    facts = {"fingerprint": job.fingerprint(number), "rejected": rejected, "first_image": image and image[1]}
    made = Provenance("embed", job.recipe, {"model": job.backbone.sha256}, facts)
    for name, values in measured.items():
        faces = faces.append_column(name, pa.array(values))
    write_shard(out, number, units[kept], faces.filter(pa.array(kept)).combine_chunks(), made, shared=True)
    return rejected


def check_rejected(job: Job, out: Path, found: Mapping[int, Rejected]) -> None:
    """Raise DataError, once they are written for the user to look at, if too many of all faces are rejected."""
    count = sum(map(len, found.values()))
    if count > job.options.max_rejected * len(job.dataset):
        rejected = _rejected_faces(job, found)
        _write_rejected(job, out, rejected)
        first = rejected.slice(0, 1).to_pylist()[0]
        raise DataError(
            f"{count:,} of {len(job.dataset):,} faces rejected so far, more than --max-rejected "
            f"{job.options.max_rejected} allows; first {first['face_id']}: {first['reason']}; "
            f"see {out / REJECTED}, then run again with a larger --max-rejected, it goes on where it was"
        )


def complete(job: Job, out: Path, found: Mapping[int, Rejected]) -> Embeddings:
    """Write rejected.parquet and then meta.json, unless they are there, when all shards are; clears up, and opens it.

    `found` is whom every shard rejected, as `finished_shards` has it. Raises DataError if shards are missing, or too
    many faces were rejected.
    """
    if missing := len(job) - len(found):
        raise DataError(
            f"{missing:,} of {len(job):,} shards of {out} are missing; run facecore embed again, it goes on"
        )
    check_rejected(job, out, found)
    rejected = _rejected_faces(job, found)
    facts = {
        "stage": "embed",
        "model": {"file": job.model_name, "sha256": job.backbone.sha256},
        **job.recipe,
        "root": job.dataset.root.as_posix(),
        "format": job.dataset.format,
        "dataset": job.dataset.sha256,
        "rejected": len(rejected),
    }
    clear_stale(out)
    if not (out / REJECTED).exists() or not facts.items() <= read_meta(out).items():
        _write_rejected(job, out, rejected)
        write_meta(out, facts, dimension=job.backbone.dimension, shards=len(job))
    return Embeddings.open(out)


def _rejected_faces(job: Job, found: Mapping[int, Rejected]) -> pa.Table:
    return pa.concat_tables([_with_reasons(job.faces(number), found[number]) for number in sorted(found)])


def _with_reasons(faces: pa.Table, reasons: Rejected) -> pa.Table:
    rows = faces.select(COLUMNS).take(pa.array([row for row, _ in reasons], pa.int64()))
    return rows.append_column("reason", pa.array([reason for _, reason in reasons], pa.string()))


def _write_rejected(job: Job, out: Path, rejected: pa.Table) -> None:
    made = Provenance("embed", job.recipe, {"model": job.backbone.sha256, "dataset": job.dataset.sha256})
    write_manifest(rejected, out / REJECTED, made, shared=True)  # several tasks may find them too many
