"""Where the files of a store lie, and how they are written."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facecore.errors import DataError
from facecore.manifest import provenance_of, repeating, with_provenance
from facecore.npy import load_npy
from facecore.parquet import check_expansion
from facecore.provenance import Provenance, canonical_json, sha256_of, sha256_of_file, write_text_whole, written_whole
from facecore.storage import for_arrow


def vectors_path(store: Path, number: int) -> Path:
    """Where the vectors of a shard lie."""
    return store / "img_emb" / f"img_emb_{number:05d}.npy"


def metadata_path(store: Path, number: int) -> Path:
    """Where the rows of a shard are described."""
    return store / "metadata" / f"metadata_{number:05d}.parquet"


def shard_starts(identity: pa.ChunkedArray, shard_rows: int) -> npt.NDArray[np.int64]:
    """Cut a sorted column of identities into shards of whole ones; shard i has the rows starts[i] to starts[i + 1].

    A shard has at most `shard_rows` rows, unless it holds a single, larger identity.
    """
    n = len(identity)
    changes = pc.not_equal(identity.slice(1), identity.slice(0, max(n - 1, 0))).to_numpy()
    return whole_runs(np.concatenate([[0], np.flatnonzero(changes) + 1, [n]]), shard_rows)


def whole_runs(borders: npt.NDArray[np.int64], rows: int) -> npt.NDArray[np.int64]:
    """Of the borders between identities, those that cut them into runs of at most so many rows, or one identity."""
    starts = [0]
    n = borders[-1]
    while starts[-1] < n:
        last_that_fits = np.searchsorted(borders, starts[-1] + rows, "right") - 1
        next_identity = np.searchsorted(borders, starts[-1], "right")
        starts.append(int(borders[max(last_that_fits, next_identity)]))
    return np.array(starts, np.int64)


def write_shard(
    store: Path,
    number: int,
    vectors: npt.NDArray[np.float16],
    faces: pa.Table,
    made: Provenance,
    *,
    shared: bool = False,
) -> None:
    """Write one shard, each file whole or not at all, the metadata last: a shard with metadata is complete.

    A `shared` one may be written by other processes at the same time, with the same bytes, see `written_whole`.
    """
    with written_whole(vectors_path(store, number), shared=shared) as part, part.open("wb") as stream:
        rows = np.ascontiguousarray(vectors)
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(rows))
        stream.write(rows.data)  # np.save would say of a full disk how many numbers it wrote, and no more
    with written_whole(metadata_path(store, number), shared=shared) as part:
        table = faces.cast(with_provenance(faces.schema, made))
        pq.write_table(table, part, compression="zstd", use_dictionary=repeating(faces.schema))


def write_meta(store: Path, facts: Mapping[str, Any], *, dimension: int, shards: int) -> None:
    """Write meta.json, which completes the store: the facts given, and the counts and hashes of its shards."""
    table = [_shard_entry(store, number) for number in range(shards)]
    counts = {
        "content": content_sha256(store, shards),
        "dimension": dimension,
        "rows": sum(entry["rows"] for entry in table),
        "identities": sum(entry["identities"] for entry in table),
    }
    write_text_whole(store / "meta.json", canonical_json({**facts, **counts, "shards": table}) + "\n")


def is_whole(meta: Any) -> bool:
    """Whether meta.json says what it must; raises KeyError or TypeError if it is something else altogether."""
    shards = meta["shards"]
    counts = [
        meta["identities"],
        meta["rows"],
        *(entry[count] for entry in shards for count in ("rows", "identities")),
    ]
    edges = [entry[edge] for entry in shards if entry["rows"] for edge in ("first", "last")]
    hashes = [entry[file] for entry in shards for file in ("img_emb", "metadata")]
    return (
        all(type(count) is int and count >= 0 for count in counts)
        and sum(entry["rows"] for entry in shards) == meta["rows"]
        and type(meta["dimension"]) is int
        and meta["dimension"] > 0
        and all(isinstance(text, str) for text in [meta["content"], *edges, *hashes])
    )


def described(path: Path, columns: Sequence[str] | None, as_dictionary: Sequence[str] = ()) -> pa.Table:
    """Columns of a shard's metadata; raises DataError if they cannot be read, or would take absurdly much memory."""
    try:
        check_expansion(path, columns)
        wanted = None if columns is None else list(columns)
        table = pq.read_table(for_arrow(path), columns=wanted, read_dictionary=list(as_dictionary))
        table.validate(full=True)  # that names are UTF-8
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's; of what cannot be decompressed, pyarrow's has none
        raise DataError(
            f"{path} is damaged; delete it and run facecore embed again, it redoes only that shard, "
            "or facecore import --overwrite if that wrote it"
        ) from error
    return table.replace_schema_metadata()


def identity_starts(identity: pa.ChunkedArray, where: Path) -> npt.NDArray[np.int64]:
    """The first row of every identity, and the number of rows; raises DataError if an identity is scattered."""
    whole = identity.unify_dictionaries().combine_chunks()
    codes = whole if pa.types.is_dictionary(identity.type) else whole.dictionary_encode()
    index = codes.indices.to_numpy(zero_copy_only=False).astype(np.int64)  # in order of first appearance
    starts = np.flatnonzero(np.diff(index, prepend=-1))
    if len(starts) != len(codes.dictionary):
        raise DataError(f"{where}: an identity is not in one piece; sort the rows by identity")
    return np.append(starts, len(index)).astype(np.int64)


def write_again(store: Path) -> str:
    """What to do about a store that has lost its meta.json: its first shard tells what wrote it."""
    try:
        made = provenance_of(metadata_path(store, 0))
    except (pa.ArrowException, OSError):
        made = None
    if made is not None and made.stage == "import":
        return "delete the store and run facecore import again"
    return "run facecore embed again, with --overwrite if it refuses"


def _shard_entry(store: Path, number: int) -> dict[str, Any]:
    identity = described(metadata_path(store, number), ["identity"])["identity"]
    return {
        "rows": len(identity),
        "identities": pc.count_distinct(identity).as_py(),
        "first": identity[0].as_py() if len(identity) else None,
        "last": identity[-1].as_py() if len(identity) else None,
        "img_emb": sha256_of_file(vectors_path(store, number)),
        "metadata": sha256_of_file(metadata_path(store, number)),
    }


def content_sha256(store: Path, shards: int) -> str:
    """The sha256 of all vectors, face_ids and identities in order: the same however the faces were cut into shards."""
    columns = ("face_id", "identity")
    vectors, names = hashlib.sha256(), {name: (hashlib.sha256(), hashlib.sha256()) for name in columns}
    for number in range(shards):
        vectors.update(load_npy(vectors_path(store, number)).data)
        faces = described(metadata_path(store, number), columns)
        for name, (lengths, characters) in names.items():
            for chunk in faces[name].chunks:
                lengths.update(pc.binary_length(chunk).to_numpy().astype("<i4").tobytes())
                characters.update(_characters(chunk))
    return sha256_of(
        "".join([vectors.hexdigest(), *(digest.hexdigest() for pair in names.values() for digest in pair)])
    )


def _characters(texts: pa.Array) -> memoryview:
    """The UTF-8 bytes of strings, one after the other; with their lengths they say where each begins."""
    wide = texts.cast(pa.large_string())
    offsets = np.frombuffer(wide.buffers()[1], np.int64)[wide.offset : wide.offset + len(wide) + 1]
    if not len(wide):
        return memoryview(b"")
    return memoryview(wide.buffers()[2])[offsets[0] : offsets[-1]]
