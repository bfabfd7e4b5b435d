"""The guard of the tests: people and images of a data set that a benchmark has, too."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from facecore.centres import identity_centres
from facecore.embeddings import Buffers, Embeddings, Piece
from facecore.errors import OptionError
from facecore.grid import on_grid
from facecore.manifest import RowGroups, dropped_path
from facecore.parallel import cores, in_order
from facecore.progress import progress
from facecore.provenance import Provenance, refuse_to_overwrite, written_whole
from facecore.review.benchmark import Against, Benchmark, open_benchmark
from facecore.review.evidence import check_cosines, faces_at, identity_names, write_evidence
from facecore.search import Index, check_search

TOGETHER = 4096  # centres searched for at a time

FOUND = np.dtype([("number", "i8"), ("other", "i8"), ("cosine", "f4")])  # of the store, of the benchmark
Found = npt.NDArray[np.void]


@dataclass(frozen=True)
class OverlapOptions:
    """From where on two faces or people are the same; the cosines were found on LFW and CFP with a MobileFaceNet."""

    min_identity_cosine: float = field(
        default=0.55, metadata={"help": "From this cosine between centres on, an identity is a benchmark's, too."}
    )
    min_image_cosine: float = field(
        default=0.9, metadata={"help": "From this cosine on, an image is a benchmark's, too."}
    )
    search: str = field(default="auto", metadata={"help": "How those are found: auto, exact, shortlist or torch."})
    seed: int = field(default=0, metadata={"help": "Of the search's k-means."})

    def __post_init__(self) -> None:
        check_cosines(self, "min_identity_cosine", "min_image_cosine")
        check_search(self.search, self.seed)


@dataclass(frozen=True)
class Overlap:
    """What was found, in numbers."""

    faces: int
    identities: int
    overlapping_identities: int
    overlapping_images: int
    kept: int  # faces that are neither such an image nor of such an identity


def overlap(
    store: Path,
    against: Against,
    out: Path,
    options: OverlapOptions | None = None,
    *,
    drop: Path | None = None,
    overwrite: bool = False,
    threads: int | None = None,
) -> Overlap:
    """List the identities and the single images of a store that a benchmark has, too, with what they are nearest to.

    `identity` compares centres, `image` single faces; of each kind the nearest first, ties in the order of the names.
    `drop` is where to write a manifest of the store's other faces. Cosines are on the grid of 2^-14.
    Raises what `open_benchmark` raises, and DataError if the store is not whole or holds no faces, or a file exists.
    """
    options, threads = options or OverlapOptions(), threads or cores()
    if drop and drop.resolve() == out.resolve():
        raise OptionError(f"the evidence and the manifest cannot both be {out}; choose another --drop")
    others = [drop, dropped_path(drop)] if drop else []
    refuse_to_overwrite(out, *others, overwrite=overwrite, inputs=[store, against.path])
    faces = Embeddings.open(store)
    faces.check_faces()
    benchmark = open_benchmark(against, faces)
    people, images = _identities(faces, benchmark, options, threads), _images(faces, benchmark, options, threads)
    stays = _others(faces, people, images)
    done = Overlap(faces.rows, faces.identities, len(people), len(images), int(stays.sum()))
    made = _provenance(faces, benchmark, options, done)
    evidence = pa.concat_tables([_of_identities(faces, benchmark, people), _of_images(faces, benchmark, images)])
    if drop:
        dropped_path(drop).unlink(missing_ok=True)  # of the subset that was there: this one has none
    write_evidence(evidence, out, made)
    if drop:
        _write_others(faces, stays, drop, made)
    return done


def _identities(faces: Embeddings, benchmark: Benchmark, options: OverlapOptions, threads: int) -> Found:
    """The identities whose centre is near one of the benchmark's."""
    centres = identity_centres(faces, threads=threads)
    index = Index.over(benchmark.centres, how=options.search, seed=options.seed)

    def near(first: int) -> Found:
        return _nearest(index, centres[first : first + TOGETHER], first, options.min_identity_cosine)

    with progress(len(centres), "identities", "identities") as bar:
        found = []
        for part in in_order(near, range(0, len(centres), TOGETHER), threads=threads):
            found.append(part)
            bar.update(min(TOGETHER, len(centres) - bar.n))
    return _best_first(found)


