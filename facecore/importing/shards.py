"""Sorted faces into the shards of a store, and vectors of no use into a list with reasons."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from facecore.embeddings import shard_starts, write_shard
from facecore.errors import DataError
from facecore.importing.groups import Run, joined
from facecore.importing.options import ImportOptions
from facecore.importing.units import is_unit
from facecore.manifest import COLUMNS, RowGroups
from facecore.provenance import Provenance

REJECTED = pa.schema([(name, pa.string()) for name in (*COLUMNS, "reason")])


@dataclass(frozen=True)
class Written:
    """What was written."""

    shards: int
    faces: int
    normalised: int  # those whose vectors were not of unit length


def write_shards(store: Path, runs: Iterable[Run], options: ImportOptions, made: Provenance, *, rows: int) -> Written:
    """Write whole identities, which come sorted, as the shards of a store, and rejected.parquet; `rows` is of all runs.

    Raises DataError as soon as more than `max_rejected` of the rows are of no use.
    """
    faces = normalised = shards = 0
    with RowGroups(store / "rejected.parquet", made) as rejected:
        rejected.write(REJECTED.empty_table())
        sound = _sound(runs, rejected, options.max_rejected, rows)
        for shards, shard in enumerate(packed(sound, options.shard_rows), 1):
            write_shard(store, shards - 1, shard.halves, shard.faces.combine_chunks(), made)
            faces += len(shard)
            normalised += int((~is_unit(shard.faces["norm"].to_numpy())).sum())
    return Written(shards, faces, normalised)


def packed(runs: Iterable[Run], shard_rows: int) -> Iterator[Run]:
    """Whole identities, as many at a time as fit in a shard, or a single, larger one; however the runs are cut."""
    waiting: list[Run] = []
    for run in runs:
        waiting.append(run)
        if sum(map(len, waiting)) > shard_rows:
            whole = joined(waiting)
            *starts, last, end = shard_starts(whole.faces["identity"], shard_rows).tolist()
            for start, stop in itertools.pairwise([*starts, last]):
                yield whole.rows(start, stop)
            waiting = [whole.rows(last, end)]  # the next identity may still fit
    if waiting:
        yield joined(waiting)


def _sound(runs: Iterable[Run], rejected: RowGroups, most: float, rows: int) -> Iterator[Run]:
    """The rows whose vectors are of use; the others are written down, unless they are more than `most` of all rows."""
    count = 0
    for run in runs:
        norm = run.faces["norm"].to_numpy()
        sound = norm > 0  # not NaN either
        if not sound.all():
            reason = np.where(norm == 0, "the vector has length zero", "the vector is missing or not finite")[~sound]
            names = run.faces.select(COLUMNS).filter(pa.array(~sound))
            count += len(names)
            if count > most * rows:
                raise DataError(
                    f"{count:,} of {rows:,} vectors rejected so far, more than --max-rejected {most} allows; last "
                    f"{names['face_id'][-1]}: {reason[-1]}; see whether they were written as another "
                    "type, or allow more: rejected.parquet then lists them"
                )
            rejected.write(names.append_column("reason", pa.array(reason.tolist(), pa.string())))
            run = Run(run.halves[sound], run.faces.filter(pa.array(sound)))
        if len(run):
            yield run
