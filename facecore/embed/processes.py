"""Shards embedded by other processes, each of which opens the data set and loads the network once."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from facecore.embed.job import EmbedOptions, Job
from facecore.embed.steps import Rejected, embed_shard
from facecore.models import load_backbone
from facecore.pool import in_processes
from facecore.progress import progress
from facecore.readers import READERS, Dataset


@dataclass(frozen=True)
class Assignment:
    """What another process, or machine, has to be told to open a job: all but the faces is small."""

    root: Path  # of the images, in this format
    format: str
    faces: pa.Table
    model: Path
    arch: str | None
    options: EmbedOptions

    @classmethod
    def of(cls, dataset: Dataset, model: Path, options: EmbedOptions, *, arch: str | None = None) -> "Assignment":
        """The assignment to embed a data set by the network in a file."""
        return cls(dataset.root, dataset.format, dataset.faces, model, arch, options)

    def open(self) -> Job:
        """The job itself: reads the index of the images and loads the network."""
        dataset = Dataset(self.root, self.format, self.faces, READERS[self.format](self.root).read)
        return Job(dataset, load_backbone(self.model, arch=self.arch), self.options, model_name=self.model.name)


def embedded(
    assignment: Assignment, out: Path, numbers: Sequence[int], *, processes: int
) -> Generator[tuple[int, Rejected], None, None]:
    """Embed these shards into the store `out`; yields each as it is there, and whom it rejected."""
    work = in_processes(
        _embed, numbers, processes=processes, name="shard {}".format, begin=_begin, given=(assignment, out)
    )
    with closing(work), progress(len(numbers), "embed", "shards") as bar:
        for done in work:
            yield done
            bar.update(1)


_opened: list[tuple[Job, Path]] = []  # in each of the processes


def _begin(assignment: Assignment, out: Path) -> None:
    _opened.append((assignment.open(), out))


def _embed(number: int) -> Rejected:
    job, out = _opened[0]
    return embed_shard(job, out, number)