def _images(faces: Embeddings, benchmark: Benchmark, options: OverlapOptions, threads: int) -> Found:
    """The faces that are near one of the benchmark's."""
    index, buffers = Index.over(benchmark.vectors, how=options.search, seed=options.seed), Buffers()

    def near(piece: Piece) -> Found:
        return _nearest(index, faces.read(piece, buffers, checked=True).vectors, piece.first, options.min_image_cosine)

    pieces, found = faces.pieces(), []
    with progress(faces.rows, "images", "faces") as bar:
        for piece, part in zip(pieces, in_order(near, pieces, threads=threads), strict=True):
            found.append(part)
            bar.update(len(piece))
    return _best_first(found)


def _nearest(index: Index, queries: npt.NDArray[np.floating], first: int, min_cosine: float) -> Found:
    """Of some queries, numbered from `first` on, those with a point of the index that near."""
    cosines, others = index.nearest(queries, 1)
    cosine = on_grid(cosines[:, 0])
    rows = np.flatnonzero(cosine >= min_cosine)
    found = np.zeros(len(rows), FOUND)
    found["number"], found["other"], found["cosine"] = first + rows, others[rows, 0], cosine[rows]
    return found


def _best_first(parts: list[Found]) -> Found:
    found = np.concatenate(parts)
    return found[np.argsort(-found["cosine"], kind="stable")]


def _others(faces: Embeddings, people: Found, images: Found) -> npt.NDArray[np.bool_]:
    """Which faces, (n,), neither are such an image nor belong to such an identity."""
    stays = np.ones(faces.rows, np.bool_)
    stays[images["number"]] = False
    for identity in people["number"].tolist():
        piece = faces.piece_of(identity)
        stays[piece.first : piece.first + len(piece)] = False
    return stays


def _of_identities(faces: Embeddings, benchmark: Benchmark, found: Found) -> pa.Table:
    nobody = pa.nulls(len(found), pa.string())
    theirs = benchmark.faces["identity"].take(benchmark.starts[found["other"]])
    return _evidence("identity", nobody, identity_names(faces, found["number"])[0], nobody, theirs, found)


def _of_images(faces: Embeddings, benchmark: Benchmark, found: Found) -> pa.Table:
    ours, theirs = faces_at(faces, found["number"], ["face_id", "identity"]), benchmark.faces.take(found["other"])
    return _evidence("image", ours["face_id"], ours["identity"], theirs["face_id"], theirs["identity"], found)


def _evidence(
    kind: str,
    face_id: pa.Array,
    identity: pa.Array,
    benchmark_face_id: pa.Array,
    benchmark_identity: pa.Array,
    found: Found,
) -> pa.Table:
    return pa.table(
        {
            "kind": pa.array([kind] * len(found), pa.string()),
            "face_id": face_id,
            "identity": identity,
            "benchmark_face_id": benchmark_face_id,
            "benchmark_identity": benchmark_identity,
            "cosine": found["cosine"],
        }
    )


def _provenance(faces: Embeddings, benchmark: Benchmark, options: OverlapOptions, done: Overlap) -> Provenance:
    """With what later stages need to know of data set and network: the manifest of the others is a data set."""
    origin = {name: faces.meta[name] for name in ("root", "format", "model", "preprocess") if name in faces.meta}
    inputs = {"embeddings": faces.sha256, "benchmark": benchmark.sha256}
    return Provenance("overlap", dataclasses.asdict(options), inputs, {**origin, **dataclasses.asdict(done)})


def _write_others(faces: Embeddings, stays: npt.NDArray[np.bool_], path: Path, made: Provenance) -> None:
    with written_whole(path) as part, RowGroups(part, made) as manifest:
        for number in range(len(faces)):
            table, first = faces.faces(number), faces.first(number)
            manifest.write(table.filter(pa.array(stays[first : first + len(table)])))
