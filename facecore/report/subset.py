"""A subset and its dropped faces, read in batches: counted, and looked up by row or by name."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facecore.errors import DataError
from facecore.manifest import COLUMNS, missing, provenance_of
from facecore.parquet import check_expansion
from facecore.progress import progress
from facecore.provenance import Provenance
from facecore.select import dropped_path
from facecore.storage import check_permitted

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

KEPT_COLUMNS = (*COLUMNS, "sparsity", "suppression_cosine")
DROPPED_COLUMNS = (*KEPT_COLUMNS, "rival", "cosine", "reason")
UNKNOWN = "unknown"  # the stage of what left no record
DROPPED = ".dropped.parquet"  # what the name of the second file ends in
TOGETHER = 1 << 22  # rows of counts that are added up when there are as many

REASONS = {
    "near-duplicate": "its cosine to a kept face of its identity is above t*",
    "trimmed": "t* lets it in, but the count asked for is exact: it was admitted last or not drawn, "
    "or is near such a face alone",
    "far-from-centre": "it is too unlike the other faces of its identity: perhaps a wrong label",
    "over-maximum": "its identity keeps as many better-ranked faces as are allowed",
    "outranked": "others of its identity came first",
}


@dataclass(frozen=True)
class Tally:
    """What one reading of a subset gives: 4 bytes a face kept, 8 a face dropped, and a row an identity."""

    people: pa.Table  # identity, kept, dropped: how many faces, sorted by identity
    kept_suppression: Floats  # (kept,), in the order of the file, as those below are
    dropped_suppression: Floats  # (dropped,)
    cosine: Floats  # (dropped,), to the rival; not a number where there is none
    reasons: dict[str, int]

    @property
    def kept(self) -> int:
        """How many faces stayed."""
        return len(self.kept_suppression)

    @property
    def dropped(self) -> int:
        """How many faces went."""
        return len(self.dropped_suppression)


@dataclass(frozen=True)
class Subset:
    """A manifest that a selection wrote, and the dropped faces beside it."""

    path: Path

    @classmethod
    def open(cls, path: Path) -> "Subset":
        """Raises DataError unless both files are there, with the columns that a selection gives them."""
        if path.name.endswith(DROPPED) and not dropped_path(path).exists():
            subset = path.with_name(path.name.removesuffix(DROPPED) + ".parquet")
            raise DataError(f"{path} lists the dropped faces; give the subset itself, {subset}")
        for file, columns in ((path, KEPT_COLUMNS), (dropped_path(path), DROPPED_COLUMNS)):
            if file.is_dir():
                raise DataError(f"{file} is a folder; give a subset, which is a Parquet file, such as subset.parquet")
            if not file.is_file():
                raise missing(file)
            check_permitted(file)
            try:
                names = pq.read_schema(file).names
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"{file} is not a whole Parquet file; run facecore nms again") from error
            if absent := [name for name in columns if name not in names]:
                raise DataError(f"{file} has no column {absent[0]}, so no selection wrote it; give a subset of nms")
            if file == path and _is_taken(path):
                raise without_dropped(path)
        return cls(path)

    @property
    def dropped(self) -> Path:
        """The file of the faces that went."""
        return dropped_path(self.path)

    @cached_property
    def made(self) -> Provenance:
        """What made it; nothing is known of it if the footer does not say."""
        return provenance_of(self.path) or Provenance(UNKNOWN)

    @property
    def max_cosine(self) -> float | None:
        """t*, where the method has one: what is above it goes."""
        is_cut = self.made.stage == "nms" and not self.made.options.get("order")
        return self.made.facts.get("max_cosine") if is_cut else None

    def tally(self) -> Tally:
        """Read both files once."""
        kept, dropped, cosines, reasons = [], [], [], []
        people = _People()
        rows = sum(pq.read_metadata(file).num_rows for file in (self.path, self.dropped))
        with progress(rows, "read", "faces") as bar:
            for batch in batches(self.path, ["identity", "suppression_cosine"]):
                people.add("kept", batch["identity"])
                kept.append(floats(batch["suppression_cosine"]))
                bar.update(len(batch))
            for batch in batches(self.dropped, ["identity", "suppression_cosine", "cosine", "reason"]):
                people.add("dropped", batch["identity"])
                dropped.append(floats(batch["suppression_cosine"]))
                cosines.append(floats(batch["cosine"]))
                reasons.append(pc.value_counts(batch["reason"]))
                bar.update(len(batch))
        return Tally(people.table(), _joined(kept), _joined(dropped), _joined(cosines), _added(reasons))


def without_dropped(path: Path) -> DataError:
    """What to say of a subset that has no dropped faces beside it, or none of its own."""
    if _is_taken(path):
        return DataError(
            f"{path} is the first rows of an order, which have no dropped faces; "
            "facecore nms --nested --keep writes such a subset and its dropped faces"
        )
    dropped = dropped_path(path).name
    return DataError(f"{path} is without its dropped faces, {dropped}; run facecore nms again, it writes both")


def _is_taken(path: Path) -> bool:
    made = provenance_of(path)
    return made is not None and made.stage == "take"


class _People:
    """How many faces of every identity stayed and went, added up batch by batch."""

    SCHEMA = pa.schema({"identity": pa.string(), "kept": pa.int64(), "dropped": pa.int64()})

    def __init__(self) -> None:
        self._parts = [self.SCHEMA.empty_table()]
        self._rows = 0

    def add(self, column: str, identity: pa.Array) -> None:
        counts = pc.value_counts(identity.cast(pa.string()))
        none = pa.array(np.zeros(len(counts), np.int64))
        sides = {"kept": none, "dropped": none, column: counts.field("counts")}
        self._parts.append(pa.table({"identity": counts.field("values"), **sides}, self.SCHEMA))
        self._rows += len(counts)
        if self._rows >= TOGETHER:
            self._parts, self._rows = [self.table()], 0

    def table(self) -> pa.Table:
        together = pa.concat_tables(self._parts).group_by("identity").aggregate([("kept", "sum"), ("dropped", "sum")])
        return together.rename_columns({"kept_sum": "kept", "dropped_sum": "dropped"}).sort_by("identity")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise DataError, with the file named, where Arrow cannot read it."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        what = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} is damaged ({what}); write it again, or move it away") from error


def batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Some columns of a Parquet file, a part at a time."""
    # without this, the whole file is read ahead, and held
    with reading(path), pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
        check_expansion(path, columns, footer=file.metadata)
        yield from file.iter_batches(columns=list(columns), batch_size=1 << 17)


