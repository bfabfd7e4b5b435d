"""A benchmark that the data must not contain: its faces as vectors of the network that embedded the data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from facecore.centres import mean_rows
from facecore.embeddings import Embeddings, identity_starts, vectors_path
from facecore.errors import DataError, ModelError, OptionError
from facecore.images import Preprocess, load_batches
from facecore.npy import load_npy
from facecore.progress import progress
from facecore.provenance import canonical_json, sha256_of
from facecore.readers import Dataset, open_dataset

if TYPE_CHECKING:
    from facecore.models import Backbone

TOGETHER = 64  # images that the network takes at a time


@dataclass(frozen=True)
class Against:
    """Where a benchmark is: an embedding store, or images in any format, and what it takes to embed those."""

    path: Path
    model: Path | None = None  # the network that made the store to compare with
    arch: str | None = None  # of a checkpoint
    images: Path | None = None  # the root of a manifest's images


@dataclass(frozen=True)
class Benchmark:
    """The faces of a benchmark, sorted by identity."""

    path: Path
    sha256: str  # of what the vectors were made from
    vectors: npt.NDArray[np.float16]  # (n, d), rows are unit length
    starts: npt.NDArray[np.int64]  # (identities + 1,), the rows of identity i are starts[i] to starts[i + 1]
    faces: pa.Table  # face_id, identity

    @property
    def centres(self) -> npt.NDArray[np.float32]:
        """The normalised mean of every identity, (identities, d)."""
        return _unit(mean_rows(_unit(self.vectors.astype(np.float32)), self.starts))


def open_benchmark(against: Against, data: Embeddings) -> Benchmark:
    """The faces of a benchmark as vectors of the network that made a store; images are embedded in memory.

    Raises OptionError if the network is missing or in vain, ModelError if it is another one, and DataError if there is
    no benchmark, if it was embedded by another network, or if one of its faces has no vector.
    """
    path = against.path
    if (path / "meta.json").is_file() or (path / "img_emb").is_dir():
        if against.model is not None:
            raise OptionError(f"{path} is an embedding store; leave out --model, which is for images")
        return _of_store(Embeddings.open(path), data)
    if against.model is None:
        raise OptionError(f"{path} is no embedding store; name with --model the network that made {data.path}")
    dataset = open_dataset(path, images=against.images)
    return _of_images(path, dataset, _backbone(against.model, against.arch, data), data.meta)


def _backbone(model: Path, arch: str | None, data: Embeddings) -> "Backbone":
    from facecore.models import load_backbone  # torch takes seconds, and a store does without

    made_by = _network(data)
    if made_by is None:
        raise DataError(
            f"{data.path} does not say which network made it, so images cannot be embedded alike; "
            "give --against a store of the benchmark by the same network"
        )
    backbone = load_backbone(model, arch=arch)
    if backbone.sha256 != made_by:
        raise ModelError(
            f"{model} is not the network that made {data.path}, whose sha256 is {made_by}; give that one to --model"
        )
    return backbone


def _network(store: Embeddings) -> str | None:
    made_by = store.meta.get("model", {}).get("sha256")
    return None if made_by is None else str(made_by)


def _of_store(benchmark: Embeddings, data: Embeddings) -> Benchmark:
    networks = {_network(benchmark), _network(data)} - {None}  # imported embeddings do not say
    if len(networks) > 1 or benchmark.dimension != data.dimension:
        raise DataError(
            f"{benchmark.path} and {data.path} are of two networks, so cosines between them mean nothing; "
            "embed one of them again"
        )
    if not benchmark.rows:
        raise DataError(f"{benchmark.path} holds no faces; choose another benchmark")
    for piece in benchmark.pieces():  # to read a row is to check it
        benchmark.read(piece, checked=True)
    vectors = np.concatenate([load_npy(vectors_path(benchmark.path, number)) for number in range(len(benchmark))])
    faces = pa.concat_tables(benchmark.faces(number, ("face_id", "identity")) for number in range(len(benchmark)))
    return _benchmark(benchmark.path, benchmark.sha256, vectors, faces)


def _of_images(path: Path, dataset: Dataset, backbone: "Backbone", meta: Mapping[str, Any]) -> Benchmark:
    from facecore.models import embed_pixels

    preprocess, flip = Preprocess(**meta["preprocess"]), bool(meta["flip"])
    vectors = np.empty((len(dataset), backbone.dimension), np.float16)
    sources = dataset.faces["source"].to_pylist()
    with progress(len(dataset), "benchmark", "faces") as bar:
        for batch in load_batches(dataset.read, sources, size=backbone.size, batch_size=TOGETHER):
            rejected = list(batch.rejected)
            if len(batch.rows):
                raw = embed_pixels(backbone, batch.pixels, preprocess, flip=flip).astype(np.float64)
                length = np.linalg.norm(raw, axis=1, keepdims=True)
                bad = np.flatnonzero(~(np.isfinite(length) & (length > 0)))
                rejected += [(int(batch.rows[row]), "its embedding has no direction") for row in bad]
                vectors[batch.rows] = raw / np.where(length > 0, length, 1)
            if rejected:
                row, reason = min(rejected)
                raise DataError(
                    f"{sources[row]} of {path} cannot be embedded: {reason}; replace it, "
                    "or run facecore embed on the rest and give --against its store"
                )
            bar.update(len(batch.rows))
    recipe = canonical_json([dataset.sha256, backbone.sha256, meta["preprocess"], flip])
    return _benchmark(path, sha256_of(recipe), vectors, dataset.faces.select(["face_id", "identity"]))


def _benchmark(path: Path, sha256: str, vectors: npt.NDArray[np.float16], faces: pa.Table) -> Benchmark:
    return Benchmark(path, sha256, vectors, identity_starts(faces["identity"], path), faces)


def _unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    unit: npt.NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
    return unit
