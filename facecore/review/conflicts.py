"""Likely label errors: one person under two names, and faces under somebody else's name."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from facecore.centres import identity_centres, own_cosines
from facecore.embeddings import Buffers, Embeddings, Piece
from facecore.errors import DataError, counted
from facecore.grid import on_grid
from facecore.parallel import cores, in_order
from facecore.progress import progress
from facecore.provenance import Provenance, refuse_to_overwrite
from facecore.review.evidence import (
    Floats,
    check_cosines,
    faces_at,
    identity_names,
    write_evidence,
)
from facecore.search import Index, check_search

NEIGHBOURS = 10  # nearest centres of an identity that may be the same person
TOGETHER = 4096  # centres, or faces, searched for at a time

FOUND = np.dtype(
    [("row", "i8"), ("identity", "i8"), ("other", "i8"), ("cosine", "f4"), ("own_cosine", "f4")]
)  # of the store; a pair of identities has neither row nor own_cosine
Found = npt.NDArray[np.void]


@dataclass(frozen=True)
class ConflictOptions:
    """From where on two labels are in conflict; the cosines were found on LFW and CFP with a MobileFaceNet."""

    min_centre_cosine: float = field(
        default=0.6, metadata={"help": "From this cosine between their centres on, two identities may be one person."}
    )
    min_other_cosine: float = field(
        default=0.5, metadata={"help": "From this cosine to another identity's centre on, a face may be theirs,"}
    )
    max_own_cosine: float = field(
        default=0.4, metadata={"help": "if its cosine to the centre of its own identity's other faces is no higher."}
    )
    search: str = field(default="auto", metadata={"help": "How centres are found: auto, exact, shortlist or torch."})
    seed: int = field(default=0, metadata={"help": "Of the search's k-means."})

    def __post_init__(self) -> None:
        check_cosines(self, "min_centre_cosine", "min_other_cosine", "max_own_cosine")
        check_search(self.search, self.seed)


@dataclass(frozen=True)
class Conflicts:
    """What was found, in numbers."""

    one_person: int  # pairs of identities
    wrong_label: int  # faces


def conflicts(
    store: Path,
    out: Path,
    options: ConflictOptions | None = None,
    *,
    overwrite: bool = False,
    threads: int | None = None,
) -> Conflicts:
    """List what is likely labelled wrongly in a store, with evidence, in one Parquet file; of each kind the best first.

    `one-person`: two identities whose centres are near; of each the ten nearest are looked at. `wrong-label`: a face
    far from the centre of its identity's other faces, yet near another identity's; best is what differs most. A face
    alone is not far from its own. Cosines are on the grid of 2^-14, and ties in the order of the names.
    Raises DataError if the store is not whole or holds fewer than two identities, or if `out` exists.
    """
    options, threads = options or ConflictOptions(), threads or cores()
    refuse_to_overwrite(out, overwrite=overwrite, inputs=[store])
    faces = Embeddings.open(store)
    if faces.identities < 2:
        raise DataError(
            f"{store} holds {counted(faces.identities, 'identity')}, and a conflict takes two; choose another store"
        )
    centres = identity_centres(faces, threads=threads)
    index = Index.over(centres, how=options.search, seed=options.seed)
    pairs = _one_person(centres, index, options.min_centre_cosine, threads)
    far = _far_faces(faces, options.max_own_cosine, threads)
    wrong = _wrong_labels(far, index, options.min_other_cosine, threads)
    counts = {"one_person": len(pairs), "wrong_label": len(wrong)}
    search = {"how": index.how, "recall": round(index.recall, 4)}
    made = Provenance(
        "conflicts", dataclasses.asdict(options), {"embeddings": faces.sha256}, {**counts, "search": search}
    )
    table = pa.concat_tables([_evidence(faces, "one-person", pairs), _evidence(faces, "wrong-label", wrong)])
    write_evidence(table, out, made)
    return Conflicts(**counts)


def _one_person(centres: npt.NDArray[np.float16], index: Index, min_cosine: float, threads: int) -> Found:
    """The pairs of identities with near centres, each once, the earlier identity first."""

    def near(first: int) -> Found:
        own = np.arange(first, min(first + TOGETHER, len(centres)))
        cosines, others = index.nearest(centres[own], NEIGHBOURS, but=own)
        cosines = on_grid(cosines)
        query, place = np.nonzero(cosines >= min_cosine)
        found = np.zeros(len(query), FOUND)
        found["identity"] = np.minimum(own[query], others[query, place])
        found["other"] = np.maximum(own[query], others[query, place])
        found["cosine"] = cosines[query, place]
        return found

    with progress(len(centres), "one person", "identities") as bar:
        parts = []
        for part in in_order(near, range(0, len(centres), TOGETHER), threads=threads):
            parts.append(part)
            bar.update(min(TOGETHER, len(centres) - bar.n))
    found = np.concatenate(parts)
    once = np.unique(found["identity"] * len(centres) + found["other"], return_index=True)[1]
    return found[once][np.argsort(-found["cosine"][once], kind="stable")]


def _far_faces(store: Embeddings, max_cosine: float, threads: int) -> Iterator[tuple[Found, Floats]]:
    """The faces at most that near to the centre of the other faces of their identity, with their vectors."""
    buffers = Buffers()

    def far(piece: Piece) -> tuple[Found, Floats]:
        shard = store.read(piece, buffers, checked=True)
        own_cosine = on_grid(own_cosines(shard.vectors, shard.starts)[1])
        rows = np.flatnonzero(own_cosine <= max_cosine)
        found = np.zeros(len(rows), FOUND)
        found["row"] = shard.first + rows
        found["identity"] = shard.first_identity + np.searchsorted(shard.starts, rows, "right") - 1
        found["own_cosine"] = own_cosine[rows]
        return found, shard.vectors[rows]

    pieces = store.pieces()
    with progress(store.rows, "wrong labels", "faces") as bar:
        for piece, found in zip(pieces, in_order(far, pieces, threads=threads), strict=True):
            bar.update(len(piece))
            yield found


def _batches(parts: Iterable[tuple[Found, Floats]]) -> Iterator[tuple[Found, Floats]]:
    """Join small parts: a search answers many queries at once much faster."""
    waiting: list[tuple[Found, Floats]] = []
    faces = 0
    for part in parts:
        waiting.append(part)
        faces += len(part[0])
        if faces >= TOGETHER:
            yield _joined(waiting)
            waiting, faces = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[tuple[Found, Floats]]) -> tuple[Found, Floats]:
    return np.concatenate([found for found, _ in parts]), np.concatenate([vectors for _, vectors in parts])


def _wrong_labels(far: Iterable[tuple[Found, Floats]], index: Index, min_other_cosine: float, threads: int) -> Found:
    """Those of the faces that are nearer to another identity than to their own."""

    def near_another(batch: tuple[Found, Floats]) -> Found:
        found, vectors = batch
        cosines, others = index.nearest(vectors, 1, but=found["identity"])
        found["cosine"], found["other"] = on_grid(cosines[:, 0]), others[:, 0]
        return found[(found["cosine"] >= min_other_cosine) & (found["cosine"] > found["own_cosine"])]

    found = np.concatenate(list(in_order(near_another, _batches(far), threads=threads)))
    return found[np.argsort(found["own_cosine"] - found["cosine"], kind="stable")]


def _evidence(store: Embeddings, kind: str, found: Found) -> pa.Table:
    """What was found, in names."""
    faces = kind == "wrong-label"
    identity, count = identity_names(store, found["identity"])
    other, other_count = identity_names(store, found["other"])
    nothing = np.full(len(found), not faces)
    face_id = faces_at(store, found["row"], ["face_id"])["face_id"] if faces else pa.nulls(len(found), pa.string())
    return pa.table(
        {
            "kind": pa.array([kind] * len(found), pa.string()),
            "face_id": face_id,
            "identity": identity,
            "other": other,
            "cosine": found["cosine"],
            "own_cosine": pa.array(found["own_cosine"], mask=nothing),
            "faces": count,
            "other_faces": other_count,
        }
    )
