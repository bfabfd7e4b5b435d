"""The selection stage: an embedding store in, a subset and its dropped faces out."""

import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from facecore.embeddings import Embeddings, Shard
from facecore.errors import DataError
from facecore.manifest import RowGroups
from facecore.progress import progress
from facecore.provenance import Provenance, refuse_to_overwrite, written_whole
from facecore.select.grid import LEVELS, to_levels
from facecore.select.selector import Cut, Selector
from facecore.select.threshold import Candidate, Threshold, check_keep, target_for, threshold_for, trimmed_rows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """What a selection did, in numbers."""

    faces: int
    identities: int
    kept: int
    identities_kept: int
    near_duplicates: int
    trimmed: int
    max_cosine: float


def dropped_path(subset: Path) -> Path:
    """Where the faces that did not make it into a subset are listed: beside it."""
    return subset.with_name(f"{subset.stem}.dropped.parquet")


def select(store: Path, selector: Selector, *, keep: float, out: Path, overwrite: bool = False) -> Selection:
    """Keep exactly round(keep * faces) faces of a store by a selector; list the rest with reasons.

    Writes `out` and, beside it, its dropped faces: kept + dropped = all. Raises OptionError if keep is not in (0, 1] or
    cannot hold the floor, DataError if the store is not whole or a file exists.
    """
    check_keep(keep)
    refuse_to_overwrite(out, dropped_path(out), overwrite=overwrite)
    faces = Embeddings.open(store)
    if faces.rows == 0:
        raise DataError(f"{store} holds no faces; see {store / 'rejected.parquet'} for why")
    threshold = _threshold(faces, selector, keep)
    cuts = _cuts(faces, selector, threshold)
    selection = _summary(faces, cuts, threshold)
    options = {"keep": keep, **dataclasses.asdict(cast(Any, selector))}
    made = Provenance(
        selector.name, options, {"embeddings": faces.sha256}, {**_origin(faces), **dataclasses.asdict(selection)}
    )
    _write(faces, cuts, threshold.max_cosine, made, out)
    return selection


def _threshold(faces: Embeddings, selector: Selector, keep: float) -> Threshold:
    """First pass: add up the shards' profiles."""
    profile, floor = np.zeros(LEVELS, np.int64), 0
    with progress(faces.rows, "profile", "faces") as bar:
        for shard in faces:
            profile += selector.profile(shard)
            floor += int(np.minimum(np.diff(shard.starts), selector.min_per_identity).sum())
            bar.update(len(shard))
    target = target_for(keep, faces=faces.rows, floor=floor, min_per_identity=selector.min_per_identity)
    threshold = threshold_for(profile, target)
    log.info("%d faces stay at %.5f, %d too many", target + threshold.surplus, threshold.max_cosine, threshold.surplus)
    return threshold


def _cuts(faces: Embeddings, selector: Selector, threshold: Threshold) -> list[Cut]:
    """Second pass: cut every shard, then once more those that hold a face too many."""
    cuts: list[Cut] = []
    candidates: list[Candidate] = []
    with progress(faces.rows, "cut", "faces") as bar:
        for number, shard in enumerate(faces):
            cuts.append(selector.cut(shard, threshold.level))
            if threshold.surplus:
                candidates += _candidates(number, shard, cuts[-1])
            bar.update(len(shard))
    for number, rows in trimmed_rows(candidates, threshold.surplus).items():
        cuts[number] = selector.cut(faces.shard(number), threshold.level, rows)
    return cuts


def _candidates(number: int, shard: Shard, cut: Cut) -> Iterator[Candidate]:
    rows = np.flatnonzero(cut.admitted & (cut.spare > 0))
    level = to_levels(cut.sparsity[rows] - 1).tolist()
    chosen = shard.faces.select(["face_id", "identity"]).take(rows).to_pydict()
    for i, row in enumerate(rows.tolist()):
        yield Candidate(level[i], chosen["face_id"][i], number, row, chosen["identity"][i], int(cut.spare[row]))


def _summary(faces: Embeddings, cuts: list[Cut], threshold: Threshold) -> Selection:
    kept = sum(int(cut.kept.sum()) for cut in cuts)
    near = sum(int((~cut.kept & (cut.cosine > threshold.max_cosine)).sum()) for cut in cuts)
    assert kept == threshold.target, f"{kept} faces kept instead of {threshold.target}"
    return Selection(
        faces=faces.rows,
        identities=faces.identities,
        kept=kept,
        identities_kept=sum(_identities_kept(faces, number, cut) for number, cut in enumerate(cuts)),
        near_duplicates=near,
        trimmed=faces.rows - kept - near,
        max_cosine=threshold.max_cosine,
    )


def _identities_kept(faces: Embeddings, number: int, cut: Cut) -> int:
    return int(pc.count_distinct(faces.faces(number)["identity"].filter(pa.array(cut.kept))).as_py())


def _origin(faces: Embeddings) -> dict[str, Any]:
    """What later stages need to know of the data set and the network: a subset is a data set, too."""
    return {name: faces.meta[name] for name in ("root", "format", "model", "preprocess") if name in faces.meta}


def _write(faces: Embeddings, cuts: list[Cut], max_cosine: float, made: Provenance, out: Path) -> None:
    """Third pass, over the metadata alone: both files appear together, the subset last."""
    with (
        written_whole(out) as kept_part,
        written_whole(dropped_path(out)) as dropped_part,
        RowGroups(kept_part, made) as kept,
        RowGroups(dropped_part, made) as dropped,
    ):
        for number, cut in enumerate(cuts):
            table = faces.faces(number)
            for name in ("sparsity", "suppression_cosine"):
                table = _with_column(table, name, pa.array(getattr(cut, name)))
            kept.write(table.filter(pa.array(cut.kept)))
            dropped.write(_with_reasons(table, cut, max_cosine).filter(pa.array(~cut.kept)))


def _with_reasons(table: pa.Table, cut: Cut, max_cosine: float) -> pa.Table:
    rival = pa.array(cut.rival, mask=cut.rival < 0)
    reason = np.where(cut.cosine > max_cosine, "near-duplicate", "trimmed")
    table = _with_column(table, "rival", table["face_id"].combine_chunks().take(rival))
    table = _with_column(table, "cosine", pa.array(cut.cosine, mask=np.isnan(cut.cosine)))
    return _with_column(table, "reason", pa.array(reason.tolist(), pa.string()))


def _with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """The table with a column of that name, in place of an older one that rode along."""
    if name in table.column_names:
        table = table.drop_columns([name])
    return table.append_column(name, values)
