"""Why one face was kept or dropped, in words that need no knowledge of the files."""

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from facecore.embeddings import Embeddings, Piece
from facecore.errors import DataError
from facecore.grid import to_cosines, to_levels
from facecore.report.explanation import KEPT, Explanation, Fate
from facecore.report.subset import DROPPED_COLUMNS, KEPT_COLUMNS, UNKNOWN, Subset, batches, reading, rows_where

AGAIN = "run facecore nms again"
CANDIDATES = 20_000  # names that one is looked for among, if it is nowhere


def explain(face_id: str, subset: Path, *, embeddings: Path | None = None) -> Explanation:
    """Find out what became of a face and of the others of its identity; with a store also how near these are to it.

    Reads in batches, so the size of the subset does not matter. Raises DataError if the face is nowhere, with the
    nearest names, or if the store is not the one that the subset was selected from.
    """
    chosen = Subset.open(subset)
    store = None if embeddings is None else _store_of(chosen, embeddings)
    found = _rows(chosen, "face_id", face_id) if _is_text(face_id) else []
    if not found:
        raise DataError(_nowhere(chosen, face_id, embeddings))
    if len(found) > 1:
        raise DataError(f"{face_id} is {len(found):,} times in {subset} and {chosen.dropped}; {AGAIN}")
    identity = found[0][0]
    ranked = sorted(
        (fate for _, fate in _rows(chosen, "identity", identity)),
        key=lambda fate: (fate.reason == "far-from-centre", -fate.sparsity, fate.face_id.encode()),
    )
    cosines = _cosines(store, identity, face_id) if store else {}
    relatives = [
        dataclasses.replace(fate, place=place, cosine=cosines.get(fate.face_id)) for place, fate in enumerate(ranked, 1)
    ]
    (own,) = [fate for fate in relatives if fate.face_id == face_id]
    return Explanation(chosen, identity, own, relatives)


def _is_text(name: str) -> bool:
    """Whether it is Unicode, as all names in a file are: bytes of a command line that are none come as surrogates."""
    return not any("\ud800" <= sign <= "\udfff" for sign in name)


def _rows(subset: Subset, column: str, value: str) -> list[tuple[str, Fate]]:
    """The faces, kept and dropped, that have this value, each with its identity."""
    return [
        (row["identity"], _fate(file, row))
        for file, columns in ((subset.path, KEPT_COLUMNS), (subset.dropped, DROPPED_COLUMNS))
        for row in _read(file, column, value, columns)
    ]


def _read(file: Path, column: str, value: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows that have this value; raises DataError if the file is damaged."""
    with reading(file):
        rows: list[dict[str, Any]] = rows_where(file, column, [value], columns).to_pylist()
    return rows


def _fate(file: Path, row: Mapping[str, Any]) -> Fate:
    """A row as a fate; raises DataError if it lacks what every selection writes."""
    face_id, rival, reason = row["face_id"], row.get("rival"), row.get("reason", KEPT)
    needed = ["sparsity", "suppression_cosine", *(["cosine"] if rival is not None else [])]
    wrong = [name for name in needed if row[name] is None or not math.isfinite(row[name])]
    wrong += [name for name in ("face_id", "identity") if row[name] is None] + ["reason"] * (reason is None)
    if wrong:
        what = f"{wrong[0]} of {face_id} is {row[wrong[0]]}"
        raise DataError(f"{file} is damaged, or facecore did not write it: {what}; {AGAIN}")
    return Fate(face_id, row["sparsity"], row["suppression_cosine"], reason, rival, row.get("cosine"))


def _store_of(subset: Subset, path: Path) -> Embeddings:
    store = Embeddings.open(path)
    if subset.made.stage == UNKNOWN:
        raise DataError(f"{subset.path} has no record of the store it was selected from; leave --embeddings out")
    if "forgotten" in store.meta and subset.made.inputs.get("embeddings") != store.sha256:
        raise DataError(
            f"{path} is not, or no longer, the store that {subset.path} was selected from: faces were forgotten; "
            "leave --embeddings out"
        )
    if subset.made.inputs.get("embeddings") != store.sha256:
        raise DataError(
            f"{path} is not the store that {subset.path} was selected from; give --embeddings that one, or leave it out"
        )
    return store


def _cosines(store: Embeddings, identity: str, face_id: str) -> dict[str, float]:
    """The cosine of every face of an identity to one of them, on the grid that selections compare on."""
    for number, entry in enumerate(store.meta["shards"]):
        if entry["rows"] and entry["first"].encode() <= identity.encode() <= entry["last"].encode():
            faces = store.faces(number, ["face_id", "identity"])
            rows = np.flatnonzero(pc.equal(faces["identity"], identity).to_numpy())
            if len(rows):
                piece = Piece(number, np.array([rows[0], rows[-1] + 1]), store.first(number) + int(rows[0]), 0)
                vectors = store.read(piece).vectors
                names = faces["face_id"].slice(int(rows[0]), len(rows)).to_pylist()
                near = to_cosines(to_levels(vectors @ vectors[names.index(face_id)]))
                return dict(zip(names, near.tolist(), strict=True))
    return {}


def _nowhere(subset: Subset, face_id: str, embeddings: Path | None) -> str:
    """That a face is in neither file, and what to do: it was rejected, or another name was meant."""
    if not face_id.strip():
        return f"FACE_ID is {'blank' if face_id else 'empty'}; give one of the column face_id of {subset.path}"
    if not _is_text(face_id):
        return f"no face {face_id} in {subset.path}, for that is no UTF-8; give one of its column face_id"
    rejected = embeddings / "rejected.parquet" if embeddings else None
    if rejected and rejected.is_file():
        found = _read(rejected, "face_id", face_id, ["reason"])
        if found:
            return f"{face_id} was never selected from: it was rejected before, {found[0]['reason']}; mend it"
    names = _nearest_names(subset, face_id)
    hint = f"the nearest are {', '.join(names)}" if names else "the column face_id lists those that there are"
    return f"no face {face_id} in {subset.path} or {subset.dropped}; {hint}"


def _nearest_names(subset: Subset, face_id: str) -> list[str]:
    """Three names that hold what was given, else three that are spelled alike, of those that begin alike."""
    holding: list[str] = []
    alike: list[str] = []
    for path in (subset.path, subset.dropped):
        for batch in batches(path, ["face_id"]):
            names = batch["face_id"]
            holding += _some(names.filter(pc.match_substring(names, face_id, ignore_case=True)), 3 - len(holding))
            begins = pc.starts_with(names, face_id[:2], ignore_case=True)
            alike += _some(names.filter(begins), CANDIDATES - len(alike))
    return holding or difflib.get_close_matches(face_id, alike, n=3)


def _some(names: pa.Array, most: int) -> list[str]:
    return [str(name) for name in names.slice(0, max(most, 0)).to_pylist()]
