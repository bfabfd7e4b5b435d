"""What a review hands out: rows of evidence, with names in the place of numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from facecore.embeddings import Embeddings
from facecore.errors import OptionError
from facecore.manifest import with_provenance
from facecore.provenance import Provenance, written_whole

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


def check_cosines(options: Any, *names: str) -> None:
    """Raise OptionError unless these fields are cosines."""
    for name in names:
        if not -1 <= getattr(options, name) <= 1:
            raise OptionError(f"{name} must be from -1 to 1, got {getattr(options, name):g}")


def faces_at(store: Embeddings, rows: Numbers, columns: Sequence[str]) -> pa.Table:
    """What is known of some rows of a store, in the order they are given."""
    firsts = np.array([store.first(number) for number in range(len(store))])
    shards = np.searchsorted(firsts, rows, "right") - 1
    order = np.argsort(shards, kind="stable")
    tables = [
        store.faces(number, columns).select(columns).take(rows[shards == number] - store.first(number))
        for number in np.unique(shards).tolist()
    ]
    if not tables:
        return pa.table({name: pa.array([], pa.string()) for name in columns})
    return pa.concat_tables(tables).take(np.argsort(order, kind="stable"))


def identity_names(store: Embeddings, identities: Numbers) -> tuple[pa.ChunkedArray, Numbers]:
    """The names of some identities of a store, given by number, and how many faces each has."""
    distinct, place = np.unique(identities, return_inverse=True)
    pieces = [store.piece_of(identity) for identity in distinct.tolist()]
    names = faces_at(store, np.array([piece.first for piece in pieces], np.int64), ["identity"])["identity"]
    return names.take(place), np.array([len(piece) for piece in pieces], np.int64)[place]


def write_evidence(table: pa.Table, path: Path, made: Provenance) -> None:
    """Write rows of evidence as zstd Parquet, whole or not at all."""
    with written_whole(path) as part:
        pq.write_table(table.cast(with_provenance(table.schema, made)), part, compression="zstd")
