"""The embedding store: a directory of .npy vectors beside Parquet metadata, one pair a shard.

    img_emb/img_emb_00000.npy            (rows, d) float16, unit rows, C order
    metadata/metadata_00000.parquet      row i describes row i: face_id, identity, source, norm, and what rode along
    meta.json                            model, preprocessing, d, rows, identities, shard table; written last
    rejected.parquet                     faces that could not be embedded, each with a reason

clip-retrieval, autofaiss and embedding-reader read this layout as `parquet_npy`.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facecore.errors import DataError
from facecore.manifest import COLUMNS, with_provenance
from facecore.provenance import Provenance, canonical_json, sha256_of, sha256_of_file, write_text_whole, written_whole

Vectors = npt.NDArray[np.float32]

# A row of 512 halves rounds to a length within 5e-4 of one; anything further off was never normalised.
LENGTH_TOLERANCE = 2e-3


@dataclass(frozen=True)
class Shard:
    """The faces of some whole identities, sorted by identity, then face_id."""

    vectors: Vectors  # (n, d), rows are unit length
    starts: npt.NDArray[np.int64]  # (identities + 1,), the rows of identity i are starts[i] to starts[i + 1]
    faces: pa.Table  # n rows: face_id, identity, source, norm, and what rode along

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def identities(self) -> int:
        """How many identities the shard holds."""
        return len(self.starts) - 1


def vectors_path(store: Path, number: int) -> Path:
    """Where the vectors of a shard lie."""
    return store / "img_emb" / f"img_emb_{number:05d}.npy"


def metadata_path(store: Path, number: int) -> Path:
    """Where the rows of a shard are described."""
    return store / "metadata" / f"metadata_{number:05d}.parquet"


def write_shard(store: Path, number: int, vectors: npt.NDArray[np.float16], faces: pa.Table, made: Provenance) -> None:
    """Write one shard, each file whole or not at all, the metadata last: a shard with metadata is complete."""
    with written_whole(vectors_path(store, number)) as part, part.open("wb") as stream:
        np.save(stream, np.ascontiguousarray(vectors))
    with written_whole(metadata_path(store, number)) as part:
        pq.write_table(faces.cast(with_provenance(faces.schema, made)), part, compression="zstd")


def write_meta(store: Path, facts: Mapping[str, Any], *, dimension: int, shards: int) -> None:
    """Write meta.json, which completes the store: the facts given, and the counts and hashes of its shards."""
    table = [_shard_entry(store, number) for number in range(shards)]
    counts = {
        "content": _content(store, shards),
        "dimension": dimension,
        "rows": sum(entry["rows"] for entry in table),
        "identities": sum(entry["identities"] for entry in table),
    }
    write_text_whole(store / "meta.json", canonical_json({**facts, **counts, "shards": table}) + "\n")


def _shard_entry(store: Path, number: int) -> dict[str, Any]:
    identity = pq.read_table(metadata_path(store, number), columns=["identity"])["identity"]
    return {
        "rows": len(identity),
        "identities": pc.count_distinct(identity).as_py(),
        "first": identity[0].as_py() if len(identity) else None,
        "last": identity[-1].as_py() if len(identity) else None,
        "img_emb": sha256_of_file(vectors_path(store, number)),
        "metadata": sha256_of_file(metadata_path(store, number)),
    }


def _content(store: Path, shards: int) -> str:
    """The sha256 of all vectors, face_ids and identities in order: the same however the faces were cut into shards."""
    vectors, names = hashlib.sha256(), hashlib.sha256()
    for number in range(shards):
        vectors.update(np.load(vectors_path(store, number)).data)
        faces = pq.read_table(metadata_path(store, number), columns=["face_id", "identity"])
        for face in zip(faces["face_id"].to_pylist(), faces["identity"].to_pylist(), strict=True):
            names.update(canonical_json(face).encode())
    return sha256_of(vectors.hexdigest() + names.hexdigest())


@dataclass(frozen=True)
class Embeddings:
    """A complete embedding store, opened for reading; `open` checks it."""

    path: Path
    meta: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> "Embeddings":
        """Open a store and check that it is complete and that every shard has the rows it should.

        Raises DataError otherwise. Vectors are checked as they are read, see `shard`.
        """
        if not path.is_dir():
            raise DataError(f"no embedding store at {path}; facecore embed writes one")
        try:
            meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
            store = cls(path, meta)
            rows = [int(entry["rows"]) for entry in meta["shards"]]
            complete = sum(rows) == meta["rows"] and meta["dimension"] > 0 and {"content", "identities"} <= meta.keys()
        except FileNotFoundError:
            raise DataError(
                f"{path} has no meta.json: it is no store, or not a whole one; run facecore embed again, it goes on"
            ) from None
        except (ValueError, KeyError, TypeError):
            complete = False
        if not complete:
            raise DataError(
                f"{path / 'meta.json'} is damaged; run facecore embed again, and if it refuses, with --overwrite"
            )
        for number, expected in enumerate(rows):
            store._check_rows(number, expected)
        store._check_order()
        return store

    def _check_rows(self, number: int, expected: int) -> None:
        described, there = metadata_path(self.path, number), vectors_path(self.path, number)
        try:
            vectors = np.load(there, mmap_mode="r").shape
            rows = pq.read_metadata(described).num_rows
        except (OSError, ValueError, EOFError, pa.ArrowException):
            raise DataError(
                f"shard {number} of {self.path} is missing or damaged; "
                f"delete {described} and run facecore embed again, it redoes only that shard"
            ) from None
        if vectors[1:] != (self.dimension,):
            raise DataError(
                f"{there} has the shape {vectors}, but meta.json says {self.dimension} numbers a face; "
                "delete it and run facecore embed again, it redoes only that shard"
            )
        if vectors[0] != expected or rows != expected:
            raise DataError(
                f"{there} holds {vectors[0]:,} rows and {described.name} {rows:,}, but meta.json says {expected:,}; "
                "delete both and run facecore embed again, it redoes only that shard"
            )

    def _check_order(self) -> None:
        """An identity never spans two shards: each shard begins after the last identity of the one before."""
        full = [entry for entry in self.meta["shards"] if entry["rows"]]
        for before, after in itertools.pairwise(full):
            if not before["last"].encode() < after["first"].encode():
                raise DataError(
                    f"{self.path}: identity {after['first']} comes after {before['last']} of the shard before, "
                    "so it may span both; run facecore embed --overwrite"
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

    def __len__(self) -> int:
        return len(self.meta["shards"])

    def __iter__(self) -> Iterator[Shard]:
        for number in range(len(self)):
            yield self.shard(number)

    def faces(self, number: int) -> pa.Table:
        """The metadata of one shard: one row a face."""
        return pq.read_table(metadata_path(self.path, number)).replace_schema_metadata()

    def shard(self, number: int) -> Shard:
        """Read one shard; raises DataError if rows are not unit length or not grouped by identity."""
        path = vectors_path(self.path, number)
        # float32 from here on: a cosine of float16 rows is then off by under 1e-4, a float16 product by 3e-4
        vectors = np.load(path).astype(np.float32)
        length = np.linalg.norm(vectors, axis=1)
        if not np.all(np.abs(length - 1) <= LENGTH_TOLERANCE):  # also catches NaN
            row = int(np.flatnonzero(~(np.abs(length - 1) <= LENGTH_TOLERANCE))[0])
            raise DataError(f"{path}: row {row:,} has length {length[row]:.4f}, not 1; run facecore embed --overwrite")
        vectors /= length[:, None]  # halves round the length, too; two copies of a face must have cosine 1
        faces = self.faces(number)
        return Shard(vectors, identity_starts(faces, metadata_path(self.path, number)), faces)


def identity_starts(faces: pa.Table, where: Path) -> npt.NDArray[np.int64]:
    """The first row of every identity, and the number of rows; raises DataError if an identity is scattered."""
    missing = [name for name in COLUMNS if name not in faces.column_names]
    if missing:
        raise DataError(f"{where} has no column {missing[0]}; run facecore embed --overwrite")
    codes = faces["identity"].combine_chunks().dictionary_encode()
    index = codes.indices.to_numpy(zero_copy_only=False).astype(np.int64)  # in order of first appearance
    if np.any(np.diff(index) < 0):
        raise DataError(f"{where}: an identity is not in one piece; sort the rows by identity")
    return np.append(np.searchsorted(index, np.arange(len(codes.dictionary))), len(index)).astype(np.int64)
