"""A subset and its dropped faces, as two manifests that appear together."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from facecore.embeddings import Embeddings
from facecore.grid import to_cosines
from facecore.manifest import RowGroups, dropped_path, rows_in_order
from facecore.parallel import in_order
from facecore.provenance import Provenance, refuse_to_overwrite, written_whole
from facecore.select.selector import KEPT, REASONS, Fates

Rows = npt.NDArray[np.int64]
OWN_COLUMNS = ("sparsity", "suppression_cosine", "rival", "cosine", "reason")  # in place of those that rode along


def check_room(out: Path, source: Path, *, overwrite: bool) -> None:
    """Raise DataError if one of the two files is there and not to be overwritten, or cannot be written.

    Dropped faces without their subset are of a run that was killed between the two, if that is still a .part.
    """
    stopped = not out.exists() and (out.parent / f"{out.name}.part").exists()
    refuse_to_overwrite(out, overwrite=overwrite, inputs=[source])
    refuse_to_overwrite(dropped_path(out), overwrite=overwrite or stopped, inputs=[source])


def write_subset(
    faces: Embeddings, fates: Fates, made: Provenance, out: Path, *, threads: int, order: Rows | None = None
) -> None:
    """Write both files, the subset last; reads the metadata of the store again, and no vectors.

    The subset is in the order of the store, unless `order` gives its rows in another, which takes all of it in memory.
    """

    def tables(number: int) -> tuple[pa.Table, pa.Table]:
        return _split(faces.faces(number), fates, faces.first(number))

    in_turn: list[pa.Table] = []
    with _both_or_none(out), written_whole(out) as kept_part, written_whole(dropped_path(out)) as dropped_part:
        with RowGroups(kept_part, made) as kept, RowGroups(dropped_part, made) as dropped:
            for stays, goes in in_order(tables, range(len(faces)), threads=min(threads, 2), ahead=2):
                dropped.write(goes)
                if order is None:
                    kept.write(stays)
                else:
                    in_turn.append(stays)
            if order is not None:
                rank = np.searchsorted(np.flatnonzero(fates.reason == KEPT), order)
                for table in rows_in_order(pa.concat_tables(in_turn), pa.array(rank)):
                    kept.write(table)
        out.unlink(missing_ok=True)  # no subset is ever beside the dropped faces of another


@contextmanager
def _both_or_none(out: Path) -> Iterator[None]:
    """Leave no dropped faces without their subset, where the block ends between the two."""
    try:
        yield
    except BaseException:
        if not out.exists():
            dropped_path(out).unlink(missing_ok=True)
        raise


def _split(table: pa.Table, fates: Fates, first: int) -> tuple[pa.Table, pa.Table]:
    """The faces of one shard that stay, and those that go, each with why."""
    rows = slice(first, first + len(table))
    reason, rival = fates.reason[rows], fates.rival[rows] - first
    table = table.drop_columns([name for name in OWN_COLUMNS if name in table.column_names])
    table = table.append_column("sparsity", pa.array(fates.sparsity[rows]))
    table = table.append_column("suppression_cosine", pa.array(to_cosines(fates.suppression[rows])))
    stays = reason == KEPT
    goes = table.filter(pa.array(~stays))
    none = fates.rival[rows][~stays] < 0
    names = table["face_id"].combine_chunks().take(pa.array(rival[~stays], mask=none))
    goes = goes.append_column("rival", names)
    goes = goes.append_column("cosine", pa.array(to_cosines(fates.rival_level[rows][~stays]), mask=none))
    return table.filter(pa.array(stays)), goes.append_column("reason", _reasons(reason[~stays]))


def _reasons(codes: npt.NDArray[np.uint8]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int8)), pa.array(REASONS)).cast(pa.string())
