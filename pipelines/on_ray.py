"""A cluster of Ray, and the stages of one machine on it: what curate_ray.py puts together."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ray_actors import Shards, spread

from facecore.embed import Assignment, begin, check_rejected, complete, embed_shard, make_room
from facecore.embed.steps import Rejected
from facecore.embeddings import Embeddings
from facecore.errors import OptionError
from facecore.select import Job, Selection
from facecore.select.part_files import Step
from facecore.select.parts import merge, next_step, work

BATCHES = 4  # for every actor in a step of a selection; for each the store is opened
# Ray would report its use, and listen on every network: the second prevents that on Linux, too, whatever its name says.
ALONE = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@contextmanager
def cluster(address: str) -> Iterator[dict[str, float]]:
    """Connect to a cluster, or where that is `local` start one of this machine for as long; yields what it has."""
    if not find_spec("ray"):
        raise OptionError("Ray is not installed; pip install 'facecore[ray]'")
    with TemporaryDirectory() as folder:
        own: dict[str, Any] = {}
        if address == "local":
            os.environ.update(ALONE, RAY_AUTH_TOKEN=secrets.token_hex(32))  # else one is written to the home folder
            own = {"include_dashboard": False, "object_store_memory": 1 << 28, "_temp_dir": folder}
        import ray  # which reads the environment

        ray.init(address, log_to_driver=False, logging_level="ERROR", **own)
        try:
            yield ray.cluster_resources()
        finally:
            ray.shutdown()


def embedding(assignment: Assignment, out: Path) -> Callable[[Shards], dict[int, Rejected]]:
    """What an actor does with shards, once it has loaded the network."""
    job = assignment.open()
    return lambda batch: {number: embed_shard(job, out, number) for number in batch}


def selecting(job: Job, step: Step) -> Callable[[Shards], None]:
    """What an actor does with shards in one step of a selection."""
    return lambda batch: work(job, step, batch, threads=1)


def embed_on_ray(assignment: Assignment, out: Path, *, actors: int, **needs: float) -> Embeddings:
    """Embed the shards that are not there yet, one after the other on each actor, and complete the store."""
    job = assignment.open()
    make_room(out, overwrite=False)
    found = dict(begin(job, out))
    missing = [(number,) for number in range(len(job)) if number not in found]
    with closing(spread(embedding, assignment, out, batches=missing, actors=actors, **needs)) as done:
        for rejected in done:
            found.update(rejected)
            check_rejected(job, out, found)
    return complete(job, out, found)


def select_on_ray(job: Job, *, actors: int) -> Selection:
    """Do the steps of a selection, each when the one before it is complete; what is there of each is not done again."""
    while True:
        step = next_step(job)
        each = BATCHES if step.merges else 1  # what comes before may be a search, whose index is built for every batch
        parts = min(len(step.missing), actors * each)
        batches = [step.missing[first::parts] for first in range(parts)]
        list(spread(selecting, job, step, batches=batches, actors=actors, num_cpus=1))
        if step.merges and isinstance(done := merge(job), Selection):
            return done
