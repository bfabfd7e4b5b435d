"""Rows withdrawn from a Parquet file with one row a face: a manifest, its dropped faces, the rejected of a store."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from facecore.errors import DataError
from facecore.forget.names import NAMING, Forgotten
from facecore.forget.receipt import FileEntry, entry_of, waiting_path
from facecore.manifest import RowGroups, check_manifest, provenance_of, unreadable
from facecore.parquet import check_expansion
from facecore.provenance import Provenance, sha256_of_file, written_whole


class Listing:
    """A file with a row a face, read in batches."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise DataError(f"no manifest at {path}; facecore nms writes one")
        self._path = path
        try:
            check_expansion(path)
            self._schema = pq.read_schema(path).remove_metadata()
        except (pa.ArrowException, OSError) as error:
            raise unreadable(path) from error
        check_manifest(self._schema.empty_table(), path)

    def names(self) -> Iterator[pa.Table]:
        """The face_id and identity of every row."""
        return self._tables(["face_id", "identity"])

    def withdraw(self, who: Forgotten, *, write: bool) -> list[FileEntry]:
        """Count the rows to go and the rivals to be cleared, and let the file without them wait if `write`."""
        rows = rivals = 0
        for table in self._tables([name for name in NAMING if name in self._schema.names]):
            counts = who.counts(table)
            rows, rivals = rows + counts[0], rivals + counts[1]
        if not rows and not rivals:
            return []
        if write:
            self._write(who, rows)
        return [entry_of(self._path, rows=rows, rivals=rivals, written=write)]

    def discard(self) -> None:
        """Remove what waits, of a run that came to nothing."""
        waiting_path(self._path).unlink(missing_ok=True)

    def _tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        # without this, the whole file is read ahead, and held
        with pq.ParquetFile(self._path, pre_buffer=False, buffer_size=1 << 20) as file:
            for batch in file.iter_batches(columns=list(columns)):
                yield pa.Table.from_batches([batch])

    def _write(self, who: Forgotten, rows: int) -> None:
        """Write the file without them, and its record with the number of those forgotten so far."""
        made = provenance_of(self._path) or Provenance("forget")
        forgotten = made.facts.get("forgotten", 0) + rows
        facts = {**made.facts, "forgotten": forgotten, "before": sha256_of_file(self._path)}
        with (
            written_whole(waiting_path(self._path)) as part,
            RowGroups(part, replace(made, facts=facts)) as stays,
        ):
            stays.write(self._schema.empty_table())
            for table in self._tables(self._schema.names):
                stays.write(who.without(table))
