"""What will be written, in which order and under which labels, and what a writer of a format is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from facecore.export.options import ExportOptions
from facecore.manifest import COLUMNS, rows_in_order
from facecore.readers import Dataset

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Face:
    """A face that could be read, on its way out."""

    face_id: str
    identity: str
    label: int
    source: str  # where it comes from
    data: bytes  # the encoded image


class Plan:
    """The faces of a data set in the order of writing, cut into batches, each of which is written whole or anew."""

    def __init__(self, dataset: Dataset, part: Path, options: ExportOptions) -> None:
        self.dataset, self.part, self.options = dataset, part, options
        rows = np.arange(len(dataset), dtype=np.int64)
        self.order: Rows = rows if options.shuffle is None else np.random.default_rng(options.shuffle).permutation(rows)

    @cached_property
    def names(self) -> list[str]:
        """The identities, sorted: the name of each label."""
        names: list[str] = pc.unique(self.dataset.faces["identity"]).to_pylist()
        return names

    @cached_property
    def labels(self) -> Rows:
        """The label of every face (n,), in the order of the data set: the number of its identity, from 0."""
        return np.asarray(pc.rank(self.dataset.faces["identity"], tiebreaker="dense"), np.int64) - 1

    def __len__(self) -> int:
        """How many batches there are."""
        return -(-len(self.order) // self.options.shard_faces)

    def batches(self) -> Iterator[pa.Table]:
        """face_id, identity, source and label of the faces of each batch, in order."""
        faces = self.dataset.faces.select(list(COLUMNS)).append_column("label", pa.array(self.labels))
        count = self.options.shard_faces
        if self.options.shuffle is not None:
            yield from rows_in_order(faces, pa.array(self.order), chunk=count)
        else:
            yield from (faces.slice(first, count) for first in range(0, len(faces), count))


@dataclass(frozen=True)
class Form:
    """What a writer leaves, to those who read it back or go on with it."""

    format: str  # of the reader
    named: str = "identity"  # what that reader finds as identity: identity or label
    path: str = ""  # what it opens below the folder; "" for the folder itself
    grows: tuple[str, ...] = ()  # the files that every batch adds to; cut back when a batch is written anew


class Writer(Protocol):
    """Writes faces in a format, batch by batch, into a folder; made from a plan, whose names it checks."""

    form: Form

    def refuses(self, face: Face) -> str | None:
        """Why the format, or what reads it, cannot hold a face; None if it can."""
        ...

    def write(self, number: int, written: int, faces: Sequence[Face]) -> list[str]:
        """Write a batch, before which so many faces were written; returns the source that each has there."""
        ...

    def finish(self, written: pa.Table) -> None:
        """Complete it, all batches written: face_id, identity, source and label in the order of writing."""
        ...


def kind_of(data: bytes) -> str:
    """The suffix of an encoded image by its first bytes, without a dot; "" if it is none of facecore's."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    signs = {b"\xff\xd8": "jpg", b"\x89PNG": "png", b"BM": "bmp"}
    return next((kind for sign, kind in signs.items() if data.startswith(sign)), "")
