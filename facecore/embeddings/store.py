"""A complete store, opened for reading: in pieces of whole identities, small enough for the cache."""

import bisect
import functools
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from facecore.compiled import widen_rows
from facecore.embeddings.files import (
    described,
    identity_starts,
    is_whole,
    metadata_path,
    vectors_path,
    whole_runs,
    write_again,
)
from facecore.embeddings.pieces import Buffers, Piece, Shard
from facecore.errors import DataError
from facecore.manifest import COLUMNS
from facecore.npy import read_npy_header
from facecore.parallel import cores, in_order
from facecore.provenance import sha256_of_file
from facecore.storage import check_permitted, check_reached, for_arrow, is_remote, read_range, read_whole

# A row of 512 halves rounds to a length within 5e-4 of one; anything further off was never normalised.
LENGTH_TOLERANCE = 2e-3
# 1,024 rows of 512 floats are 2 MB: what is computed from them finds them in the cache (measured: 1.5 times faster).
PIECE_ROWS = 1024


@dataclass(frozen=True)
class Embeddings:
    """A complete embedding store, opened for reading; `open` checks it."""

    path: Path
    meta: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> "Embeddings":
        """Open a store and check that it is complete and that every shard has the rows it should.

        Raises DataError otherwise. Vectors are checked as they are read, see `read`.
        """
        check_reached(path)
        if not path.is_dir():
            raise DataError(f"no embedding store at {path}; facecore embed writes one")
        try:
            meta = json.loads(read_whole(path / "meta.json"))
            store = cls(path, meta)
            complete = is_whole(meta)
        except FileNotFoundError:
            if not (path / "img_emb").is_dir():
                raise DataError(f"{path} is no embedding store; facecore embed makes one of a data set") from None
            raise DataError(f"{path} is no whole store, meta.json is missing; {write_again(path)}") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            complete = False
        if not complete:
            raise DataError(f"{path / 'meta.json'} is damaged; {write_again(path)}")
        for number, entry in enumerate(meta["shards"]):
            store._check_rows(number, entry["rows"])
        store._check_order()
        return store

    def _check_rows(self, number: int, expected: int) -> None:
        described, there = metadata_path(self.path, number), vectors_path(self.path, number)
        for path in (described, there):
            check_permitted(path)  # what is whole is not to be deleted
        try:
            head = read_npy_header(there)
            rows = pq.read_metadata(for_arrow(described)).num_rows
        except (OSError, ValueError, pa.ArrowException):
            left = str(described) if described.exists() else "what is left of it"
            raise DataError(f"shard {number} of {self.path} is missing or damaged; {self._again(left)}") from None
        if head.shape[1:] != (self.dimension,) or head.dtype != np.float16 or not head.c_order:
            raise DataError(
                f"{there} has the shape {head.shape} of {head.dtype}, but meta.json says {self.dimension} "
                f"float16 numbers a face; {self._again('it')}"
            )
        if head.shape[0] != expected or rows != expected:
            raise DataError(
                f"{there} holds {head.shape[0]:,} rows and {described.name} {rows:,}, "
                f"but meta.json says {expected:,}; {self._again('both')}"
            )
        self._begin[number] = head.begin

    def _again(self, damaged: str = "") -> str:
        """How to write a shard again, or the whole store: an import has no images to embed one from."""
        if self.meta.get("stage") == "import":
            return "run facecore import --overwrite"
        if not damaged:
            return "run facecore embed --overwrite"
        return f"delete {damaged} and run facecore embed again, it redoes only that shard"

    @functools.cached_property
    def _begin(self) -> dict[int, int]:
        """At which byte the rows of a shard begin, of the shards checked."""
        return {}

    def _check_order(self) -> None:
        """An identity never spans two shards: each shard begins after the last identity of the one before."""
        full = [entry for entry in self.meta["shards"] if entry["rows"]]
        for before, after in itertools.pairwise(full):
            if not before["last"].encode() < after["first"].encode():
                raise DataError(
                    f"{self.path}: identity {after['first']} comes after {before['last']} of the shard before, "
                    f"so it may span both; {self._again()}"
                )

    @property
    def rows(self) -> int:
        """How many faces the store holds."""
        return int(self.meta["rows"])

    @property
    def identities(self) -> int:
        """How many identities the store holds."""
        return int(self.meta["identities"])

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return int(self.meta["dimension"])

    @property
    def sha256(self) -> str:
        """The sha256 of what the store holds, which does not depend on how it was cut into shards."""
        return str(self.meta["content"])

    def check_faces(self) -> None:
        """Raise DataError if the store holds no faces."""
        if not self.rows:
            gone = bool(self.meta.get("forgotten")) and not self.meta.get("rejected")
            why = "all were forgotten, so choose another" if gone else f"see {self.path / 'rejected.parquet'} for why"
            raise DataError(f"{self.path} holds no faces; {why}")

    def __len__(self) -> int:
        return len(self.meta["shards"])

    def __iter__(self) -> Iterator[Shard]:
        return map(self.read, self.pieces())

    def faces(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The metadata of one shard, all or some columns: one row a face."""
        return described(metadata_path(self.path, number), None if columns is None else list(columns))

    def starts(self, number: int) -> npt.NDArray[np.int64]:
        """The first row of every identity of a shard, and its number of rows; raises DataError if one is scattered."""
        return self._starts[number]

    @functools.cached_property
    def _starts(self) -> list[npt.NDArray[np.int64]]:
        return list(in_order(self._read_starts, range(len(self)), threads=cores()))

    def _read_starts(self, number: int) -> npt.NDArray[np.int64]:
        path = metadata_path(self.path, number)
        schema = pq.read_schema(for_arrow(path))
        if missing := [name for name in COLUMNS if schema.get_field_index(name) < 0]:
            raise DataError(f"{path} has no column {missing[0]}; {self._again()}")
        identity = described(path, ["identity"], as_dictionary=["identity"])["identity"]
        starts, expected = identity_starts(identity, path), int(self.meta["shards"][number]["identities"])
        if len(starts) - 1 != expected:
            raise DataError(
                f"{path} holds {len(starts) - 1:,} identities, but meta.json says {expected:,}: it was changed; "
                "put back what it was"
            )
        return starts

    def pieces(self, number: int | None = None, *, rows: int = PIECE_ROWS) -> list[Piece]:
        """A shard, or the whole store, in runs of whole identities of at most so many rows; a larger one is a piece."""
        numbers = range(len(self)) if number is None else [number]
        return [piece for number in numbers for piece in self._pieces(number, rows)]

    def _pieces(self, number: int, rows: int) -> Iterator[Piece]:
        starts = self.starts(number)
        runs = np.searchsorted(starts, whole_runs(starts, rows))
        for a, b in itertools.pairwise(runs.tolist()):
            yield Piece(
                number, starts[a : b + 1], self._first[number] + int(starts[a]), self._first_identity[number] + a
            )

    def check_unchanged(self, number: int) -> None:
        """Raise DataError unless both files of a shard have the sha256 that meta.json says: another's may fit, too."""
        entry = self.meta["shards"][number]
        for file, path in (("img_emb", vectors_path), ("metadata", metadata_path)):
            there = path(self.path, number)
            if sha256_of_file(there) != entry[file]:
                raise DataError(
                    f"{there} is not the file that meta.json describes; put that back, or {self._again('it')}"
                )

    def first(self, number: int) -> int:
        """Which row of the store the first row of a shard is."""
        return self._first[number]

    @functools.cached_property
    def _first(self) -> list[int]:
        return [0, *itertools.accumulate(int(entry["rows"]) for entry in self.meta["shards"])]

    @functools.cached_property
    def _first_identity(self) -> list[int]:
        return [0, *itertools.accumulate(len(starts) - 1 for starts in self._starts)]

    def piece_of(self, identity: int) -> Piece:
        """Where one identity lies, given its number in the store."""
        return next(self.pieces_of(identity, 1))

    def pieces_of(self, identity: int, count: int) -> Iterator[Piece]:
        """Where that identity and those after it lie, so many in all: a piece for every shard that holds some."""
        number, end = bisect.bisect_right(self._first_identity, identity) - 1, identity + count
        while identity < min(end, self.identities):
            at, here = self._first_identity[number], min(end, self._first_identity[number + 1])
            starts = self.starts(number)[identity - at : here - at + 1]
            if identity < here:
                yield Piece(number, starts, self._first[number] + int(starts[0]), identity)
            number, identity = number + 1, here

    def shard(self, number: int) -> Shard:
        """Read one shard file at once."""
        return self.read(Piece(number, self.starts(number), self._first[number], self._first_identity[number]))

    def read(self, piece: Piece, buffers: Buffers | None = None, *, checked: bool = False) -> Shard:
        """Read a piece, into fresh memory unless there are buffers; raises DataError if rows are not unit length.

        A pass over all pieces is `checked`: then the first of each shard also raises what `check_unchanged` does.
        """
        if checked and not piece.starts[0]:
            self.check_unchanged(piece.number)
        halves, rows = (buffers or Buffers()).rows(len(piece), self.dimension)
        begin = int(piece.starts[0])
        path = vectors_path(self.path, piece.number)
        if not _read_at(path, self._begin[piece.number] + begin * halves.itemsize * self.dimension, halves):
            raise DataError(f"{path} is cut short; {self._again('it')}")
        # float32 from here on: a cosine of float16 rows is then off by under 1e-4, a float16 product by 3e-4
        bad = widen_rows(halves, rows, tolerance=LENGTH_TOLERANCE)
        if bad >= 0:
            with np.errstate(invalid="ignore"):  # of infinities
                length = float(np.linalg.norm(halves[bad].astype(np.float32)))
            raise DataError(f"{path}: row {begin + bad:,} has length {length:.4f}, not 1; {self._again('it')}")
        return Shard(rows, piece.starts - begin, piece.first, piece.first_identity)


def _read_at(path: Path, start: int, into: npt.NDArray[np.float16]) -> bool:
    """Fill an array from a file, if that has so much; mapping it instead would count every page read as memory."""
    left = into.reshape(-1).view(np.uint8).data
    if is_remote(path):
        data = read_range(path, start, len(left))
        left[: len(data)] = data
        left = left[len(data) :]
    else:
        with path.open("rb", buffering=0) as stream:
            stream.seek(start)
            while left and (got := stream.readinto(left)):
                left = left[got:]
    return not left
