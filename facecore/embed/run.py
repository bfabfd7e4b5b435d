"""The embedding stage: a data set and a network in, an embedding store out; what is there already is not redone."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from facecore.embed.job import EmbedOptions, Job
from facecore.embed.resume import finished_shards, make_room, read_meta
from facecore.embeddings import Embeddings, write_meta, write_shard
from facecore.errors import DataError
from facecore.manifest import COLUMNS, write_manifest
from facecore.models import Backbone, load_backbone
from facecore.progress import progress
from facecore.provenance import Provenance
from facecore.readers import Dataset

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """What embedding did, in numbers."""

    faces: int  # in the store
    identities: int  # of those faces
    rejected: int
    shards: int
    resumed_shards: int  # those found finished
    seconds: float
    probability: float | None = None  # with a head: the mean; near 0 if its classes are in another order


def embed(
    dataset: Dataset, model: Path, out: Path, options: EmbedOptions, *, arch: str | None = None, overwrite: bool = False
) -> Summary:
    """Embed every face of a data set by the network in a file, see `embed_dataset`.

    `arch` names the architecture of a checkpoint. Raises ModelError if the file is not a network.
    """
    backbone = load_backbone(model, arch=arch)
    return embed_dataset(dataset, backbone, out, options, model_name=model.name, overwrite=overwrite)


def embed_dataset(
    dataset: Dataset, backbone: Backbone, out: Path, options: EmbedOptions, *, model_name: str, overwrite: bool = False
) -> Summary:
    """Embed every face of a data set into the store `out`, shard by shard; goes on where an earlier run was stopped.

    Raises DataError if `out` holds anything but a store of the same faces and options, finished or not (`overwrite`
    replaces a store, nothing else), or as soon as more than `max_rejected` of the faces could not be embedded;
    ModelError or DataError if there is a head that does not fit the network or the identities.
    """
    began = time.perf_counter()
    job = Job(dataset, backbone, options)
    make_room(out, overwrite=overwrite)
    finished = finished_shards(out, job)
    log.info("%s: %s faces in %d shards, %d of them finished", out, f"{len(dataset):,}", len(job), len(finished))
    if len(finished) < len(job):
        (out / "meta.json").unlink(missing_ok=True)  # a store with a shard to write is not complete
    rejected = []
    with progress(len(dataset), "embed", "faces") as bar:
        for number in range(len(job)):
            if number in finished:
                rejected.append(_rejected_faces(job.faces(number), finished[number]))
                bar.update(len(job.faces(number)))
            else:
                rejected.append(_rejected_faces(job.faces(number), _embed_shard(out, job, number, bar)))
                _check_rejected(out, job, pa.concat_tables(rejected))
    _check_rejected(out, job, pa.concat_tables(rejected))
    _complete(out, job, pa.concat_tables(rejected), model_name)
    store = Embeddings.open(out)
    seconds = time.perf_counter() - began
    counts = store.rows, store.identities, sum(map(len, rejected)), len(job), len(finished)
    return Summary(*counts, seconds, _mean_probability(store) if job.head and store.rows else None)


def _mean_probability(store: Embeddings) -> float:
    """The mean over all faces, whether this run embedded them or an earlier one."""
    columns = [store.faces(number, columns=["probability"])["probability"].to_numpy() for number in range(len(store))]
    return float(np.concatenate(columns).mean(dtype=np.float64))


def _embed_shard(out: Path, job: Job, number: int, bar: "tqdm[None]") -> list[tuple[int, str]]:
    """Embed a shard and write it; returns the positions of the rejected faces, and why."""
    faces = job.faces(number)
    units, measured, rejected = job.embed(faces, bar)
    kept = np.ones(len(faces), bool)
    kept[[row for row, _ in rejected]] = False
    facts = {"fingerprint": job.fingerprint(number), "rejected": rejected}
    made = Provenance("embed", job.recipe, {"model": job.backbone.sha256}, facts)
    for name, values in measured.items():
        faces = faces.append_column(name, pa.array(values))
    write_shard(out, number, units[kept], faces.filter(pa.array(kept)).combine_chunks(), made)
    return rejected


def _rejected_faces(faces: pa.Table, reasons: list[tuple[int, str]]) -> pa.Table:
    rows = faces.select(COLUMNS).take(pa.array([row for row, _ in reasons], pa.int64()))
    return rows.append_column("reason", pa.array([reason for _, reason in reasons], pa.string()))


def _check_rejected(out: Path, job: Job, rejected: pa.Table) -> None:
    """Raise DataError, once the rejected are written for the user to look at, if they are too many."""
    if len(rejected) > job.options.max_rejected * len(job.dataset):
        _write_rejected(out, job, rejected)
        first = rejected.slice(0, 1).to_pylist()[0]
        raise DataError(
            f"{len(rejected):,} of {len(job.dataset):,} faces rejected so far, more than max_rejected "
            f"{job.options.max_rejected} allows; first {first['face_id']}: {first['reason']}; "
            f"see {out / 'rejected.parquet'}, then run again with a larger --max-rejected, it goes on where it was"
        )


def _write_rejected(out: Path, job: Job, rejected: pa.Table) -> None:
    made = Provenance("embed", job.recipe, {"model": job.backbone.sha256, "dataset": job.dataset.sha256})
    write_manifest(rejected, out / "rejected.parquet", made)


def _complete(out: Path, job: Job, rejected: pa.Table, model_name: str) -> None:
    """Write rejected.parquet and then meta.json, which completes the store, unless they are there already."""
    facts = {
        "stage": "embed",
        "model": {"file": model_name, "sha256": job.backbone.sha256},
        **job.recipe,
        "root": job.dataset.root.as_posix(),
        "format": job.dataset.format,
        "dataset": job.dataset.sha256,
        "rejected": len(rejected),
    }
    if (out / "rejected.parquet").exists() and facts.items() <= read_meta(out).items():
        return
    _write_rejected(out, job, rejected)
    write_meta(out, facts, dimension=job.backbone.dimension, shards=len(job))