def floats(column: pa.Array) -> Floats:
    """A column as float32, not a number where there is none."""
    return np.asarray(column.cast(pa.float32()).to_numpy(zero_copy_only=False), np.float32)


def rows_at(path: Path, rows: Rows, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Some rows of a Parquet file, in the order given; only the row groups that hold them are read."""
    found: dict[int, dict[str, Any]] = {}
    with reading(path), pq.ParquetFile(path, pre_buffer=False) as file:
        check_expansion(path, columns, footer=file.metadata)
        sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        ends = np.cumsum([0, *sizes])
        groups = np.searchsorted(ends, rows, "right") - 1
        for number in np.unique(groups).tolist():
            wanted = rows[groups == number]
            part = file.read_row_group(number, list(columns)).take(pa.array(wanted - ends[number]))
            found.update(zip(wanted.tolist(), part.to_pylist(), strict=True))
    return [found[row] for row in rows.tolist()]


def rows_where(path: Path, column: str, values: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """The rows of a Parquet file that have one of these values, in the order of the file."""
    condition = pc.field(column).isin(pa.array(values, pa.string()))
    with reading(path):
        check_expansion(path, columns)
        return pq.read_table(path, columns=list(columns), filters=condition, pre_buffer=False, use_threads=False)


def _joined(parts: list[Floats]) -> Floats:
    return np.concatenate([np.empty(0, np.float32), *parts])


def _added(counts: list[pa.Array]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in counts:
        for entry in part.to_pylist():
            total[entry["values"]] = total.get(entry["values"], 0) + entry["counts"]
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))
