"""The embedding stage: a data set and a network in, an embedding store out; what is there already is not redone."""

import logging
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facecore.embed.job import EmbedOptions, Job
from facecore.embed.processes import Assignment, embedded
from facecore.embed.resume import make_room
from facecore.embed.steps import Rejected, begin, check_rejected, complete, embed_shard
from facecore.embeddings import Embeddings, metadata_path
from facecore.models import Backbone, load_backbone
from facecore.pool import Task
from facecore.progress import progress
from facecore.readers import Dataset

log = logging.getLogger(__name__)

Done = Generator[tuple[int, Rejected], None, None]  # shards as they are there, and whom each rejected
Work = Callable[[list[int]], Done]


@dataclass(frozen=True)
class Summary:
    """What embedding did, in numbers."""

    faces: int  # in the store
    identities: int  # of those faces
    rejected: int
    shards: int
    resumed_shards: int  # those found finished
    seconds: float
    probability: float | None = None  # with a head: the mean; near 0 if it fits neither network nor classes


def embed(
    dataset: Dataset,
    model: Path,
    out: Path,
    options: EmbedOptions,
    *,
    arch: str | None = None,
    overwrite: bool = False,
    processes: int = 1,
) -> Summary:
    """Embed every face of a data set by the network in a file, see `embed_dataset`.

    `arch` names the architecture of a checkpoint. More `processes` than one each load the network, and change no byte;
    one that is killed is replaced. Raises ModelError if the file is not a network.
    """
    job = Job(dataset, load_backbone(model, arch=arch), options, model_name=model.name)
    return _run(job, out, _work(job, model, out, arch, processes), overwrite=overwrite)


@dataclass(frozen=True)
class Share:
    """What one task of an array did."""

    shards: int  # of the whole store
    done: int  # by this task, now
    missing: int  # that other tasks, or this one in another run, have yet to do
    seconds: float


def embed_share(
    dataset: Dataset,
    model: Path,
    out: Path,
    options: EmbedOptions,
    *,
    task: Task,
    arch: str | None = None,
    processes: int = 1,
) -> Share:
    """Embed a task's share of the shards.

    `embed` completes the store when all are there: this writes nothing but shards. Raises as `embed` does, DataError as
    soon as those that are there show that too many faces are rejected.
    """
    began = time.perf_counter()
    job = Job(dataset, load_backbone(model, arch=arch), options, model_name=model.name)
    make_room(out, overwrite=False)
    found = dict(begin(job, out, shared=True))
    mine = [number for number in task.share(range(len(job))) if number not in found]
    _do(job, out, _work(job, model, out, arch, processes), mine, found)
    missing = sum(not metadata_path(out, number).exists() for number in range(len(job)) if number not in found)
    return Share(len(job), len(mine), missing, time.perf_counter() - began)


def embed_dataset(
    dataset: Dataset, backbone: Backbone, out: Path, options: EmbedOptions, *, model_name: str, overwrite: bool = False
) -> Summary:
    """Embed every face of a data set into the store `out`, shard by shard; goes on where an earlier run was stopped.

    Raises DataError if `out` holds anything but a store of the same faces and options, finished or not (`overwrite`
    replaces a store, nothing else), or as soon as more than `max_rejected` of the faces could not be embedded;
    ModelError or DataError if there is a head that does not fit the network or the identities.
    """
    job = Job(dataset, backbone, options, model_name=model_name)
    return _run(job, out, _one_by_one(job, out), overwrite=overwrite)


def _run(job: Job, out: Path, work: Work, *, overwrite: bool) -> Summary:
    """Have the shards embedded that are not there, and complete the store."""
    began = time.perf_counter()
    make_room(out, overwrite=overwrite)
    finished = begin(job, out)
    log.info("%s: %s faces in %d shards, %d of them finished", out, f"{len(job.dataset):,}", len(job), len(finished))
    found = dict(finished)
    _do(job, out, work, [number for number in range(len(job)) if number not in finished], found)
    store = complete(job, out, found)
    seconds = time.perf_counter() - began
    counts = store.rows, store.identities, sum(map(len, found.values())), len(job), len(finished)
    return Summary(*counts, seconds, _mean_probability(store) if job.head and store.rows else None)


def _do(job: Job, out: Path, work: Work, numbers: list[int], found: dict[int, Rejected]) -> None:
    """Embed shards, and put whom they rejected to those that were found."""
    with closing(work(numbers)) as results:
        for number, rejected in results:
            found[number] = rejected
            check_rejected(job, out, found)


def _work(job: Job, model: Path, out: Path, arch: str | None, processes: int) -> Work:
    if processes == 1:
        return _one_by_one(job, out)
    assignment = Assignment.of(job.dataset, model, job.options, arch=arch)
    return lambda numbers: embedded(assignment, out, numbers, processes=processes)


def _one_by_one(job: Job, out: Path) -> Work:
    def work(numbers: list[int]) -> Done:
        with progress(sum(len(job.faces(number)) for number in numbers), "embed", "faces") as bar:
            for number in numbers:
                yield number, embed_shard(job, out, number, bar)

    return work


def _mean_probability(store: Embeddings) -> float:
    """The mean over all faces, whether this run embedded them or an earlier one."""
    columns = [store.faces(number, columns=["probability"])["probability"].to_numpy() for number in range(len(store))]
    return float(np.concatenate(columns).mean(dtype=np.float64))
