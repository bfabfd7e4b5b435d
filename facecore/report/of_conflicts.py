"""The part of a page about likely label errors: the evidence, with faces where those are at hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facecore.embeddings import Embeddings, metadata_path
from facecore.errors import DataError
from facecore.manifest import COLUMNS, provenance_of
from facecore.parquet import check_expansion
from facecore.provenance import Provenance
from facecore.readers import Reader
from facecore.report.faces import Album, Face, images_of
from facecore.report.page import Section
from facecore.report.subset import Subset, rows_where

SHOWN = 12  # of each kind, with pictures; three faces tell a wrong label, two a person of two names
LISTED = 60  # of each kind, as a table

KINDS = {
    "one-person": "One person under two names?",
    "wrong-label": "Somebody else's face?",
}


@dataclass(frozen=True)
class Evidence:
    """One likely error, and the faces to judge it by: each with what it stands for."""

    row: Mapping[str, Any]
    faces: list[tuple[str, Face]]


@dataclass(frozen=True)
class Source:
    """The files that describe the faces of a data set, and where its images are."""

    files: Sequence[Path]
    where: Reader | str


def conflicts_section(path: Path, name: str, slug: str, *, sources: Mapping[str, Source], album: Album) -> Section:
    """Show a table of conflicts; its faces are sought in the source of the same embeddings, by their sha256."""
    made = provenance_of(path) or Provenance("unknown")
    check_expansion(path)
    table = pq.read_table(path).replace_schema_metadata()
    source = sources.get(made.inputs.get("embeddings", ""))
    found = {kind: table.filter(pc.equal(table["kind"], kind)) for kind in KINDS}
    _check(path, table, found)
    most = min(SHOWN, album.left // 10) if album.shown else SHOWN  # at most half of the pictures left
    first = [row for of in found.values() for row in of.slice(0, most).to_pylist()]
    examples = _examples(source, first) if source else {}
    values = {
        "titles": KINDS,
        "shown": {
            kind: [_evidence(row, examples, source, album) for row in of.slice(0, most).to_pylist()]
            for kind, of in found.items()
        },
        "rows": {kind: of.slice(0, LISTED).to_pylist() for kind, of in found.items()},
        "counts": {kind: len(of) for kind, of in found.items()},
        "pictured": source is not None and album.shown,
    }
    figures = [(f"{len(found['one-person']):,}", "pairs of identities that may be one person each")]
    figures.append((f"{len(found['wrong-label']):,}", "faces that may be somebody else's"))
    return Section("conflicts", name, slug, figures, made, values)


def _check(path: Path, table: pa.Table, found: Mapping[str, pa.Table]) -> None:
    """Raise DataError if a row lacks what is said of its kind."""
    needed = [(table, name) for name in ("kind", "identity", "other", "cosine")]
    needed += [(found["one-person"], "faces"), (found["one-person"], "other_faces")]
    needed += [(found["wrong-label"], "face_id"), (found["wrong-label"], "own_cosine")]
    if empty := [name for of, name in needed if of[name].null_count]:
        raise DataError(f"{path} has rows without {empty[0]}; run facecore conflicts again")


def sources_of(subsets: Sequence[Subset], stores: Sequence[Embeddings], images: Path | None) -> dict[str, Source]:
    """What describes the faces of which embeddings, by the sha256 of these."""
    found: dict[str, Source] = {}
    for subset in subsets:
        if "embeddings" in subset.made.inputs:
            where = images_of(subset.made.facts, images)
            found[subset.made.inputs["embeddings"]] = Source([subset.path, subset.dropped], where)
    for store in stores:
        files = [metadata_path(store.path, number) for number in range(len(store))]
        found[store.sha256] = Source(files, images_of(store.meta, images))
    return found


def _examples(source: Source, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The first faces of the identities of some conflicts, by identity, and the faces in conflict, by face_id."""
    names = sorted({row[column] for row in rows for column in ("identity", "other")})
    tables = [rows_where(file, "identity", names, COLUMNS) for file in source.files]
    found: dict[str, list[dict[str, Any]]] = {}
    for row in pa.concat_tables(tables).sort_by([("identity", "ascending"), ("face_id", "ascending")]).to_pylist():
        found.setdefault(row["identity"], []).append(row)
    return found


def _evidence(
    row: Mapping[str, Any], examples: Mapping[str, list[dict[str, Any]]], source: Source | None, album: Album
) -> Evidence:
    """The face in conflict if it is about one, then another one of each identity."""
    if source is None:
        return Evidence(row, [])
    own, others = examples.get(row["identity"], []), examples.get(row["other"], [])
    faces = [("in question", face) for face in own if face["face_id"] == row["face_id"]]
    faces += [(row["identity"], face) for face in own if face["face_id"] != row["face_id"]][:1]
    faces += [(row["other"], face) for face in others][:1]
    return Evidence(row, [(what, album.face(source.where, face)) for what, face in faces])
