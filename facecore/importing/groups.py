"""Rows in any order, as runs of whole identities in sorted order, in bounded memory."""

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from facecore.embeddings import shard_starts
from facecore.manifest import rows_in_order
from facecore.provenance import filling

PIECE_ROWS = 8192


@dataclass(frozen=True)
class Run:
    """Some faces and their vectors."""

    halves: npt.NDArray[np.float16]  # (n, d)
    faces: pa.Table  # n rows

    def __len__(self) -> int:
        return len(self.halves)

    @property
    def nbytes(self) -> int:
        """What it takes of memory; the faces three times, for that is what sorting them takes."""
        return int(self.halves.nbytes + 3 * self.faces.nbytes)

    def rows(self, start: int, stop: int) -> "Run":
        """Some of the rows, not copied."""
        return Run(self.halves[start:stop], self.faces.slice(start, stop - start))


def joined(runs: Sequence[Run]) -> Run:
    """Runs as one."""
    return Run(np.concatenate([run.halves for run in runs]), pa.concat_tables([run.faces for run in runs]))


def whole_identities(runs: Iterable[Run]) -> Iterator[Run]:
    """Cut runs, whose identities come sorted, so that each identity lies in one of them."""
    waiting: list[Run] = []
    for run in runs:
        identity = run.faces["identity"]
        begins = int(pc.index(identity, identity[-1]).as_py())  # the run's last identity, which may go on in the next
        if waiting and identity[0] != waiting[-1].faces["identity"][-1]:
            yield joined(waiting)
            waiting = []
        if begins:
            yield joined([*waiting, run.rows(0, begins)])
            waiting = []
        waiting.append(run.rows(begins, len(run)))
    if waiting:
        yield joined(waiting)


def sorted_pieces(run: Run) -> Iterator[Run]:
    """The rows of a run sorted by identity, then face_id, some whole identities at a time."""
    order = pc.sort_indices(run.faces, sort_keys=[("identity", "ascending"), ("face_id", "ascending")])
    faces = pa.concat_tables(rows_in_order(run.faces, order))
    starts = shard_starts(faces["identity"], PIECE_ROWS).tolist()
    for start, stop in itertools.pairwise(starts):
        yield Run(run.halves[order[start:stop].to_numpy()], faces.slice(start, stop - start))


class Buckets:
    """Runs spilled to a folder by ranges of identities, each range small enough to be sorted in memory."""

    def __init__(self, folder: Path, borders: Sequence[str], *, dimension: int, memory: int) -> None:
        """`borders` are the first identities of all buckets but the first; `memory` is in bytes."""
        self._folder, self._borders, self._dimension, self._memory = folder, borders, dimension, memory
        self._waiting: list[Run] = []
        folder.mkdir()

    def __len__(self) -> int:
        return len(self._borders) + 1

    def add(self, run: Run) -> None:
        """Take some rows in any order."""
        self._waiting.append(run)
        if sum(run.nbytes for run in self._waiting) > self._memory:
            self._spill()

    def _spill(self) -> None:
        """Append what waits to the files of its buckets: much at a time, for there may be a thousand of them."""
        run = joined(self._waiting)
        self._waiting = []
        codes = run.faces["identity"].combine_chunks().dictionary_encode()
        of_name = np.array([bisect_right(self._borders, name) for name in codes.dictionary.to_pylist()])
        bucket = of_name[codes.indices.to_numpy()]
        order = np.argsort(bucket, kind="stable")
        edges = np.searchsorted(bucket[order], np.arange(len(self) + 1)).tolist()
        for number, (start, stop) in enumerate(itertools.pairwise(edges)):
            if start < stop:
                self._append(number, run.halves[order[start:stop]], run.faces.take(order[start:stop]))

    def _append(self, number: int, halves: npt.NDArray[np.float16], faces: pa.Table) -> None:
        vectors, names = self._files(number)
        with filling(vectors), vectors.open("ab") as stream:
            stream.write(np.ascontiguousarray(halves).data)
        with filling(names), names.open("ab") as stream, pa.ipc.new_stream(stream, faces.schema) as writer:
            writer.write_table(faces)

    def _files(self, number: int) -> tuple[Path, Path]:
        return self._folder / f"{number}.halves", self._folder / f"{number}.arrow"

    def runs(self) -> Iterator[Run]:
        """The rows of each bucket in turn, which are then gone."""
        if self._waiting:
            self._spill()
        for number in range(len(self)):
            if self._files(number)[0].exists():
                yield self._taken(number)  # not by a name, which would hold it while the next one is read

    def _taken(self, number: int) -> Run:
        """The rows of a bucket, whose files are then gone."""
        vectors, names = self._files(number)
        run = Run(np.fromfile(vectors, np.float16).reshape(-1, self._dimension), _read_streams(names))
        vectors.unlink()
        names.unlink()
        return run


def _read_streams(path: Path) -> pa.Table:
    """The tables that were appended to a file, one stream each."""
    tables = []
    with path.open("rb") as stream:
        while stream.peek(1):
            tables.append(pa.ipc.open_stream(stream).read_all())
    return pa.concat_tables(tables)


def bucket_borders(sample: Sequence[str], buckets: int) -> list[str]:
    """Identities, from a sorted sample, that cut it into so many parts of like size; fewer if one is most of it."""
    return sorted({sample[len(sample) * number // buckets] for number in range(1, buckets)} - {sample[0]})
